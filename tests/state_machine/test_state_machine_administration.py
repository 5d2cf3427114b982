"""Searching, exporting, erasing and revoking many, on each database, with an enrolment that a real device made."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from state_machine_harness import FACE, RP_ID, Clock, Phone, Server, unbase64
from state_machine_thief import crafted_login

from authsvc.errors import Refused
from authsvc.services import administration, api_tokens, bulk_revocation, inspection, personal_data
from authsvc.services.audit_verification import verify_log
from authsvc.services.bulk_revocation import NamedEnrolment
from authsvc.store import migrate
from authsvc.store.credentials import CredentialRow, insert_credential
from authsvc.store.enrolment_search import EnrolmentFilter
from authsvc.store.enrolments import delete_unfinished_enrolments, insert_enrolment
from authsvc.store.event_search import EventFilter
from authsvc.store.tables import credentials
from authsvc.tokens import Scope
from device_sdk.errors import ServerRefused
from mpc.login.history import NO_HASH


def add_people(phone: Phone, server: Server, labels: list[str], **changes: Any) -> list[bytes]:
    """Copies of the phone's row under other ids and labels, each a second later than the one before."""
    row = server.enrolment(phone.id)
    ids = []
    with server.store.write() as conn:
        for at, label in enumerate(labels, start=1):
            own = {"id": label.encode().ljust(16, b"."), "label": label, "created_at": row.created_at + at}
            one = replace(row, **own, audit_seq=0, audit_hash=NO_HASH, **changes)
            insert_enrolment(conn, one)
            ids.append(one.id)
    return ids


def found(server: Server, **wanted: Any) -> list[str]:
    page = inspection.find_enrolments(server.ctx, EnrolmentFilter(**wanted))
    assert page.next is None
    return [row.label for row in page.rows]


class TestSearching:
    def test_by_each_filter(self, phone: Phone, server: Server) -> None:
        """An operator finds one person among many, and a percent sign in a name is a percent sign."""
        add_people(phone, server, ["Ben", "Bella 50%", "Bella_5"], status="quarantined")
        now = server.clock.now

        assert found(server) == ["Ada", "Ben", "Bella 50%", "Bella_5"]
        assert found(server, label="bEL") == ["Bella 50%", "Bella_5"]
        assert found(server, label="%") == ["Bella 50%"] and found(server, label="_") == ["Bella_5"]
        assert found(server, status="active") == found(server, rp_id=RP_ID) == ["Ada"]
        assert found(server, profile="sim-512", status="quarantined", label="be") == ["Ben", "Bella 50%", "Bella_5"]
        assert found(server, profile="other") == found(server, rp_id="nowhere.example") == []
        assert found(server, created_from=now + 2, created_to=now + 3) == ["Bella 50%"]
        assert found(server, last_attempt_from=now + 1) == [] and len(found(server, last_attempt_to=now + 1)) == 4

    def test_a_page_at_a_time_sees_each_once_though_others_come_and_go(self, phone: Phone, server: Server) -> None:
        """Counting rows off would skip or repeat people as soon as one is added or erased in between."""
        ids = add_people(phone, server, [f"P{at}" for at in range(6)])
        seen: list[str] = []
        cursor = None
        while True:
            page = inspection.find_enrolments(server.ctx, EnrolmentFilter(), limit=2, cursor=cursor)
            seen += [row.label for row in page.rows]
            if page.next is None:
                break
            cursor = page.next.cursor()
            if len(seen) == 2:
                personal_data.erase_user(server.ctx, phone.id, confirmation=phone.id.hex())
                personal_data.erase_user(server.ctx, ids[5], confirmation=ids[5].hex())

        assert seen == ["Ada", "P0", "P1", "P2", "P3", "P4"]

    @pytest.mark.parametrize("cursor", ["", "x", "AAAA", "A" * 300, "f_gAAAAAAAA", "+/+/"])
    def test_what_is_no_cursor_is_refused(self, server: Server, cursor: str) -> None:
        with pytest.raises(Refused, match="malformed"):
            inspection.find_enrolments(server.ctx, EnrolmentFilter(), cursor=cursor)

    @pytest.mark.parametrize("limit", [0, -1, 501])
    def test_a_page_is_bounded(self, server: Server, limit: int) -> None:
        for look in (
            lambda: inspection.find_enrolments(server.ctx, EnrolmentFilter(), limit=limit),
            lambda: inspection.find_events(server.ctx, EventFilter(), limit=limit),
            lambda: inspection.open_codes(server.ctx, limit=limit),
        ):
            with pytest.raises(Refused, match="malformed"):
                look()

    def test_events_by_filter_and_page(self, phone: Phone, server: Server) -> None:
        """An auditor reads the whole history, newest first, whatever is appended meanwhile."""
        every, more = inspection.find_events(server.ctx, EventFilter())
        assert more is None and [row.name for row in every][-2:] == ["enrolled", "code_issued"]
        mine, _ = inspection.find_events(server.ctx, EventFilter(enrolment_id=phone.id, name="enrolled"))
        assert [row.name for row in mine] == ["enrolled"]
        assert inspection.find_events(server.ctx, EventFilter(since=server.clock.now + 1)) == ([], None)
        pages, before = [], None
        while True:
            rows, before = inspection.find_events(server.ctx, EventFilter(), limit=1, before=before)
            administration.issue_code(server.ctx, label="meanwhile")
            pages += rows
            if before is None:
                break
        assert pages == every


