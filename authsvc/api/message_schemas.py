"""JSON Schemas of the protocol's CBOR messages, read off the code that decodes them.

Each message class is asked to decode a `Describer`: it answers every getter with a value that fits, and writes down
what was asked for. So a description has exactly the fields, types, lengths and ranges that the server accepts.

JSON Schema has no byte strings. A message is described as RFC 8949, section 6.1, turns it into JSON: maps, texts and
integers as they are, byte strings as base64url without padding. `x-cbor` says what stands on the wire.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any, cast

from mpc.primitives import codec

Schema = dict[str, Any]
_ANY_LENGTH = 2**32
_SAMPLES = {"detail": "{}"}
"""Texts of which a message's class asks more than the schema says."""


class Describer(codec.Fields):
    """The fields of a message that is only described."""

    __slots__ = ("_optional", "schema")

    def __init__(self) -> None:
        super().__init__({}, "description")
        self._optional: set[str] = set()
        self.schema: Schema = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}

    def bytes(self, name: str, *, length: int | None = None, at_least: int = 0, at_most: int = _ANY_LENGTH) -> bytes:
        """A byte string."""
        at_least, at_most = (length, length) if length is not None else (at_least, at_most)
        schema: Schema = {
            "type": "string",
            "contentEncoding": "base64url",
            "pattern": "^[A-Za-z0-9_-]*$",
            "minLength": _encoded_length(at_least),
            "x-cbor": {"type": "byte string", "minBytes": at_least},
        }
        if at_most != _ANY_LENGTH:
            schema["maxLength"] = _encoded_length(at_most)
            schema["x-cbor"]["maxBytes"] = at_most
        self._note(name, schema)
        return bytes(at_least)

    def uint(self, name: str, *, at_most: int = 2**64 - 1) -> int:
        """An unsigned integer."""
        self._note(name, {"type": "integer", "minimum": 0, "maximum": at_most})
        return 0

    def integer(self, name: str, *, one_of: tuple[int, ...]) -> int:
        """One of a few integers."""
        self._note(name, {"type": "integer", "enum": list(one_of)})
        return one_of[0]

    def text(self, name: str, *, at_most: int, one_of: tuple[str, ...] | None = None, or_empty: bool = False) -> str:
        """A text; its length is counted in bytes of UTF-8, and so in characters at most that."""
        schema: Schema = {"type": "string", "minLength": 0 if or_empty else 1, "maxLength": at_most}
        self._note(name, {"type": "string", "enum": list(one_of)} if one_of is not None else schema)
        return one_of[0] if one_of is not None else _SAMPLES.get(name, "x")

    def boolean(self, name: str) -> bool:
        """A boolean."""
        self._note(name, {"type": "boolean"})
        return False

    def true(self, name: str) -> bool:
        """A flag."""
        self._note(name, {"const": True})
        return True

    def has(self, name: str) -> bool:
        """A field that may be left out."""
        self._optional.add(name)
        return True

    def fields(self, name: str) -> codec.Fields:
        """A nested map."""
        nested = Describer()
        self._note(name, nested.schema)
        return nested

    def each(self, name: str, *, at_most: int) -> Iterator[codec.Fields]:
        """A list of maps."""
        nested = Describer()
        self._note(name, {"type": "array", "maxItems": at_most, "items": nested.schema})
        return iter([nested])

    def texts(self, name: str, *, at_most: int, length_at_most: int) -> tuple[str, ...]:
        """A list of texts."""
        items = {"type": "string", "minLength": 1, "maxLength": length_at_most}
        self._note(name, {"type": "array", "maxItems": at_most, "items": items})
        return ()

    def remaining(self) -> dict[str, Any]:
        """Nothing can be said about fields that are not asked for one by one."""
        raise NotImplementedError("a message of the protocol names its fields")

    def version(self, expected: int) -> None:
        """The version of the format."""
        self._note("v", {"const": expected})

    def done(self) -> None:
        """Every field has been asked for."""

    def _note(self, name: str, schema: Schema) -> None:
        self.schema["properties"][name] = schema
        if name not in self._optional:
            self.schema["required"].append(name)


def described(decode: Callable[[bytes], object], **known: Schema) -> Schema:
    """What `decode` accepts, as a JSON Schema. known: more about fields whose size the profile decides."""
    describer = Describer()
    decode(cast(bytes, describer))
    for name, more in known.items():
        describer.schema["properties"][name].update(more)
    return describer.schema


def sizes(least: int, most: int) -> Schema:
    """More about a byte string: from `least` to `most` bytes."""
    return {
        "minLength": _encoded_length(least),
        "maxLength": _encoded_length(most),
        "x-cbor": {"type": "byte string", "minBytes": least, "maxBytes": most},
    }


def as_json(value: object) -> Any:
    """A decoded CBOR value as RFC 8949, section 6.1, turns it into JSON."""
    match value:
        case bytes():
            return base64.urlsafe_b64encode(value).rstrip(b"=").decode("ascii")
        case dict():
            return {key: as_json(item) for key, item in value.items()}
        case list():
            return [as_json(item) for item in value]
        case _:
            return value


def _encoded_length(size: int) -> int:
    return (8 * size + 5) // 6
