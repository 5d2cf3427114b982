"""PublicKeyCredentialCreationOptionsJSON and RequestOptionsJSON, parsed once into types without bad values.

What a relying party or a page sends is hostile until proven otherwise: the result is a value or a
`WebAuthnError`, never another exception, and errors name the field but never repeat its value.
Unknown members are ignored, unknown credential types skipped, unknown enumeration values taken as absent, as
WebAuthn Level 3 asks; null is taken as absent.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from device_sdk.authenticator.new_credential import NewCredential
from device_sdk.errors import InvalidOptions, NotAllowed, NotSupported
from mpc.login.authenticator_data import ALGORITHMS
from mpc.login.extension_outputs import CredProtect
from mpc.primitives import base64url
from mpc.threshold_rsa.encodings import Algorithm

MAX_OPTIONS_BYTES = 65_536
MIN_TIMEOUT_MS = 15_000
MAX_TIMEOUT_MS = 600_000
DEFAULT_TIMEOUT_MS = 300_000  # the recommended default when users are verified (WebAuthn Level 3, 15.1)

_CRED_PROTECT = {
    "userVerificationOptional": CredProtect.UV_OPTIONAL,
    "userVerificationOptionalWithCredentialIDList": CredProtect.UV_OPTIONAL_WITH_ID_LIST,
    "userVerificationRequired": CredProtect.UV_REQUIRED,
}
"""The spelling of the client extension (CTAP 2.1, section 12.1). To enforce it needs no asking: it is always kept."""
_DEFAULT_ALGORITHMS = (-7, -257)
_CHALLENGE_BYTES = (16, 1024)
_USER_ID_BYTES = (1, 64)
_CREDENTIAL_ID_BYTES = (1, 1023)
_MAX_TEXT_BYTES = 1024
_MAX_LIST_ENTRIES = 512


class UserVerification(StrEnum):
    """What the relying party asks for. A split credential verifies the user whatever it is."""

    REQUIRED = "required"
    PREFERRED = "preferred"
    DISCOURAGED = "discouraged"


class AttestationForm(StrEnum):
    """The attestation to give: `PACKED` where any is asked for (direct, indirect, enterprise)."""

    NONE = "none"
    PACKED = "packed"


@dataclass(frozen=True, slots=True)
class CreationOptions:
    """What a relying party wants of a new credential.

    `rp_id` None stands for the host of the origin. `algorithm` is the COSE algorithm chosen. `excluded_ids`
    holds credential ids; `timeout_ms` is clamped to 15,000 to 600,000; `cred_props`: the relying party wants
    to be told whether the credential is discoverable; `cred_protect`: the level it asks for, if any;
    `uvm`: it asks how the user is verified.
    """

    challenge: bytes = field(repr=False)
    rp_id: str | None = field(repr=False)
    rp_name: str = field(repr=False)
    user_id: bytes = field(repr=False)
    user_name: str = field(repr=False)
    user_display_name: str = field(repr=False)
    algorithm: int
    discoverable: bool
    user_verification: UserVerification
    attestation: AttestationForm
    excluded_ids: tuple[bytes, ...] = field(repr=False)
    timeout_ms: int
    cred_props: bool
    cred_protect: CredProtect | None = None
    uvm: bool = False

    def new_credential(self, rp_id: str) -> NewCredential:
        """What is to be made. rp_id: the one asked for or the origin's host, once it was checked against the origin."""
        return NewCredential(
            rp_id=rp_id,
            user_handle=self.user_id,
            user_name=self.user_name,
            user_display_name=self.user_display_name,
            algorithm=Algorithm(self.algorithm),
            discoverable=self.discoverable,
            excluded_ids=self.excluded_ids,
            cred_protect=self.cred_protect,
            uvm=self.uvm,
            attest=self.attestation is AttestationForm.PACKED,
        )


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """What a relying party wants of an assertion.

    `rp_id` None stands for the host of the origin. `allowed_ids` None: the relying party named no credential.
    An empty tuple: it named only ones of unknown types, so that none may answer. `timeout_ms` as above.
    """

    challenge: bytes = field(repr=False)
    rp_id: str | None = field(repr=False)
    allowed_ids: tuple[bytes, ...] | None = field(repr=False)
    user_verification: UserVerification
    timeout_ms: int
    uvm: bool = False


