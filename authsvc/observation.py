"""What is noted of a request on its way: its id, where it came from, when its steps ended, what came of it.

The layers note; nothing is counted, logged or sent before the request is over. So a use case waits for none of that,
and whoever watches the metrics learns of no verdict before it was committed.

The notes travel in a context variable, from the connection's task into the worker thread: a use case is not given
another argument for them. Outside of a request (a command line, a test of a use case) noting does nothing.

Steps and outcomes are words of this program. Nothing here may be named by a client: the words become labels of metrics.
"""

from __future__ import annotations

import contextvars
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Literal, ParamSpec, TypeVar

STEPS: Final = (
    "queue",
    "authenticate",
    "turn",
    "settle",
    "advisory",
    "open",
    "ot_check",
    "signature",
    "garble",
    "seal",
    "lock",
    "commit",
)
"""In the order of a login. The first two are those of every request of the protocol."""

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(slots=True)
class Exchange:
    """One request and its answer. Used by one thread at a time: the connection's task waits while a worker works.

    Times are seconds of `time.perf_counter`.
    """

    request_id: str
    """Made here for each request; what a client sends under that name is not looked at."""
    address: str | None = None
    """Who asks: see `api.client_address`. None if that says nothing about who it is."""
    started: float = field(default_factory=time.perf_counter)
    code: str | None = None
    """Of the problem that was told, if any."""
    laps: list[tuple[str, float]] = field(default_factory=list)
    """(step, when it ended). A step begins where the one before ended."""
    logins: list[str] = field(default_factory=list)
    """What came of a login or of a confirmation; a request can bring both."""
    limited: list[str] = field(default_factory=list)
    """Which rate limits refused it."""
    database_failed: bool = False


_CURRENT: contextvars.ContextVar[Exchange | None] = contextvars.ContextVar("tandem_exchange", default=None)


def begin(exchange: Exchange) -> None:
    """From here on this task, and what it starts with `carried`, is about that request."""
    _CURRENT.set(exchange)


def current() -> Exchange | None:
    """The request that is being served here, or None."""
    return _CURRENT.get()


def step_ended(step: str) -> None:
    """Note that one of STEPS is over."""
    if (exchange := _CURRENT.get()) is not None:
        exchange.laps.append((step, time.perf_counter()))


def login_came_to(outcome: str) -> None:
    """Note what was committed about a login; or a refusal, by its problem code."""
    if (exchange := _CURRENT.get()) is not None:
        exchange.logins.append(outcome)


def told(code: str) -> None:
    """Note the problem code of the answer."""
    if (exchange := _CURRENT.get()) is not None:
        exchange.code = code


def was_limited(limit: str) -> None:
    """Note which rate limit refused the request."""
    if (exchange := _CURRENT.get()) is not None:
        exchange.limited.append(limit)


def database_failed() -> None:
    """Note that the database did not serve."""
    if (exchange := _CURRENT.get()) is not None:
        exchange.database_failed = True


def carried(function: Callable[P, T], queued: Callable[[Literal[1, -1]], None]) -> Callable[P, T]:
    """The function for another thread, where it notes for the request that is current here; a thread pool does not
    take context variables along by itself. queued: told 1 now, and -1 once a thread has begun.
    """
    context = contextvars.copy_context()
    queued(1)

    def begun(*args: P.args, **kwargs: P.kwargs) -> T:
        queued(-1)
        step_ended("queue")
        return function(*args, **kwargs)

    return lambda *args, **kwargs: context.run(begun, *args, **kwargs)
