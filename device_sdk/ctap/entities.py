"""The dictionaries of WebAuthn as they stand in CTAP requests and answers (CTAP 2.1, sections 6.1 and 6.2)."""

from __future__ import annotations

from dataclasses import dataclass, field

from device_sdk.authenticator.client_data import ClientDataHash
from device_sdk.authenticator.origin import is_relying_party_id
from device_sdk.ctap.parameters import Key, Parameters
from device_sdk.ctap.status import CommandRefused, Status
from device_sdk.vault.state import Credential

MAX_CREDENTIALS_IN_LIST = 64
_LONGEST_ID_BYTES = 1023  # other authenticators' (WebAuthn Level 3, section 4)
_MAX_RP_ID_BYTES = 253
_USER_ID_BYTES = (1, 64)
PUBLIC_KEY = "public-key"


@dataclass(frozen=True, slots=True)
class UserEntity:
    """PublicKeyCredentialUserEntity; a name that is left out is empty."""

    id: bytes = field(repr=False)
    name: str = field(repr=False)
    display_name: str = field(repr=False)


def client_data_hash(received: Parameters, key: Key) -> ClientDataHash:
    return ClientDataHash(received.octets(key, at_least=32, at_most=32))


def rp_id(received: Parameters, key: Key) -> str:
    """A relying party id that some origin could have. Whether this client's has it, is the client's to check."""
    claimed = received.text(key, at_least=1, at_most=_MAX_RP_ID_BYTES)
    if not is_relying_party_id(claimed):
        raise CommandRefused(Status.CTAP1_ERR_INVALID_PARAMETER)
    return claimed


def user_entity(received: Parameters) -> UserEntity:
    at_least, at_most = _USER_ID_BYTES
    return UserEntity(
        id=received.octets("id", at_least=at_least, at_most=at_most),
        name=received.optional_text("name") or "",
        display_name=received.optional_text("displayName") or "",
    )


def credential_ids(received: Parameters, key: Key) -> tuple[bytes, ...]:
    """The ids in a list of descriptors. Those of unknown types are skipped."""
    listed = received.maps(key, at_most=MAX_CREDENTIALS_IN_LIST)
    ids = [(entry.text("type"), credential_id(entry)) for entry in listed]
    return tuple(named for kind, named in ids if kind == PUBLIC_KEY)


def credential_id(descriptor: Parameters) -> bytes:
    return descriptor.octets("id", at_least=1, at_most=_LONGEST_ID_BYTES)


def descriptor_of(credential: Credential) -> dict[str, object]:
    return {"type": PUBLIC_KEY, "id": credential.credential_id}


def user_of(credential: Credential, *, named: bool) -> dict[str, object]:
    """named: with the account's names, which are for a verified user."""
    user: dict[str, object] = {"id": credential.user_handle}
    if named and credential.user_name:
        user["name"] = credential.user_name
    if named and credential.user_display_name:
        user["displayName"] = credential.user_display_name
    return user
