"""Where the CPU time of a call goes, by named parts: exclusive thread CPU time around chosen functions.

Not a profiler: only the chosen functions are wrapped, so what it adds is two clock readings for each of some
dozens of calls.
"""

from __future__ import annotations

import functools
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

REST = "other"


@dataclass(slots=True)
class _Open:
    whole: str
    part: str
    started_ns: int
    inner_ns: int = 0


class Stopwatch:
    """Sums by (whole, part). A *whole* is a call that is taken apart; a *part* belongs to the whole around it."""

    def __init__(self) -> None:
        self._sums_ns: dict[tuple[str, str], int] = defaultdict(int)
        self._local = threading.local()
        self._lock = threading.Lock()

    def parts_ms(self, whole: str, calls: int) -> dict[str, float]:
        """Milliseconds a call, by part."""
        return {part: ns / 1e6 / calls for (name, part), ns in self._sums_ns.items() if name == whole}

    def reset(self) -> None:
        self._sums_ns.clear()

    @contextmanager
    def span(self, part: str, *, whole: str | None = None) -> Iterator[None]:
        """Time the block. With `whole`, begin a new whole; without, do nothing unless inside one."""
        stack = self._stack()
        if whole is None and not stack:
            yield
            return
        entry = _Open(whole or stack[-1].whole, part, time.thread_time_ns())
        stack.append(entry)
        try:
            yield
        finally:
            spent = time.thread_time_ns() - entry.started_ns
            stack.pop()
            if stack:
                stack[-1].inner_ns += spent
            with self._lock:
                self._sums_ns[entry.whole, entry.part] += spent - entry.inner_ns

    def wrapped(self, part: str, function: Callable[..., Any], *, whole: str | None = None) -> Callable[..., Any]:
        """The function, timed at every call."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.span(part, whole=whole):
                return function(*args, **kwargs)

        return timed

    def entering_and_leaving(self, part: str, manager: Callable[..., AbstractContextManager[Any]]) -> Any:
        """A function that makes context managers, with their first and last steps timed, but not the block."""
        watch = self

        class Timed:
            def __init__(self, *args: Any) -> None:
                with watch.span(part):
                    self._inner = manager(*args)

            def __enter__(self) -> Any:
                with watch.span(part):
                    return self._inner.__enter__()

            def __exit__(
                self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
            ) -> bool | None:
                with watch.span(part):
                    return self._inner.__exit__(kind, error, trace)

        return lambda *args: Timed(*args)

    def _stack(self) -> list[_Open]:
        if not hasattr(self._local, "stack"):
            self._local.stack = []
        stack: list[_Open] = self._local.stack
        return stack


class Attachments:
    """Functions replaced by their timed forms, and put back at the end of the `with` block."""

    def __init__(self, watch: Stopwatch) -> None:
        self._watch = watch
        self._undo = ExitStack()

    def time(self, owner: Any, name: str, part: str, *, whole: str | None = None) -> None:
        """`owner`: a module or class; `name`: its function, method or class method."""
        is_bound = isinstance(vars(owner)[name], classmethod)
        timed: Any = self._watch.wrapped(part, getattr(owner, name), whole=whole)
        self._replace(owner, name, staticmethod(timed) if is_bound else timed)

    def time_all_from(self, module: Any, origin: str, part: str) -> None:
        """Every function in `module` that was imported from the package or module `origin`."""
        for name, value in list(vars(module).items()):
            if callable(value) and not isinstance(value, type) and value.__module__.startswith(origin):
                self.time(module, name, part)

    def time_edges(self, owner: Any, name: str, part: str) -> None:
        """For methods that give context managers."""
        self._replace(owner, name, self._watch.entering_and_leaving(part, getattr(owner, name)))

    def _replace(self, owner: Any, name: str, value: Any) -> None:
        original = vars(owner)[name]
        self._undo.callback(setattr, owner, name, original)
        setattr(owner, name, value)

    def __enter__(self) -> Attachments:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()
