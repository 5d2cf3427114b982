"""One row of the load: blocks of logins by all clients at once, and bare exponentiations on all cores between them.

In turn, so that whatever else the machine does falls on both alike. CPU is read around each block, with everything that
its logins left to do: a login's confirmation has been acknowledged when its client tells of it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.cpu_clocks import FamilyClock, process_cpu_s
from benchmarks.databases import Backends, BackendsClock, new_database
from benchmarks.load_rows import LoadRow, percentile
from benchmarks.load_server import Clients, load_on
from benchmarks.powmod import Powmod

BLOCK = 20
_POWMODS_A_BLOCK = 10  # on each core
_SAMPLE_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class Load:
    """What a row is made with."""

    backend: str
    workers: int
    clients: int
    devices: int
    """A client's."""
    logins: int
    modulus_bits: int = 2048


@dataclass(slots=True)
class _Tally:
    wall_ms: list[float] = field(default_factory=list)
    no_matches: int = 0
    seconds: float = 0.0
    server_s: float = 0.0
    client_s: float = 0.0
    database_s: float | None = 0.0


def measure_load(load: Load, directory: Path, advance: Callable[[int], None]) -> LoadRow:
    """Run one row in a new database. `advance` is told how many logins were done since. RuntimeError if one fails."""
    powmods, tally, cores = Powmod(load.modulus_bits), _Tally(), len(os.sched_getaffinity(0))
    with ExitStack() as stack:
        url = stack.enter_context(new_database(load.backend, directory))
        server, clients = stack.enter_context(
            load_on(directory, url, workers=load.workers, clients=load.clients, devices=load.devices)
        )
        server_clock, database_clock = FamilyClock(server.pid), None
        if load.backend == "postgresql":
            backends = Backends(url)
            stack.callback(backends.close)
            database_clock = BackendsClock(backends)
        for _ in clients.ask(2 * load.clients):
            pass  # every worker thread has its connection by now
        while len(tally.wall_ms) + tally.no_matches < load.logins:
            powmods.side_by_side(_POWMODS_A_BLOCK, cores)
            count = min(BLOCK, load.logins - len(tally.wall_ms) - tally.no_matches)
            _block(clients, count, server_clock, database_clock, tally, advance)
        powmods.side_by_side(_POWMODS_A_BLOCK, cores)
        ended = len(server_clock.ended) + (len(database_clock.ended) if database_clock else 0)
    return _row(load, tally, powmods, cores, ended)


def _block(
    clients: Clients,
    count: int,
    server_clock: FamilyClock,
    database_clock: BackendsClock | None,
    tally: _Tally,
    advance: Callable[[int], None],
) -> None:
    database_start = database_clock.read_s() if database_clock is not None else None
    client_start = sum(map(process_cpu_s, clients.pids))
    server_start, started = server_clock.read_s(), time.perf_counter()
    sampled = started
    for answer in clients.ask(count):
        if answer["matched"]:
            # A refusal stops short of the signature, so only whole logins count for latency.
            tally.wall_ms.append(answer["wall_ms"])
        else:
            tally.no_matches += 1
        now = time.perf_counter()
        if database_clock is not None and now - sampled > _SAMPLE_EVERY_S:
            database_clock.read_s()
            sampled = now
        advance(1)
    tally.seconds += time.perf_counter() - started
    tally.server_s += server_clock.read_s() - server_start
    tally.client_s += sum(map(process_cpu_s, clients.pids)) - client_start
    database_end = database_clock.read_s() if database_clock is not None else None
    if tally.database_s is None or database_start is None or database_end is None:
        tally.database_s = None
    else:
        tally.database_s += database_end - database_start


def _row(load: Load, tally: _Tally, powmods: Powmod, cores: int, ended: int) -> LoadRow:
    logins, database_s = len(tally.wall_ms) + tally.no_matches, tally.database_s
    powmods_per_s = 1000 / powmods.mean_ms
    if not tally.wall_ms:
        raise RuntimeError("no login of this run had a match")
    return LoadRow(
        backend=load.backend,
        workers=load.workers,
        clients=load.clients,
        devices=load.clients * load.devices,
        logins=logins,
        no_matches=tally.no_matches,
        seconds=tally.seconds,
        logins_per_s=logins / tally.seconds,
        p50_ms=percentile(tally.wall_ms, 50),
        p95_ms=percentile(tally.wall_ms, 95),
        p99_ms=percentile(tally.wall_ms, 99),
        powmod_sec_ms=powmods.mean_ms,
        powmods_per_cpu_s=powmods_per_s,
        server_cpu_ms=tally.server_s / logins * 1000,
        database_cpu_ms=None if database_s is None else database_s / logins * 1000,
        client_cpu_ms=tally.client_s / logins * 1000,
        busy_cores=(tally.server_s + tally.client_s + (database_s or 0.0)) / tally.seconds,
        cores=cores,
        logins_per_server_cpu_s=logins / tally.server_s,
        ratio=logins / tally.server_s / powmods_per_s,
        ratio_with_database=None if database_s is None else logins / (tally.server_s + database_s) / powmods_per_s,
        processes_ended=ended,
    )
