"""A command's parameters: CTAP2 canonical CBOR, read strictly, with typed access that ends in a status code.

CTAP 2.1, section 8: maps of integer or text keys, definite lengths, shortest forms, keys sorted by major type, then by
length and bytes, no tags, depth at most 4. Keys that nobody asks for are ignored, as section 6 wants it.
"""

from __future__ import annotations

from typing import Any

from fido2 import cbor

from device_sdk.ctap.status import CommandRefused, Status
from mpc.errors import DecodeError
from mpc.primitives import codec

Key = int | str
_MAX_UINT = 2**32 - 1
_MAX_TEXT_BYTES = 1024


class Parameters:
    """One map. Raises CommandRefused: MISSING_PARAMETER, CBOR_UNEXPECTED_TYPE, INVALID_LENGTH, INVALID_PARAMETER."""

    __slots__ = ("_values",)

    def __init__(self, values: object) -> None:
        if type(values) is not dict or not all(type(key) in (int, str) for key in values):
            raise CommandRefused(Status.CTAP2_ERR_CBOR_UNEXPECTED_TYPE)
        self._values: dict[Key, Any] = values

    @classmethod
    def decode(cls, data: bytes) -> Parameters:
        """The parameters in `data`. Raises CommandRefused(INVALID_CBOR) unless it is their one canonical encoding."""
        try:
            value = codec.well_formed(data, what="ctap", text_keys=False)
            canonical = cbor.encode(value)  # type: ignore[arg-type]  # whatever it cannot encode is refused
        except (DecodeError, ValueError, TypeError):
            raise CommandRefused(Status.CTAP2_ERR_INVALID_CBOR) from None
        if canonical != data:
            raise CommandRefused(Status.CTAP2_ERR_INVALID_CBOR)
        return cls(value)

    def __repr__(self) -> str:
        return "Parameters()"

    def __contains__(self, key: Key) -> bool:
        return key in self._values

    def encoded(self) -> bytes:
        """The canonical bytes of this map, which are those that were received."""
        return cbor.encode(self._values)

    def octets(self, key: Key, *, at_least: int = 0, at_most: int) -> bytes:
        value = self._take(key, bytes)
        if not at_least <= len(value) <= at_most:
            raise CommandRefused(Status.CTAP1_ERR_INVALID_LENGTH)
        return bytes(value)

    def text(self, key: Key, *, at_least: int = 0, at_most: int = _MAX_TEXT_BYTES) -> str:
        """Text of that many UTF-8 bytes."""
        value = self._take(key, str)
        if not at_least <= len(value.encode("utf-8")) <= at_most:
            raise CommandRefused(Status.CTAP1_ERR_INVALID_LENGTH)
        return str(value)

    def optional_text(self, key: Key) -> str | None:
        return self.text(key) if key in self else None

    def integer(self, key: Key) -> int:
        """Any integer, such as a COSE algorithm."""
        return int(self._take(key, int))

    def uint(self, key: Key) -> int:
        value = self.integer(key)
        if not 0 <= value <= _MAX_UINT:
            raise CommandRefused(Status.CTAP1_ERR_INVALID_PARAMETER)
        return value

    def map(self, key: Key) -> Parameters:
        return Parameters(self._take(key, dict))

    def optional_map(self, key: Key) -> Parameters:
        """The map, or an empty one where it is left out."""
        return self.map(key) if key in self else Parameters({})

    def maps(self, key: Key, *, at_most: int) -> list[Parameters]:
        return [Parameters(value) for value in self._list(key, at_most)]

    def texts(self, key: Key, *, at_most: int) -> list[str]:
        values = self._list(key, at_most)
        if not all(type(value) is str for value in values):
            raise CommandRefused(Status.CTAP2_ERR_CBOR_UNEXPECTED_TYPE)
        return values

    def option(self, key: str, *, default: bool) -> bool:
        return bool(self._take(key, bool)) if key in self else default

    def all_options(self) -> None:
        """Every value is a boolean, also of options that nobody asks for."""
        if not all(type(value) is bool for value in self._values.values()):
            raise CommandRefused(Status.CTAP2_ERR_CBOR_UNEXPECTED_TYPE)

    def _list(self, key: Key, at_most: int) -> list[Any]:
        values: list[Any] = self._take(key, list)
        if len(values) > at_most:
            raise CommandRefused(Status.CTAP2_ERR_LIMIT_EXCEEDED)
        return values

    def _take(self, key: Key, wanted: type) -> Any:
        if key not in self._values:
            raise CommandRefused(Status.CTAP2_ERR_MISSING_PARAMETER)
        value = self._values[key]
        if type(value) is not wanted:
            raise CommandRefused(Status.CTAP2_ERR_CBOR_UNEXPECTED_TYPE)
        return value
