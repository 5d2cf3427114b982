"""Signed documents: canonical bytes as in RFC 8785, one meaning for each file, and no way to change it unnoticed."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from mpc.errors import DecodeError
from mpc.primitives import base64url
from mpc.provisioning.signed_document import (
    VerifiedDocument,
    sign_document,
    verify_document,
)

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
FORMAT = "tandem test v1"
SMALL_ORDER_KEYS = [
    (1).to_bytes(32, "little"),
    (2**255 - 20).to_bytes(32, "little"),
    bytes(32),
    bytes(31) + b"\x80",
    bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
]
"""Encodings of points of order 1, 2, 4 and 8 on edwards25519."""


def signed(**values: Any) -> bytes:
    return sign_document({"format": FORMAT, **values}, KEY)


def verified(data: bytes, max_bytes: int = 10**6) -> VerifiedDocument:
    return verify_document(data, what="test", expected_format=FORMAT, max_bytes=max_bytes)


def refusal(data: bytes, max_bytes: int = 10**6) -> str:
    with pytest.raises(DecodeError) as caught:
        verified(data, max_bytes)
    return str(caught.value)


def changed(data: bytes, **changes: Any) -> bytes:
    """The document with some members replaced and the old signature kept."""
    return json.dumps(json.loads(data) | changes).encode("utf-8")


def signed_by_hand(text: str, key: Ed25519PrivateKey = KEY) -> bytes:
    """A signature over these exact canonical bytes, framed by hand from the format's description."""
    label, body = b"tandem signed document v1", text.encode("utf-8")
    return key.sign(bytes([len(label)]) + label + len(body).to_bytes(4, "big") + body)


# --- known answers ---------------------------------------------------------------------------------------------


def test_members_are_sorted_as_in_rfc_8785() -> None:
    """Section 3.2.3: by UTF-16 code units, which is neither the order of code points nor that of UTF-8."""
    values = {
        "€": "Euro Sign",
        "\r": "Carriage Return",
        "\ufb33": "Hebrew Letter Dalet With Dagesh",
        "1": "One",
        "😀": "Emoji: Grinning Face",
        "\x80": "Control",
        "ö": "Latin Small Letter O With Diaeresis",
    }

    data = signed(**values)

    public = base64url.encode(KEY.public_key().public_bytes_raw())
    canonical = (
        '{"\\r":"Carriage Return","1":"One","format":"tandem test v1","signing_key":"' + public + '",'
        '"\x80":"Control","ö":"Latin Small Letter O With Diaeresis","€":"Euro Sign","😀":"Emoji: Grinning Face",'
        '"\ufb33":"Hebrew Letter Dalet With Dagesh"}'
    )
    assert json.loads(data)["signature"] == base64url.encode(signed_by_hand(canonical))
    assert verified(data).values == values | {"format": FORMAT, "signing_key": public}


def test_text_and_literals_are_written_as_in_rfc_8785() -> None:
    """Section 3.2.2: the sample's string and literals; its numbers are of a kind that is refused here."""
    data = signed(string="\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/", literals=[None, True, False])

    public = base64url.encode(KEY.public_key().public_bytes_raw())
    canonical = (
        '{"format":"tandem test v1","literals":[null,true,false],"signing_key":"' + public + '",'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    assert json.loads(data)["signature"] == base64url.encode(signed_by_hand(canonical))


def test_the_digest_is_over_all_that_is_signed() -> None:
    data = signed(name="x")
    public = base64url.encode(KEY.public_key().public_bytes_raw())
    body = f'{{"format":"tandem test v1","name":"x","signing_key":"{public}"}}'.encode()
    label = b"tandem signed document v1"

    framed = bytes([len(label)]) + label + len(body).to_bytes(4, "big") + body

    assert verified(data).digest == hashlib.sha256(framed).digest()


# --- laws ------------------------------------------------------------------------------------------------------

_texts = st.text(st.characters(codec="utf-8"), max_size=12)
_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | _texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_texts, inner, max_size=4),
    max_leaves=12,
)
_documents = st.dictionaries(_texts, _values, max_size=6).map(
    lambda values: {name: v for name, v in values.items() if name not in ("format", "signing_key", "signature")}
)


@given(_documents)
@settings(max_examples=80, deadline=None)
def test_what_was_signed_is_what_verifies_in_any_layout(values: dict[str, Any]) -> None:
    """A mail program or an editor may change white space and order; nobody needs to copy bytes exactly."""
    data = signed(**values)
    parsed = json.loads(data)

    layouts = [
        data,
        json.dumps(parsed, separators=(",", ":")).encode("ascii"),
        json.dumps(dict(reversed(parsed.items())), indent=7, ensure_ascii=False).encode("utf-8"),
        b"\r\n\t " + data + b"\n\n",
    ]
    documents = [verified(layout) for layout in layouts]

    assert {document.digest for document in documents} == {documents[0].digest}
    assert all(document.values == documents[0].values for document in documents)
    assert {name: documents[0].values[name] for name in values} == values


