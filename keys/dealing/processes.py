"""Many new keys: one process a core, each of which hands out only sealed halves."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import connection

from keys.dealing.one_key import DealingTerms, SealedKey, deal, generate_source
from keys.refusal import Refusal
from mpc.primitives.rng import SystemRng
from mpc.provisioning.recipient import Recipient

_WORTH_A_PROCESS = {2048: 16, 3072: 4, 4096: 2}
"""From how many keys of a size on the processes' start takes less time than they save."""
_KEYS_IN_ORDER = {2048: 4, 3072: 1, 4096: 1}
"""How many keys a worker makes before it answers: for small keys, talking about each would cost a noticeable share."""
_WORTH_LARGE_ORDERS = 100
_ORDERS_PER_PROCESS = 3

_terms: DealingTerms | None = None


def deal_new_keys(
    terms: DealingTerms, bits: int, devices: Sequence[Recipient], processes: int
) -> Generator[tuple[int, SealedKey], None, None]:
    """(index into devices, key), in the order in which they are done.

    Raises TrialFailed, Refusal("worker_lost"). Closing the iterator early ends the processes.
    """
    if processes == 1 or len(devices) < _WORTH_A_PROCESS[bits]:
        for index, device in enumerate(devices):
            yield index, deal(SystemRng(), generate_source(bits), terms, device)
        return
    executor = ProcessPoolExecutor(
        min(processes, len(devices)),
        # A forked process would share the parent's open files and the state of its libraries' generators.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(terms,),
    )
    try:
        yield from _collect(executor, bits, devices, processes * _ORDERS_PER_PROCESS)
    except BrokenProcessPool:
        raise Refusal("worker_lost", "a worker process was killed, perhaps for lack of memory; run it again") from None
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def available_processes() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _collect(
    executor: ProcessPoolExecutor, bits: int, devices: Sequence[Recipient], at_once: int
) -> Iterator[tuple[int, SealedKey]]:
    size = _KEYS_IN_ORDER[bits] if len(devices) >= _WORTH_LARGE_ORDERS else 1
    # Never more than a few orders are waiting, so that an interrupted run ends soon.
    waiting: dict[Future[list[SealedKey]], int] = {}
    for start in range(0, len(devices), size):
        with _interrupts_held():
            waiting[executor.submit(_deal_order, bits, devices[start : start + size])] = start
        if len(waiting) >= at_once:
            yield from _finished(waiting)
    while waiting:
        yield from _finished(waiting)


def _finished(waiting: dict[Future[list[SealedKey]], int]) -> Iterator[tuple[int, SealedKey]]:
    for future in wait(waiting, return_when=FIRST_COMPLETED).done:
        yield from enumerate(future.result(), waiting.pop(future))


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Processes that start inside never see Ctrl-C: the parent alone decides, and cleans up."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(terms: DealingTerms) -> None:
    global _terms
    _terms = terms
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker holds both ends of its queue, so it would wait for ever for the orders of a killed parent."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)


def _deal_order(bits: int, devices: Sequence[Recipient]) -> list[SealedKey]:
    if _terms is None:
        raise RuntimeError("the worker was not started by its initializer")
    return [deal(SystemRng(), generate_source(bits), _terms, device) for device in devices]
