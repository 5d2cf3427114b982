"""clientDataJSON, byte for byte as WebAuthn Level 3 section 5.8.1.1 serialises it.

Verifiers of the limited kind (section 5.8.1.2) compare prefixes instead of parsing, so key order and escaping
are part of the format.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum

from device_sdk.authenticator.origin import Origin
from mpc.primitives import base64url

_NEEDS_ESCAPE = re.compile(r'["\\\x00-\x1f]')


class Ceremony(StrEnum):
    """The `type` member of client data."""

    CREATE = "webauthn.create"
    GET = "webauthn.get"


_HASH_BYTES = 32


@dataclass(frozen=True, slots=True)
class ClientDataHash:
    """SHA-256 of serialised client data: all that an authenticator gets to see of them. ValueError unless 32 bytes.

    What it is the hash of is known to the client alone: the JSON face of `Device`, or a client that speaks CTAP.
    """

    digest: bytes

    def __post_init__(self) -> None:
        if len(self.digest) != _HASH_BYTES:
            raise ValueError(f"a client data hash has {_HASH_BYTES} bytes")


@dataclass(frozen=True, slots=True)
class ClientData:
    """The serialised client data and its SHA-256 (32 bytes), the hash that is signed."""

    json: bytes
    hash: bytes


def build_client_data(ceremony: Ceremony, challenge: bytes, origin: Origin) -> ClientData:
    """Client data of a same-origin ceremony (`crossOrigin` false, no `topOrigin`)."""
    members = (
        ("type", _quoted(ceremony.value)),
        ("challenge", _quoted(base64url.encode(challenge))),
        ("origin", _quoted(str(origin))),
        ("crossOrigin", "false"),
    )
    serialised = "{" + ",".join(f'"{name}":{value}' for name, value in members) + "}"
    data = serialised.encode("utf-8")
    return ClientData(data, hashlib.sha256(data).digest())


def _quoted(text: str) -> str:
    # CCDToString. Not json.dumps: that writes a line feed as \n where the algorithm demands \u000a.
    return '"' + _NEEDS_ESCAPE.sub(_escape, text) + '"'


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    return "\\" + character if character in '"\\' else f"\\u{ord(character):04x}"
