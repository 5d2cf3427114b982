"""The history of an enrolment: how its events are chained by hashes, and how the device asks for them.

Event n of a chain has the hash H("tandem audit event v1", hash of event n − 1 or 32 zero bytes, n as u64 big-endian,
time as IEEE 754 binary64 big-endian, enrolment id, name, detail). Whoever remembers one hash can tell whether anything
up to it was changed, removed, added or put in another order. The server has one more chain, for events that are of no
enrolment; there the id is empty.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mpc.errors import DecodeError
from mpc.login.authenticator_data import MAX_CREDENTIAL_ID_BYTES, MIN_CREDENTIAL_ID_BYTES
from mpc.login.messages import ID_BYTES, KINDS, MAX_INDEX
from mpc.parameters import PROTOCOL_VERSION
from mpc.primitives import base64url, codec
from mpc.primitives.hashing import tagged_hash

HASH_BYTES: Final = 32
NO_HASH: Final = bytes(HASH_BYTES)
"""What stands before the first event of a chain."""
PAGE_EVENTS: Final = 200
"""The most events in one answer."""
MAX_EVENT_NAME_BYTES: Final = 40
MAX_DETAIL_BYTES: Final = 2048
MAX_PAGE_BYTES: Final = PAGE_EVENTS * (MAX_DETAIL_BYTES + MAX_EVENT_NAME_BYTES + 64) + 256

LOGIN_ANSWERED: Final = "login_answered"
LOGIN_CONFIRMED: Final = "login_confirmed"
ATTEMPT_FAILED: Final = "attempt_failed"
LOGIN_KINDS: Final = (*KINDS, "rotate", "verify")
"""Logins of kind "change" and "rotate" show the match for other templates, one of kind "verify" a match for its own
sake. Their signatures are for no relying party."""
HISTORY_BEGUN: Final = "history_begun"
"""Its detail tells the epoch from which on every confirmed login stands in the chain; without it that is epoch 0."""
TEMPLATE_ROTATED: Final = "template_rotated"
"""Its detail tells the epoch that the rotation began."""

_NAME = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_MAX_RP_ID_CHARACTERS = 253


def event_hash(previous: bytes, seq: int, at: float, enrolment_id: bytes, name: str, detail: str) -> bytes:
    """The 32-byte hash of one event. seq: from 1; at: Unix seconds; enrolment_id: 16 bytes, or empty."""
    return tagged_hash(
        "tandem audit event v1",
        previous,
        seq.to_bytes(8, "big"),
        struct.pack(">d", at),
        enrolment_id,
        name.encode("utf-8"),
        detail.encode("utf-8"),
    )


@dataclass(frozen=True, slots=True)
class HistoryEvent:
    """One event as the device sees it. at: Unix seconds; detail: a JSON object, ASCII."""

    at: float
    name: str
    detail: str

    def as_map(self) -> dict[str, object]:
        # Eight bytes and not a CBOR number: the codec knows no floats, and the hash is over these very bytes.
        return {"at": struct.pack(">d", self.at), "name": self.name, "detail": self.detail}

    @classmethod
    def from_fields(cls, fields: codec.Fields) -> HistoryEvent:
        at = float(struct.unpack(">d", fields.bytes("at", length=8))[0])
        if not math.isfinite(at) or at < 0:
            raise DecodeError("history_page.at", "must be a time")
        name = fields.text("name", at_most=MAX_EVENT_NAME_BYTES)
        detail = fields.text("detail", at_most=MAX_DETAIL_BYTES)
        if not _NAME.fullmatch(name):
            raise DecodeError("history_page.name", "must be a plain word")
        if not (detail.isascii() and detail.isprintable()):
            raise DecodeError("history_page.detail", "must be printable ASCII")
        try:
            read_detail(detail)
        except DecodeError:
            raise DecodeError("history_page.detail", "must be a JSON object") from None
        fields.done()
        return cls(at, name, detail)


@dataclass(frozen=True, slots=True)
class HistoryRequest:
    """Device → server: my events after number `after` (0: from the first on)."""

    enrolment_id: bytes
    after: int = 0

    def encode(self) -> bytes:
        return codec.encode({"v": PROTOCOL_VERSION, "enrolment_id": self.enrolment_id, "after": self.after})

    @classmethod
    def decode(cls, body: bytes) -> HistoryRequest:
        with codec.reading(body, what="history_request", version=PROTOCOL_VERSION) as fields:
            return cls(
                enrolment_id=fields.bytes("enrolment_id", length=ID_BYTES),
                after=fields.uint("after", at_most=MAX_INDEX),
            )


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Server → device: the next events, oldest first and without gaps, and where the chain ends now."""

    events: tuple[HistoryEvent, ...]
    head_seq: int
    head_hash: bytes

    def encode(self) -> bytes:
        return codec.encode(
            {
                "v": PROTOCOL_VERSION,
                "events": [event.as_map() for event in self.events],
                "head_seq": self.head_seq,
                "head_hash": self.head_hash,
            }
        )

    @classmethod
    def decode(cls, body: bytes) -> HistoryPage:
        with codec.reading(body, what="history_page", version=PROTOCOL_VERSION) as fields:
            return cls(
                events=tuple(HistoryEvent.from_fields(each) for each in fields.each("events", at_most=PAGE_EVENTS)),
                head_seq=fields.uint("head_seq", at_most=MAX_INDEX),
                head_hash=fields.bytes("head_hash", length=HASH_BYTES),
            )