@given(_documents, _documents)
@settings(max_examples=60, deadline=None)
def test_a_signature_fits_one_content_only(one: dict[str, Any], two: dict[str, Any]) -> None:
    first, second = json.loads(signed(**one)), json.loads(signed(**two))
    if first == second:
        return

    exchanged = json.dumps(second | {"signature": first["signature"]}).encode("utf-8")

    assert refusal(exchanged) == "test.signature: does not verify: the document was altered"


def test_every_changed_byte_is_noticed_or_changes_nothing() -> None:
    data = signed(name="ann", numbers=[1, 2], map={"a": "b"})
    content = verified(data)
    for at in range(len(data)):
        for mask in (0x01, 0x20, 0x80):
            damaged = data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]
            try:
                again = verified(damaged)
            except DecodeError:
                continue
            # One kind of white space for another: the same document.
            assert (again.values, again.signing_key, again.digest) == (
                content.values,
                content.signing_key,
                content.digest,
            )
            assert data[at] in b" \n"


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
@settings(max_examples=300, deadline=None)
def test_no_bytes_of_chance_do_anything_but_be_refused(data: bytes) -> None:
    refusal(data)


# --- each way of being altered ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [{"name": "bob"}, {"name": "ann "}, {"new": 1}, {"name": None}, {"name": ["ann"]}],
    ids=["value", "a space", "an addition", "null", "a list"],
)
def test_a_changed_member_is_noticed(changes: dict[str, Any]) -> None:
    assert "does not verify" in refusal(changed(signed(name="ann"), **changes))


def test_a_left_out_member_is_noticed() -> None:
    values = json.loads(signed(name="ann"))
    del values["name"]

    assert "does not verify" in refusal(json.dumps(values).encode())


def test_a_signature_by_another_key_makes_another_document() -> None:
    """A document cannot say who made it: signed anew it verifies, with another key, and people compare that."""
    other = Ed25519PrivateKey.generate()
    data = sign_document({"format": FORMAT, "name": "ann"}, other)

    assert verified(data).signing_key == other.public_key().public_bytes_raw()
    assert verified(data).digest != verified(signed(name="ann")).digest
    public = base64url.encode(KEY.public_key().public_bytes_raw())
    assert "does not verify" in refusal(changed(data, signing_key=public))


@pytest.mark.parametrize("key", SMALL_ORDER_KEYS, ids=lambda key: key.hex()[:6])
def test_a_signing_key_of_small_order_is_refused(key: bytes) -> None:
    """With such a key one signature fits many documents: a manifest's fingerprint would then bind nobody to it."""
    values = {"format": FORMAT, "name": "ann", "signing_key": base64url.encode(key)}
    for signature in (key + bytes(32), (1).to_bytes(32, "little") + bytes(32)):
        data = json.dumps(values | {"signature": base64url.encode(signature)}).encode()
        assert refusal(data) == "test.signing_key: is not a usable Ed25519 key"


def test_the_library_alone_would_accept_a_key_of_small_order() -> None:
    """Why the check before is ours to make; if this fails one day, the library has taken it over."""
    neutral = (1).to_bytes(32, "little")
    for message in (b"one document", b"and any other"):
        Ed25519PublicKey.from_public_bytes(neutral).verify(neutral + bytes(32), message)


@pytest.mark.parametrize("name", ["signing_key", "signature"])
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text + "=",
        lambda text: text + "==",
        lambda text: text[:-1],
        lambda text: text + "A",
        lambda text: text[:5] + " " + text[6:],
        lambda text: text[:5] + "\n" + text[5:],
        lambda text: text[:5] + "+" + text[6:],
        lambda text: text[:5] + "/" + text[6:],
        lambda text: text[:5] + "é" + text[6:],
        lambda text: text[:5] + "\ud800" + text[6:],
        lambda text: "\udfff",
        lambda text: "",
        lambda text: None,
        lambda text: 7,
        lambda text: text[:-1] + chr(ord(text[-1]) + 1),
    ],
    ids=[
        "padding",
        "more padding",
        "cut",
        "longer",
        "space",
        "newline",
        "plus",
        "slash",
        "not ASCII",
        "half a surrogate pair inside",
        "half a surrogate pair",
        "empty",
        "null",
        "number",
        "unused bits set",
    ],
)
def test_key_and_signature_have_one_encoding(name: str, change: Any) -> None:
    values = json.loads(signed(name="ann"))
    data = json.dumps(values | {name: change(values[name])}).encode("ascii")

    text = refusal(data)

    assert name in text


@pytest.mark.parametrize("name", ["format", "signing_key", "signature"])
def test_a_document_without_its_frame_is_refused(name: str) -> None:
    values = json.loads(signed(name="ann"))
    del values[name]

    refusal(json.dumps(values).encode())


