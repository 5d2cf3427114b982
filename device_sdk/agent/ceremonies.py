"""From a person's consent to a signature: the one place of the agent that asks the SDK for one."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from device_sdk.agent.ceremony_request import Kind
from device_sdk.agent.jobs import Job, JobBook
from device_sdk.agent.outcomes import (
    Outcome,
    can_be_tried_again,
    costs_a_try,
    failed,
    not_allowed,
    told_to_try_again,
)
from device_sdk.agent.sensors import Sensor
from device_sdk.credential_info import CredentialInfo
from device_sdk.device import Device
from device_sdk.errors import TandemError
from mpc.primitives import base64url

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Timing:
    """What one answered request took, in milliseconds. Nothing that says who or where.

    until_shown: from the request to the consent page at work. person: from then, or from the last try, until consent
    arrived, all tries together. device: in the SDK, encoding, network and server included. total: from the request
    until the answer is ready.
    """

    kind: str
    ended: str
    until_shown_ms: float
    person_ms: float
    device_ms: float
    total_ms: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


class Ceremonies:
    """The agent's use cases over one device. `clock`: monotonic seconds; `wall_clock`: Unix seconds.

    `timed` is told of every request that a person consented to, once it is over.
    """

    def __init__(
        self,
        device: Device,
        sensor: Sensor,
        book: JobBook,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        timed: Callable[[Timing], None] = lambda timing: None,
    ) -> None:
        self.sensor = sensor
        self.book = book
        self._device = device
        self._clock = clock
        self._wall_clock = wall_clock
        self._timed = timed

    @property
    def passkeys(self) -> int:
        """How many the vault holds."""
        return len(self._device.credentials())

    def accounts(self, job: Job) -> list[CredentialInfo]:
        """What the person may choose from, newest first."""
        return job.request.accounts(self._device.credentials(), self._wall_clock())

    def replaced(self, job: Job) -> list[CredentialInfo]:
        """What a new passkey takes the place of."""
        return job.request.replaced(self._device.credentials())

    def shown(self, job: Job) -> None:
        """The consent page is at work."""
        if job.shown_at is None:
            job.shown_at = job.asked_at = self._clock()

    def decline(self, job: Job) -> None:
        self.book.end(job, not_allowed("You declined. The site was told that the request was not allowed."))

    def cancel(self, job: Job) -> None:
        """The page gave up, or the window was closed. What is being signed is dropped when it comes.

        A page that aborted has heard of it from the browser; what it would be told here it no longer hears.
        """
        self.book.end(job, not_allowed("This request was cancelled."))

    async def consent(self, job: Job, account: bytes | None, submitted: bytes) -> None:
        """The person consents with a capture: ask the SDK, once, for what the page asked and nothing else.

        Does nothing for a job that does not wait for a person. Afterwards the job is over, or waits for another try.
        """
        if not self.book.begin_signing(job):
            return
        arrived = self._clock()
        job.person_s += arrived - (arrived if job.asked_at is None else job.asked_at)
        try:
            refused = self._refused_before_asking(job, account, submitted)
            if refused is not None:
                self.book.ask_again(job, refused)
            else:
                await self._release(job, await asyncio.to_thread(self._ask, job, account, submitted))
        except TandemError as fault:
            if costs_a_try(fault):
                job.compared.add(_digest(submitted))
            self._after_fault(job, fault)
        except Exception as error:  # whatever it is, the page must not wait for ever
            _log.error("a ceremony failed: %s", type(error).__name__)
            self.book.end(job, failed(TandemError("the agent failed; see what it printed")))
        job.asked_at = self._clock()

    def _refused_before_asking(self, job: Job, account: bytes | None, submitted: bytes) -> str | None:
        """What the person is told instead of asking the SDK; None if there is nothing against it."""
        if job.request.kind is Kind.GET and account not in {held.credential_id for held in self.accounts(job)}:
            return "Choose the passkey to sign in with."
        if self.sensor.same_bytes_same_capture and _digest(submitted) in job.compared:
            return "This picture was compared already. Take another one."
        return None

    def _ask(self, job: Job, account: bytes | None, submitted: bytes) -> dict[str, Any]:
        """In a thread."""
        started = self._clock()
        request = job.request
        try:
            sample = self.sensor.sample(submitted)
            options = request.options_for(account, self.book.left_s(job))
            if request.kind is Kind.CREATE:
                return self._device.create(options, str(request.origin), sample)
            return self._device.get(options, str(request.origin), sample)
        finally:
            job.device_s += self._clock() - started

    async def _release(self, job: Job, response: dict[str, Any]) -> None:
        told = "Passkey created." if job.request.kind is Kind.CREATE else "Signed in."
        if self.book.end(job, Outcome(f"{told} This window can be closed.", response=response)):
            self._time(job, "ok")
        elif job.request.kind is Kind.CREATE:
            # Nobody will register it, so it would only be offered in vain.
            with contextlib.suppress(TandemError, KeyError):
                await asyncio.to_thread(self._device.delete, base64url.decode(response["id"]))

    def _after_fault(self, job: Job, fault: TandemError) -> None:
        if costs_a_try(fault):
            job.tries_left -= 1
        if can_be_tried_again(fault) and job.tries_left > 0:
            self.book.ask_again(job, told_to_try_again(fault, job.tries_left))
        elif self.book.end(job, failed(fault)):
            self._time(job, fault.code)

    def _time(self, job: Job, ended: str) -> None:
        shown_at = job.opened_at if job.shown_at is None else job.shown_at
        self._timed(
            Timing(
                kind=job.request.kind.value,
                ended=ended,
                until_shown_ms=_ms(shown_at - job.opened_at),
                person_ms=_ms(job.person_s),
                device_ms=_ms(job.device_s),
                total_ms=_ms(self._clock() - job.opened_at),
            )
        )


def _digest(submitted: bytes) -> bytes:
    return hashlib.sha256(submitted).digest()


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
