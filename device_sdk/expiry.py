"""When keys that were dealt end: their `not_after`, by this device's clock. The server decides by its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

from device_sdk.errors import ShareExpired


class Expiring(Protocol):
    """A key with an end, in Unix seconds; None for one that does not expire."""

    @property
    def not_after(self) -> int | None: ...


Held = TypeVar("Held", bound=Expiring)


def is_expired(key: Expiring, now: float) -> bool:
    """now: Unix seconds. The second `not_after` itself still counts."""
    return key.not_after is not None and now > key.not_after


def unexpired(keys: Iterable[Held], now: float) -> list[Held]:
    """Those that may still be used, in their order; an empty list only where there were none.

    Raises ShareExpired if all have expired: what else could be used in their place is nothing that somebody dealt.
    """
    held = list(keys)
    usable = [key for key in held if not is_expired(key, now)]
    if held and not usable:
        raise ShareExpired
    return usable