def parse_creation_options(options: dict[str, Any] | str | bytes) -> CreationOptions:
    """Parse the options of navigator.credentials.create() in their JSON form.

    Raises InvalidOptions (malformed), NotSupported (no RSA algorithm listed), NotAllowed (asks for a roaming
    authenticator, which this is not).
    """
    members = _root(options)
    relying_party = members.entity("rp")
    user = members.entity("user")
    selection = members.entity("authenticatorSelection", required=False)
    if selection.word("authenticatorAttachment") == "cross-platform":
        raise NotAllowed("the relying party asks for a roaming authenticator; this one is part of the device")
    extensions = members.entity("extensions", required=False)
    attestation = members.word("attestation")
    asks_for_attestation = attestation in ("direct", "indirect", "enterprise")
    return CreationOptions(
        challenge=members.octets("challenge", *_CHALLENGE_BYTES),
        rp_id=relying_party.optional_text("id"),
        rp_name=relying_party.text("name"),
        user_id=user.octets("id", *_USER_ID_BYTES),
        user_name=user.text("name"),
        user_display_name=user.text("displayName"),
        algorithm=_choose_algorithm(members),
        discoverable=_wants_discoverable(selection),
        user_verification=_user_verification(selection),
        attestation=AttestationForm.PACKED if asks_for_attestation else AttestationForm.NONE,
        excluded_ids=_credential_ids(members, "excludeCredentials") or (),
        timeout_ms=_timeout_ms(members),
        cred_props=extensions.flag("credProps"),
        cred_protect=_CRED_PROTECT.get(extensions.word("credentialProtectionPolicy") or ""),
        uvm=extensions.flag("uvm"),
    )


def parse_request_options(options: dict[str, Any] | str | bytes) -> RequestOptions:
    """Parse the options of navigator.credentials.get() in their JSON form. Raises InvalidOptions."""
    members = _root(options)
    extensions = members.entity("extensions", required=False)
    return RequestOptions(
        challenge=members.octets("challenge", *_CHALLENGE_BYTES),
        rp_id=members.optional_text("rpId"),
        allowed_ids=_credential_ids(members, "allowCredentials"),
        user_verification=_user_verification(members),
        timeout_ms=_timeout_ms(members),
        uvm=extensions.flag("uvm"),
    )


def _choose_algorithm(members: _Members) -> int:
    listed: list[int] = []
    entries = members.entities("pubKeyCredParams", required=True)
    for entry in entries:
        algorithm = entry.integer("alg")
        if entry.text("type") == "public-key":
            listed.append(algorithm)
    # Only an empty list stands for the defaults; a list of nothing but unknown types does not.
    for algorithm in listed if entries else _DEFAULT_ALGORITHMS:
        if algorithm in ALGORITHMS:
            return algorithm
    raise NotSupported()


def _wants_discoverable(selection: _Members) -> bool:
    resident_key = selection.word("residentKey")
    required = selection.flag("requireResidentKey")
    if resident_key in ("required", "preferred", "discouraged"):
        return resident_key != "discouraged"
    return required


def _user_verification(members: _Members) -> UserVerification:
    try:
        return UserVerification(members.word("userVerification") or "")
    except ValueError:
        return UserVerification.PREFERRED


def _credential_ids(members: _Members, name: str) -> tuple[bytes, ...] | None:
    entries = members.entities(name)
    if not entries:
        return None
    return tuple(entry.octets("id", *_CREDENTIAL_ID_BYTES) for entry in entries if entry.text("type") == "public-key")


def _timeout_ms(members: _Members) -> int:
    timeout = members.number("timeout")
    if timeout is None:
        return DEFAULT_TIMEOUT_MS
    return int(min(max(timeout, MIN_TIMEOUT_MS), MAX_TIMEOUT_MS))


