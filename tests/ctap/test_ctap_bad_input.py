"""Whatever bytes come: a status byte, no exception, nobody asked for nothing, and no attempt at the server.

The commands are real ones, over a vault with passkeys in it; the person declines everything, so that a request that
makes sense ends there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cbor2
import pytest
from ctap_site import RS256, Finger, Site, Traces, plain
from fido2 import cbor
from fido2.ctap import CtapError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from people import Person
from real_server import ThreadServer

from device_sdk import Device
from device_sdk.ctap import Status, TandemCtapDevice
from device_sdk.ctap.get_info import MAX_MESSAGE_BYTES

STATUSES = {int(status) for status in Status}
EXAMPLES = settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def held(enrolled: Device, server: ThreadServer) -> Iterator[Site]:
    """An authenticator with two passkeys, whose person declines everything."""
    for passkey in enrolled.credentials():
        enrolled.delete(passkey.credential_id)
    finger = Finger(Person(1))
    with TandemCtapDevice(enrolled, finger) as authenticator:
        site = Site(authenticator)
        site.register("ann")
        site.register("bob", resident=False)
        finger.answer = lambda _: None
        yield site


@pytest.fixture(scope="module", autouse=True)
def traces(held: Site, server: ThreadServer, enrolled: Device) -> Traces:
    """What was done at the server since the first of these tests."""
    return Traces(server, enrolled)


def answer(site: Site, data: bytes) -> bytes:
    got = site.authenticator.call(0x10, data)
    assert type(got) is bytes and got[0] in STATUSES
    if got[0] == Status.CTAP2_OK and got[1:]:
        assert cbor.encode(cbor.decode(got[1:])) == got[1:]
    else:
        assert got[1:] == b""
    return got


def status(site: Site, data: bytes) -> Status:
    return Status(answer(site, data)[0])


COMMANDS = st.sampled_from([0x01, 0x02, 0x04, 0x06, 0x07, 0x08, 0x0A, 0x0B]) | st.integers(0, 255)
SCALARS = (
    st.integers(-(2**64), 2**64 - 1) | st.booleans() | st.binary(max_size=70) | st.text(max_size=40)
    | st.sampled_from(["public-key", "shop.example", "id", "type", "alg", "rk", "up", "uv", bytes(32), b"ann", RS256])
)  # fmt: skip
KEYS = st.integers(-3, 12) | st.sampled_from(["id", "type", "alg", "name", "rk", "up", "uv", "credProtect"])
VALUES: st.SearchStrategy[Any] = st.recursive(
    SCALARS, lambda deeper: st.lists(deeper, max_size=3) | st.dictionaries(KEYS, deeper, max_size=4), max_leaves=8
)
MAPS = st.dictionaries(st.integers(1, 12), VALUES, max_size=8)


@given(command=COMMANDS, data=st.binary(max_size=200))
@EXAMPLES
def test_any_bytes(held: Site, command: int, data: bytes) -> None:
    answer(held, bytes([command]) + data)


@given(command=COMMANDS, values=MAPS)
@EXAMPLES
def test_any_canonical_map(held: Site, command: int, values: dict[int, Any]) -> None:
    answer(held, bytes([command]) + cbor.encode(values))


GOOD: dict[str, tuple[int, dict[int, Any]]] = {
    "make": (
        0x01,
        {
            1: bytes(32),
            2: {"id": "shop.example", "name": "Shop"},
            3: {"id": b"ann", "name": "ann", "displayName": "Ann"},
            4: [{"alg": RS256, "type": "public-key"}],
            5: plain(b"x" * 32),
            6: {"credProtect": 2},
            7: {"rk": True},
            8: bytes(32),
            9: 2,
            11: ["packed"],
        },
    ),
    "get": (
        0x02,
        {1: "shop.example", 2: bytes(32), 3: plain(b"x" * 32), 4: {}, 5: {"up": True}, 6: bytes(32), 7: 2},
    ),
    "pin": (
        0x06,
        {1: 2, 2: 6, 3: {1: 2, 3: -25, -1: 1, -2: bytes(32), -3: bytes(32)}, 9: 2, 10: "shop.example"},
    ),
    "manage": (0x0A, {1: 6, 2: {2: plain(b"x" * 32)[0]}, 3: 2, 4: bytes(32)}),
}


@given(name=st.sampled_from(list(GOOD)), key=st.integers(1, 12), value=VALUES, leave_out=st.booleans())
@EXAMPLES
def test_one_parameter_of_another_kind(held: Site, name: str, key: int, value: Any, leave_out: bool) -> None:
    """A request that is good but for one parameter, at the top or below."""
    command, values = GOOD[name]
    changed = {at: it for at, it in values.items() if at != key}
    answer(held, bytes([command]) + cbor.encode(changed if leave_out else {**changed, key: value}))


@given(name=st.sampled_from(list(GOOD)), at=st.integers(0, 400), to=st.integers(0, 255))
@EXAMPLES
def test_one_byte_of_another_value(held: Site, name: str, at: int, to: int) -> None:
    command, values = GOOD[name]
    data = bytearray(cbor.encode(values))
    data[at % len(data)] = to
    answer(held, bytes([command]) + bytes(data))


ASSERTION = cbor.encode({1: "shop.example", 2: bytes(32)})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        ASSERTION + b"\x00",
        ASSERTION[:-1],
        b"\xa2\x02" + cbor.encode(bytes(32)) + b"\x01" + cbor.encode("shop.example"),  # keys the other way round
        b"\xa3\x01" + cbor.encode("shop.example") + b"\x01" + cbor.encode("x") + b"\x02" + cbor.encode(bytes(32)),
        b"\xbf\x01" + cbor.encode("shop.example") + b"\x02" + cbor.encode(bytes(32)) + b"\xff",  # indefinite length
        b"\xb8\x02" + ASSERTION[1:],  # not the shortest form
        b"\xa2\x18\x01" + ASSERTION[2:],
        b"\xa3" + ASSERTION[1:] + b"\x03\xf6",  # null
        b"\xa3" + ASSERTION[1:] + b"\x03\xf7",  # undefined
        b"\xa3" + ASSERTION[1:] + b"\x03\xfb" + bytes(8),  # a float
        b"\xa3" + ASSERTION[1:] + b"\x03\xc0\x60",  # a tag
        b"\xa3" + ASSERTION[1:] + b"\x03\x81\x81\x81\x81\x00",  # five deep
        b"\xa3" + ASSERTION[1:] + b"\x03\x61\xff",  # text that is not UTF-8
        b"\xa3" + ASSERTION[1:] + b"\x03\x5b" + b"\xff" * 8,  # longer than anything
        b"\xa3" + ASSERTION[1:] + b"\x03\x9b" + b"\xff" * 8,
        b"\xff",
    ],
)
def test_what_is_not_canonical_cbor(held: Site, data: bytes) -> None:
    assert status(held, b"\x02" + data) is Status.CTAP2_ERR_INVALID_CBOR


def test_keys_by_major_type_first(held: Site) -> None:
    """CTAP2's order is not the one of RFC 7049: 24 stands before -1, though it is longer."""
    good = {1: "shop.example", 2: bytes(32), 5: {"up": False}, 24: 0, -1: 0}
    assert cbor.encode(good) != cbor2.dumps(good, canonical=True)
    assert status(held, b"\x02" + cbor.encode(good)) is Status.CTAP2_OK
    assert status(held, b"\x02" + cbor2.dumps(good, canonical=True)) is Status.CTAP2_ERR_INVALID_CBOR


