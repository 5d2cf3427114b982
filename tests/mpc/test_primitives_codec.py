"""The strict codec: one value, one encoding; anything else is a DecodeError that names the field and echoes nothing."""

from __future__ import annotations

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpc.errors import Blame, DecodeError
from mpc.login.messages import Acknowledgement
from mpc.primitives import codec

CANARY = b"\xc3\xa9CANARY-of-the-sender"

_scalars = st.one_of(
    st.booleans(), st.none(), st.integers(-(2**64), 2**64 - 1), st.binary(max_size=40), st.text(max_size=20)
)
_values = st.dictionaries(
    st.text(max_size=8),
    st.one_of(_scalars, st.lists(_scalars, max_size=4), st.dictionaries(st.text(max_size=4), _scalars, max_size=3)),
    max_size=6,
)


def decoded(data: bytes) -> dict[str, object]:
    fields = codec.decode(data, what="message")
    return fields._values


def refused(data: bytes) -> DecodeError:
    with pytest.raises(DecodeError) as caught:
        fields = codec.decode(data, what="message")
        fields.uint("a")
        fields.done()
    error = caught.value
    assert error.reason == "malformed" and error.blame is Blame.PEER
    assert error.field.split(".")[0] == "message"
    assert (error.__cause__ is None and error.__suppress_context__) or error.__context__ is None
    assert "CANARY" not in str(error) and "CANARY" not in repr(error)
    return error


@given(_values)
def test_decode_of_encode_is_the_value(value: dict[str, object]) -> None:
    assert decoded(codec.encode(value)) == value


@given(st.binary(max_size=60))
def test_whatever_is_accepted_is_the_canonical_encoding(data: bytes) -> None:
    """Then a hash of the bytes is a hash of the meaning."""
    try:
        value = decoded(data)
    except DecodeError:
        return
    assert codec.encode(value) == data


def test_the_plain_message_of_these_tests_is_accepted() -> None:
    fields = codec.decode(bytes.fromhex("a1616101"), what="message")

    assert fields.uint("a") == 1
    fields.done()


@pytest.mark.parametrize(
    "data",
    [
        "a161611801",  # 1 in two bytes
        "a16161190001",  # 1 in three bytes
        "a161611b0000000000000001",  # 1 in nine bytes
        "b801616101",  # map length in two bytes
        "a178016101",  # key length in two bytes
        "a2616101616102",  # key twice
        "a2616101616101",  # key twice with one value
        "a2616201616101",  # keys out of order
        "a262616101616102",  # a longer key first
        "a161610100",  # one byte after the end
        "a1616101a1616101",  # a second message
        "bf616101ff",  # map of indefinite length
        "a161619f01ff",  # list of indefinite length
        "a161615f4101ff",  # byte string of indefinite length
        "a17f6161ff01",  # text of indefinite length as key
        "a16161c101",  # epoch time
        "a16161c24101",  # big integer
        "a16161c249010000000000000000",  # 2^64 as big integer
        "a16161c3410a",  # negative big integer
        "a16161c48201196ab3",  # decimal fraction
        "a16161c074323031332d30332d32315432303a30343a30305a",  # date text
        "a16161d81c01",  # shareable
        "a16161d81d00",  # shared reference
        "a16161d9010281 01".replace(" ", ""),  # set
        "d9d9f7a1616101",  # self-described CBOR
        "a16161d8186101",  # unknown tag
        "a16161f93c00",  # 1.0
        "a16161fa3f800000",
        "a16161fb3ff0000000000000",
        "a16161f97e00",  # NaN
        "a16161f7",  # undefined
        "a16161f0",  # simple value
        "a16161f6",  # null where a number belongs
        "a16161f5",  # true where a number belongs
        "a1616120",  # -1
        "a1616141 01".replace(" ", ""),  # bytes
        "a161616131",  # text
        "a10101",  # key is a number
        "a1416101",  # key is a byte string
        "a1806101",  # key is a list
        "8101",  # a list
        "01",
        "f6",
        "",
        "a1",
        "a16161",
        "a161615bffffffffffffffff00",  # a byte string of 2^64 - 1 bytes
        "a161619bffffffffffffffff00",  # a list of as many entries
        "bbffffffffffffffff",
        "a1616162ffff",  # not UTF-8
        "a162ffff01",
        "ff",
        "a16161ff",
        "1c",
        "a2616101616202",  # unknown field
        "a1616201",  # the field is missing
    ],
)
def test_anything_but_the_canonical_form_is_refused(data: str) -> None:
    refused(bytes.fromhex(data))