def _root(options: dict[str, Any] | str | bytes) -> _Members:
    value: object = options
    if isinstance(options, str | bytes):
        try:
            data = options.encode("utf-8") if isinstance(options, str) else options
            if len(data) > MAX_OPTIONS_BYTES:
                raise InvalidOptions("options", f"must be at most {MAX_OPTIONS_BYTES} bytes of JSON")
            value = json.loads(data.decode("utf-8"))
        except (ValueError, RecursionError):
            # The decoder's text can quote the input, so neither it nor the cause is kept.
            raise InvalidOptions("options", "must be JSON in UTF-8") from None
    return _Members(value, "")


class _Members:
    """Typed access to the members of one JSON object; every getter names the member in its error."""

    __slots__ = ("_path", "_values")

    def __init__(self, values: object, path: str) -> None:
        if not isinstance(values, dict):
            raise InvalidOptions(path or "options", "must be an object")
        self._values: dict[Any, Any] = values
        self._path = path

    def entity(self, name: str, *, required: bool = True) -> _Members:
        value = self._get(name, required=required)
        return _Members({} if value is None else value, self._name(name))

    def entities(self, name: str, *, required: bool = False) -> list[_Members]:
        values = self._get(name, required=required)
        if values is None:
            return []
        if not isinstance(values, list) or len(values) > _MAX_LIST_ENTRIES:
            raise InvalidOptions(self._name(name), f"must be a list of at most {_MAX_LIST_ENTRIES} entries")
        return [_Members(value, f"{self._name(name)}[{index}]") for index, value in enumerate(values)]

    def octets(self, name: str, at_least: int, at_most: int) -> bytes:
        value = self._get(name, required=True)
        if not isinstance(value, str):
            raise InvalidOptions(self._name(name), "must be unpadded base64url text")
        problem = f"must be {at_least} to {at_most} bytes in unpadded base64url"
        if len(value) > 4 * at_most // 3 + 3:
            raise InvalidOptions(self._name(name), problem)
        try:
            data = base64url.decode(value)
        except ValueError as error:
            raise InvalidOptions(self._name(name), str(error)) from None
        if not at_least <= len(data) <= at_most:
            raise InvalidOptions(self._name(name), problem)
        return data

    def text(self, name: str) -> str:
        return self._checked_text(name, self._get(name, required=True))

    def optional_text(self, name: str) -> str | None:
        value = self._get(name)
        return None if value is None else self._checked_text(name, value)

    def word(self, name: str) -> str | None:
        """An enumeration value, known or not."""
        return self.optional_text(name)

    def flag(self, name: str) -> bool:
        value = self._get(name)
        if value is not None and not isinstance(value, bool):
            raise InvalidOptions(self._name(name), "must be true or false")
        return bool(value)

    def integer(self, name: str) -> int:
        value = self._get(name, required=True)
        if not isinstance(value, int) or isinstance(value, bool):
            raise InvalidOptions(self._name(name), "must be an integer")
        return value

    def number(self, name: str) -> int | float | None:
        value = self._get(name)
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool) or value < 0 or math.isnan(value):
            raise InvalidOptions(self._name(name), "must be a number that is not negative")
        return value

    def _checked_text(self, name: str, value: Any) -> str:
        if not isinstance(value, str) or len(value) > _MAX_TEXT_BYTES:
            raise InvalidOptions(self._name(name), f"must be text of at most {_MAX_TEXT_BYTES} bytes")
        try:
            size = len(value.encode("utf-8"))
        except UnicodeEncodeError:
            raise InvalidOptions(self._name(name), "must be well-formed Unicode") from None
        if size > _MAX_TEXT_BYTES:
            raise InvalidOptions(self._name(name), f"must be text of at most {_MAX_TEXT_BYTES} bytes")
        return value

    def _get(self, name: str, *, required: bool = False) -> Any:
        value = self._values.get(name)
        if value is None and required:
            raise InvalidOptions(self._name(name), "is missing")
        return value

    def _name(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name
