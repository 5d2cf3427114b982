"""One command under way: its keep-alive messages, its cancellation, and the wait for the person."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from fido2.ctap import STATUS

from device_sdk.ctap.status import CommandRefused, Status

_T = TypeVar("_T")
_LOOK_EVERY_S = 0.02


class UnderWay:
    """cancelled: set by the client, at any time. user_timeout_s: how long one question to the person may take."""

    def __init__(
        self,
        cancelled: threading.Event,
        on_keepalive: Callable[[STATUS], None] | None,
        *,
        user_timeout_s: float,
    ) -> None:
        self.cancelled = cancelled
        self._on_keepalive = on_keepalive
        self._user_timeout_s = user_timeout_s
        self._told: STATUS | None = None
        self.ended = False

    def working(self) -> None:
        """Tell that the next step is ours: the server is asked. Raises CommandRefused(KEEPALIVE_CANCEL)."""
        self._tell(STATUS.PROCESSING)

    def ask(self, question: Callable[[threading.Event], _T]) -> _T:
        """The person's answer, asked for in a thread of its own, so that neither client nor app can hold up the other.

        The question gets an event that is set once its answer counts for nothing. Raises what the question raises, and
        CommandRefused: KEEPALIVE_CANCEL, USER_ACTION_TIMEOUT.
        """
        self._tell(STATUS.UPNEEDED)
        asked = _Question(question)
        until = time.monotonic() + self._user_timeout_s
        try:
            while not asked.answered.wait(_LOOK_EVERY_S):
                if self.cancelled.is_set():
                    raise CommandRefused(Status.CTAP2_ERR_KEEPALIVE_CANCEL)
                if time.monotonic() > until:
                    raise CommandRefused(Status.CTAP2_ERR_USER_ACTION_TIMEOUT)
        finally:
            asked.given_up.set()
        self.check_not_cancelled()
        return asked.answer()

    def check_not_cancelled(self) -> None:
        """Raises CommandRefused(KEEPALIVE_CANCEL)."""
        if self.cancelled.is_set():
            raise CommandRefused(Status.CTAP2_ERR_KEEPALIVE_CANCEL)

    def end(self) -> None:
        """Cancel it from this side; nothing that it comes to is kept."""
        self.ended = True
        self.cancelled.set()

    def _tell(self, status: STATUS) -> None:
        self.check_not_cancelled()
        if self._on_keepalive is not None and status is not self._told:
            self._told = status
            self._on_keepalive(status)


class _Question(Generic[_T]):
    """A question in its thread. The answer stays with it, so one that comes too late is gone with it."""

    def __init__(self, question: Callable[[threading.Event], _T]) -> None:
        self.answered = threading.Event()
        self.given_up = threading.Event()
        self._question = question
        self._answers: list[_T] = []
        self._fault: Exception | None = None
        threading.Thread(target=self._run, name="tandem-ctap-user", daemon=True).start()

    def answer(self) -> _T:
        if self._fault is not None:
            raise self._fault
        return self._answers.pop()

    def _run(self) -> None:
        try:
            self._answers.append(self._question(self.given_up))
        except Exception as fault:
            self._fault = fault
        finally:
            self.answered.set()
