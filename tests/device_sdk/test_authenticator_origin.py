"""Which origins may use which relying party ids."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device_sdk.authenticator.origin import Origin, check_rp_id, parse_origin, relying_party_id
from device_sdk.errors import Security


@pytest.mark.parametrize(
    ("stated", "normalised"),
    [
        ("https://example.org", "https://example.org"),
        ("HTTPS://Login.EXAMPLE.org", "https://login.example.org"),
        ("https://example.org:443", "https://example.org"),
        ("https://example.org:8443", "https://example.org:8443"),
        ("http://localhost:80", "http://localhost"),
        ("http://localhost:8000", "http://localhost:8000"),
        ("http://shop.localhost:8000", "http://shop.localhost:8000"),
        ("https://b\u00fccher.example", "https://xn--bcher-kva.example"),
        ("https://B\u00dcCHER.example", "https://xn--bcher-kva.example"),
        ("https://xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        ("https://intranet", "https://intranet"),
    ],
)
def test_an_origin_has_one_serialisation(stated: str, normalised: str) -> None:
    """The relying party compares the origin in client data as text."""
    assert str(parse_origin(stated)) == normalised


@pytest.mark.parametrize(
    "stated",
    [
        "",
        "example.org",
        "null",
        "https://",
        "https://example.org/",
        "https://example.org/path",
        "https://example.org?q",
        "https://example.org#f",
        "https://user@example.org",
        "https://example.org\\@evil.org",
        "https://example.org:",
        "https://example.org:65536",
        "https://example.org:99999999",
        "https://example.org.",
        "https://exa mple.org",
        "https://example.org\n",
        "https://example_.org",
        "https://-example.org",
        "https://a..org",
        "https://%65xample.org",
        "https://" + "a" * 64 + ".org",
        "https://" + "a." * 200 + "org",
        "https://" + "\u00fc" * 5000 + ".org",
        "https://\u2603\ufe0f\u200d.org",
        "https://192.0.2.1",
        "https://0x7f.0.0.1",
        "https://2130706433",
        "http://127.0.0.1:8000",
        "http://[::1]:8000",
        "http://example.org",
        "http://localhost.example.org",
        "http://notlocalhost",
        "ftp://example.org",
        "file:///etc/passwd",
        "wss://example.org",
        "android:apk-key-hash:AAAA",
        "chrome-extension://abcdefghijklmnop",
    ],
)
def test_what_is_no_usable_origin_is_refused(stated: str) -> None:
    with pytest.raises(Security) as raised:
        parse_origin(stated)

    assert raised.value.dom_name == "SecurityError"


def test_an_origin_that_is_no_text_is_refused() -> None:
    with pytest.raises(Security):
        parse_origin(None)  # type: ignore[arg-type]


def test_an_android_origin_is_refused_by_name() -> None:
    with pytest.raises(Security, match="apk-key-hash origins are not supported"):
        parse_origin("android:apk-key-hash:AAAA")


@pytest.mark.parametrize(
    ("origin", "rp_id"),
    [
        ("https://example.org", "example.org"),
        ("https://login.example.org", "example.org"),
        ("https://a.login.example.org:8443", "login.example.org"),
        ("https://a.example.co.uk", "example.co.uk"),
        ("https://me.github.io", "me.github.io"),
        ("https://www.city.kawasaki.jp", "city.kawasaki.jp"),
        ("https://a.b\u00fccher.example", "xn--bcher-kva.example"),
        ("https://a.corp.internal", "corp.internal"),
        ("https://intranet", "intranet"),
        ("http://localhost:8000", "localhost"),
        ("http://shop.localhost:8000", "shop.localhost"),
    ],
)
def test_a_host_or_its_registrable_suffix_may_be_the_rp_id(origin: str, rp_id: str) -> None:
    check_rp_id(origin, rp_id)

    assert relying_party_id(origin, rp_id) == rp_id


@pytest.mark.parametrize(
    ("origin", "rp_id"),
    [
        ("https://example.org", "login.example.org"),
        ("https://example.org", "example.com"),
        ("https://example.org", "org"),
        ("https://notexample.org", "example.org"),
        ("https://example.org.evil.net", "example.org"),
        ("https://example.co.uk", "co.uk"),
        ("https://co.uk", "co.uk"),
        ("https://github.io", "github.io"),
        ("https://me.github.io", "github.io"),
        ("https://x.a.kawasaki.jp", "kawasaki.jp"),
        ("https://x.a.kawasaki.jp", "a.kawasaki.jp"),
        ("https://a.corp.internal", "internal"),
        ("http://shop.localhost", "localhost"),
        ("http://localhost", "example.org"),
        ("https://example.org", ""),
        ("https://example.org", "Example.org"),
        ("https://example.org", "example.org."),
        ("https://example.org", ".example.org"),
        ("https://example.org", "example.org:443"),
        ("https://example.org", "https://example.org"),
        ("https://b\u00fccher.example", "b\u00fccher.example"),
        ("https://example.org", "192.0.2.1"),
        ("https://example.org", "\ud800"),
    ],
)
def test_any_other_rp_id_is_refused(origin: str, rp_id: str) -> None:
    """Otherwise one site could log in to, or fill up the accounts of, another."""
    with pytest.raises(Security) as raised:
        check_rp_id(origin, rp_id)

    assert origin not in str(raised.value)


def test_without_an_rp_id_the_host_is_taken() -> None:
    assert relying_party_id("https://Login.example.org:8443", None) == "login.example.org"


def test_a_public_suffix_is_not_taken_by_default_either() -> None:
    with pytest.raises(Security):
        relying_party_id("https://github.io", None)


@settings(deadline=None)  # the first example loads the suffix list
@given(text=st.text(max_size=60) | st.text(max_size=30).map("https://".__add__))
def test_arbitrary_text_is_an_origin_or_a_security_error(text: str) -> None:
    """Law: what parses serialises to itself, and is https or loopback."""
    try:
        origin = parse_origin(text)
    except Security:
        return
    assert parse_origin(str(origin)) == origin
    assert origin.scheme == "https" or origin.host.endswith("localhost")


@settings(deadline=None)  # the first example loads the suffix list
@given(rp_id=st.text(max_size=30))
def test_arbitrary_rp_ids_are_refused(rp_id: str) -> None:
    if rp_id == "login.example.org" or rp_id == "example.org":
        return
    with pytest.raises(Security):
        check_rp_id(Origin("https", "login.example.org", None), rp_id)
