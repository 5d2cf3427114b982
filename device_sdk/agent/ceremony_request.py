"""What the extension hands over, parsed once: a page's request as Chromium reports it.

Chromium puts the page's origin into `extensions.remoteDesktopClientOverride` and overwrites what the page wrote there.
It has parsed the options before, but the agent does not rely on that.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from device_sdk.authenticator.accounts import eligible_credentials, replaced_credentials
from device_sdk.authenticator.options import (
    AttestationForm,
    CreationOptions,
    RequestOptions,
    parse_creation_options,
    parse_request_options,
)
from device_sdk.authenticator.origin import Origin, parse_origin, relying_party_id, site_of
from device_sdk.credential_info import CredentialInfo
from device_sdk.errors import InvalidOptions, NotAllowed, Security
from device_sdk.expiry import is_expired
from mpc.primitives import base64url

_MAX_PAGE_CHARACTERS = 64


class Kind(StrEnum):
    """Which call of navigator.credentials it is."""

    CREATE = "create"
    GET = "get"


class Malformed(ValueError):
    """The extension sent what it never sends."""


@dataclass(frozen=True, slots=True)
class CeremonyRequest:
    """One page's request, fit to be shown to a person. `page` names the page in the extension's words.

    `wanted` is the parsed form of `options`; `options` goes to the SDK, which parses it again.
    """

    kind: Kind
    page: str
    origin: Origin
    rp_id: str
    wanted: CreationOptions | RequestOptions = field(repr=False)
    options: dict[str, Any] = field(repr=False)

    @property
    def site(self) -> str:
        """Whose windows are counted together: one party can have any number of names."""
        return site_of(self.origin)

    @property
    def timeout_s(self) -> float:
        """The page's, within the SDK's bounds of 15 seconds and ten minutes."""
        return self.wanted.timeout_ms / 1000

    @property
    def asks_for_attestation(self) -> bool:
        return isinstance(self.wanted, CreationOptions) and self.wanted.attestation is not AttestationForm.NONE

    def accounts(self, held: list[CredentialInfo], now: float) -> list[CredentialInfo]:
        """The passkeys that may answer a `get`, newest first. now: Unix seconds."""
        if not isinstance(self.wanted, RequestOptions):
            return []
        fitting = eligible_credentials(held, self.rp_id, self.wanted.allowed_ids)
        return [credential for credential in fitting if not is_expired(credential, now)]

    def replaced(self, held: list[CredentialInfo]) -> list[CredentialInfo]:
        """The passkeys that a `create` takes the place of."""
        if not isinstance(self.wanted, CreationOptions):
            return []
        return replaced_credentials(held, self.rp_id, self.wanted.user_id, discoverable=self.wanted.discoverable)

    def options_for(self, credential_id: bytes | None, left_s: float) -> dict[str, Any]:
        """What the SDK is asked for: by this passkey and no other, in the time that is left.

        Named even where one alone fits: the person has seen this one, and another may have come since.
        """
        options = {**self.options, "timeout": max(0, int(left_s * 1000))}
        if self.kind is Kind.GET and credential_id is not None:
            options["allowCredentials"] = [{"type": "public-key", "id": base64url.encode(credential_id)}]
        return options


def parse_ceremony_request(document: dict[str, Any]) -> CeremonyRequest:
    """From the body of POST /v1/jobs: {"kind", "page", "options"}.

    Raises Malformed, which is the extension's fault, and the WebAuthnErrors of a page's: Security (an origin that may
    not do this), NotAllowed (a frame of another site's page), NotSupported, InvalidOptions.
    """
    options, page = document.get("options"), document.get("page")
    try:
        kind = Kind(document.get("kind"))  # type: ignore[arg-type]  # whatever it is, it is one of the two or refused
    except ValueError:
        raise Malformed("kind") from None
    if not isinstance(page, str) or not 1 <= len(page) <= _MAX_PAGE_CHARACTERS or not isinstance(options, dict):
        raise Malformed("page or options")
    origin = _stated_origin(options)
    wanted = parse_creation_options(options) if kind is Kind.CREATE else parse_request_options(options)
    return CeremonyRequest(kind, page, origin, relying_party_id(origin, wanted.rp_id), wanted, options)


def _stated_origin(options: dict[str, Any]) -> Origin:
    extensions = options.get("extensions")
    stated = extensions.get("remoteDesktopClientOverride") if isinstance(extensions, dict) else None
    if not isinstance(stated, dict):
        raise Security("the browser stated no origin")
    if stated.get("sameOriginWithAncestors") is not True:
        # The client data would have to name the page around it, which the browser does not tell.
        raise NotAllowed("passkeys of a frame within another site's page are not supported")
    origin = stated.get("origin")
    if not isinstance(origin, str):
        raise InvalidOptions("origin", "must be text")
    return parse_origin(origin)
