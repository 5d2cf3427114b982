"""The ceremonies that are under way: one a page, each with its deadline, its secrets and its state.

    WAITING   for the person                → SIGNING, OVER
    SIGNING   the SDK is at work            → WAITING (another try), OVER
    OVER      with an outcome that stays

A job that is OVER takes no other outcome: a signature that comes after a cancel or the deadline is dropped. All of
this runs on one event loop; nothing is locked.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum

from device_sdk.agent.ceremony_request import CeremonyRequest
from device_sdk.agent.outcomes import Outcome, not_allowed
from mpc.primitives.secrecy import NeverPickled

LONGEST_S = 600.0
MAX_OPEN = 16
TRIES = 3
ABANDONED_AFTER_S = 15.0
"""Without a word from the extension: the browser is gone, and nobody would get the signature."""
KEPT_S = 60.0
"""How long an outcome waits to be fetched."""
UNWANTED_PER_MINUTE = 6
"""Windows that a site may have open or have opened in vain, before its requests are refused without one for a while."""

_SECRET_BYTES = 32


class State(StrEnum):
    WAITING = "waiting"
    SIGNING = "signing"
    OVER = "over"


class NoSuchJob(Exception):
    """Unknown, forgotten, or asked for without its secrets."""


class Refused(Exception):
    """No job was made; `outcome` says what the page is told."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome


@dataclass(frozen=True, slots=True)
class PageSecrets(NeverPickled):
    """What only the consent window of one job has. 32 random bytes each, as text."""

    ticket: str = field(repr=False)
    """In the address that the extension opens; good once."""
    page_id: str = field(repr=False)
    """In the address that the window then shows."""
    cookie: str = field(repr=False)
    csrf: str = field(repr=False)


class Job:
    """One ceremony. Its state changes through `JobBook` only."""

    def __init__(self, request: CeremonyRequest, now: float, deadline: float) -> None:
        self.id = _secret()
        self.request = request
        self.page = PageSecrets(_secret(), _secret(), _secret(), _secret())
        self.ticket_is_spent = False
        self.opened_at = now
        self.deadline = deadline
        self.state = State.WAITING
        self.outcome: Outcome | None = None
        self.message = ""
        self.tries_left = TRIES
        self.compared: set[bytes] = set()
        self.version = 0
        self.over_at = 0.0
        self.heard_at = now
        self.listeners = 0
        self.shown_at: float | None = None
        self.asked_at: float | None = None
        self.person_s = 0.0
        self.device_s = 0.0
        self._changed = asyncio.Event()

    def changed(self) -> None:
        """Wake everybody who waits for a change."""
        self.version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def wait_for_change(self, seen: int, limit_s: float) -> None:
        """Returns at once if the version is not the one seen, else after a change or `limit_s`."""
        if self.version == seen and self.state is not State.OVER:
            try:
                await asyncio.wait_for(self._changed.wait(), limit_s)
            except TimeoutError:
                return

    def __repr__(self) -> str:
        return f"Job({self.request.kind}, {self.state})"


