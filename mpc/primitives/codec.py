"""Strict, canonical CBOR for everything that crosses a wire or is stored.

Accepted: maps with text keys, byte strings, text, unsigned integers, negative integers, lists, booleans, null;
definite lengths, shortest forms, keys in canonical order (RFC 7049 section 3.9, which for text keys is CTAP2's),
no tag, no duplicate key, nothing after the value. Anything else is a `DecodeError`. One value has one encoding,
so a hash of the bytes is a hash of the meaning.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NoReturn

import cbor2

from mpc.errors import DecodeError

_MAX_DEPTH = 4
_MAX_UINT = 2**64 - 1
_BUILT_IN_TAGS = (*range(6), 25, *range(28, 31), *range(35, 38), *range(43000, 43004), 52, 54, 100, 256, 258)
_BUILT_IN_TAGS += (260, 261, 1004, 55799)


def encode(value: Mapping[str, object]) -> bytes:
    """The one canonical encoding of a message."""
    return cbor2.dumps(value, canonical=True)


def decode(data: bytes, *, what: str) -> Fields:
    """The fields of message `what`. Raises DecodeError unless `data` is exactly its canonical encoding."""
    value = well_formed(data, what=what, text_keys=True)
    try:
        canonical = cbor2.dumps(value, canonical=True)
    except Exception:
        raise DecodeError(what, "not well-formed canonical CBOR") from None
    if len(canonical) != len(data) or not hmac.compare_digest(canonical, data):
        raise DecodeError(what, "not canonical CBOR, or bytes after its end")
    return Fields(value, what)


def well_formed(data: bytes, *, what: str, text_keys: bool) -> object:
    """The value in `data`, of definite lengths, without tags and duplicate keys, nested at most 4 deep.

    text_keys: keys are text or bytes and nothing else. Raises DecodeError. That it is canonical, and that nothing
    follows it, is for the caller to see by encoding it again.
    """
    try:
        return cbor2.loads(
            data,
            max_depth=_MAX_DEPTH,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            strict_hashable_types=text_keys,
            semantic_decoders=_REFUSE_TAGS,
        )
    except Exception:
        # The library's text may quote the input, so neither it nor the cause is kept.
        raise DecodeError(what, "not well-formed canonical CBOR") from None


class Fields:
    """Typed access to the fields of one map. Every getter checks type and range and names the field on error."""

    __slots__ = ("_taken", "_values", "_what")

    def __init__(self, values: object, what: str) -> None:
        if type(values) is not dict or not all(type(key) is str for key in values):
            raise DecodeError(what, "must be a map with text keys")
        self._values: dict[str, Any] = values
        self._what = what
        self._taken: set[str] = set()

    def __repr__(self) -> str:
        return f"Fields({self._what})"

    def bytes(self, name: str, *, length: int | None = None, at_least: int = 0, at_most: int = 2**32) -> bytes:
        """A byte string of exactly `length`, or of `at_least` to `at_most`, bytes."""
        value = self._take(name)
        if type(value) is not bytes:
            self._fail(name, "must be a byte string")
        if length is not None and len(value) != length:
            self._fail(name, f"must have {length} bytes")
        if not at_least <= len(value) <= at_most:
            self._fail(name, f"must have {at_least} to {at_most} bytes")
        return value

    def uint(self, name: str, *, at_most: int = _MAX_UINT) -> int:
        """An unsigned integer up to `at_most`."""
        value = self._take(name)
        if type(value) is not int or not 0 <= value <= at_most:
            self._fail(name, f"must be an integer from 0 to {at_most}")
        return value

    def integer(self, name: str, *, one_of: tuple[int, ...]) -> int:
        """One of a few integers, such as a COSE algorithm."""
        value = self._take(name)
        if type(value) is not int or value not in one_of:
            self._fail(name, "must be one of " + ", ".join(map(str, one_of)))
        return value

    def text(self, name: str, *, at_most: int, one_of: tuple[str, ...] | None = None, or_empty: bool = False) -> str:
        """Text of 1 (or 0, with `or_empty`) to `at_most` UTF-8 bytes."""
        value = self._take(name)
        at_least = 0 if or_empty else 1
        if type(value) is not str or not at_least <= len(value.encode("utf-8")) <= at_most:
            self._fail(name, f"must be text of {at_least} to {at_most} bytes")
        if one_of is not None and value not in one_of:
            self._fail(name, "must be one of " + ", ".join(one_of))
        return value

    def boolean(self, name: str) -> bool:
        value = self._take(name)
        if type(value) is not bool:
            self._fail(name, "must be a boolean")
        return value

    def true(self, name: str) -> bool:
        """A flag that is left out where it is not set."""
        if not self.boolean(name):
            self._fail(name, "must be true, or left out")
        return True

    def has(self, name: str) -> bool:
        """Whether an optional field is there. An absent field is left out, never null."""
        return name in self._values

    def fields(self, name: str) -> Fields:
        """A nested map."""
        return Fields(self._take(name), f"{self._what}.{name}")

    def each(self, name: str, *, at_most: int) -> Iterator[Fields]:
        """A list of at most `at_most` maps."""
        values = self._take(name)
        if type(values) is not list or len(values) > at_most:
            self._fail(name, f"must be a list of at most {at_most} entries")
        return (Fields(value, f"{self._what}.{name}[{index}]") for index, value in enumerate(values))

    def texts(self, name: str, *, at_most: int, length_at_most: int) -> tuple[str, ...]:
        """A list of at most `at_most` texts, each of 1 to `length_at_most` UTF-8 bytes."""
        values = self._take(name)
        if type(values) is not list or len(values) > at_most:
            self._fail(name, f"must be a list of at most {at_most} texts")
        each = [Fields({name: value}, self._what) for value in values]
        return tuple(fields.text(name, at_most=length_at_most) for fields in each)

    def remaining(self) -> dict[str, Any]:
        """All fields not taken yet, for a value that validates itself."""
        rest = {name: value for name, value in self._values.items() if name not in self._taken}
        self._taken.update(rest)
        return rest

    def version(self, expected: int) -> None:
        """Take the field `v`; any other version is an error."""
        if self.uint("v") != expected:
            self._fail("v", f"unknown version, this program knows {expected}")

    def done(self) -> None:
        """Every field must have been asked for: unknown ones are errors."""
        if len(self._values) != len(self._taken):
            raise DecodeError(self._what, "has unknown fields")

    def _take(self, name: str) -> Any:
        if name not in self._values:
            self._fail(name, "is missing")
        self._taken.add(name)
        return self._values[name]

    def _fail(self, name: str, problem: str) -> NoReturn:
        raise DecodeError(f"{self._what}.{name}", problem)


@contextmanager
def reading(data: bytes | Fields, *, what: str, version: int) -> Iterator[Fields]:
    """Decode a versioned message: takes `v` first, and at the end refuses unknown fields.

    Fields in place of bytes are for a program that wants to know what a message asks for (a description of it).
    """
    fields = data if isinstance(data, Fields) else decode(data, what=what)
    fields.version(version)
    yield fields
    fields.done()


def _refuse_tag(*_: object) -> NoReturn:
    raise ValueError("tags are not used here")


_REFUSE_TAGS: dict[int, Any] = dict.fromkeys(_BUILT_IN_TAGS, _refuse_tag)
