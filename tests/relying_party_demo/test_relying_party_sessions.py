"""Sessions, cookies, CSRF, and the account page."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from relying_party_authenticator import SoftwareAuthenticator
from relying_party_harness import ORIGIN, Browser, Clock, code_of, encoded

from relying_party_demo import RelyingPartySettings, create_app

NewBrowser = Callable[[], Browser]
POSTS_JSON = ["/register/options", "/register/verify", "/login/options", "/login/verify", "/passkeys/options"]
POSTS_FORM = ["/sign-out", "/passkeys/remove", "/phone/register", "/phone/sign-in"]


def test_signing_out_kills_the_session_itself(
    browser: Browser, new_browser: NewBrowser, authenticator: SoftwareAuthenticator
) -> None:
    """A copy of the cookie, taken before, is worth nothing afterwards."""
    browser.register(authenticator, "ada")
    copy = new_browser()
    copy.cookies.update(browser.cookies)
    assert copy.user == "ada"

    browser.post_form("/sign-out")

    assert browser.user is None
    assert copy.user is None
    assert copy.get("/account", follow_redirects=False).headers["location"] == "/"


def test_a_new_login_ends_the_session_before(
    browser: Browser, new_browser: NewBrowser, authenticator: SoftwareAuthenticator
) -> None:
    browser.register(authenticator, "ada")
    copy = new_browser()
    copy.cookies.update(browser.cookies)

    browser.log_in(authenticator, "ada")

    assert browser.user == "ada"
    assert copy.user is None


def test_a_session_expires(browser: Browser, authenticator: SoftwareAuthenticator, clock: Clock) -> None:
    browser.register(authenticator, "ada")
    clock.now += 12 * 3600 - 1
    assert browser.user == "ada"

    clock.now += 1

    assert browser.user is None


def test_cookies_are_out_of_reach_of_scripts_and_other_sites(
    browser: Browser, authenticator: SoftwareAuthenticator
) -> None:
    first = browser.get("/").headers["set-cookie"]
    options = browser.post_json("/register/options", {"username": "ada"}).json()
    second = browser.post_json("/register/verify", authenticator.create(options, ORIGIN)).headers["set-cookie"]

    assert "rp_browser=" in first and "rp_session=" in second
    for cookie in (first, second):
        assert "HttpOnly" in cookie and "SameSite=lax" in cookie and "Path=/" in cookie
        assert "Domain" not in cookie and "Secure" not in cookie


def test_over_https_cookies_are_secure_and_bound_to_the_host(
    tmp_path: Path, authenticator: SoftwareAuthenticator
) -> None:
    origin = "https://login.example.org"
    settings = RelyingPartySettings(database=tmp_path / "s.sqlite", origin=origin, rp_id="example.org")
    with Browser(create_app(settings), base_url=origin) as browser:
        first = browser.get("/")
        options = browser.post_json("/register/options", {"username": "ada"}).json()
        answer = browser.post_json("/register/verify", authenticator.create(options, origin))
        user = browser.user
        signed_out = browser.post_form("/sign-out")

    assert first.headers["set-cookie"].startswith("__Host-rp_browser=") and "Secure" in first.headers["set-cookie"]
    assert answer.headers["set-cookie"].startswith("__Host-rp_session=")
    assert "Secure" in answer.headers["set-cookie"]
    assert "max-age" in first.headers["strict-transport-security"]
    assert user == "ada"
    assert "Secure" in signed_out.history[0].headers["set-cookie"]


def test_tokens_are_not_in_the_database(browser: Browser, authenticator: SoftwareAuthenticator, tmp_path: Path) -> None:
    """Who reads the file must not be able to take over a session."""
    browser.register(authenticator, "ada")

    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())

    assert b"ada" in content
    for cookie in browser.cookies.values():
        assert len(cookie) == 43 and cookie.encode() not in content


@pytest.mark.parametrize("path", POSTS_JSON)
@pytest.mark.parametrize("headers", [{}, {"X-CSRF-Token": "0" * 64}, {"X-CSRF-Token": "é"}])
def test_json_without_the_token_is_refused(
    browser: Browser, authenticator: SoftwareAuthenticator, path: str, headers: dict[str, str]
) -> None:
    browser.register(authenticator, "ada")
    sent = {name: value.encode() for name, value in headers.items()}

    assert code_of(browser.post(path, json={}, headers=sent)) == (403, "csrf")


@pytest.mark.parametrize("path", POSTS_FORM)
def test_a_form_without_the_token_is_refused(browser: Browser, authenticator: SoftwareAuthenticator, path: str) -> None:
    browser.register(authenticator, "ada")

    assert code_of(browser.post(path, data={"who": "owner"})) == (403, "csrf")
    assert code_of(browser.post(path, data={"csrf": "x", "who": "owner"})) == (403, "csrf")
    assert browser.user == "ada"


def test_the_token_of_another_browser_or_of_before_the_login_does_not_fit(
    browser: Browser, new_browser: NewBrowser, authenticator: SoftwareAuthenticator
) -> None:
    """An attacker can get a token of their own, and may have planted the cookie a victim started with."""
    before = browser.get("/session").json()["csrf"]
    foreign = new_browser().get("/session").json()["csrf"]
    browser.register(authenticator, "ada")

    for token in (before, foreign):
        assert code_of(browser.post("/sign-out", data={"csrf": token})) == (403, "csrf")
    assert browser.user == "ada"


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:8124"])
def test_a_post_from_another_origin_is_refused_even_with_the_token(browser: Browser, origin: str) -> None:
    token = browser.get("/session").json()["csrf"]

    answer = browser.post("/login/options", json={}, headers={"X-CSRF-Token": token, "Origin": origin})

    assert code_of(answer) == (403, "csrf")


def test_the_account_page_lists_adds_and_removes_passkeys(
    browser: Browser, new_browser: NewBrowser, authenticator: SoftwareAuthenticator
) -> None:
    browser.register(authenticator, "ada")
    first = authenticator.credentials[0]
    second_device = SoftwareAuthenticator(algorithm=-7)
    options = browser.post_json("/passkeys/options", {}).json()
    assert browser.post_json("/passkeys/verify", second_device.create(options, ORIGIN)).status_code == 200
    assert browser.log_in(second_device, "ada").status_code == 200
    opened_by_first = new_browser()
    assert opened_by_first.log_in(authenticator, "ada").status_code == 200

    page = browser.get("/account").text
    assert page.count("<li ") == 2
    assert "RS256" in page and "ES256" in page and "15 Jan 2027, 08:00 UTC" in page
    removed = browser.post_form("/passkeys/remove", id=encoded(first.id))

    assert removed.status_code == 200 and removed.text.count("<li ") == 1 and "RS256" not in removed.text
    assert browser.user == "ada"
    assert opened_by_first.user is None, "a session must not outlive the passkey that opened it"
    options = opened_by_first.post_json("/login/options", {}).json()
    answer = opened_by_first.post_json("/login/verify", authenticator.get(options, ORIGIN, credential=first))
    assert code_of(answer) == (401, "login_refused")


def test_existing_passkeys_are_excluded_when_one_is_added(
    browser: Browser, authenticator: SoftwareAuthenticator
) -> None:
    browser.register(authenticator, "ada")

    options = browser.post_json("/passkeys/options", {}).json()

    assert [entry["id"] for entry in options["excludeCredentials"]] == [encoded(authenticator.credentials[0].id)]


def test_the_only_passkey_stays(browser: Browser, authenticator: SoftwareAuthenticator) -> None:
    browser.register(authenticator, "ada")

    answer = browser.post_form("/passkeys/remove", id=encoded(authenticator.credentials[0].id))

    assert answer.status_code == 409 and "Add another passkey first" in answer.text
    assert browser.get("/account").text.count("<li ") == 1


def test_nobody_removes_or_adds_passkeys_of_another(
    browser: Browser, new_browser: NewBrowser, authenticator: SoftwareAuthenticator
) -> None:
    browser.register(authenticator, "ada")
    rival, rivals = new_browser(), SoftwareAuthenticator()
    rival.register(rivals, "eve")
    options = rival.post_json("/passkeys/options", {}).json()
    assert rival.post_json("/passkeys/verify", rivals.create(options, ORIGIN)).status_code == 200

    answer = rival.post_form("/passkeys/remove", id=encoded(authenticator.credentials[0].id))
    assert answer.status_code == 404
    assert browser.get("/account").text.count("<li ") == 1

    # Asked for as eve, answered after the same browser signed in as ada.
    options = rival.post_json("/passkeys/options", {}).json()
    assert rival.log_in(authenticator, "ada").status_code == 200
    late = rival.post_json("/passkeys/verify", rivals.create(options, ORIGIN))
    assert code_of(late) == (400, "challenge_not_open")


def test_pages_for_signed_in_people_need_a_session(browser: Browser) -> None:
    assert browser.get("/account", follow_redirects=False).status_code == 303
    assert code_of(browser.post_json("/passkeys/options", {})) == (401, "not_signed_in")
    assert browser.post_form("/passkeys/remove", id="AAAA").status_code == 401


def test_accounts_outlive_a_restart(tmp_path: Path, authenticator: SoftwareAuthenticator) -> None:
    settings = RelyingPartySettings(database=tmp_path / "kept.sqlite", origin=ORIGIN)
    with Browser(create_app(settings), base_url=ORIGIN) as before:
        before.register(authenticator, "ada")
        cookies = before.cookies

    with Browser(create_app(settings), base_url=ORIGIN, cookies=dict(cookies)) as after:
        assert after.user == "ada"
        assert after.log_in(authenticator, "ada").status_code == 200


def test_a_database_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "future.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")

    with pytest.raises(ValueError, match="schema version 99"):
        create_app(RelyingPartySettings(database=path, origin=ORIGIN))


@pytest.mark.parametrize(
    "changed",
    [
        {"origin": "http://localhost:80/"},
        {"origin": "localhost:80"},
        {"origin": "http://user@localhost"},
        {"origin": "http://example.org", "rp_id": "example.org"},
        {"origin": "https://example.org"},
        {"origin": "https://notexample.org", "rp_id": "example.org"},
        {"rp_name": ""},
        {"session_lifetime_s": 0},
        {"challenge_lifetime_s": -1},
    ],
)
def test_settings_that_do_not_fit_together_are_refused(tmp_path: Path, changed: dict[str, object]) -> None:
    fields: dict[str, object] = {"database": tmp_path / "s.sqlite", "origin": ORIGIN, **changed}

    with pytest.raises(ValueError):
        RelyingPartySettings(**fields)  # type: ignore[arg-type]
