"""What a target of fuzzing is, and what may become of an input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from fuzz_mutations import Style


class Outcome(StrEnum):
    """What became of an input."""

    UNCHANGED = "unchanged"
    """It was the original after all, or means the same, and was taken."""
    FORGED = "forged"
    """It was protected anew, and taken as what the forger made: under another signing key, or as another package."""
    REFUSED = "refused"
    """The documented error."""


class Violation(Exception):
    """The program did what it must never do with a damaged file."""


@dataclass(frozen=True)
class Target:
    """`slow`: each input costs a tenth of a second or more."""

    name: str
    originals: Sequence[bytes]
    check: Callable[[bytes], Outcome]
    styles: Sequence[Style]
    slow: bool = False


def only(documented: type[Exception], act: Callable[[], Any]) -> Any:
    """What it gives, or None if it raises the documented error."""
    try:
        return act()
    except documented:
        return None
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a panic of a library in Rust is no Exception
        raise Violation(f"{type(error).__name__} instead of {documented.__name__}") from error
