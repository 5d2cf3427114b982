"""Whatever arrives is answered with a 4xx that says what is wrong and repeats nothing of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from relying_party_authenticator import SoftwareAuthenticator
from relying_party_harness import ORIGIN, Browser, code_of, decoded

NewBrowser = Callable[[], Browser]
JSON_PATHS = ["/register/options", "/register/verify", "/login/options", "/login/verify"]


def post_raw(browser: Browser, path: str, content: bytes, content_type: str = "application/json") -> Any:
    token = browser.get("/session").json()["csrf"]
    headers = {"X-CSRF-Token": token, "Content-Type": content_type}
    return browser.post(path, content=content, headers=headers)


@pytest.mark.parametrize("path", JSON_PATHS)
@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe\xfa", b"[" * 60_000, b'{"a":' * 10_000, b"9" * 5000],
)
def test_what_is_not_a_json_object_is_malformed(browser: Browser, path: str, content: bytes) -> None:
    assert code_of(post_raw(browser, path, content)) == (400, "malformed")


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/cbor"])
def test_another_content_type_is_refused(browser: Browser, content_type: str) -> None:
    """text/plain and forms are what a page of another site can send without asking."""
    answer = post_raw(browser, "/login/options", b"{}", content_type)

    assert code_of(answer) == (415, "unsupported_media_type")


def test_a_form_address_takes_forms_only(browser: Browser) -> None:
    assert code_of(post_raw(browser, "/sign-out", b"{}")) == (415, "unsupported_media_type")


@pytest.mark.parametrize("path", [*JSON_PATHS, "/sign-out"])
def test_a_body_that_is_too_long_is_refused(browser: Browser, path: str) -> None:
    kind = "application/x-www-form-urlencoded" if path == "/sign-out" else "application/json"
    assert code_of(post_raw(browser, path, b" " * (64 * 1024 + 1), kind)) == (413, "too_large")


@pytest.mark.parametrize("content", [b"csrf=%ff", b"\xff", b"a=1&a=2", b"&".join(b"%d=1" % i for i in range(40))])
def test_a_form_that_cannot_be_read_is_malformed(browser: Browser, content: bytes) -> None:
    answer = post_raw(browser, "/sign-out", content, "application/x-www-form-urlencoded")

    assert code_of(answer) == (400, "malformed")


@pytest.mark.parametrize(
    "name", ["", " ", "a" * 65, "a b", "ada\n", "ada\0", "ünal", "<script>", 7, None, [], {}, "\ud800"]
)
def test_a_name_that_cannot_be_used_is_refused(browser: Browser, name: object) -> None:
    content = json.dumps({"username": name}).encode()
    if name == "ada\n":  # spaces at the ends do not count
        assert post_raw(browser, "/register/options", content).status_code == 200
        return

    assert code_of(post_raw(browser, "/register/options", content)) == (400, "invalid_name")


@pytest.mark.parametrize("shown", ["x" * 65, "a\u202eb", "a\0", "\ud800", 3, ["x"]])
def test_a_shown_name_that_cannot_be_used_is_refused(browser: Browser, shown: object) -> None:
    content = json.dumps({"username": "ada", "display_name": shown}).encode()

    assert code_of(post_raw(browser, "/register/options", content)) == (400, "invalid_name")


def test_a_shown_name_cannot_become_markup(browser: Browser, authenticator: SoftwareAuthenticator) -> None:
    body = {"username": "ada", "display_name": "<img src=x>&\"'"}
    options = browser.post_json("/register/options", body).json()
    assert browser.post_json("/register/verify", authenticator.create(options, ORIGIN)).status_code == 200

    page = browser.get("/account").text

    assert "<img src=x>" not in page
    assert "&lt;img src=x&gt;" in page


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["AAAA", "public-key"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
PATHS_IN_AN_ANSWER = [
    ("id",),
    ("rawId",),
    ("type",),
    ("response",),
    ("authenticatorAttachment",),
    ("response", "clientDataJSON"),
    ("response", "authenticatorData"),
    ("response", "attestationObject"),
    ("response", "signature"),
    ("response", "userHandle"),
]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    is_login=st.booleans(),
    path=st.sampled_from(PATHS_IN_AN_ANSWER),
    value=JSON_VALUES,
    character=st.sampled_from(["A", "_", "é", "\0", ""]),
    position=st.integers(0, 9999),
    whole=st.booleans(),
)
def test_a_bent_answer_is_refused_and_never_breaks_the_site(
    new_browser: NewBrowser,
    is_login: bool,
    path: tuple[str, ...],
    value: object,
    character: str,
    position: int,
    whole: bool,
) -> None:
    """One field of a good answer is replaced, or one character in it; nothing may be optional by accident."""
    browser, authenticator = new_browser(), SoftwareAuthenticator(algorithm=-7)
    options = browser.post_json("/register/options", {"username": f"u{next(_numbers)}"}).json()
    answer = authenticator.create(options, ORIGIN, attestation="packed")
    if is_login:
        assert browser.post_json("/register/verify", answer).status_code == 200
        answer = authenticator.get(browser.post_json("/login/options", {}).json(), ORIGIN)
    target: Any = answer
    for step in path[:-1]:
        target = target[step]
    old = target.get(path[-1])
    if isinstance(old, str) and not whole:
        at = position % len(old)
        value = old[:at] + character + old[at + 1 :]
    target[path[-1]] = value

    refused = post_raw(browser, "/login/verify" if is_login else "/register/verify", json.dumps(answer).encode())

    if refused.status_code == 200:
        assert value == old or path[-1] in _unused(is_login) or _same_bytes(value, old), path
    else:
        assert code_of(refused) in {
            (400, "malformed"),
            (400, "challenge_not_open"),
            (400, "wrong_origin"),
            (400, "registration_refused"),
            (401, "login_refused"),
        }


def _unused(is_login: bool) -> set[str]:
    other_ceremony = {"attestationObject"} if is_login else {"authenticatorData", "signature", "userHandle"}
    return other_ceremony | {"authenticatorAttachment"}


def _same_bytes(one: object, other: object) -> bool:
    """Base64 text with stray characters, or other unused last bits, can stand for the same bytes."""
    return isinstance(one, str) and isinstance(other, str) and decoded(one) == decoded(other)


_numbers = iter(range(10**9))


@pytest.mark.parametrize("cookie", ["x", "é" * 43, "A" * 43, "A" * 5000, ""])
def test_foreign_cookies_are_as_good_as_none(browser: Browser, cookie: str) -> None:
    answer = browser.get("/session", headers={"Cookie": f"rp_session={cookie}; rp_browser={cookie}".encode()})

    assert answer.status_code == 200 and answer.json()["user"] is None


def test_a_post_without_any_cookie_is_refused(new_browser: NewBrowser) -> None:
    assert code_of(new_browser().post("/login/options", json={})) == (403, "csrf")


def test_unknown_addresses_and_methods_are_told_apart(browser: Browser) -> None:
    assert code_of(browser.get("/nothing")) == (404, "not_found")
    assert code_of(browser.get("/static/../app.py")) == (404, "not_found")
    assert code_of(browser.get("/static/%2e%2e/app.py")) == (404, "not_found")
    assert code_of(browser.get("/login/options")) == (405, "method_not_allowed")
    assert code_of(browser.delete("/account")) == (405, "method_not_allowed")
    page = browser.get("/nothing", headers={"Accept": "text/html"})
    assert page.status_code == 404 and "Nothing here" in page.text


def test_every_page_forbids_inline_code_and_framing(browser: Browser) -> None:
    for path in ("/", "/register", "/phone", "/nothing", "/static/style.css", "/session"):
        headers = browser.get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"
    for path in ("/", "/register", "/phone"):
        page = browser.get(path).text
        assert "style=" not in page and "<style" not in page and " on" + "click" not in page
        assert page.count("<script") == 1 and "https://" not in page


def test_another_host_name_leads_to_the_right_one_or_is_refused(browser: Browser) -> None:
    """WebAuthn does not work on 127.0.0.1, and a name that an attacker points here must not become this site."""
    led = browser.get("/register", headers={"Host": "127.0.0.1:8123"}, follow_redirects=False)
    odd = browser.get("//evil.example/x", headers={"Host": "evil.example"}, follow_redirects=False)
    refused = browser.post("/login/options", json={}, headers={"Host": "evil.example"})
    probe = browser.get("/healthz", headers={"Host": "127.0.0.1:9"})

    assert led.status_code == 307 and led.headers["location"] == ORIGIN + "/register"
    assert odd.headers["location"].startswith(ORIGIN + "/")
    assert code_of(refused) == (421, "wrong_host")
    assert probe.json() == {"status": "ok"}
