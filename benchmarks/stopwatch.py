"""Where the CPU time of a call goes, by named parts: exclusive thread CPU time around chosen functions.

Not a profiler: only the chosen functions are wrapped, some dozens of calls a login, and what wrapping adds is
measured beforehand and taken off.
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
    started_ns: int = 0
    inner_ns: int = 0


class Stopwatch:
    """Sums by (whole, part). A *whole* is a call that is taken apart; a *part* belongs to the whole around it."""

    def __init__(self) -> None:
        self._sums_ns: dict[tuple[str, str], int] = defaultdict(int)
        self._local = threading.local()
        self._lock = threading.Lock()
        self._own_cost_ns = 0
        self._own_cost_ns = self._measured_own_cost_ns()

    def parts_ms(self, whole: str, calls: int) -> dict[str, float]:
        """Milliseconds a call, by part."""
        return {part: ns / 1e6 / calls for (name, part), ns in self._sums_ns.items() if name == whole}

    def reset(self) -> None:
        self._sums_ns.clear()

    @contextmanager
    def span(self, part: str, *, whole: str | None = None) -> Iterator[None]:
        """Time the block. With `whole`, begin a new whole; without, do nothing unless inside one."""
        opened = self._open(part, whole)
        try:
            yield
        finally:
            self._close(opened)

    def wrapped(self, part: str, function: Callable[..., Any], *, whole: str | None = None) -> Callable[..., Any]:
        """The function, timed at every call."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            opened = self._open(part, whole)
            try:
                return function(*args, **kwargs)
            finally:
                self._close(opened)

        return timed

    def _open(self, part: str, whole: str | None) -> _Open | None:
        stack = self._stack()
        if whole is None and not stack:
            return None
        opened = _Open(whole or stack[-1].whole, part)
        stack.append(opened)
        # Last, and first in `_close`: what the stopwatch itself costs is nobody's part.
        opened.started_ns = time.thread_time_ns()
        return opened

    def _close(self, opened: _Open | None) -> None:
        if opened is None:
            return
        spent = time.thread_time_ns() - opened.started_ns
        stack = self._stack()
        stack.pop()
        key = opened.whole, opened.part
        with self._lock:
            self._sums_ns[key] += spent - opened.inner_ns
        if stack:
            stack[-1].inner_ns += spent + self._own_cost_ns

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

    def _measured_own_cost_ns(self) -> int:
        """What one timed call adds to the part around it: measured, to be taken off again."""
        nothing = self.wrapped("inner", int)
        samples = []
        for _ in range(200):
            with self.span("outer", whole="calibration"):
                for _ in range(20):
                    nothing()
            samples.append(self._sums_ns.pop(("calibration", "outer")) // 20)
        self._sums_ns.clear()
        return sorted(samples)[len(samples) // 2]

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