def test_another_format_is_told_from_another_version() -> None:
    assert refusal(sign_document({"format": "tandem test v2"}, KEY)) == (
        "test: has a version that this program does not know; update it"
    )
    for other in ("tandem manifest v1", "tandem test", " v1", "", 1, None, ["tandem test v1"]):
        assert refusal(sign_document({"format": other}, KEY)) == "test: is not a tandem test v1"


def test_a_document_of_one_format_is_not_one_of_another() -> None:
    """Recipient files and manifests share the frame, and only the format member keeps them apart."""
    data = sign_document({"format": "tandem recipient v1", "name": "x"}, KEY)

    assert "does not verify" in refusal(changed(data, format=FORMAT))


# --- JSON that means two things to two readers -----------------------------------------------------------------


def as_signed(body: str) -> bytes:
    """`body` are the members; the frame around them is right, so only they can be the reason of a refusal."""
    return f'{{"format":"{FORMAT}",{body}}}'.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize(
    "body",
    [
        '"a":1,"a":1',
        '"a":1,"\\u0061":2',
        '"m":{"a":1,"a":2}',
        '"l":[{"a":1,"a":2}]',
        '"format":"tandem test v1"',
        '"a":1.0',
        '"a":1e3',
        '"a":-0.0',
        '"a":NaN',
        '"a":Infinity',
        '"a":-Infinity',
        '"a":' + "9" * 5000,
        '"a":01',
        '"a":+1',
        '"a":0x10',
        "'a':1",
        '"a":1,',
        '"a":"\t"',
        '"a":"\x00"',
        '"a":"\\x41"',
        '"a":"\ud800"',
        '"a":1}{"b":2',
        '"a":1 /* so */',
        '"a":' + "[" * 100_000 + "]" * 100_000,
        '"a":' + '{"a":' * 100_000 + "1" + "}" * 100_000,
    ],
    ids=lambda body: body[:14].encode("unicode_escape").decode(),
)
def test_json_of_doubtful_meaning_is_no_json(body: str) -> None:
    assert refusal(as_signed(body)) == "test: is not JSON as this program writes it"


@pytest.mark.parametrize(
    "value",
    [2**53, -(2**53), 10**300, "\\ud800", "x\\udfffy"],
    ids=["2^53", "-2^53", "10^300", "high surrogate", "low surrogate"],
)
def test_a_value_that_has_no_canonical_form_is_refused(value: object) -> None:
    """Other programs read such integers as other integers, and such text as other text."""
    shown = value if isinstance(value, int) else f'"{value}"'
    frame = f'"signing_key":"{base64url.encode(KEY.public_key().public_bytes_raw())}","signature":"{"A" * 86}"'

    assert refusal(as_signed(f'"a":{shown},{frame}')) == "test: has a value that cannot have been signed"
    assert refusal(as_signed(f'"m":[{{"x":{shown}}}],{frame}')) == "test: has a value that cannot have been signed"
    if isinstance(value, str):
        assert "cannot have been signed" in refusal(as_signed(f'"{value}":1,{frame}'))


@pytest.mark.parametrize("depth", [50, 300, 600, 900])
def test_nesting_ends_in_an_answer_not_in_a_crash(depth: int) -> None:
    frame = f'"signing_key":"{base64url.encode(KEY.public_key().public_bytes_raw())}","signature":"{"A" * 86}"'

    refusal(as_signed('"a":' + "[" * depth + "]" * depth + "," + frame))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xef\xbb\xbf" + signed(name="x"),
        signed(name="x").decode().encode("utf-16"),
        signed(name="x").decode().encode("utf-32"),
        signed(name="x") + b"x",
        signed(name="x") + signed(name="x"),
        signed(name="x")[:-3],
        b"[]",
        b"null",
        b'"text"',
        b"[" + signed(name="x") + b"]",
        signed(name="x").replace(b'"x"', b'"\xff"'),
        signed(name="x").replace(b'"x"', b'"\xc0\x80"'),
    ],
    ids=[
        "empty",
        "byte order mark",
        "UTF-16",
        "UTF-32",
        "tail",
        "twice",
        "cut",
        "list",
        "null",
        "text",
        "in a list",
        "not UTF-8",
        "overlong UTF-8",
    ],
)
def test_a_file_that_is_not_one_object_in_utf_8_is_refused(data: bytes) -> None:
    assert refusal(data) in {"test: is not JSON as this program writes it", "test: is not a JSON object"}


def test_a_file_larger_than_its_bound_is_not_parsed() -> None:
    data = signed(name="x")

    assert verified(data, max_bytes=len(data)).values["name"] == "x"
    assert refusal(data, max_bytes=len(data) - 1) == f"test: is larger than {len(data) - 1} bytes"


def test_a_refusal_repeats_nothing_that_a_stranger_wrote() -> None:
    evil = "\x1b]0;owned\x07"
    for data in (
        signed(name=evil)[:-3],
        changed(signed(name="x"), name=evil),
        sign_document({"format": evil}, KEY),
        changed(signed(name="x"), signature=evil),
    ):
        assert "\x1b" not in refusal(data) and "owned" not in refusal(data)
