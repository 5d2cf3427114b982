"""Fingerprints that people read to each other, and the one text form of byte strings and of times."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpc.errors import DecodeError
from mpc.primitives import base64url
from mpc.primitives.codec import Fields
from mpc.provisioning.signed_document import (
    base64url_field,
    fingerprint,
    key_fingerprint,
    normal_fingerprint,
)
from mpc.provisioning.times import from_text, time_field, to_text


def test_a_fingerprint_is_eight_groups_of_base32() -> None:
    """RFC 4648 section 10 gives the letters of "foobar": MZXW6YTBOI."""
    assert fingerprint(b"foobar" + bytes(14) + b"ignored") == "MZXW-6YTB-OIAA-AAAA-AAAA-AAAA-AAAA-AAAA"
    assert key_fingerprint(b"k" * 32) == fingerprint(hashlib.sha256(b"k" * 32).digest())


@given(st.binary(min_size=32, max_size=32))
def test_a_fingerprint_as_people_type_it_is_understood(digest: bytes) -> None:
    shown = fingerprint(digest)

    for typed in (shown, shown.lower(), shown.replace("-", ""), shown.replace("-", " "), f"  {shown}\n"):
        assert normal_fingerprint(typed) == shown


@given(st.binary(min_size=32, max_size=32), st.integers(0, 159))
def test_each_of_the_160_bits_shows(digest: bytes, bit: int) -> None:
    other = (int.from_bytes(digest, "big") ^ 1 << (255 - bit)).to_bytes(32, "big")

    assert fingerprint(other) != fingerprint(digest)


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "MZXW",
        "MZXW-6YTB-OIAA-AAAA-AAAA-AAAA-AAAA-AAA",
        "MZXW-6YTB-OIAA-AAAA-AAAA-AAAA-AAAA-AAAAA",
        "MZXW-6YTB-OIAA-AAAA-AAAA-AAAA-AAAA-AAA0",
        "MZXW-6YTB-OIAA-AAAA-AAAA-AAAA-AAAA-AAA1",
        "MZXW-6YTB-OIAA-AAAA-AAAA-AAAA-AAAA-AAA8",
        "MZXW-6YTB-OIAA-AAAA-AAAA-AAAA-AAAA-AAA=",
        "MZXW–6YTB–OIAA–AAAA–AAAA–AAAA–AAAA–AAAA",
        "MZXW-6YTB-OıAA-AAAA-AAAA-AAAA-AAAA-AAAA",
        "MZXW-6YTB-OIAA-AAAA-AAAA-AAAA-AAAA-AAſA",
        "MZXW-6YTB-OIAA-AAAA-AAAA-AAAA-AAAA-ААAA",
    ],
    ids=["empty", "one group", "short", "long", "0", "1", "8", "=", "en dash", "dotless i", "long s", "Cyrillic"],
)
def test_what_is_no_fingerprint_is_refused(typed: str) -> None:
    with pytest.raises(ValueError, match="eight groups"):
        normal_fingerprint(typed)


@given(st.binary(max_size=80))
def test_base64url_has_one_form_for_each_value(value: bytes) -> None:
    text = base64url.encode(value)
    if not value:
        with pytest.raises(DecodeError):
            base64url_field(Fields({"x": text}, "test"), "x")
        return

    assert base64url_field(Fields({"x": text}, "test"), "x") == value
    with pytest.raises(DecodeError):
        base64url_field(Fields({"x": text}, "test"), "x", at_most=len(value) - 1)
    with pytest.raises(DecodeError):
        base64url_field(Fields({"x": text}, "test"), "x", length=len(value) + 1)


@given(st.integers(0, 253402300799))
def test_a_time_has_one_text_and_comes_back(at: int) -> None:
    assert from_text(to_text(at)) == at


def test_times_are_written_as_in_rfc_3339() -> None:
    assert to_text(0) == "1970-01-01T00:00:00Z"
    assert to_text(1_000_000_000) == "2001-09-09T01:46:40Z"


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-20T16:00:00",
        "2026-11-20T16:00:00z",
        "2026-11-20t16:00:00Z",
        "2026-11-20 16:00:00Z",
        "2026-11-20T16:00:00+00:00",
        "2026-11-20T16:00:00.0Z",
        "2026-11-20T16:00Z",
        "2026-02-30T16:00:00Z",
        "2026-13-01T16:00:00Z",
        "2026-11-20T24:00:00Z",
        "2026-11-20T23:59:60Z",
        "1969-12-31T23:59:59Z",
        "0000-01-01T00:00:00Z",
        "٢٠٢٦-11-20T16:00:00Z",
        "2026-11-20T16:00:00Z\n",
        " 2026-11-20T16:00:00Z",
        "",
    ],
)
def test_a_time_in_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_text(text)
    with pytest.raises(DecodeError):
        time_field(Fields({"at": text}, "test"), "at")
