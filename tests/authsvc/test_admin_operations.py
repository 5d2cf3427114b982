"""The operator's API over real HTTP routing and a real database file."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from authsvc.app import create_app
from authsvc.codes import ALPHABET, code_hash, normalise
from authsvc.services.context import ServiceContext
from authsvc.settings import Settings
from authsvc.store import enrolments
from authsvc.store.api_tokens import ApiTokenRow, insert_token
from authsvc.store.codes import take_code
from authsvc.store.credentials import CredentialRow, insert_credential, list_credentials, load_credential
from authsvc.store.enrolments import EnrolmentRow, insert_enrolment, load_enrolment, update_enrolment
from authsvc.store.logins import LoginRow, insert_login, pending_logins
from authsvc.tokens import Token

TOKEN = Token(b"an id of 16 byte", b"a secret of a test in 32 bytes..")
TEXT = TOKEN.text
ALICE = b"a" * 16
FIRST, SECOND = b"1" * 32, b"2" * 32
URL = f"/v1/admin/enrolments/{ALICE.hex()}"


def alice(**changes: Any) -> EnrolmentRow:
    row = EnrolmentRow(
        id=ALICE,
        status="active",
        status_reason=None,
        label="Alice",
        profile_name="sim-2048",
        code_hash=bytes(32),
        signing_key=b"\x04" + bytes(64),
        next_signing_key=None,
        epoch=3,
        base_ot_id=b"o" * 16,
        sealed_base_ot=b"sealed base ot",
        sealed_pending_base_ot=None,
        pending_base_ot_id=None,
        sealed_template=b"sealed template",
        last_index=9,
        confirmed_index=None,
        confirmed_token_hash=None,
        consecutive_failures=0,
        last_attempt_at=None,
        template_attempts=9,
        created_at=1.0,
        updated_at=1.0,
    )
    return replace(row, **changes)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings), headers={"authorization": f"Bearer {TEXT}"}) as client:
        context: ServiceContext = client.app.state.context  # type: ignore[attr-defined]
        with context.store.write() as conn:
            now = context.clock()
            scopes = "auditor operator provisioner"
            insert_token(conn, ApiTokenRow(TOKEN.id, "test", scopes, TOKEN.hash, now, now + 600, None, now))
        yield client


@pytest.fixture
def ctx(client: TestClient) -> ServiceContext:
    context: ServiceContext = client.app.state.context  # type: ignore[attr-defined]
    with context.store.write() as conn:
        insert_enrolment(conn, alice())
        for credential_id in (FIRST, SECOND):
            insert_credential(
                conn,
                CredentialRow(
                    credential_id, ALICE, "localhost", -257, b"\xff" * 256, 65537, b"sealed share", "active", 9, 1.0
                ),
            )
        insert_login(conn, LoginRow(ALICE, 9, FIRST, 1.0, 1, "pending", "get", b"t" * 32, b"sealed rho", b"r" * 32))
    return context


def quarantine(ctx: ServiceContext, **changes: Any) -> None:
    with ctx.store.write() as conn:
        update_enrolment(conn, ALICE, **{"status": "quarantined", "status_reason": "clone_suspected", **changes})


def stored(ctx: ServiceContext) -> EnrolmentRow:
    with ctx.store.read() as conn:
        row = load_enrolment(conn, ALICE)
    assert row is not None
    return row


def events(client: TestClient) -> list[str]:
    return [event["name"] for event in client.get(URL).json()["events"]]


class TestAccess:
    @pytest.mark.parametrize(
        "header",
        [None, "", "Bearer", "Bearer wrong", f"Basic {TEXT}", TEXT, f"Bearer {TEXT}x", f"Bearer {TEXT[:-1]}"],
    )
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "/v1/admin/enrolment-codes"),
            ("GET", "/v1/admin/enrolments"),
            ("GET", URL),
            ("POST", f"{URL}/lift"),
            ("POST", f"{URL}/revoke"),
            ("POST", "/v1/admin/credentials/MTEx/revoke"),
        ],
    )
    def test_every_address_needs_the_token(
        self, method: str, path: str, header: str | None, client: TestClient, ctx: ServiceContext
    ) -> None:
        del client.headers["authorization"]
        before = stored(ctx)

        answer = client.request(method, path, headers={} if header is None else {"authorization": header})

        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == "unauthenticated"
        assert stored(ctx) == before

    def test_a_token_in_other_characters_is_refused_and_not_an_error(self, client: TestClient) -> None:
        answer = client.get("/v1/admin/enrolments", headers={"authorization": b"Bearer \xff\xfe\xe9"})

        assert answer.status_code == 401


class TestCodes:
    def test_an_issued_code_can_be_taken_once_as_a_person_types_it(
        self, client: TestClient, ctx: ServiceContext
    ) -> None:
        answer = client.post("/v1/admin/enrolment-codes", json={"label": "Bob", "lifetime_s": 600})

        assert answer.status_code == 201
        code = answer.json()["code"]
        assert len(code.replace("-", "")) == 20
        typed = code_hash(" " + code.lower().replace("-", " ").replace("0", "o").replace("1", "l"))
        assert typed is not None
        with ctx.store.write() as conn:
            taken = take_code(conn, typed, "enrol", ctx.clock())
            again = take_code(conn, typed, "enrol", ctx.clock())
        assert taken is not None
        assert (taken.label, again) == ("Bob", None)
        assert 590 < answer.json()["expires_at"] - ctx.clock() <= 600

    def test_codes_differ_and_use_the_whole_alphabet(self, client: TestClient) -> None:
        codes = {client.post("/v1/admin/enrolment-codes", json={"label": ""}).json()["code"] for _ in range(60)}

        assert len(codes) == 60
        assert set("".join(codes)) - {"-"} == set(ALPHABET)

    def test_the_database_holds_no_code(self, client: TestClient, settings: Settings) -> None:
        code = client.post("/v1/admin/enrolment-codes", json={"label": "Bob"}).json()["code"]

        content = b"".join(path.read_bytes() for path in settings.data_dir.glob("authsvc.db*"))

        assert b"Bob" in content
        assert code.encode() not in content
        assert code.replace("-", "").encode() not in content

    @pytest.mark.parametrize(
        "text", ["", "ABC", "0" * 19, "0" * 21, "U" * 20, "\u0660" * 20, "0" * 5000, "0" * 19 + "\n0\n"]
    )
    def test_what_cannot_be_a_code_is_none(self, text: str) -> None:
        assert normalise(text) is None

    @pytest.mark.parametrize(
        ("body", "field"),
        [
            ({}, "label"),
            ({"label": 5}, "label"),
            ({"label": "x" * 101}, "label"),
            ({"label": "a\nb"}, "label"),
            ({"label": "x", "lifetime_s": 59}, "lifetime_s"),
            ({"label": "x", "lifetime_s": "600"}, "lifetime_s"),
            ({"label": "x", "lifetime_s": 10**12}, "lifetime_s"),
            ({"label": "x", "injected-name": 1}, "body"),
            ([], "body"),
        ],
    )
    def test_a_wrong_field_is_named_and_not_repeated(self, body: Any, field: str, client: TestClient) -> None:
        answer = client.post("/v1/admin/enrolment-codes", json=body)

        assert answer.status_code == 400
        assert (answer.json()["code"], answer.json()["field"]) == ("malformed", field)
        assert "injected-name" not in answer.text

    def test_a_body_that_is_no_json_is_malformed(self, client: TestClient) -> None:
        answer = client.post(
            "/v1/admin/enrolment-codes", content=b"{oops", headers={"content-type": "application/json"}
        )

        assert (answer.status_code, answer.json()["code"]) == (400, "malformed")
        assert "oops" not in answer.text


class TestLooking:
    def test_an_enrolment_is_shown_without_secrets(self, client: TestClient, ctx: ServiceContext) -> None:
        listed = client.get("/v1/admin/enrolments").json()["enrolments"]
        shown = client.get(URL)

        assert [item["id"] for item in listed] == [ALICE.hex()]
        assert {key: value for key, value in shown.json().items() if key in listed[0]} == listed[0]
        assert [item["id"] for item in shown.json()["credentials"]] == [
            base64.urlsafe_b64encode(value).decode().rstrip("=") for value in (FIRST, SECOND)
        ]
        assert "sealed" not in shown.text
        assert "token" not in shown.text

    @pytest.mark.parametrize(("identifier", "status"), [("00" * 16, 404), ("zz" * 16, 400), ("00", 400)])
    def test_an_enrolment_that_is_not_there(self, identifier: str, status: int, client: TestClient) -> None:
        for method, path in (("GET", ""), ("POST", "/lift"), ("POST", "/revoke")):
            answer = client.request(method, f"/v1/admin/enrolments/{identifier}{path}")

            assert answer.status_code == status
            assert answer.json()["code"] == ("not_found" if status == 404 else "malformed")


class TestLift:
    def test_a_lifted_enrolment_waits_for_its_device_with_nothing_old(
        self, client: TestClient, ctx: ServiceContext
    ) -> None:
        quarantine(ctx, consecutive_failures=12)

        answer = client.post(f"{URL}/lift")

        assert answer.status_code == 200
        row = stored(ctx)
        assert (row.status, row.consecutive_failures) == ("recovering", 0)
        assert row.base_ot_id is None
        assert row.sealed_base_ot is None
        # What the device still shares with the server stays.
        assert (row.sealed_template, row.epoch, row.last_index) == (b"sealed template", 3, 9)
        with ctx.store.write() as conn:
            # A login that the device released before it was stopped is settled when it recovers, not forgotten.
            assert [row.ot_index for row in pending_logins(conn, ALICE)] == [9]
            recovery = code_hash(answer.json()["recovery_code"])
            assert recovery is not None
            assert take_code(conn, recovery, "enrol", ctx.clock()) is None
            taken = take_code(conn, recovery, "recover", ctx.clock())
        assert taken is not None
        assert taken.enrolment_id == ALICE
        assert events(client) == ["quarantine_lifted"]

    def test_lifting_again_withdraws_the_code_before(self, client: TestClient, ctx: ServiceContext) -> None:
        quarantine(ctx)
        first = client.post(f"{URL}/lift").json()["recovery_code"]
        second = client.post(f"{URL}/lift").json()["recovery_code"]

        with ctx.store.write() as conn:
            hashes = [code_hash(first), code_hash(second)]
            assert all(hashes)
            taken = [take_code(conn, value or b"", "recover", ctx.clock()) is not None for value in hashes]
        assert taken == [False, True]

    def test_an_enrolment_disabled_by_failures_in_a_row_is_unlocked(
        self, client: TestClient, ctx: ServiceContext
    ) -> None:
        limit = ctx.policy.limits.consecutive_before_disabled
        quarantine(ctx, status="active", status_reason=None, consecutive_failures=limit)

        assert client.post(f"{URL}/lift").status_code == 200
        assert (stored(ctx).status, stored(ctx).consecutive_failures) == ("recovering", 0)

    @pytest.mark.parametrize(("status", "failures"), [("active", 0), ("active", 49), ("enrolling", 0), ("revoked", 99)])
    def test_nothing_else_is_lifted(self, status: str, failures: int, client: TestClient, ctx: ServiceContext) -> None:
        quarantine(ctx, status=status, consecutive_failures=failures)
        before = stored(ctx)

        answer = client.post(f"{URL}/lift")

        assert (answer.status_code, answer.json()["code"]) == (409, "wrong_state")
        assert stored(ctx) == before
        assert events(client) == []


class TestRevocation:
    def test_a_revoked_enrolment_holds_no_secret(
        self, client: TestClient, ctx: ServiceContext, settings: Settings
    ) -> None:
        quarantine(ctx)
        code = client.post(f"{URL}/lift").json()["recovery_code"]
        quarantine(ctx, sealed_base_ot=b"sealed base ot", sealed_pending_base_ot=b"sealed pending")

        assert client.post(f"{URL}/revoke").status_code == 200

        row = stored(ctx)
        assert row.status == "revoked"
        assert (row.sealed_base_ot, row.sealed_pending_base_ot, row.sealed_template) == (None, None, None)
        with ctx.store.write() as conn:
            assert [(item.status, item.sealed_share) for item in list_credentials(conn, ALICE)] == [
                ("revoked", None)
            ] * 2
            assert pending_logins(conn, ALICE) == []
            assert take_code(conn, code_hash(code) or b"", "recover", ctx.clock()) is None
        assert events(client)[0] == "enrolment_revoked"

    def test_revoking_again_changes_nothing(self, client: TestClient, ctx: ServiceContext) -> None:
        client.post(f"{URL}/revoke")
        before = (stored(ctx), events(client))

        assert client.post(f"{URL}/revoke").status_code == 200
        assert (stored(ctx), events(client)) == before

    @pytest.mark.parametrize("padding", ["", "="])
    def test_one_credential_is_revoked_and_the_other_lives(
        self, padding: str, client: TestClient, ctx: ServiceContext
    ) -> None:
        identifier = base64.urlsafe_b64encode(FIRST).decode().rstrip("=") + padding

        for _ in range(2):
            assert client.post(f"/v1/admin/credentials/{identifier}/revoke").status_code == 200

        with ctx.store.read() as conn:
            first, second = load_credential(conn, FIRST), load_credential(conn, SECOND)
        assert first is not None and second is not None
        assert (first.status, first.sealed_share) == ("revoked", None)
        assert (second.status, second.sealed_share) == ("active", b"sealed share")
        assert events(client) == ["credential_revoked"]
        assert stored(ctx).status == "active"

    @pytest.mark.parametrize(
        ("identifier", "status"),
        [("AAAA", 404), ("A", 400), ("A+AA", 400), ("A" * 101, 400), ("%C3%A9", 400), ("====", 404)],
    )
    def test_a_credential_that_is_not_there(self, identifier: str, status: int, client: TestClient) -> None:
        answer = client.post(f"/v1/admin/credentials/{identifier}/revoke")

        assert answer.status_code == status


def test_the_row_module_offers_only_known_states() -> None:
    assert set(enrolments.EnrolmentStatus.__args__) == {  # type: ignore[attr-defined]
        "enrolling",
        "active",
        "quarantined",
        "recovering",
        "revoked",
        "erased",
    }