class TestCodes:
    def test_open_ones_are_listed_and_one_is_withdrawn(self, phone: Phone, server: Server, clock: Clock) -> None:
        """A code sent to the wrong address is made useless before somebody uses it."""
        wrong = administration.issue_code(server.ctx, label="Bob")
        right = administration.issue_code(server.ctx, label="Bob")
        late = administration.issue_code(server.ctx, label="Eve", lifetime_s=60)
        rotation = server.rotation_code(phone.id)
        clock.advance(61)

        inspection.withdraw(server.ctx, wrong.id)
        inspection.withdraw(server.ctx, wrong.id)  # twice is once

        assert [row.purpose for row in inspection.open_codes(server.ctx).rows].count("rotate") == 1
        listed = inspection.open_codes(server.ctx, purposes=["enrol"])
        assert [row.code_hash for row in listed.rows] == [right.id] and late.id != right.id
        assert server.events(phone.id).count("code_withdrawn") == 0
        all_events, _ = inspection.find_events(server.ctx, EventFilter(name="code_withdrawn"))
        assert len(all_events) == 1 and rotation not in all_events[0].detail

    def test_a_provisioner_reaches_no_recovery_or_rotation_code(self, phone: Phone, server: Server) -> None:
        """He hands out enrolments; a way back into somebody's is the operators' business."""
        server.rotation_code(phone.id)
        purposes = inspection.code_purposes([Scope.PROVISIONER])
        (row,) = inspection.open_codes(server.ctx).rows

        assert inspection.open_codes(server.ctx, purposes=purposes).rows == []
        with pytest.raises(Refused, match="not_found"):
            inspection.withdraw(server.ctx, row.code_hash, purposes=purposes)


class TestExport:
    def test_an_enrolment_that_is_not_finished_leaves_no_event_behind(self, phone: Phone, server: Server) -> None:
        """Its row goes if nobody finishes it. An event without a row is what verification calls tampering."""
        (begun,) = add_people(phone, server, ["Ben"], status="enrolling")

        with pytest.raises(Refused, match="wrong_state"):
            personal_data.export_user(server.ctx, begun)

        with server.store.write() as conn:
            delete_unfinished_enrolments(conn, b"", server.clock() + 10)
        assert verify_log(server.ctx).ok
        assert personal_data.export_user(server.ctx, phone.id)["enrolment"]["label"] == "Ada"

    def test_it_is_everything_and_no_secret(self, phone: Phone, server: Server, clock: Clock) -> None:
        """The person's right to know, without a copy of what would help to be that person."""
        phone.get()
        phone.confirm()
        clock.advance(1)
        code = server.rotation_code(phone.id)

        document = personal_data.export_user(server.ctx, phone.id)

        text = json.dumps(document)
        assert document["enrolment"]["label"] == "Ada" and document["enrolment"]["id"] == phone.id.hex()
        assert [unbase64(each["id"]) for each in document["credentials"]] == [phone.state.credentials[0].credential_id]
        assert [each["state"] for each in document["logins"]] == ["confirmed", "confirmed"]
        assert [each["purpose"] for each in document["codes"]] == ["enrol", "rotate"]
        names = [each["name"] for each in document["events"]]
        assert names[0] == "data_exported" and names[-1] == "enrolled"
        row = server.enrolment(phone.id)
        secrets = [row.sealed_template, row.sealed_base_ot, row.confirmed_token_hash]
        secrets += [each.sealed_share for each in server.credentials(phone.id)]
        assert code not in text and "sealed" not in text
        assert all(secret is not None and secret.hex() not in text for secret in secrets)


