"""What a person at the dealer's machine can put right."""

from __future__ import annotations


class Refusal(Exception):
    """The command does not go on. `reason` is a stable word for programs and tests; the text says what to do.

    Nothing secret and no content of a file is in the text.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def printable(text: str) -> str:
    """Text of a stranger, so that it cannot steer a terminal: anything unprintable becomes a question mark."""
    return "".join(character if character.isprintable() else "?" for character in text)
