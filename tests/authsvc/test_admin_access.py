"""Who may do what over the admin API: every route, every scope, and every way in which a token can be no good."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from test_admin_operations import ALICE, FIRST, alice

from authsvc.api import admin
from authsvc.api.admin_access import ACCESS, PREFIX, listed
from authsvc.app import create_app
from authsvc.services import api_tokens, inspection
from authsvc.services.context import ServiceContext
from authsvc.settings import Settings
from authsvc.store.credentials import CredentialRow, insert_credential
from authsvc.store.enrolments import insert_enrolment
from authsvc.store.event_search import EventFilter
from authsvc.tokens import Scope, Token

BODIES: dict[str, dict[str, Any]] = {
    "/enrolment-codes": {"label": "Bob"},
    "/enrolments/revoke": {"enrolment_ids": [ALICE.hex()]},
    "/enrolments/{enrolment_id}/erase": {"confirm": ALICE.hex()},
    "/relying-parties/{rp_id}/revoke": {"confirm": "no"},
    "/provisioned-keys/revoke": {"ceremony_id": "00" * 16},
}
EXPECTED = {
    Scope.PROVISIONER: {
        "GET /token", "POST /enrolment-codes", "GET /codes", "POST /codes/{code_id}/withdraw",
        "GET /provisioned-keys", "GET /recipients",
    },
    Scope.AUDITOR: {
        "GET /token", "GET /codes", "GET /enrolments", "GET /enrolments/{enrolment_id}", "GET /relying-parties/{rp_id}",
        "GET /events", "GET /provisioned-keys", "GET /recipients",
    },
    Scope.OPERATOR: {f"{method} {path}" for method, path in ACCESS} - {"POST /enrolment-codes"},
}  # fmt: skip


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(data_dir=tmp_path))) as client:
        context: ServiceContext = client.app.state.context  # type: ignore[attr-defined]
        with context.store.write() as conn:
            insert_enrolment(conn, alice())
            key = (b"\xff" * 256, 65537, b"sealed share", "active", 9, 1.0)
            insert_credential(conn, CredentialRow(FIRST, ALICE, "localhost", -257, *key))  # type: ignore[arg-type]
        yield client


@pytest.fixture
def ctx(client: TestClient) -> ServiceContext:
    context: ServiceContext = client.app.state.context  # type: ignore[attr-defined]
    return context


def issued(ctx: ServiceContext, *scopes: Scope) -> api_tokens.IssuedToken:
    return api_tokens.issue_token(ctx, name="test", scopes=scopes)


def ask(client: TestClient, method: str, path: str, token: str, **more: Any) -> Any:
    ids = {"enrolment_id": ALICE.hex(), "credential_id": "MTEx", "code_id": "00" * 32, "rp_id": "localhost"}
    address = PREFIX + re.sub(r"\{(\w+)\}", lambda found: ids[found[1]], path)
    headers = {"authorization": f"Bearer {token}"}
    return client.request(method, address, headers=headers, json=BODIES.get(path), **more)


def test_the_table_names_exactly_the_routes_that_there_are(ctx: ServiceContext) -> None:
    """A route that nobody gave scopes is a mistake, and so is a line for a route that is gone."""
    routes = [route for route in admin.router(ctx).routes if isinstance(route, APIRoute)]

    assert {(method, route.path.removeprefix(PREFIX)) for route in routes for method in route.methods} == set(ACCESS)


@pytest.mark.parametrize(("method", "path"), list(ACCESS))
def test_every_route_with_every_scope(client: TestClient, ctx: ServiceContext, method: str, path: str) -> None:
    """The promise of each role, spelt out apart from the table: who lacks the scope is refused and changes nothing."""
    for scope in Scope:
        token = issued(ctx, scope).text
        before = content(ctx)

        answer = ask(client, method, path, token)

        if f"{method} {path}" in EXPECTED[scope]:
            assert answer.status_code not in (401, 403, 405, 500), answer.text
        else:
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
            assert content(ctx) == before
        assert answer.headers["cache-control"] == "no-store"


def content(ctx: ServiceContext) -> list[Any]:
    with ctx.store.read() as conn:
        tables = ("enrolments", "credentials", "codes", "events")
        return [conn.exec_driver_sql(f"SELECT * FROM {table}").fetchall() for table in tables]


def test_a_token_with_two_scopes_has_both(client: TestClient, ctx: ServiceContext) -> None:
    token = issued(ctx, Scope.PROVISIONER, Scope.AUDITOR).text

    assert ask(client, "POST", "/enrolment-codes", token).status_code == 201
    assert ask(client, "GET", "/events", token).status_code == 200
    assert ask(client, "POST", "/enrolments/{enrolment_id}/lift", token).status_code == 403
    shown = ask(client, "GET", "/token", token).json()
    assert (shown["name"], shown["scopes"]) == ("test", ["auditor", "provisioner"])


@pytest.mark.parametrize("path", ["", "/", "/nowhere", "/enrolments/", "x"])
def test_what_is_not_in_the_table_is_not_there(client: TestClient, ctx: ServiceContext, path: str) -> None:
    token = issued(ctx, *Scope).text

    answer = client.get(f"{PREFIX}{path}", headers={"authorization": f"Bearer {token}"})

    assert answer.status_code == 404 and listed(f"{PREFIX}{path}") is None


def test_another_method_is_told_which_there_are(client: TestClient, ctx: ServiceContext) -> None:
    for method in ("HEAD", "OPTIONS", "DELETE", "PUT", "POST"):
        answer = ask(client, method, "/events", issued(ctx, *Scope).text)
        assert answer.status_code == 405 and answer.headers["allow"] == "GET"


class TestNoGood:
    """Unknown, wrong, expired and revoked are one and the same to whoever tries."""

    def refused(self, client: TestClient, text: str) -> bytes:
        answer = ask(client, "GET", "/enrolments", text)
        assert answer.status_code == 401
        return bytes(answer.content)

    def test_all_look_alike(self, client: TestClient, ctx: ServiceContext) -> None:
        good, revoked, expired = (issued(ctx, Scope.AUDITOR) for _ in range(3))
        api_tokens.revoke_token(ctx, revoked.id)
        with ctx.store.write() as conn:
            conn.exec_driver_sql("UPDATE api_tokens SET expires_at = ? WHERE id = ?", (ctx.clock(), expired.id))
        parsed = Token.parse(good.text)
        assert parsed is not None
        wrong_secret = replace(parsed, secret=bytes(32)).text
        other_id = replace(parsed, id=bytes(16)).text

        answers = {
            self.refused(client, text)
            for text in (revoked.text, expired.text, wrong_secret, other_id, "", "x", good.text[:-1], good.text + "A")
        }

        assert len(answers) == 1
        assert ask(client, "GET", "/enrolments", good.text).status_code == 200

    def test_every_changed_character_is_noticed(self, ctx: ServiceContext) -> None:
        """The checksum tells a slip of the hand without asking the database, and nothing passes for another token."""
        text = issued(ctx, Scope.AUDITOR).text
        for at in range(len(text)):
            changed = text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]
            assert Token.parse(changed) is None

    def test_a_revoked_one_ends_at_once_and_only_it(self, client: TestClient, ctx: ServiceContext) -> None:
        one, other = issued(ctx, Scope.AUDITOR), issued(ctx, Scope.AUDITOR)
        assert ask(client, "GET", "/enrolments", one.text).status_code == 200

        api_tokens.revoke_token(ctx, one.id)
        api_tokens.revoke_token(ctx, one.id)

        assert ask(client, "GET", "/enrolments", one.text).status_code == 401
        assert ask(client, "GET", "/enrolments", other.text).status_code == 200
        names = [row.name for row in inspection.find_events(ctx, EventFilter())[0]]
        assert names == ["token_revoked", "token_issued", "token_issued"]


def test_a_token_is_recognisable_and_its_secret_nowhere(ctx: ServiceContext, tmp_path: Path) -> None:
    """Scanners for leaked secrets find it; whoever reads database, events or objects does not."""
    token = issued(ctx, Scope.OPERATOR)
    parsed = Token.parse(token.text)
    assert parsed is not None and re.fullmatch(r"tandem_[A-Za-z0-9_-]{70}", token.text)

    stored = b"".join(path.read_bytes() for path in tmp_path.glob("authsvc.db*"))

    assert parsed.id in stored
    for form in (parsed.secret, token.text.encode(), token.text[-40:].encode(), parsed.secret.hex().encode()):
        assert form not in stored
    assert token.text not in repr(token) and repr(parsed.secret) not in repr(parsed)


def test_the_last_use_is_noted_once_a_minute(ctx: ServiceContext) -> None:
    """An operator sees which tokens are in use, and a busy client causes no write a request."""
    token = issued(ctx, Scope.AUDITOR)
    now = 1_800_000_000.0
    noted = []
    for seconds in (0.0, 1.0, 59.0, 61.0, 90.0, 122.0):
        at = replace(ctx, clock=lambda seconds=seconds: now + seconds)  # type: ignore[misc]
        with ctx.store.write() as conn:
            conn.exec_driver_sql("UPDATE api_tokens SET expires_at = ?", (now + 1000,))
        assert api_tokens.authenticate_token(at, token.text) is not None
        noted.append(api_tokens.every_token(ctx)[0].last_used_at)

    assert [at - now for at in noted if at is not None] == [0.0, 0.0, 0.0, 61.0, 61.0, 122.0]


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"scopes": []}, "scope"),
        ({"lifetime_days": 0}, "lifetime_days"),
        ({"lifetime_days": 731}, "lifetime_days"),
    ],
)
def test_a_token_that_cannot_be(ctx: ServiceContext, arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(Exception, match="malformed") as caught:
        api_tokens.issue_token(ctx, **{"name": "x", "scopes": [Scope.AUDITOR], **arguments})
    assert caught.value.extension == {"field": field}  # type: ignore[attr-defined]
    assert api_tokens.every_token(ctx) == []


def test_every_event_of_an_action_names_the_token_that_did_it(client: TestClient, ctx: ServiceContext) -> None:
    """Otherwise two operators could each say that it was the other one."""
    token = issued(ctx, *Scope)
    code = ask(client, "POST", "/enrolment-codes", token.text).json()
    client.post(f"{PREFIX}/codes/{code['id']}/withdraw", headers={"authorization": f"Bearer {token.text}"})
    for path, body in (
        ("/enrolments/{enrolment_id}/rotate-template", None),
        ("/enrolments/{enrolment_id}/export", None),
        ("/enrolments/{enrolment_id}/lift", {"also_active": True}),
    ):
        headers = {"authorization": f"Bearer {token.text}"}
        address = PREFIX + path.replace("{enrolment_id}", ALICE.hex())
        assert client.post(address, headers=headers, json=body).status_code == 200, path
    confirm = ask(client, "GET", "/relying-parties/{rp_id}", token.text).json()["confirmation"]
    address = f"{PREFIX}/relying-parties/localhost/revoke"
    headers = {"authorization": f"Bearer {token.text}"}
    assert client.post(address, headers=headers, json={"confirm": confirm}).status_code == 200
    assert ask(client, "POST", "/enrolments/revoke", token.text).status_code == 200
    assert ask(client, "POST", "/enrolments/{enrolment_id}/erase", token.text).status_code == 200

    rows, _ = inspection.find_events(ctx, EventFilter())

    by = {row.name: re.search(r'"by":"([^"]+)"', row.detail) for row in rows}
    assert set(by) == {
        "token_issued", "code_issued", "code_withdrawn", "rotation_code_issued", "data_exported", "quarantine_lifted",
        "credential_revoked", "relying_party_revoked", "enrolment_revoked", "enrolment_erased",
    }  # fmt: skip
    for name, found in by.items():
        assert found is not None, name
        assert found[1] == ("command line" if name == "token_issued" else token.id.hex())