class TestErasure:
    def test_nothing_of_the_person_is_left(self, phone: Phone, server: Server) -> None:
        """But the pseudonymous history, which ends by saying that it was erased."""
        phone.get()
        server.rotation_code(phone.id)
        history = server.events(phone.id)

        personal_data.erase_user(server.ctx, phone.id, confirmation=phone.id.hex())

        left = server.dump()
        assert [left[name] for name in ("enrolments", "credentials", "logins", "codes")] == [[], [], [], []]
        assert server.events(phone.id) == ["enrolment_erased", *history]
        assert not any("Ada" in str(value) for rows in left.values() for row in rows for value in row)

    def test_its_device_is_a_stranger_then(self, phone: Phone, server: Server) -> None:
        """The same answer as for an id that never was."""
        unknown = crafted_login(phone, ot_index=9, sign_count=9)
        personal_data.erase_user(server.ctx, phone.id, confirmation=phone.id.hex())

        with pytest.raises(ServerRefused) as caught:
            phone.get()

        assert caught.value.code == "unauthenticated"
        assert server.serve(unknown).problem["field"] == "signature"

    @pytest.mark.parametrize("typed", ["", "yes", "00" * 16, "\ud800"])
    def test_without_the_id_typed_again_nothing_happens(self, phone: Phone, server: Server, typed: str) -> None:
        before = server.dump()

        with pytest.raises(Refused, match="wrong_confirmation"):
            personal_data.erase_user(server.ctx, phone.id, confirmation=typed)

        assert server.dump() == before

    def test_a_dealt_key_stays_as_a_bare_revoked_row(self, phone: Phone, server: Server) -> None:
        """Importing its ceremony again would bring it back to life otherwise. Its device is unknown all the same."""
        dealt = insert_dealt(phone, server)
        request = crafted_login(phone, ot_index=9, sign_count=9)

        personal_data.erase_user(server.ctx, phone.id, confirmation=phone.id.hex())

        (row,) = server.credentials(phone.id)
        assert (row.id, row.status, row.sealed_share, row.sign_count) == (dealt, "revoked", None, 0)
        left = server.enrolment(phone.id)
        assert (left.status, left.label, left.signing_key, left.sealed_template) == ("erased", "", b"", None)
        answer = server.serve(request)
        assert (answer.code, answer.problem["field"]) == ("unauthenticated", "signature")
        for act in acts(server, phone.id):
            with pytest.raises(Refused, match="not_found"):
                act()
        assert found(server) == []


def acts(server: Server, enrolment_id: bytes) -> list[Callable[[], object]]:
    return [
        lambda: administration.enrolment_detail(server.ctx, enrolment_id),
        lambda: administration.lift(server.ctx, enrolment_id, also_active=True),
        lambda: administration.revoke_enrolment(server.ctx, enrolment_id),
        lambda: server.rotation_code(enrolment_id, without_match=True),
        lambda: personal_data.export_user(server.ctx, enrolment_id),
        lambda: personal_data.erase_user(server.ctx, enrolment_id, confirmation=enrolment_id.hex()),
        lambda: bulk_revocation.revoke_enrolments(server.ctx, [NamedEnrolment(enrolment_id, "line 1")]),
    ]


def insert_dealt(phone: Phone, server: Server, enrolment_id: bytes | None = None) -> bytes:
    key_id = (enrolment_id or phone.id) + b"k" * 16
    row = CredentialRow(
        key_id, enrolment_id or phone.id, RP_ID, -257, b"n", 65537, b"s", "paired", 5, 1.0, ceremony_id=b"c" * 16
    )
    with server.store.write() as conn:
        insert_credential(conn, row)
    return key_id