@pytest.mark.parametrize("opening", [b"\x81", b"\xa1\x61a", b"\xc1", b"\xd8\x18\x81"])
@pytest.mark.parametrize("depth", [5, 6, 100, 10_000, 200_000])
def test_deep_nesting_is_refused_and_does_not_exhaust_the_stack(opening: bytes, depth: int) -> None:
    refused(b"\xa1\x61a" + opening * depth + b"\x01")


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"a": CANARY}, "message.a"),
        ({"a": CANARY.decode()}, "message.a"),
        ({"a": [CANARY]}, "message.a"),
        ({"a": {CANARY.decode(): 1}}, "message.a"),
        ({"a": 1, CANARY.decode(): 1}, "message"),
        ({CANARY.decode(): 1}, "message.a"),
    ],
)
def test_an_error_names_the_field_and_never_repeats_what_was_received(value: dict[str, object], field: str) -> None:
    assert refused(codec.encode(value)).field == field


def test_broken_input_is_not_kept_in_the_error_either() -> None:
    error = refused(cbor2.dumps(CANARY * 3)[:-1])

    assert not any(b"CANARY" in arg for arg in error.args if isinstance(arg, bytes))
    assert error.__suppress_context__


def test_an_unknown_version_is_refused_by_name() -> None:
    with pytest.raises(DecodeError) as caught:
        Acknowledgement.decode(codec.encode({"v": 2, "epoch": 1}))

    assert caught.value.field == "acknowledgement.v"


def test_a_message_without_version_is_refused_by_name() -> None:
    with pytest.raises(DecodeError) as caught:
        Acknowledgement.decode(codec.encode({"epoch": 1}))

    assert caught.value.field == "acknowledgement.v"


@pytest.mark.parametrize("what", ["bytes", "text", "uint", "integer", "boolean", "fields", "each"])
def test_every_getter_refuses_every_other_type(what: str) -> None:
    samples = {"bytes": b"x", "text": "x", "uint": 1, "integer": 1, "boolean": True, "fields": {}, "each": []}
    getters = {
        "bytes": lambda f: f.bytes("a"),
        "text": lambda f: f.text("a", at_most=5),
        "uint": lambda f: f.uint("a"),
        "integer": lambda f: f.integer("a", one_of=(1, -7)),
        "boolean": lambda f: f.boolean("a"),
        "fields": lambda f: f.fields("a"),
        "each": lambda f: list(f.each("a", at_most=3)),
    }
    for name, sample in [*samples.items(), ("null", None)]:
        fields = codec.decode(codec.encode({"a": sample}), what="m")
        if name == what or (what, name) in {("uint", "integer"), ("integer", "uint")}:
            getters[what](fields)
            fields.done()
            continue
        with pytest.raises(DecodeError) as caught:
            getters[what](fields)
        assert caught.value.field == "m.a"


@pytest.mark.parametrize("length", [0, 1, 3, 5])
def test_bytes_of_another_length_are_refused(length: int) -> None:
    with pytest.raises(DecodeError) as caught:
        codec.decode(codec.encode({"a": bytes(length)}), what="m").bytes("a", length=4)

    assert caught.value.field == "m.a"


def test_the_limits_of_a_range_are_inside_it() -> None:
    def fields(value: object) -> codec.Fields:
        return codec.decode(codec.encode({"a": value}), what="m")

    assert fields(7).uint("a", at_most=7) == 7
    assert fields(b"123").bytes("a", at_least=3, at_most=3) == b"123"
    assert fields("é").text("a", at_most=2) == "é"
    for attempt in (
        lambda: fields(8).uint("a", at_most=7),
        lambda: fields(b"12").bytes("a", at_least=3, at_most=3),
        lambda: fields("éa").text("a", at_most=2),
        lambda: fields("").text("a", at_most=2),
        lambda: fields("no").text("a", at_most=8, one_of=("create", "get")),
        lambda: fields(-36).integer("a", one_of=(-37, -257)),
        lambda: list(fields([{}, {}]).each("a", at_most=1)),
        lambda: list(fields([1]).each("a", at_most=1)),
    ):
        with pytest.raises(DecodeError):
            attempt()
