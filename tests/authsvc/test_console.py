"""The web console over real HTTP routing and a real database file: who gets in, what each page shows, what each button
does, and what another site, a planted cookie or a label with markup can do.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from authsvc.app import create_app
from authsvc.codes import code_hash
from authsvc.console import words
from authsvc.console.pages import PAGES
from authsvc.console.visits import MAX_BODY_BYTES
from authsvc.services import api_tokens, console_sessions, recipients
from authsvc.services.context import LoginLatency, ServiceContext
from authsvc.settings import Settings
from authsvc.store.ceremonies import CeremonyRow, store_ceremony
from authsvc.store.credentials import CredentialRow, insert_credential, load_credential
from authsvc.store.enrolments import EnrolmentRow, insert_enrolment, load_enrolment, update_enrolment
from authsvc.store.event_names import EVENTS
from authsvc.store.logins import LoginRow, insert_login
from authsvc.store.tables import console_sessions as sessions_table
from authsvc.tokens import Scope
from mpc.primitives import base64url
from mpc.primitives.hpke import HpkeSuite

ALICE, KEY, DEALT, CEREMONY = b"a" * 16, b"1" * 32, b"d" * 32, b"c" * 16
LABEL = "<script>alert(1)</script>\"'>&"
OWN = f"/console/enrolments/{ALICE.hex()}"
HERE = {"origin": "http://testserver", "sec-fetch-site": "same-origin"}
SECURE = {"origin": "https://testserver", "sec-fetch-site": "same-origin"}


class Clock:
    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """One server for all tests. To make it, and its database, takes longer than any of them."""
    with TestClient(create_app(Settings(data_dir=tmp_path_factory.mktemp("server"))), follow_redirects=False) as client:
        fill(context_of(client))
        yield client


@pytest.fixture(scope="module")
def snapshot(started: TestClient) -> Iterator[sqlite3.Connection]:
    """The database as every test finds it."""
    with closing(sqlite3.connect(":memory:")) as kept:
        with closing(database_of(started)) as live:
            live.backup(kept)
        yield kept


@pytest.fixture
def client(started: TestClient, snapshot: sqlite3.Connection) -> TestClient:
    started.cookies.clear()
    with closing(database_of(started)) as live:
        snapshot.backup(live)
    return started


@pytest.fixture
def app(client: TestClient) -> Any:
    return client.app


@pytest.fixture
def ctx(client: TestClient) -> ServiceContext:
    return context_of(client)


def context_of(client: TestClient) -> ServiceContext:
    context: ServiceContext = client.app.state.context  # type: ignore[attr-defined]
    return context


def database_of(client: TestClient) -> sqlite3.Connection:
    return sqlite3.connect(str(context_of(client).store.engine.url.database))


def fill(context: ServiceContext) -> None:
    now = context.clock()
    with context.store.write() as conn:
        insert_enrolment(
            conn,
            EnrolmentRow(
                ALICE, "active", None, LABEL, "sim-2048", bytes(32), b"\x04" + bytes(64), None, 3, b"o" * 16,
                b"sealed", None, None, b"sealed template", 2, None, None, 0, now, 9, now - 99, now,
            ),
        )  # fmt: skip
        for credential_id, ceremony_id in ((KEY, None), (DEALT, CEREMONY)):
            insert_credential(
                conn,
                CredentialRow(
                    credential_id, ALICE, "localhost", -257, b"\xff" * 256, 65537, b"s", "active", 9, now, ceremony_id
                ),
            )
        store_ceremony(conn, CeremonyRow(CEREMONY, 1, bytes(32), bytes(32), now))
        insert_login(conn, LoginRow(ALICE, 1, KEY, now - 5, 1, "confirmed", "get", None, None, b"r" * 32, now))
        insert_login(conn, LoginRow(ALICE, 2, KEY, now - 2, 1, "failed", "get", None, None, b"q" * 32))
    recipients.create(context, suite=next(iter(HpkeSuite)))


def token(ctx: ServiceContext, *scopes: Scope) -> api_tokens.IssuedToken:
    return api_tokens.issue_token(ctx, name="<i>Nightshift</i>", scopes=scopes, lifetime_days=1)


def sign_in(client: TestClient, ctx: ServiceContext, *scopes: Scope) -> api_tokens.IssuedToken:
    issued = token(ctx, *(scopes or (Scope.OPERATOR, Scope.PROVISIONER)))
    answer = client.post("/console/sign-in", data={"token": issued.text}, headers=HERE)
    assert answer.status_code == 303, answer.text
    return issued


def form_token(client: TestClient, path: str = "/console") -> str:
    found = re.search(r'name="form_token" value="([^"]+)"', client.get(path).text)
    assert found is not None
    return found[1]


def press(client: TestClient, path: str, **fields: str) -> Any:
    return client.post(path, data={"form_token": form_token(client, "/console"), **fields}, headers=HERE)


def row(ctx: ServiceContext) -> EnrolmentRow:
    with ctx.store.read() as conn:
        found = load_enrolment(conn, ALICE)
    assert found is not None
    return found


def addresses() -> list[tuple[str, str]]:
    """(method, address) of everything that the console has, but for what is open by design."""
    values = {
        "enrolment_id": ALICE.hex(),
        "credential_id": base64url.encode(KEY),
        "code_id": "0" * 64,
        "ceremony_id": CEREMONY.hex(),
    }
    return [
        (method, "/console" + page.path.format(**values))
        for page in PAGES
        if page.path not in ("/sign-in", "/style.css", "/mark.svg")
        for method in page.views
    ]


class TestWhoGetsIn:
    @pytest.mark.parametrize(("method", "path"), addresses())
    def test_no_page_is_reached_without_a_session(
        self, method: str, path: str, client: TestClient, ctx: ServiceContext
    ) -> None:
        before = row(ctx)

        answer = client.request(method, path, headers=HERE, data={"form_token": "x"} if method == "POST" else None)

        assert answer.status_code == (401 if method == "POST" else 303)
        assert method == "POST" or answer.headers["location"].startswith("/console/sign-in")
        assert LABEL not in answer.text
        assert row(ctx) == before

    def test_failed_sign_ins_all_look_alike(self, client: TestClient, ctx: ServiceContext) -> None:
        """Else a stranger learns which tokens exist."""
        revoked, provisioner = token(ctx, Scope.OPERATOR), token(ctx, Scope.PROVISIONER)
        api_tokens.revoke_token(ctx, revoked.id)
        good = token(ctx, Scope.OPERATOR).text

        texts = ("", "x", revoked.text, provisioner.text, good[:-1] + ("A" if good[-1] != "A" else "B"), good[:-8])
        answers = [client.post("/console/sign-in", data={"token": text}, headers=HERE) for text in texts]

        assert {answer.status_code for answer in answers} == {403}
        assert len({re.sub(r"<time.*?</time>", "", answer.text) for answer in answers}) == 1
        assert not any("set-cookie" in answer.headers for answer in answers)

    def test_the_cookie_is_bound_to_this_host_and_hidden_from_scripts(
        self, app: Any, client: TestClient, ctx: ServiceContext
    ) -> None:
        text = token(ctx, Scope.AUDITOR).text

        plain = client.post("/console/sign-in", data={"token": text}, headers=HERE).headers["set-cookie"]
        tls = TestClient(app, base_url="https://testserver", follow_redirects=False)
        secure = tls.post("/console/sign-in", data={"token": text}, headers=SECURE).headers["set-cookie"]

        for cookie in (plain, secure):
            assert "HttpOnly" in cookie and "SameSite=strict" in cookie and "Path=/" in cookie
            assert "Domain" not in cookie
        assert secure.startswith("__Host-") and "Secure" in secure
        with ctx.store.read() as conn:
            stored = [bytes(each.id_hash) for each in conn.execute(sessions_table.select())]
        value = base64url.decode(secure.partition("=")[2].partition(";")[0])
        assert len(value) == 32 and value not in stored

    def test_a_planted_cookie_is_never_taken_up(self, client: TestClient, ctx: ServiceContext) -> None:
        """Session fixation: who planted the value would be signed in as well."""
        planted = base64url.encode(b"p" * 32)
        client.cookies.set("tandem-console", planted)

        answer = client.post("/console/sign-in", data={"token": token(ctx, Scope.OPERATOR).text}, headers=HERE)

        assert planted not in answer.headers["set-cookie"]
        assert console_sessions.current_session(ctx, planted) is None

    def test_signing_in_again_ends_the_session_before(self, client: TestClient, ctx: ServiceContext) -> None:
        sign_in(client, ctx)
        first = client.cookies["tandem-console"]

        sign_in(client, ctx)

        assert console_sessions.current_session(ctx, first) is None

    def test_a_session_ends_with_its_token_at_once(self, client: TestClient, ctx: ServiceContext) -> None:
        issued = sign_in(client, ctx)
        assert client.get("/console").status_code == 200

        api_tokens.revoke_token(ctx, issued.id)

        assert client.get("/console").status_code == 303

    def test_a_session_ends_without_use_and_after_its_lifetime(self, ctx: ServiceContext) -> None:
        clock = Clock(ctx.clock())
        timed = replace(ctx, clock=clock)
        cookie = console_sessions.sign_in(timed, token(timed, Scope.OPERATOR).text)

        ends = clock.now + console_sessions.ABSOLUTE_S
        while clock.now + 600 < ends:
            clock.now += 600
            assert console_sessions.current_session(timed, cookie) is not None
        clock.now = ends
        assert console_sessions.current_session(timed, cookie) is None

        cookie = console_sessions.sign_in(timed, token(timed, Scope.OPERATOR).text)
        clock.now += console_sessions.IDLE_S
        assert console_sessions.current_session(timed, cookie) is None

    def test_a_session_ends_when_its_token_expires(self, ctx: ServiceContext) -> None:
        clock = Clock(ctx.clock())
        timed = replace(ctx, clock=clock)
        issued = token(timed, Scope.OPERATOR)
        clock.now = issued.expires_at - 10
        cookie = console_sessions.sign_in(timed, issued.text)

        clock.now = issued.expires_at

        assert console_sessions.current_session(timed, cookie) is None

    def test_signing_out_ends_the_session_for_every_holder_of_the_cookie(
        self, client: TestClient, ctx: ServiceContext
    ) -> None:
        sign_in(client, ctx)
        cookie = client.cookies["tandem-console"]

        answer = press(client, "/console/sign-out")

        assert answer.status_code == 303 and "Max-Age=0" in answer.headers["set-cookie"]
        assert console_sessions.current_session(ctx, cookie) is None

    @pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/console/../v1", "/consolex", "/"])
    def test_sign_in_leads_nowhere_else(self, target: str, client: TestClient, ctx: ServiceContext) -> None:
        fields = {"token": token(ctx, Scope.OPERATOR).text, "next": target}

        answer = client.post("/console/sign-in", data=fields, headers=HERE)

        assert answer.headers["location"] == "/console"


class TestOtherSites:
    @pytest.mark.parametrize("sent", ["", "x", "other"])
    def test_a_form_of_another_session_or_none_changes_nothing(
        self, sent: str, client: TestClient, ctx: ServiceContext
    ) -> None:
        sign_in(client, ctx)
        if sent == "other":
            sent = form_token(client)
            sign_in(client, ctx)

        answer = client.post(f"{OWN}/revoke", data={"form_token": sent}, headers=HERE)

        assert answer.status_code == 403
        assert row(ctx).status == "active"

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"origin": "http://evil.example"},
            {"origin": "null"},
            {"origin": "https://testserver"},
            {"sec-fetch-site": "cross-site"},
            {"sec-fetch-site": "same-site"},
            {"origin": "http://testserver", "sec-fetch-site": "cross-site"},
        ],
    )
    def test_a_post_from_elsewhere_changes_nothing(
        self, headers: dict[str, str], client: TestClient, ctx: ServiceContext
    ) -> None:
        sign_in(client, ctx)

        answer = client.post(f"{OWN}/revoke", data={"form_token": form_token(client)}, headers=headers)
        signing_in = client.post("/console/sign-in", data={"token": token(ctx, Scope.OPERATOR).text}, headers=headers)

        assert answer.status_code == signing_in.status_code == 403
        assert row(ctx).status == "active"

    @pytest.mark.parametrize("path", ["/console", "/console/sign-in", "/console/none", "/console/style.css"])
    def test_pages_cannot_be_framed_scripted_or_kept(self, path: str, client: TestClient, app: Any) -> None:
        headers = client.get(path).headers

        assert headers["content-security-policy"] == (
            "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; frame-ancestors 'none';"
            " base-uri 'none'"
        )
        assert headers["x-frame-options"] == "DENY" and headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store" or path.endswith(".css")
        assert "strict-transport-security" not in headers
        tls = TestClient(app, base_url="https://testserver", follow_redirects=False).get(path)
        assert "max-age" in tls.headers["strict-transport-security"]

    def test_an_oversized_body_is_refused(self, client: TestClient, ctx: ServiceContext) -> None:
        answer = client.post("/console/sign-in", data={"token": "x" * MAX_BODY_BYTES}, headers=HERE)

        assert answer.status_code == 413

    @pytest.mark.parametrize("content", [b"a=%ff", b"a=1&a=2", b"\xff=1", b"&".join(b"f%d=1" % n for n in range(30))])
    def test_malformed_forms_are_refused(self, content: bytes, client: TestClient) -> None:
        headers = {**HERE, "content-type": "application/x-www-form-urlencoded"}

        assert client.post("/console/sign-in", content=content, headers=headers).status_code == 400

    def test_only_forms_are_read(self, client: TestClient) -> None:
        assert client.post("/console/sign-in", json={"token": "x"}, headers=HERE).status_code == 415


class TestPages:
    @pytest.mark.parametrize(
        "path", [path for method, path in addresses() if method == "GET" and "/codes/0" not in path]
    )
    def test_every_page_is_whole_and_shows_labels_as_text(
        self, path: str, client: TestClient, ctx: ServiceContext
    ) -> None:
        sign_in(client, ctx)

        answer = client.get(path)

        assert answer.status_code == 200, answer.text
        assert '<main id="main"' in answer.text and 'href="#main"' in answer.text
        assert answer.text.count("<h1") == 1
        assert "<script" not in answer.text and "<i>Night" not in answer.text
        assert "style=" not in answer.text and "http://" not in answer.text and "https://" not in answer.text

    @pytest.mark.parametrize(
        "path",
        [
            "/console/none",
            f"/console/enrolments/{bytes(16).hex()}",
            "/console/enrolments/x",
            f"/console/keys/{'0' * 32}",
            f"{OWN}/credentials/AAAA/revoke",
            f"/console/codes/{'0' * 64}/withdraw",
            f"{OWN}/",
        ],
    )
    def test_what_is_not_there_is_a_page_that_says_so(self, path: str, client: TestClient, ctx: ServiceContext) -> None:
        sign_in(client, ctx)

        answer = client.get(path)

        assert answer.status_code == 404
        assert "Not found" in answer.text

    def test_figures_are_those_of_the_database(self, client: TestClient, ctx: ServiceContext) -> None:
        sign_in(client, ctx)

        for period in ("", "?period=7d"):
            text = client.get(f"/console{period}").text
            assert "Login attempts: 1 confirmed, 1 not confirmed." in text

    def test_latency_is_shown_where_it_is_measured(self, ctx: ServiceContext) -> None:
        from authsvc.services.activity import DAY, activity

        figures = activity(replace(ctx, login_latency=lambda: LoginLatency(9.0, 20.0, 31.0, 7, "here")), DAY)

        assert figures.latency is not None and figures.latency.p95_ms == 20.0
        assert activity(replace(ctx, login_latency=None), DAY).latency is None

    def test_search_and_filters_narrow_the_list(self, client: TestClient, ctx: ServiceContext) -> None:
        sign_in(client, ctx)

        assert OWN in client.get("/console/enrolments", params={"q": "ALERT(1)", "status": "active"}).text
        assert OWN not in client.get("/console/enrolments", params={"q": "nobody"}).text
        assert OWN not in client.get("/console/enrolments?status=revoked").text
        assert client.get(f"/console/enrolments?q={ALICE.hex()}").headers["location"] == OWN
        assert client.get("/console/enrolments?status=erased").status_code == 400
        assert client.get("/console/enrolments?cursor=!").status_code == 400

    def test_lists_have_pages_without_loss(self, client: TestClient, ctx: ServiceContext) -> None:
        with ctx.store.write() as conn:
            for n in range(120):
                insert_enrolment(conn, replace(row(ctx), id=n.to_bytes(16, "big"), label=f"person {n}", created_at=n))
        sign_in(client, ctx)

        seen, path = set(), "/console/enrolments?q=person"
        while path:
            text = client.get(path).text
            seen |= set(re.findall(r"person \d+", text))
            found = re.search(r'href="([^"]+)" rel="next"', text)
            path = found[1].replace("&amp;", "&") if found else ""

        assert len(seen) == 120

    def test_audit_filters_and_says_what_is_wrong(self, client: TestClient, ctx: ServiceContext) -> None:
        sign_in(client, ctx)

        assert "token_issued" in client.get("/console/audit?name=token_issued").text
        assert client.get(f"/console/audit?before={2**63 - 1}").status_code == 200
        wrong_pages = ("-1", str(2**63), "0" * 20 + "9" * 20, "9" * 5000)
        wrong = ("name=x!", "enrolment=zz", "since=yesterday", *(f"before={each}" for each in wrong_pages))
        for query in wrong:
            answer = client.get(f"/console/audit?{query}")
            assert answer.status_code == 400 and 'role="alert"' in answer.text


class TestActions:
    def test_auditors_see_no_buttons_and_change_nothing(self, client: TestClient, ctx: ServiceContext) -> None:
        sign_in(client, ctx, Scope.AUDITOR)
        before = row(ctx)

        text = client.get(OWN).text
        answers = [press(client, path) for method, path in addresses() if method == "POST" and "sign-out" not in path]

        assert "Revoke…" not in text and "Erase…" not in text
        assert {answer.status_code for answer in answers} == {403}
        assert row(ctx) == before

    def test_an_operator_alone_issues_no_enrolment_codes(self, client: TestClient, ctx: ServiceContext) -> None:
        """As in the API: who gives out codes and who changes enrolments may be two people."""
        sign_in(client, ctx, Scope.OPERATOR)

        assert press(client, "/console/codes/new", label="Bob", lifetime_s="3600").status_code == 403

    def test_a_lift_shows_the_code_once(self, client: TestClient, ctx: ServiceContext) -> None:
        with ctx.store.write() as conn:
            update_enrolment(conn, ALICE, status="quarantined", status_reason="clone_suspected")
        issued = sign_in(client, ctx)

        answer = press(client, f"{OWN}/lift")

        found = re.search(r'class="secret" role="status"><code>([^<]+)<', answer.text)
        assert found is not None and code_hash(found[1]) is not None
        assert row(ctx).status == "recovering"
        text = client.get(OWN).text
        assert found[1] not in text and issued.id.hex() in text

    def test_one_in_service_is_sent_into_recovery_only_when_that_was_asked(
        self, client: TestClient, ctx: ServiceContext
    ) -> None:
        sign_in(client, ctx)

        assert press(client, f"{OWN}/lift").status_code == 409
        assert row(ctx).status == "active"
        assert press(client, f"{OWN}/lift", also_active="yes").status_code == 200
        assert row(ctx).status == "recovering"

    def test_a_rotation_gives_a_code(self, client: TestClient, ctx: ServiceContext) -> None:
        sign_in(client, ctx)

        assert 'class="secret"' in press(client, f"{OWN}/rotate-template").text
        assert 'class="secret"' in press(client, f"{OWN}/rotate-template", without_match="yes").text
        assert "no match asked" in client.get("/console/codes").text

    def test_revoking_ends_the_enrolment(self, client: TestClient, ctx: ServiceContext) -> None:
        sign_in(client, ctx)
        client.get(f"{OWN}/revoke")
        assert row(ctx).status == "active"

        answer = press(client, f"{OWN}/revoke")

        assert answer.headers["location"] == f"{OWN}?done=revoked"
        assert row(ctx).status == "revoked"
        assert press(client, f"{OWN}/revoke").headers["location"] == f"{OWN}?done=unchanged"

    def test_revoking_a_passkey_leaves_the_others(self, client: TestClient, ctx: ServiceContext) -> None:
        sign_in(client, ctx)

        answer = press(client, f"{OWN}/credentials/{base64url.encode(KEY)}/revoke")

        assert answer.status_code == 303
        with ctx.store.read() as conn:
            states = [load_credential(conn, each).status for each in (KEY, DEALT)]  # type: ignore[union-attr]
        assert states == ["revoked", "active"]

    def test_an_export_is_a_download(self, client: TestClient, ctx: ServiceContext) -> None:
        sign_in(client, ctx)

        answer = press(client, f"{OWN}/export")

        assert answer.headers["content-disposition"].startswith("attachment")
        assert answer.json()["enrolment"]["label"] == LABEL

    def test_erasing_needs_the_typed_id(self, client: TestClient, ctx: ServiceContext) -> None:
        sign_in(client, ctx)

        refused = press(client, f"{OWN}/erase", confirm="yes")
        assert refused.status_code == 409 and 'role="alert"' in refused.text
        assert row(ctx).status == "active"

        assert "Erased" in press(client, f"{OWN}/erase", confirm=ALICE.hex()).text
        assert client.get(OWN).status_code == 404

    def test_a_code_is_issued_shown_once_and_withdrawn(self, client: TestClient, ctx: ServiceContext) -> None:
        sign_in(client, ctx)

        for label, lifetime in (("", "3600"), ("x" * 101, "3600"), ("Bob", "1"), ("Bob", "x")):
            assert press(client, "/console/codes/new", label=label, lifetime_s=lifetime).status_code == 400
        answer = press(client, "/console/codes/new", label="<b>Bob</b>", lifetime_s="3600")
        assert 'class="secret"' in answer.text and "<b>Bob" not in answer.text

        found = re.search(r"/console/codes/([0-9a-f]{64})/withdraw", client.get("/console/codes").text)
        assert found is not None
        assert client.get(found[0]).status_code == 200
        assert press(client, found[0]).status_code == 303
        assert found[0] not in client.get("/console/codes").text


def test_the_console_can_be_left_out(tmp_path: Path) -> None:
    with TestClient(create_app(Settings(data_dir=tmp_path, console=False)), follow_redirects=False) as client:
        assert client.get("/console").status_code == 404


def test_every_event_has_its_words() -> None:
    """An operator should not have to guess what a stored word means."""
    assert set(words.EVENTS) == set(EVENTS)
