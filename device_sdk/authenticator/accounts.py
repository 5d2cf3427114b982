"""Which stored credential answers a request, and what a new one replaces."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from device_sdk.errors import InvalidState, NotAllowed


class CredentialRecord(Protocol):
    """What choosing needs to know of a stored credential. `created_at` is Unix time in seconds."""

    @property
    def credential_id(self) -> bytes: ...
    @property
    def rp_id(self) -> str: ...
    @property
    def user_handle(self) -> bytes: ...
    @property
    def user_name(self) -> str: ...
    @property
    def discoverable(self) -> bool: ...
    @property
    def created_at(self) -> float: ...


Record = TypeVar("Record", bound=CredentialRecord)


def eligible_credentials(
    credentials: Iterable[Record], rp_id: str, allowed_ids: Sequence[bytes] | None
) -> list[Record]:
    """The credentials of `rp_id` that may answer, newest first.

    `allowed_ids` None means that the relying party named none, so only discoverable ones may answer. An empty
    sequence means that it named some of which this client knows the type of none: nothing may answer.
    """
    mine = [credential for credential in credentials if credential.rp_id == rp_id]
    if allowed_ids is None:
        fitting = [credential for credential in mine if credential.discoverable]
    else:
        fitting = [credential for credential in mine if credential.credential_id in allowed_ids]
    # Sorted upwards, then turned round: of two made in the same instant the one stored later comes first.
    return sorted(fitting, key=lambda credential: credential.created_at)[::-1]


def select_credential(
    fitting: Sequence[Record], choose_account: Callable[[list[Record]], bytes | None] | None = None
) -> Record:
    """The credential that answers a request, of those that may, newest first.

    Of several, `choose_account` picks: it gets them in this order and returns a credential id, or None if the
    user wants none. Without it the newest is taken. Raises NotAllowed if nothing fits, or if nothing of the
    list was picked.
    """
    if not fitting:
        raise NotAllowed("no credential on this device fits the request; offer another way in")
    if len(fitting) == 1 or choose_account is None:
        return fitting[0]
    picked = choose_account(list(fitting))
    for credential in fitting:
        if credential.credential_id == picked:
            return credential
    raise NotAllowed("no account was chosen; offer another way in")


def check_not_excluded(credentials: Iterable[CredentialRecord], rp_id: str, excluded_ids: Sequence[bytes]) -> None:
    """Raise InvalidState if a credential of `rp_id` is on the relying party's exclude list.

    Call it only once the user is verified: told earlier, a page could test for accounts unnoticed.
    """
    if any(credential.rp_id == rp_id and credential.credential_id in excluded_ids for credential in credentials):
        raise InvalidState()


def replaced_credentials(
    credentials: Iterable[Record], rp_id: str, user_handle: bytes, *, discoverable: bool
) -> list[Record]:
    """The stored credentials that a new one for (`rp_id`, `user_handle`) takes the place of.

    A discoverable one replaces the discoverable one of the same account (CTAP 2.1, section 6.1.2). A
    non-discoverable one replaces nothing, least of all a discoverable one.
    """
    if not discoverable:
        return []
    return [
        credential
        for credential in credentials
        if credential.discoverable and credential.rp_id == rp_id and credential.user_handle == user_handle
    ]
