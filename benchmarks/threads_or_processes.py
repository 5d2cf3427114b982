"""Threads or processes for the server's computation? `python -m benchmarks.threads_or_processes`

The same real message 1 is computed over and over, by one thread, by several threads of one process, and by several
processes: computations a second, and CPU spent on each. The ratio of the ways, each in its best of alternating rounds,
is what the default of `worker_threads` and the advice about `workers` rest on.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from authsvc.app import create_context, prepare_database
from authsvc.services import administration
from authsvc.services import login as login_service
from authsvc.settings import Settings
from benchmarks.people import enrolled
from benchmarks.rows import Combination
from benchmarks.stopwatch import Stopwatch
from benchmarks.transports import InProcessTransport
from mpc.login.server_side import Answer

_FORK = multiprocessing.get_context("fork")  # the state of a login is never pickled


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--code-bits", type=int, default=2048, choices=(512, 1024, 2048, 4096))
    parser.add_argument("--modulus-bits", type=int, default=2048, choices=(2048, 3072))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--computations", type=int, default=40, help="in each round, for each way")
    given = parser.parse_args()
    cores = os.cpu_count() or 1
    compute = _computation(Combination(given.code_bits, given.modulus_bits))
    compute()
    ways: dict[str, Callable[[int], None]] = {"1 thread": partial(_by_threads, compute, 1)}
    for count in sorted({2, cores, 2 * cores, 4 * cores}):
        ways[f"{count} threads"] = partial(_by_threads, compute, count)
    for count in sorted({2, cores}):
        ways[f"{count} processes"] = partial(_by_processes, compute, count)
    rates: dict[str, list[float]] = {name: [] for name in ways}
    costs: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(given.rounds):
        for name, way in ways.items():
            started, used = time.perf_counter(), _cpu_s()
            way(given.computations)
            rates[name].append(given.computations / (time.perf_counter() - started))
            costs[name].append((_cpu_s() - used) / given.computations)
    base = max(rates["1 thread"])
    print(f"{'':14}{'a second':>10}{'ratio':>8}{'CPU ms each':>13}")
    for name in ways:
        rate, cost = max(rates[name]), min(costs[name])  # the round that others disturbed least
        print(f"{name:14}{rate:10.1f}{rate / base:8.2f}{1000 * cost:13.2f}")
    print(f"{cores} cores, load {os.getloadavg()[0]:.1f}")


def _computation(combination: Combination) -> Callable[[], None]:
    """What a login computes between its two transactions, for a message 1 that the SDK made."""
    kept: list[tuple[Any, ...]] = []
    decide = login_service.decide

    def keep(*arguments: Any) -> Any:
        kept.append(arguments)
        return decide(*arguments)

    with tempfile.TemporaryDirectory() as folder:
        context = create_context(Settings(data_dir=Path(folder)))
        prepare_database(context)
        code = administration.issue_code(context, label="benchmark").code
        transport = InProcessTransport(context, Stopwatch())
        person = enrolled(
            combination,
            server="http://127.0.0.1",
            code=code,
            transport=transport,
            directory=Path(folder),
            seed=1,
        )
        login_service.decide = keep
        try:
            person.login(person.options(), person.capture())
        finally:
            login_service.decide = decide
        person.wait_for_confirmation()
        person.device.close()
        context.store.close()
    arguments = kept[-1]

    def compute() -> None:
        if not isinstance(decide(*arguments), Answer):
            raise AssertionError("the message was good a moment ago")

    return compute


def _by_threads(compute: Callable[[], None], count: int, computations: int) -> None:
    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(compute) for _ in range(computations)]:
            done.result()


def _by_processes(compute: Callable[[], None], count: int, computations: int) -> None:
    share, rest = divmod(computations, count)
    processes = [_FORK.Process(target=_repeat, args=(compute, share + (number < rest))) for number in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode:
            raise RuntimeError("a process failed")


def _repeat(compute: Callable[[], None], times: int) -> None:
    for _ in range(times):
        compute()


def _cpu_s() -> float:
    """CPU of this process and of its children that have ended."""
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


if __name__ == "__main__":
    main()
