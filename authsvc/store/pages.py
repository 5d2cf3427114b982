"""Pages of long lists by keyset: the next page begins after the last row of the one before, however much changed."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, and_, or_

from mpc.primitives import base64url

MAX_PAGE = 500
_MAX_KEY_BYTES = 64
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Position:
    """After which row a page begins: its time and its key, the order of every list here."""

    at: float
    key: bytes

    def cursor(self) -> str:
        """Opaque text for whoever asks for the next page. It is a place and no permission, so it is not signed."""
        return base64url.encode(struct.pack(">d", self.at) + self.key)

    @classmethod
    def from_cursor(cls, text: str) -> Position:
        """ValueError if it is no cursor."""
        data = base64url.decode(text)
        if not 8 <= len(data) <= 8 + _MAX_KEY_BYTES:
            raise ValueError("is no cursor")
        (at,) = struct.unpack(">d", data[:8])
        if at != at:
            raise ValueError("is no cursor")
        return cls(at, data[8:])

    def after(self, time: ColumnElement[Any], key: ColumnElement[Any]) -> ColumnElement[bool]:
        """The condition for rows behind this one in ascending order."""
        return or_(time > self.at, and_(time == self.at, key > self.key))


@dataclass(frozen=True, slots=True)
class Page(Generic[Row]):
    """Rows, and where the next page begins; None if there is nothing more."""

    rows: Sequence[Row]
    next: Position | None


def page_of(rows: Sequence[Row], limit: int, position: Callable[[Row], Position]) -> Page[Row]:
    """The page from a query that asked for one row more than `limit`."""
    if len(rows) <= limit:
        return Page(rows, None)
    return Page(rows[:limit], position(rows[limit - 1]))
