"""A device gives a passkey up that the server has not heard to be in use: what may be forgotten, and what not."""

from __future__ import annotations

import pytest
from state_machine_harness import LOGINS, Phone, Server, lose_request, signed, to_base64

from authsvc.store.credentials import CredentialRow
from device_sdk.errors import TransportError
from mpc.login.enrolment_messages import RevokeCredential

REVOKE = "/v1/credentials/revoke"


def give_up(phone: Phone, server: Server, credential_id: bytes) -> None:
    body = RevokeCredential(phone.id, credential_id).encode()
    request = signed(REVOKE, body, phone.request_key, to_base64(phone.id), phone.network.clock())
    assert server.serve(request).code == "ok"


def provisional(phone: Phone, server: Server) -> CredentialRow:
    (found,) = [row for row in server.credentials(phone.id) if row.status == "provisional"]
    return found


def held(phone: Phone, server: Server, credential_id: bytes) -> list[str]:
    return [row.status for row in server.credentials(phone.id) if row.id == credential_id]


def test_one_that_never_signed_is_deleted(phone: Phone, server: Server) -> None:
    """No answer ever went out for it, so there is nothing to remember."""
    phone.network.plan(LOGINS, lose_request)
    with pytest.raises(TransportError):
        phone.create("grace")
    credential_id = provisional(phone, server).id

    give_up(phone, server, credential_id)

    assert held(phone, server, credential_id) == []
    assert server.events(phone.id).count("credential_revoked_by_device") == 1
    assert phone.get() > 0 and phone.confirm()


@pytest.mark.parametrize("restarted", [False, True])
def test_one_with_an_answered_registration_is_kept_as_revoked(phone: Phone, server: Server, restarted: bool) -> None:
    """Its confirmation may still come, and moves the template of all the others: it must find its credential."""
    credential_id = phone.create("grace")
    row = provisional(phone, server)
    assert row.id == credential_id and server.states(phone.id)[-1] == "pending"
    share_before = row.sealed_share

    give_up(phone, server, credential_id)

    assert held(phone, server, credential_id) == ["revoked"]
    (kept,) = [row for row in server.credentials(phone.id) if row.id == credential_id]
    assert share_before and kept.sealed_share != share_before
    if restarted:
        phone.restart()
    assert phone.confirm()
    assert server.states(phone.id)[-1] == "confirmed"
    assert held(phone, server, credential_id) == ["revoked"]
    assert phone.state.epoch == server.enrolment(phone.id).epoch


def test_the_other_passkeys_work_afterwards(phone: Phone, server: Server) -> None:
    """Both sides have moved to the new epoch together."""
    (first,) = [row.id for row in server.credentials(phone.id)]
    credential_id = phone.create("grace")
    give_up(phone, server, credential_id)

    # The token goes along with the login.
    assert phone.get(credential_id=first) > 0 and phone.confirm()

    assert phone.get(credential_id=first) > 0 and phone.confirm()
    assert held(phone, server, credential_id) == ["revoked"]


def test_giving_up_twice_is_answered_alike(phone: Phone, server: Server) -> None:
    """The first answer may have been lost."""
    credential_id = phone.create("grace")
    give_up(phone, server, credential_id)
    before = server.dump()

    give_up(phone, server, credential_id)

    assert server.dump() == before
