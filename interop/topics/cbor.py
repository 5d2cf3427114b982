"""Canonical CBOR: one encoding a value, and what a receiver refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cbor2

from interop.notation import Json, decoded, topic
from mpc.errors import DecodeError
from mpc.login.enrolment_messages import Accepted, EnrolmentStart
from mpc.login.messages import Confirmation, Message3
from mpc.primitives import codec

_GOOD: tuple[dict[str, Any], ...] = (
    {},
    {"v": 1},
    {"b": 2, "a": 1, "aa": 3, "c": [1, 2, 3]},
    {"small": 23, "byte": 24, "word": 256, "long": 65_536, "longer": 4_294_967_296, "most": 2**62},
    {"alg": -257, "least": -1},
    {"none": b"", "bytes": bytes(24), "text": "grüß", "yes": True, "no": False},
    {"deep": {"er": {"est": {}}}},
)
_BAD: tuple[tuple[str, str], ...] = (
    ("a1617618 01", "1 in two bytes"),
    ("a1617619 0001", "1 in three bytes"),
    ("a161761b 0000000000000001", "1 in nine bytes"),
    ("a17801 7601", "the length of a key in two bytes"),
    ("b801 617601", "the size of a map in two bytes"),
    ("bf 617601 ff", "a map of indefinite length"),
    ("a1 6176 5f 4101 ff", "a byte string of indefinite length"),
    ("a1 6176 9f 01 ff", "a list of indefinite length"),
    ("a2 6176 01 6176 01", "a key twice"),
    ("a2 626161 01 6162 02", "keys in the wrong order: the longer one first"),
    ("a2 6162 01 6161 02", "keys in the wrong order: b before a"),
    ("a1 01 02", "a key that is a number"),
    ("a1 4176 01", "a key that is a byte string"),
    ("81 01", "a list instead of a map"),
    ("01", "a number instead of a map"),
    ("", "nothing"),
    ("a1 6176 01 00", "a byte after the value"),
    ("a1 6176", "cut short"),
    ("a1 6176 c1 01", "a tag"),
    ("a1 6176 c2 4101", "a bignum"),
    ("a1 6176 62 c328", "text that is not UTF-8"),
    ("a1 6161 a1 6161 a1 6161 a1 6161 a1 6161 01", "five maps deep"),
)


def vectors() -> Json:
    message = Message3(bytes(range(16)), Confirmation(7, bytes(range(32, 64))))
    start = EnrolmentStart("sim-512", bytes(32), b"\x04" + bytes(64), "7K2QX-0M9TN-4RWB8-ZC3HD")
    return topic(
        "Canonical CBOR",
        "Encodings that a receiver takes and encodings that it must refuse. A refusal at the server is the problem "
        "`malformed` with status 400; at the device it is ServerMisbehaved. `why` is ours to read, not part of the "
        "protocol.",
        ["docs/protocol.md 3"],
        {
            "taken": [{"hex": data.hex(), "decoded": decoded(_taken(data))} for data in map(codec.encode, _GOOD)],
            "refused": [{"hex": _refused(text).hex(), "why": why} for text, why in _BAD],
            "message_3": {
                "good": {"hex": message.encode().hex(), "decoded": decoded(message.encode())},
                "refused": [
                    _refusal(Message3.decode, values, why) for values, why in _changed(message.encode(), "enrolment_id")
                ],
            },
            "enrolment_start": {
                "good": {"hex": start.encode().hex(), "decoded": decoded(start.encode())},
                "refused": [
                    _refusal(EnrolmentStart.decode, values, why)
                    for values, why in _changed(start.encode(), "profile_digest")
                ],
            },
            "accepted": {
                "good": [
                    {"hex": accepted.encode().hex(), "decoded": decoded(accepted.encode())}
                    for accepted in (Accepted(0, 0), Accepted(3, 24, ((bytes(range(16)), 300),)))
                ],
            },
        },
    )


def _taken(data: bytes) -> bytes:
    codec.decode(data, what="vector")
    return data


def _refused(text: str) -> bytes:
    data = bytes.fromhex(text)
    try:
        codec.decode(data, what="vector")
    except DecodeError:
        return data
    raise AssertionError(f"taken: {text}")


def _changed(good: bytes, byte_field: str) -> list[tuple[dict[str, Any], str]]:
    """Values of the good message with one thing wrong each; all of them are canonical."""
    values: dict[str, Any] = cbor2.loads(good)
    whole = values[byte_field]
    without = {name: value for name, value in values.items() if name != byte_field}
    return [
        ({**values, "v": 2}, "another version"),
        ({**values, "v": True}, "true for 1"),
        ({**values, "v": 1.0}, "a float for 1"),
        (without, "a field is missing"),
        ({**values, "extra": 0}, "a field that nobody knows"),
        ({**values, byte_field: None}, "null for a field"),
        ({**values, byte_field: whole[:-1]}, "a byte string that is too short"),
        ({**values, byte_field: whole + b"\0"}, "a byte string that is too long"),
        ({**values, byte_field: whole.hex()}, "text for bytes"),
        ({**values, byte_field: list(whole)}, "a list of numbers for bytes"),
    ]


def _refusal(decode: Callable[[bytes], object], values: dict[str, Any], why: str) -> Json:
    data = codec.encode(values)
    try:
        decode(data)
    except DecodeError as refusal:
        return {"hex": data.hex(), "decoded": decoded(data), "why": why, "field": refusal.field}
    raise AssertionError(f"taken: {why}")
