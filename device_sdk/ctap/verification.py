"""Built-in user verification: a capture, the match that is shown with it, and what the server last said of trying."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from device_sdk.biometrics import BinaryCode
from device_sdk.ceremony_report import ReportBuilder
from device_sdk.ctap.faults import BLOCKING
from device_sdk.ctap.status import CommandRefused, Status
from device_sdk.ctap.under_way import UnderWay
from device_sdk.ctap.user import Prompt, User
from device_sdk.errors import LockedOut, TandemError
from device_sdk.joint_authenticator import JointAuthenticator
from device_sdk.server_api import Deadline

SERVER_TIMEOUT_S = 60.0
"""How long one ceremony with the server may take."""
_ASK_AGAIN_AFTER_S = 60.0
"""A refusal that names no time is taken to hold for as long; then the server is asked again."""


class BuiltInVerification:
    """The person at this device, as the authenticator sees them."""

    def __init__(
        self, authenticator: JointAuthenticator, user: User, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """clock: seconds of any origin."""
        self._authenticator = authenticator
        self._user = user
        self._clock = clock
        self._blocked_until: float | None = None

    def __repr__(self) -> str:
        return "BuiltInVerification()"

    @property
    def retries(self) -> int:
        """uvRetries: 0 while the server's last refusal holds, else 1.

        How many tries are left is the server's to know, and it does not say; one is what can be promised.
        """
        return 0 if self._is_blocked() else 1

    def capture(self, under_way: UnderWay, prompt: Prompt) -> BinaryCode:
        """A fresh capture that the person gave for this. Good for one joint login.

        Raises CommandRefused: UV_BLOCKED without asking anybody, OPERATION_DENIED where the person declined,
        KEEPALIVE_CANCEL, USER_ACTION_TIMEOUT; and EncodingError.
        """
        if self._is_blocked():
            raise CommandRefused(Status.CTAP2_ERR_UV_BLOCKED)
        sample = under_way.ask(lambda cancelled: self._user.capture(prompt, cancelled))
        if sample is None:
            raise CommandRefused(Status.CTAP2_ERR_OPERATION_DENIED)
        code = self._authenticator.encoded(sample, ReportBuilder("verify"))
        under_way.check_not_cancelled()  # encoding takes a while
        return code

    def show_match(self, under_way: UnderWay, capture: BinaryCode) -> None:
        """Use the capture up in a login that signs for nobody. Raises NoMatch and the faults of `Device.get`."""
        with self.asking_server(under_way) as deadline:
            self._authenticator.verify_user(capture, deadline, ReportBuilder("verify"))

    def confirm(self, under_way: UnderWay, prompt: Prompt) -> None:
        """Presence alone. Raises CommandRefused: OPERATION_DENIED, KEEPALIVE_CANCEL, USER_ACTION_TIMEOUT."""
        if under_way.ask(lambda cancelled: self._user.confirm(prompt, cancelled)) is not True:
            raise CommandRefused(Status.CTAP2_ERR_OPERATION_DENIED)

    @contextlib.contextmanager
    def asking_server(self, under_way: UnderWay) -> Iterator[Deadline]:
        """Around anything that may end in a match: what the server's answer says about trying again is remembered."""
        under_way.working()
        try:
            yield Deadline(SERVER_TIMEOUT_S, cancelled=under_way.cancelled)
        except TandemError as fault:
            if isinstance(fault, BLOCKING):
                wait_s = fault.retry_after_s if isinstance(fault, LockedOut) else _ASK_AGAIN_AFTER_S
                self._blocked_until = self._clock() + wait_s
            raise
        self._blocked_until = None

    def _is_blocked(self) -> bool:
        return self._blocked_until is not None and self._clock() < self._blocked_until