REFUSED: list[tuple[str, dict[int, Any], Status]] = [
    ("get", {1: None}, Status.CTAP2_ERR_MISSING_PARAMETER),
    ("get", {2: None}, Status.CTAP2_ERR_MISSING_PARAMETER),
    ("get", {1: b"shop.example"}, Status.CTAP2_ERR_CBOR_UNEXPECTED_TYPE),
    ("get", {2: bytes(31)}, Status.CTAP1_ERR_INVALID_LENGTH),
    ("get", {2: bytes(33)}, Status.CTAP1_ERR_INVALID_LENGTH),
    ("get", {1: "Shop.example"}, Status.CTAP1_ERR_INVALID_PARAMETER),
    ("get", {1: "ssh:"}, Status.CTAP1_ERR_INVALID_PARAMETER),
    ("get", {3: {}}, Status.CTAP2_ERR_CBOR_UNEXPECTED_TYPE),
    ("get", {3: [b"x"]}, Status.CTAP2_ERR_CBOR_UNEXPECTED_TYPE),
    ("get", {3: [{"id": b"x"}]}, Status.CTAP2_ERR_MISSING_PARAMETER),
    ("get", {3: plain(b"")}, Status.CTAP1_ERR_INVALID_LENGTH),
    ("get", {3: plain(bytes(1024))}, Status.CTAP1_ERR_INVALID_LENGTH),
    ("get", {3: plain(*[b"x"] * 65)}, Status.CTAP2_ERR_LIMIT_EXCEEDED),
    ("get", {4: []}, Status.CTAP2_ERR_CBOR_UNEXPECTED_TYPE),
    ("get", {5: {"up": 1}}, Status.CTAP2_ERR_CBOR_UNEXPECTED_TYPE),
    ("get", {5: {"later": 1}}, Status.CTAP2_ERR_CBOR_UNEXPECTED_TYPE),
    ("get", {5: {"rk": False}}, Status.CTAP2_ERR_UNSUPPORTED_OPTION),
    ("get", {6: "x"}, Status.CTAP2_ERR_CBOR_UNEXPECTED_TYPE),
    ("make", {3: None}, Status.CTAP2_ERR_MISSING_PARAMETER),
    ("make", {3: {"name": "ann"}}, Status.CTAP2_ERR_MISSING_PARAMETER),
    ("make", {3: {"id": b""}}, Status.CTAP1_ERR_INVALID_LENGTH),
    ("make", {3: {"id": bytes(65)}}, Status.CTAP1_ERR_INVALID_LENGTH),
    ("make", {3: {"id": b"u", "name": "n" * 1025}}, Status.CTAP1_ERR_INVALID_LENGTH),
    ("make", {3: {"id": b"u", "displayName": 1}}, Status.CTAP2_ERR_CBOR_UNEXPECTED_TYPE),
    ("make", {2: {"name": "Shop"}}, Status.CTAP2_ERR_MISSING_PARAMETER),
    ("make", {2: {"id": "shop.example", "name": 1}}, Status.CTAP2_ERR_CBOR_UNEXPECTED_TYPE),
    ("make", {4: []}, Status.CTAP2_ERR_UNSUPPORTED_ALGORITHM),
    ("make", {4: [{"alg": RS256, "type": "secret"}]}, Status.CTAP2_ERR_UNSUPPORTED_ALGORITHM),
    ("make", {4: [{"alg": RS256}]}, Status.CTAP2_ERR_MISSING_PARAMETER),
    ("make", {4: [{"alg": "RS256", "type": "public-key"}]}, Status.CTAP2_ERR_CBOR_UNEXPECTED_TYPE),
    ("make", {7: {"up": False}}, Status.CTAP2_ERR_INVALID_OPTION),
    ("make", {10: 1}, Status.CTAP1_ERR_INVALID_PARAMETER),
    ("make", {11: [1]}, Status.CTAP2_ERR_CBOR_UNEXPECTED_TYPE),
    ("pin", {1: None}, Status.CTAP2_ERR_MISSING_PARAMETER),
    ("pin", {1: 1}, Status.CTAP1_ERR_INVALID_PARAMETER),
    ("pin", {2: None}, Status.CTAP2_ERR_MISSING_PARAMETER),
    ("pin", {2: -1}, Status.CTAP1_ERR_INVALID_PARAMETER),
    ("pin", {3: None}, Status.CTAP2_ERR_MISSING_PARAMETER),
    ("pin", {3: {1: 2}}, Status.CTAP2_ERR_MISSING_PARAMETER),
    ("pin", {9: None}, Status.CTAP2_ERR_MISSING_PARAMETER),
    *[("pin", {2: absent}, Status.CTAP2_ERR_INVALID_SUBCOMMAND) for absent in (0, 1, 3, 4, 5, 8, 9, 10)],
    ("manage", {2: None}, Status.CTAP2_ERR_PIN_AUTH_INVALID),
    ("manage", {2: []}, Status.CTAP2_ERR_CBOR_UNEXPECTED_TYPE),
    ("manage", {3: None}, Status.CTAP2_ERR_MISSING_PARAMETER),
]