class TestRevokingMany:
    def test_enrolments_by_a_list_all_or_none(self, phone: Phone, server: Server) -> None:
        """A list with one slip in it must not be half done."""
        one, other = add_people(phone, server, ["Ben", "Bella"])
        text = f"# stolen\n{one.hex()}\n\n{phone.id.hex()}\r\n{'00' * 16}\n".encode()
        named = bulk_revocation.read_enrolment_list(text)
        before = server.dump()

        with pytest.raises(Refused, match="not_found") as caught:
            bulk_revocation.revoke_enrolments(server.ctx, named)
        assert caught.value.extension == {"field": "line 5"} and server.dump() == before

        done = bulk_revocation.revoke_enrolments(server.ctx, named, ignore_unknown=True)
        again = bulk_revocation.revoke_enrolments(server.ctx, named, ignore_unknown=True)

        assert (done.revoked, done.unknown) == ((one, phone.id), (bytes(16),)) and again.before == (one, phone.id)
        assert server.enrolment(other).status == "active"
        assert (
            server.enrolment(phone.id).sealed_template is None and server.credentials(phone.id)[0].sealed_share is None
        )

    @pytest.mark.parametrize("text", [b"abc", b"zz" * 16, b"00" * 17, "é".encode() * 16])
    def test_a_line_that_is_no_id_is_named(self, text: bytes) -> None:
        with pytest.raises(Refused) as caught:
            bulk_revocation.read_enrolment_list(b"# one\n" + text)
        assert caught.value.extension == {"field": "line 2"}

    def test_a_relying_party_after_counting(self, phone: Phone, server: Server) -> None:
        """The value that confirms is of what was counted: what came since is not revoked unseen."""
        counted = bulk_revocation.at_relying_party(server.ctx, RP_ID)
        assert (counted.credentials, counted.enrolments) == (1, 1)
        insert_dealt(phone, server)
        before = server.dump()

        for wrong in (counted.confirmation, "", "\ud800"):
            with pytest.raises(Refused, match="wrong_confirmation"):
                bulk_revocation.revoke_at_relying_party(server.ctx, RP_ID, confirmation=wrong)
        assert server.dump() == before

        value = bulk_revocation.at_relying_party(server.ctx, RP_ID).confirmation
        assert bulk_revocation.revoke_at_relying_party(server.ctx, RP_ID, confirmation=value).credentials == 2

        assert {row.status for row in server.credentials(phone.id)} == {"revoked"}
        assert server.enrolment(phone.id).status == "active"
        assert server.events(phone.id).count("credential_revoked") == 2
        with pytest.raises(ServerRefused, match="credential_not_usable"):
            phone.get(FACE)


def test_tokens_on_this_database(server: Server) -> None:
    """Issue, use, note the use, revoke."""
    token = api_tokens.issue_token(server.ctx, name="ops", scopes=[Scope.OPERATOR, Scope.AUDITOR], lifetime_days=1)
    who = api_tokens.authenticate_token(server.ctx, token.text)
    assert who is not None and who.scopes == {Scope.OPERATOR, Scope.AUDITOR}
    assert api_tokens.every_token(server.ctx)[0].last_used_at == server.clock.now
    api_tokens.revoke_token(server.ctx, token.id)
    assert api_tokens.authenticate_token(server.ctx, token.text) is None
    with pytest.raises(Refused, match="not_found"):
        api_tokens.revoke_token(server.ctx, bytes(16))


def test_going_back_to_before_tokens_and_rotations_and_up_again(phone: Phone, server: Server) -> None:
    """Revision 0005 with data in place: nothing stays that older code would take for something else."""
    phone.device.rotate_template(server.rotation_code(phone.id), [FACE] * 3)
    server.rotation_code(phone.id)
    insert_dealt(phone, server)
    (gone,) = add_people(phone, server, ["Ben"])
    insert_dealt(phone, server, gone)
    personal_data.erase_user(server.ctx, gone, confirmation=gone.hex())
    api_tokens.issue_token(server.ctx, name="ops", scopes=[Scope.OPERATOR])

    migrate.downgrade(server.store, "0004")
    migrate.upgrade(server.store)

    assert server.enrolment(gone).status == "erased"
    assert {row.kind for row in server.logins(phone.id)} == {"create", "get"}
    assert inspection.open_codes(server.ctx).rows == [] and api_tokens.every_token(server.ctx) == []
    assert server.enrolment(phone.id).rotated_base_ot_id is None
    with server.store.read() as conn:
        assert len(conn.execute(credentials.select()).fetchall()) == 3
    assert phone.get() > 0 and phone.confirm()
