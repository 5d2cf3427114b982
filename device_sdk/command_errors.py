"""What goes wrong in a command, for the person at it: one sentence on standard error, and which file it is about."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import typer

from device_sdk.errors import Advice, TandemError


@contextmanager
def about(file: Path) -> Iterator[None]:
    """Faults in the block name the file, the innermost one; `-` where its name could steer a terminal."""
    try:
        yield
    except (TandemError, ValueError) as fault:
        if not hasattr(fault, "__notes__"):
            fault.add_note(str(file) if str(file).isprintable() else "-")
        raise


@contextmanager
def errors_for_people() -> Iterator[None]:
    """One sentence on standard error and exit code 1 for what people can put right; anything else is a bug."""
    try:
        yield
    except TandemError as fault:
        again = "\nThe same command may succeed later." if fault.advice is Advice.RETRY else ""
        fail(f"{_where(fault)}{fault}{again}")
    except OSError as error:
        fail(f"{error.strerror or 'a file cannot be read or written'}; check names and permissions")
    except ValueError as error:
        fail(f"{_where(error)}{error}")


def _where(error: Exception) -> str:
    return "".join(f"{note}: " for note in getattr(error, "__notes__", ()))


def fail(text: str) -> NoReturn:
    """Say it and end with exit code 1."""
    print(f"tandem-device: {text}", file=sys.stderr)
    raise typer.Exit(1)
