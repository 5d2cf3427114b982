"""What can go wrong in the protocol core, and who is to blame.

Three families: the caller erred (`ValueError`, `SessionMisuse`), the peer failed a check (`ProtocolAbort`), and
the world failed (I/O errors, which only applications can have).
"""

from __future__ import annotations

from enum import StrEnum


class Blame(StrEnum):
    """Who must have deviated for the check to fail."""

    DEVICE = "device"
    SERVER = "server"
    PEER = "peer"
    """The other side of the connection, whichever role it plays: used where both roles decode alike."""


class ProtocolAbort(Exception):
    """The peer failed a check. The session is dead on both sides; a retry starts a new one.

    `reason` is a stable word for logs and tests. Neither secrets nor bytes chosen by the peer are in the text.
    """

    def __init__(self, reason: str, blame: Blame) -> None:
        super().__init__(f"protocol aborted: {reason} (blame: {blame})")
        self.reason = reason
        self.blame = blame


class DecodeError(ProtocolAbort):
    """A received message or a stored record is not what its format says.

    `field` names the offending field as `message.field`; the received value is never repeated.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__("malformed", Blame.PEER)
        self.field = field
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.field}: {self.problem}"


class SessionMisuse(Exception):
    """The caller used one-time state twice. Using it again would let the peer link or open secrets."""