class JobBook:
    """All jobs. `clock`: monotonic seconds. `longest_s`: how long a request may last, whatever the page allows."""

    def __init__(self, clock: Callable[[], float], *, longest_s: float = LONGEST_S) -> None:
        self._clock = clock
        self._longest_s = longest_s
        self._jobs: dict[str, Job] = {}
        self._unwanted: dict[str, deque[float]] = {}

    def open(self, request: CeremonyRequest) -> Job:
        """A new job; one of the same page that is still open ends. Raises Refused."""
        self.expire()
        now = self._clock()
        for job in list(self._jobs.values()):
            if job.request.page == request.page and job.request.origin == request.origin:
                self.end(job, not_allowed("The page has asked anew."))
        open_sites = [job.request.site for job in self._jobs.values() if job.state is not State.OVER]
        if len(open_sites) >= MAX_OPEN:
            raise Refused(not_allowed("Too many requests are open at once."))
        if open_sites.count(request.site) + len(self._unwanted.get(request.site, ())) >= UNWANTED_PER_MINUTE:
            raise Refused(not_allowed("This site has asked too often in vain."))
        job = Job(request, now, now + min(request.timeout_s, self._longest_s))
        self._jobs[job.id] = job
        return job

    def find(self, job_id: str) -> Job:
        """Raises NoSuchJob."""
        self.expire()
        if job_id not in self._jobs:
            raise NoSuchJob
        return self._jobs[job_id]

    def redeem(self, ticket: str) -> Job:
        """The job whose window this ticket opens, once. Raises NoSuchJob."""
        self.expire()
        for job in self._jobs.values():
            if hmac.compare_digest(job.page.ticket.encode(), ticket.encode()) and not job.ticket_is_spent:
                job.ticket_is_spent = True
                return job
        raise NoSuchJob

    def shown_on(self, page_id: str, cookie: str) -> Job:
        """The job of a consent window, for whoever has its cookie. Raises NoSuchJob."""
        self.expire()
        for job in self._jobs.values():
            if hmac.compare_digest(job.page.page_id.encode(), page_id.encode()):
                if job.ticket_is_spent and hmac.compare_digest(job.page.cookie.encode(), cookie.encode()):
                    return job
                break
        raise NoSuchJob

    def begin_signing(self, job: Job) -> bool:
        """True for the one who may now ask the SDK. False: somebody else did, or it is over."""
        self.expire()
        if job.state is not State.WAITING:
            return False
        self._move(job, State.SIGNING, "")
        return True

    def ask_again(self, job: Job, message: str) -> None:
        """Back to the person, unless the job is over by now."""
        self.expire()
        if job.state is State.SIGNING:
            self._move(job, State.WAITING, message)

    def end(self, job: Job, outcome: Outcome) -> bool:
        """Give the job its outcome. False if it has one already, or its time is up: then this one counts for nothing.

        A success is taken from SIGNING only, so without a person's consent there is none.
        """
        self.expire()
        if job.state is State.OVER or (outcome.succeeded and job.state is not State.SIGNING):
            return False
        self._end(job, outcome)
        return True

    def close(self) -> None:
        """End all that is open; whoever waits for news has it at once."""
        for job in list(self._jobs.values()):
            self.end(job, not_allowed("The agent was stopped. Start again at the site."))

    def expire(self) -> None:
        """End what is past its deadline or was abandoned, and forget what nobody fetches any more."""
        now = self._clock()
        for job in list(self._jobs.values()):
            if job.state is State.OVER:
                if now - job.over_at > KEPT_S:
                    del self._jobs[job.id]
            elif now >= job.deadline:
                self._end(job, not_allowed("The time for this request is up. Start again at the site."))
            elif not job.listeners and now - job.heard_at > ABANDONED_AFTER_S:
                self._end(job, not_allowed("The browser no longer waits for an answer."))
        for site, times in list(self._unwanted.items()):
            while times and now - times[0] > 60:
                times.popleft()
            if not times:
                del self._unwanted[site]

    def left_s(self, job: Job) -> float:
        """Seconds until the deadline, not below 0."""
        return max(0.0, job.deadline - self._clock())

    @contextmanager
    def listening(self, job: Job) -> Iterator[None]:
        """While the extension waits for news of the job, it is not abandoned."""
        job.listeners += 1
        try:
            yield
        finally:
            job.listeners -= 1
            job.heard_at = self._clock()

    def _end(self, job: Job, outcome: Outcome) -> None:
        if job.state is State.WAITING and not outcome.succeeded:
            self._unwanted.setdefault(job.request.site, deque()).append(self._clock())
        job.outcome = outcome
        job.over_at = self._clock()
        self._move(job, State.OVER, outcome.told)

    def _move(self, job: Job, state: State, message: str) -> None:
        job.state = state
        job.message = message
        job.changed()


def _secret() -> str:
    return secrets.token_urlsafe(_SECRET_BYTES)
