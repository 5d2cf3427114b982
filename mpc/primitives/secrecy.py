"""A guard for values that hold secrets: they are never pickled, so never cached, queued or sent by accident."""

from __future__ import annotations

from typing import NoReturn


class NeverPickled:
    """Base class without state. Pickling an instance raises TypeError."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{type(self).__name__} holds secrets and is never pickled")
