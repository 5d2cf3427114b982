"""Changing the key-encryption key (KEK) while servers run: every data key is wrapped again, and no share is touched.

| step | in the database |
|---|---|
| begin, one transaction | the new KEK becomes current, the old one leaving: nothing is wrapped under the old any more |
| batches | rows under a KEK that is leaving are opened and wrapped again; one that changed meanwhile is left |
| end, one transaction | no row is under another KEK: those that were leaving are retired, and refused from here on |

Killed between any two of them, it goes on where it was when it is run again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..key_port.port import check_usable
from ..sealing import SealingError
from ..store.data_keys import (
    DataKeyRow,
    count_data_keys,
    current_kek,
    data_keys_under_others,
    kek_status,
    retire_leaving_keks,
    rewrap_data_key,
    set_kek_status,
)
from ..store.events import append_event
from .context import ServiceContext
from .keyring import Keyring

BATCH = 100
Progress = Callable[[int, int], None]
"""Called with (rows under the new KEK, all rows)."""


class RotationRefused(Exception):
    """The rotation cannot begin or go on; the text says why. What was wrapped again stays so."""


@dataclass(frozen=True, slots=True)
class Rotated:
    """What a rotation did. Ids of KEKs and owners."""

    kek_id: bytes
    rewrapped: int
    """By this run."""
    retired: tuple[bytes, ...]
    unreadable: tuple[bytes, ...]
    """Owners whose data key does not open: nothing is retired as long as there are some."""


def rotate_kek(ctx: ServiceContext, *, batch: int = BATCH, progress: Progress = lambda done, total: None) -> Rotated:
    """Move every data key to the KEK that the settings name first. Does nothing if that is done already.

    Raises RotationRefused, KeyUnavailable; both leave a rotation that can be run again.
    """
    keyring = ctx.keyring
    new = keyring.wanted.key_id
    check_usable(keyring.wanted)
    _begin(ctx, new)
    done, retired = 0, None
    while retired is None:
        moved, unreadable = _pass(ctx, new, batch, progress)
        done += moved
        if unreadable:
            return Rotated(new, done, (), tuple(unreadable))
        retired = _end(ctx, new)
    return Rotated(new, done, tuple(retired), ())


def _begin(ctx: ServiceContext, new: bytes) -> None:
    with ctx.store.write() as conn:
        before = current_kek(conn)
        if before == new:
            return
        if before is None or not ctx.keyring.holds(before):
            raise RotationRefused(
                "the settings do not name the key-encryption key that the database is under; name it in kek_previous"
            )
        if kek_status(conn, new) is not None:
            raise RotationRefused(
                "the key-encryption key of the settings was replaced before, and does not come back; finish with the"
                " key that replaced it, or make another one"
            )
        now = ctx.clock()
        set_kek_status(conn, before, "leaving", now)
        set_kek_status(conn, new, "current", now)
        append_event(conn, at=now, name="kek_rotation_begun", detail={"from": before.hex(), "to": new.hex()})


def _pass(ctx: ServiceContext, new: bytes, batch: int, progress: Progress) -> tuple[int, list[bytes]]:
    """(rows moved, owners whose row does not open), once through all rows that are under another KEK."""
    after, moved = b"", 0
    unreadable: list[bytes] = []
    while True:
        with ctx.store.read() as conn:
            if current_kek(conn) != new:
                raise RotationRefused("another rotation has begun meanwhile, to another key-encryption key")
            progress(*count_data_keys(conn, new))
            rows = data_keys_under_others(conn, new, after, batch)
            # What somebody restored under a key that is retired is not brought back to life by the way.
            leaving = {kek_id for kek_id in {row.kek_id for row in rows} if kek_status(conn, kek_id) == "leaving"}
        if not rows:
            return moved, unreadable
        # Outside transactions: each of these may ask key services three times.
        pairs = [(row, _wrapped_again(ctx.keyring, row, new) if row.kek_id in leaving else None) for row in rows]
        with ctx.store.write() as conn:
            moved += sum(rewrap_data_key(conn, row, again) for row, again in pairs if again is not None)
        unreadable += [row.owner_id for row, again in pairs if again is None]
        after = rows[-1].owner_id


def _wrapped_again(keyring: Keyring, row: DataKeyRow, new: bytes) -> DataKeyRow | None:
    """The row under the new KEK, which opens it; None if the old row does not open. KeyUnavailable if that cannot be
    known now, or if the new KEK does not open what it wrapped.
    """
    try:
        key = keyring.unwrapped(row)
    except SealingError:
        return None
    return keyring.wrapped(row.owner_id, key, new)


def _end(ctx: ServiceContext, new: bytes) -> list[bytes] | None:
    """The KEKs retired now; None if rows came back under another KEK since the pass."""
    with ctx.store.write() as conn:
        under, total = count_data_keys(conn, new)
        if current_kek(conn) != new or under != total:
            return None
        retired = retire_leaving_keks(conn, ctx.clock())
        if retired:
            append_event(conn, at=ctx.clock(), name="kek_rotated", detail={"to": new.hex(), "keys": total})
        return retired