@pytest.mark.parametrize(("name", "changes", "wanted"), REFUSED)
def test_the_status_of_a_bad_parameter(held: Site, name: str, changes: dict[int, Any], wanted: Status) -> None:
    """None leaves one out."""
    command, values = GOOD[name]
    changed = {key: value for key, value in {**values, **changes}.items() if value is not None}
    assert status(held, bytes([command]) + cbor.encode(changed)) is wanted


def test_what_is_not_known_is_ignored(held: Site) -> None:
    """Keys, options, types of credentials: a later client sends them, and means the rest all the same."""
    request = {
        1: "shop.example", 2: bytes(32), 3: [{"id": b"x", "type": "later"}, *plain(*held.known)],
        5: {"up": False, "later": True}, 99: "later",
    }  # fmt: skip
    assert status(held, b"\x02" + cbor.encode(request)) is Status.CTAP2_OK


def test_sizes_and_commands(held: Site) -> None:
    assert status(held, b"") is Status.CTAP1_ERR_INVALID_LENGTH
    assert status(held, b"\x02" + bytes(MAX_MESSAGE_BYTES)) is Status.CTAP2_ERR_REQUEST_TOO_LARGE
    for command in (0x00, 0x03, 0x05, 0x09, 0x0C, 0x0D, 0x40, 0x41, 0xFF):
        assert status(held, bytes([command])) is Status.CTAP1_ERR_INVALID_COMMAND
    for command in (0x04, 0x07, 0x08, 0x0B):
        assert status(held, bytes([command]) + b"\xa0") is Status.CTAP1_ERR_INVALID_LENGTH
    for hid in (0x01, 0x03, 0x06, 0x3F):
        with pytest.raises(CtapError) as fault:
            held.authenticator.call(hid, b"\x04")
        assert fault.value.code == CtapError.ERR.INVALID_COMMAND
    assert list(TandemCtapDevice.list_devices()) == []


def test_nothing_came_of_all_this(traces: Traces, enrolled: Device) -> None:
    """Stands last: the person declined whatever made sense, so no attempt was counted and no passkey is gone."""
    assert traces.since() == (0, 0)
    assert len(enrolled.credentials()) == 2
