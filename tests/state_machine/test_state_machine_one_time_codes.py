"""A code enrols the person it was issued for, once; and what a device gives up is gone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from state_machine_harness import (
    ENCODER,
    FACE,
    LOGINS,
    PROFILE,
    SERVER_URL,
    Network,
    Phone,
    Server,
    lose_request,
)
from state_machine_thief import as_request

from authsvc.services import administration
from authsvc.store.credentials import load_credential
from authsvc.store.enrolments import EnrolmentRow, list_enrolments
from device_sdk import Device
from device_sdk.errors import EnrolmentRefused, TransportError
from device_sdk.transport import RequestKey, TransportReply
from device_sdk.vault.keys import KeyFile
from mpc.login.enrolment_messages import EnrolmentFinish, RevokeCredential

FINISH = "/v1/enrolments/finish"
REVOKE = "/v1/credentials/revoke"


class FinishesWithAnotherCode(Network):
    """The device that begins with one code and shows another at the end, properly signed."""

    other_code = ""

    def post_cbor(
        self,
        path: str,
        body: bytes,
        key: RequestKey,
        key_id: str,
        *,
        max_response_bytes: int = 256 * 1024,
        timeout_s: float | None = None,
    ) -> TransportReply:
        if path == FINISH:
            body = replace(EnrolmentFinish.decode(body), code=self.other_code).encode()
        return super().post_cbor(path, body, key, key_id, max_response_bytes=max_response_bytes, timeout_s=timeout_s)


def code_for(server: Server, label: str) -> str:
    return administration.issue_code(server.ctx, label=label).code


def enrol(folder: Path, network: Network, code: str) -> bytes:
    """The id of the new enrolment; its vault lies in a new folder."""
    folder.mkdir()
    with Device.enrol(
        server=SERVER_URL,
        enrolment_code=code,
        captures=[FACE] * 3,
        vault=folder / "vault",
        profile=PROFILE.name,
        encoder=ENCODER,
        vault_key=KeyFile(folder / "vault.key"),
        transport=network,
    ) as device:
        return device.enrolment_id


def network_to(server: Server) -> Network:
    return Network(server.serve, server.clock, server.profile_document)


def enrolments(server: Server, status: str) -> list[EnrolmentRow]:
    with server.store.read() as conn:
        return [row for row in list_enrolments(conn) if row.status == status]


def test_an_enrolment_begun_with_one_persons_code_is_not_finished_with_anothers(server: Server, tmp_path: Path) -> None:
    """Else Alice would sign in under Bob's label, and Bob would be told that his code is used."""
    alices, bobs = code_for(server, "Alice"), code_for(server, "Bob")
    crossing = FinishesWithAnotherCode(server.serve, server.clock, server.profile_document)
    crossing.other_code = bobs

    with pytest.raises(EnrolmentRefused):
        enrol(tmp_path / "crossed", crossing, alices)

    assert [answer.code for _, answer in crossing.answers] == ["ok", "bad_enrolment_code"]
    assert not (tmp_path / "crossed" / "vault").exists()
    ids = {label: enrol(tmp_path / label, network_to(server), code) for label, code in
           (("Bob", bobs), ("Alice", alices))}  # fmt: skip
    assert {label: server.enrolment(each).label for label, each in ids.items()} == {"Bob": "Bob", "Alice": "Alice"}
    with pytest.raises(EnrolmentRefused):
        enrol(tmp_path / "again", network_to(server), bobs)


def test_starting_twice_with_one_code_leaves_one_unfinished_enrolment(server: Server, tmp_path: Path) -> None:
    """Each start draws a base OT and stores it; without a bound one code would fill the disk."""
    alices, bobs = code_for(server, "Alice"), code_for(server, "Bob")

    def begin(name: str, code: str) -> Network:
        network = network_to(server)
        network.plan(FINISH, *[lose_request] * 3)
        with pytest.raises(TransportError):
            enrol(tmp_path / name, network, code)
        return network

    begin("bob", bobs)
    first = begin("first", alices)
    second = begin("second", alices)

    unfinished = enrolments(server, "enrolling")
    assert sorted(row.label for row in unfinished) == ["Alice", "Bob"]
    late = [network.sent(FINISH)[-1] for network in (first, second)]
    # The first start is forgotten with its key; the second one may still be finished, once.
    assert [server.serve(request).code for request in late] == ["unauthenticated", "ok"]
    assert [row.label for row in enrolments(server, "enrolling")] == ["Bob"]
    with pytest.raises(EnrolmentRefused):
        enrol(tmp_path / "third", network_to(server), alices)


def revoke(phone: Phone, credential_id: bytes, server: Server) -> str:
    body = RevokeCredential(phone.id, credential_id).encode()
    return server.serve(as_request(phone, body, REVOKE)).code


def test_a_provisional_credential_that_the_device_gives_up_is_gone(phone: Phone, server: Server) -> None:
    """Nobody ever signed with it, so there is nothing to remember; its id may be said again."""
    phone.network.plan(LOGINS, lose_request)
    with pytest.raises(TransportError):
        phone.create("bob")
    provisional = [row for row in server.credentials(phone.id) if row.status == "provisional"]
    assert len(provisional) == 1
    gone = provisional[0].id

    assert revoke(phone, gone, server) == "ok"
    after_first = server.dump()
    assert revoke(phone, gone, server) == "ok"

    with server.store.read() as conn:
        assert load_credential(conn, gone) is None
    assert server.dump() == after_first
    assert phone.get() > 0


def test_an_active_credential_that_the_device_gives_up_stays_as_revoked_without_a_share(
    phone: Phone, server: Server
) -> None:
    """The relying party may still know it; the row says that it will never sign again."""
    kept = phone.state.credentials[0].credential_id
    given_up = phone.create("bob")
    assert phone.confirm()

    phone.device.delete(given_up)

    rows = {row.id: row for row in server.credentials(phone.id)}
    assert (rows[given_up].status, rows[given_up].sealed_share) == ("revoked", None)
    assert (rows[kept].status, rows[kept].sealed_share is None) == ("active", False)
    assert [info.credential_id for info in phone.device.credentials()] == [kept]
    assert server.events(phone.id)[0] == "credential_revoked_by_device"
    assert phone.get() > 0
    with pytest.raises(KeyError):
        phone.device.delete(given_up)


def test_nobody_gives_up_what_is_somebody_elses(phone: Phone, server: Server, tmp_path: Path) -> None:
    """Answered like an id that is not known, so that nobody learns whose it is."""
    folder = tmp_path / "other"
    enrol(folder, network_to(server), code_for(server, "Bob"))
    (folder / "accounts.json").write_text("{}")
    other = Phone(folder, server)
    before = server.dump()

    codes = [revoke(other, which, server) for which in (phone.state.credentials[0].credential_id, b"?" * 32)]

    assert codes == ["ok", "ok"]
    assert server.dump() == before
    body = RevokeCredential(phone.id, phone.state.credentials[0].credential_id).encode()
    assert server.serve(as_request(other, body, REVOKE)).code != "ok"
    assert server.dump() == before
    other.crash()
