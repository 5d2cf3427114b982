"""The hash that chains an enrolment's events, computed again by hand, and what a page may not hold."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpc.errors import DecodeError
from mpc.login.history import (
    MAX_DETAIL_BYTES,
    MAX_PAGE_BYTES,
    NO_HASH,
    PAGE_EVENTS,
    HistoryEvent,
    HistoryPage,
    LoginDetail,
    event_hash,
    write_detail,
)
from mpc.login.messages import MAX_INDEX

OWNER = bytes(range(16))
EVENT = HistoryEvent(1_800_000_000.5, "enrolled", "{}")
LOGIN = LoginDetail(7, 3, "get", b"\x01" * 32, "shop.example")


def by_hand(previous: bytes, seq: int, at: float, owner: bytes, name: str, detail: str) -> bytes:
    """docs/protocol.md, section 14, without a line of the program's."""
    label = b"tandem audit event v1"
    text = bytes([len(label)]) + label
    for part in (previous, struct.pack(">Q", seq), struct.pack(">d", at), owner, name.encode(), detail.encode()):
        text += struct.pack(">I", len(part)) + part
    return hashlib.sha256(text).digest()


def test_the_hash_is_the_written_one() -> None:
    """Vaults remember these hashes: another one would accuse every honest server."""
    first = event_hash(NO_HASH, 1, 1_800_000_000.5, OWNER, "enrolled", "{}")
    second = event_hash(first, 2, 1_800_000_001.0, OWNER, "quarantined", '{"reason":"clone_proved"}')

    assert first == by_hand(NO_HASH, 1, 1_800_000_000.5, OWNER, "enrolled", "{}")
    assert second == by_hand(first, 2, 1_800_000_001.0, OWNER, "quarantined", '{"reason":"clone_proved"}')
    assert first.hex() == FIRST
    assert second.hex() == SECOND


FIRST = "658a81e9b6f479b81ddfe9d2e8c2e18d9ed8bf3e87b04469c9c499d4369c668d"
SECOND = "6335e7c64bba19e63a3c24481fec246ceadf56153d52a7877f32952a32947d39"


@given(
    seq=st.integers(0, 2**63),
    at=st.floats(allow_nan=False, allow_infinity=False),
    owner=st.just(b"") | st.binary(min_size=16, max_size=16),
    name=st.text(max_size=8),
    detail=st.text(max_size=8),
)
def test_every_part_counts(seq: int, at: float, owner: bytes, name: str, detail: str) -> None:
    told = (NO_HASH, seq, at, owner, name, detail)
    changed = [
        (b"\x01" * 32, seq, at, owner, name, detail),
        (NO_HASH, seq + 1, at, owner, name, detail),
        (NO_HASH, seq, -at if at else 1.0, owner, name, detail),
        (NO_HASH, seq, at, owner + b"\x00", name, detail),
        (NO_HASH, seq, at, owner, name + "x", detail),
        (NO_HASH, seq, at, owner, name, detail + "x"),
        (NO_HASH, seq, at, owner, name + detail, ""),
    ]

    hashes = {event_hash(*each) for each in changed if each != told}
    assert event_hash(*told) == by_hand(*told) and event_hash(*told) not in hashes


@pytest.mark.parametrize(
    "changes",
    [
        {"at": float("nan")},
        {"at": float("inf")},
        {"at": -1.0},
        {"name": "with space"},
        {"name": "UPPER"},
        {"name": "x" * 41},
        {"detail": "[]"},
        {"detail": "not json"},
        {"detail": '{"a":"\u00e9"}'},
        {"detail": '{\n"a":1}'},
        {"detail": "[" * MAX_DETAIL_BYTES},
        {"detail": '{"a":"' + "x" * MAX_DETAIL_BYTES + '"}'},
    ],
    ids=repr,
)
def test_an_event_of_another_form_is_refused(changes: dict[str, Any]) -> None:
    """What a malicious server sends must not reach an app's screen, or its memory, as it is."""
    with pytest.raises(DecodeError):
        HistoryPage.decode(HistoryPage((replace(EVENT, **changes),), 1, NO_HASH).encode())


def test_the_largest_page_fits_its_bound_and_one_event_more_is_refused() -> None:
    largest = HistoryEvent(1.0, "x" * 40, json.dumps({"a": "x" * (MAX_DETAIL_BYTES - 9)}))
    assert len(largest.detail) == MAX_DETAIL_BYTES
    page = HistoryPage((largest,) * PAGE_EVENTS, MAX_INDEX, NO_HASH)

    assert len(page.encode()) <= MAX_PAGE_BYTES
    assert HistoryPage.decode(page.encode()) == page
    with pytest.raises(DecodeError):
        HistoryPage.decode(replace(page, events=(EVENT,) * (PAGE_EVENTS + 1)).encode())


def test_a_login_is_read_as_it_was_written() -> None:
    for told in (LOGIN, replace(LOGIN, rp_id=None), replace(LOGIN, credential_id=b"\x02" * 64, kind="create")):
        assert LoginDetail.from_detail(write_detail(told.as_detail())) == told


def test_the_longest_login_fits_into_a_detail() -> None:
    """An event that did not would take the login that it tells of with it."""
    write_detail(LoginDetail(MAX_INDEX, MAX_INDEX, "create", bytes(64), "x" * 253).as_detail() | {"reason": "x" * 40})


@pytest.mark.parametrize(
    "changes",
    [
        {"ot_index": -1},
        {"ot_index": True},
        {"epoch": 2**63},
        {"kind": "delete"},
        {"credential_id": "AAAA"},
        {"credential_id": "***"},
        {"rp_id": "\u001b[2J"},
        {"rp_id": "x" * 254},
        {"rp_id": 5},
    ],
    ids=repr,
)
def test_a_login_of_another_form_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(DecodeError):
        LoginDetail.from_detail(json.dumps(LOGIN.as_detail() | changes))