@dataclass(frozen=True, slots=True)
class LoginDetail:
    """What `login_answered` and `login_confirmed` tell. epoch: that of the login; confirming it begins the next."""

    ot_index: int
    epoch: int
    kind: str
    credential_id: bytes
    rp_id: str | None
    """None where the passkey's row was gone before the confirmation came."""

    def as_detail(self) -> dict[str, str | int | None]:
        return {
            "ot_index": self.ot_index,
            "epoch": self.epoch,
            "kind": self.kind,
            "credential_id": base64url.encode(self.credential_id),
            "rp_id": self.rp_id,
        }

    @classmethod
    def from_detail(cls, detail: str) -> LoginDetail:
        """Raises DecodeError; unknown members are left for later versions."""
        values = read_detail(detail)
        fields = codec.Fields(values, "login_detail")
        try:
            credential_id = base64url.decode(fields.text("credential_id", at_most=2 * MAX_CREDENTIAL_ID_BYTES))
        except ValueError:
            credential_id = b""
        if not MIN_CREDENTIAL_ID_BYTES <= len(credential_id) <= MAX_CREDENTIAL_ID_BYTES:
            raise DecodeError("login_detail.credential_id", "must be base64url of 16 to 64 bytes")
        return cls(
            ot_index=fields.uint("ot_index", at_most=MAX_INDEX),
            epoch=fields.uint("epoch", at_most=MAX_INDEX),
            kind=fields.text("kind", at_most=8, one_of=LOGIN_KINDS),
            credential_id=credential_id,
            rp_id=None if values.get("rp_id") is None else _rp_id(fields),
        )


def write_detail(values: Mapping[str, str | int | float | bool | None]) -> str:
    """The text of an event's detail: a JSON object in ASCII. ValueError if it is longer than a page allows for."""
    text = json.dumps(dict(values), sort_keys=True, separators=(",", ":"), allow_nan=False)
    if len(text) > MAX_DETAIL_BYTES:
        raise ValueError(f"the detail of an event has at most {MAX_DETAIL_BYTES} bytes")
    return text


def read_detail(detail: str) -> dict[str, Any]:
    """The members of a detail. Raises DecodeError if it is not a JSON object."""
    try:
        values = json.loads(detail)
    except (ValueError, RecursionError):
        values = None
    if type(values) is not dict:
        raise DecodeError("event.detail", "must be a JSON object")
    return values


def epoch_in(detail: str) -> int:
    """The epoch that `HISTORY_BEGUN` and `TEMPLATE_ROTATED` tell. Raises DecodeError."""
    return codec.Fields(read_detail(detail), "event.detail").uint("epoch", at_most=MAX_INDEX)


def _rp_id(fields: codec.Fields) -> str:
    value = fields.text("rp_id", at_most=_MAX_RP_ID_CHARACTERS)
    if not (value.isascii() and value.isprintable()):
        raise DecodeError("login_detail.rp_id", "must be a domain name")
    return value
