"""Prometheus metrics: one registry for the process, or, with several workers, one set of files for all of them.

Every label is a word of this program, so the number of series has a bound that no client moves.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.metrics import disable_created_metrics
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from .observation import Exchange
from .services.context import LoginLatency
from .store.checkpoints import CheckpointRow

FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""The library reads it when it is imported, and writes its values to files there."""
_FOLDER_PREFIX = "metrics-of-"
_LOGINS_PATH = "/v1/logins"
_SECONDS = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
_STEP_SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5)

# A series more for each counter would tell what nobody asked for.
disable_created_metrics()  # type: ignore[no-untyped-call]
REGISTRY = CollectorRegistry()
REQUESTS = Counter(
    "tandem_requests",
    "Requests answered, by address template and problem code.",
    ["route", "outcome"],
    registry=REGISTRY,
)
REQUEST_SECONDS = Histogram(
    "tandem_request_seconds",
    "From the head of a request to its answer.",
    ["route"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
STEP_SECONDS = Histogram(
    "tandem_step_seconds",
    "Steps of the protocol's requests: waiting for a worker, authentication, and those of a login.",
    ["step"],
    buckets=_STEP_SECONDS,
    registry=REGISTRY,
)
LOGINS = Counter(
    "tandem_logins",
    "What came of logins and confirmations: the row of the state machine, or the problem code of a refusal.",
    ["outcome"],
    registry=REGISTRY,
)
RATE_LIMITED = Counter(
    "tandem_rate_limited",
    "Requests refused by a rate limit, or since every place in the queue was taken.",
    ["limit"],
    registry=REGISTRY,
)
CHECKPOINTS = Counter("tandem_checkpoints", "Signed checkpoints of the audit log written here.", registry=REGISTRY)
LAST_CHECKPOINT = Gauge(
    "tandem_last_checkpoint_timestamp_seconds",
    "Unix time of the last checkpoint of the audit log written here; 0 before the first.",
    registry=REGISTRY,
    multiprocess_mode="max",
)
DATABASE_ERRORS = Counter(
    "tandem_database_errors", "Requests that the database did not serve: unreachable, locked, full.", registry=REGISTRY
)
IN_PROGRESS = Gauge(
    "tandem_requests_in_progress",
    "Requests that are being served.",
    registry=REGISTRY,
    multiprocess_mode="livesum",
)
QUEUED = Gauge(
    "tandem_requests_queued",
    "Requests of the protocol that wait for a worker thread.",
    registry=REGISTRY,
    multiprocess_mode="livesum",
)
BUILD = Gauge(
    "tandem_build_info",
    "Always 1; which program this is.",
    ["version", "python", "database_revision"],
    registry=REGISTRY,
    multiprocess_mode="max",
)


# Looking a series up costs more than counting in it, and there are few: their labels are words of this program.
_requests = cache(REQUESTS.labels)
_request_seconds = cache(REQUEST_SECONDS.labels)
_step_seconds = cache(STEP_SECONDS.labels)
_logins = cache(LOGINS.labels)


def tell_build(database_revision: str | None) -> None:
    """Fill `tandem_build_info`."""
    BUILD.labels(version("tandem-auth"), sys.version.split()[0], database_revision or "none").set(1)


def outcome_of(exchange: Exchange, status: int) -> str:
    """`ok` or the problem code; `unanswered` if the client went away. status: 0 if no answer was begun."""
    return exchange.code or ("ok" if 0 < status < 400 else "unanswered")


def count(route: str, exchange: Exchange, status: int, ended: float) -> None:
    """Put a finished request into the metrics. ended: seconds of `time.perf_counter`."""
    _requests(route, outcome_of(exchange, status)).inc()
    _request_seconds(route).observe(ended - exchange.started)
    last = exchange.started
    for step, at in exchange.laps:
        _step_seconds(step).observe(at - last)
        last = at
    for outcome in exchange.logins:
        _logins(outcome).inc()
    for limit in exchange.limited:
        RATE_LIMITED.labels(limit).inc()
    if exchange.database_failed:
        DATABASE_ERRORS.inc()


def checkpoint_written(row: CheckpointRow) -> None:
    """Count a checkpoint of the audit log."""
    CHECKPOINTS.inc()
    LAST_CHECKPOINT.set(row.at)


def exposition() -> bytes:
    """All metrics in Prometheus' text format (version 0.0.4), of every worker of this server."""
    return generate_latest(_of_all_workers())


def login_latency() -> LoginLatency | None:
    """How long logins took since this server was started, read off the histogram; None before the first one.

    Within a bucket the logins are taken to lie evenly, as Prometheus' histogram_quantile does.
    """
    buckets = [
        (float(sample.labels["le"]), sample.value)
        for family in _of_all_workers().collect()
        for sample in family.samples
        if sample.name == "tandem_request_seconds_bucket" and sample.labels["route"] == _LOGINS_PATH
    ]
    buckets.sort()
    if not buckets or not buckets[-1][1]:
        return None
    p50, p95, p99 = (1000 * _quantile(buckets, share) for share in (0.5, 0.95, 0.99))
    return LoginLatency(p50, p95, p99, int(buckets[-1][1]), "since this server was started")


def _quantile(buckets: Sequence[tuple[float, float]], share: float) -> float:
    """Seconds. buckets: (upper bound, how many up to it), ascending; the last bound is infinite."""
    wanted, lower, below = share * buckets[-1][1], 0.0, 0.0
    for upper, up_to in buckets:
        if up_to >= wanted:
            return lower if math.isinf(upper) else lower + (upper - lower) * (wanted - below) / (up_to - below)
        lower, below = upper, up_to
    return lower


def _of_all_workers() -> CollectorRegistry:
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder is None:
        return REGISTRY
    _drop_gauges_of_the_dead(Path(folder))
    everybody = CollectorRegistry()
    MultiProcessCollector(everybody, path=folder)  # type: ignore[no-untyped-call]
    return everybody


@contextlib.contextmanager
def shared_by_workers(data_dir: Path) -> Iterator[Path]:
    """Around the life of a server with several worker processes, in the one that starts them, and before it does.

    Makes a folder for their values, and has the children find it through their environment. The folders of servers that
    were killed are removed first. Counters of a worker that died stay: what it counted has happened.
    """
    for left in data_dir.glob(f"{_FOLDER_PREFIX}*"):
        pid = re.match(rf"{_FOLDER_PREFIX}(\d+)-", left.name)
        if pid is not None and not _is_alive(int(pid[1])):
            shutil.rmtree(left, ignore_errors=True)
    folder = tempfile.mkdtemp(prefix=f"{_FOLDER_PREFIX}{os.getpid()}-", dir=data_dir)
    os.environ[FOLDER_VARIABLE] = folder
    try:
        yield Path(folder)
    finally:
        os.environ.pop(FOLDER_VARIABLE, None)
        shutil.rmtree(folder, ignore_errors=True)


def _drop_gauges_of_the_dead(folder: Path) -> None:
    """A killed worker would otherwise go on showing the requests that it was serving."""
    for file in folder.glob("gauge_live*_*.db"):
        pid = file.stem.rpartition("_")[2]
        if pid.isdigit() and not _is_alive(int(pid)):
            mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody's
        return True
    return True


if FOLDER_VARIABLE not in os.environ:
    # Memory and processor of this process; of several workers each one's would be told under the same name.
    ProcessCollector(registry=REGISTRY)
