"""Points in time in documents: UTC, to the second, as RFC 3339 writes them ("2026-11-20T16:00:00Z")."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from mpc.errors import DecodeError
from mpc.primitives.codec import Fields

_FORM = "%Y-%m-%dT%H:%M:%SZ"
_EXACT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)


def to_text(at: int) -> str:
    """Unix seconds as text."""
    return datetime.fromtimestamp(at, UTC).strftime(_FORM)


def from_text(text: str) -> int:
    """Unix seconds. ValueError for anything but the one form."""
    if not _EXACT.fullmatch(text):
        raise ValueError("a time is written as 2026-11-20T16:00:00Z")
    at = int(datetime.strptime(text, _FORM).replace(tzinfo=UTC).timestamp())
    if at < 0:
        raise ValueError("a time is not before 1970")
    return at


def time_field(fields: Fields, name: str) -> int:
    """A time in a document, in Unix seconds. Raises DecodeError."""
    try:
        return from_text(fields.text(name, at_most=20))
    except ValueError:
        raise DecodeError(name, "must be a time in UTC, as in 2026-11-20T16:00:00Z") from None
