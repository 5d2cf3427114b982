"""What a deployment of the relying party chooses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True, kw_only=True)
class RelyingPartySettings:
    """Settings of one relying party; checked when made, ValueError if they do not fit together.

    `origin` is the address the browser shows, without a path: scheme, host and, unless it is the default, the
    port. `rp_id` is its host or a parent domain of it. WebAuthn refuses pages on bare IP addresses, so on
    this machine the origin is `http://localhost:PORT`. Plain http is accepted for localhost only.
    `attestation` is the conveyance preference of registrations; with "none" a passkey tells nothing about
    its maker. `metadata_statement`: a file with the FIDO metadata statement of the only make of authenticator that may
    register; `attestation` must be "direct" then. Times are in seconds.
    """

    database: Path
    origin: str
    rp_id: str = "localhost"
    rp_name: str = "Tandem demo"
    session_lifetime_s: float = 12 * 3600.0
    challenge_lifetime_s: float = 300.0
    attestation: Literal["none", "direct"] = "none"
    metadata_statement: Path | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.origin)
        host = parts.hostname or ""
        if parts.scheme not in ("http", "https") or self.origin != f"{parts.scheme}://{parts.netloc}" or not host:
            raise ValueError("origin must be scheme://host[:port], without a path")
        if "@" in parts.netloc or self.origin != self.origin.lower():
            raise ValueError("origin must be in lower case and hold no user name")
        if host != self.rp_id and not host.endswith("." + self.rp_id):
            raise ValueError("rp_id must be the host of origin or a parent domain of it")
        if parts.scheme == "http" and host != "localhost" and not host.endswith(".localhost"):
            raise ValueError("plain http is for localhost only; give an https origin")
        if not self.rp_name:
            raise ValueError("rp_name must not be empty")
        if self.metadata_statement is not None and self.attestation != "direct":
            raise ValueError("metadata_statement needs direct attestation")
        if self.session_lifetime_s <= 0 or self.challenge_lifetime_s <= 0:
            raise ValueError("lifetimes must be above 0 seconds")

    @property
    def secure(self) -> bool:
        """Whether pages come over https, so that cookies can demand it."""
        return self.origin.startswith("https://")

    @property
    def netloc(self) -> str:
        """Host and port as the Host header carries them."""
        return urlsplit(self.origin).netloc
