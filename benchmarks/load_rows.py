"""One row of the load: a database, a number of workers, and what was measured with them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

RATIO_FLOOR = 0.33
"""On PostgreSQL, of the server's own processes: logins a CPU second over powmods a CPU second (n = N = 2048)."""
RATIO_AIM = 0.6


@dataclass(frozen=True, slots=True)
class LoadRow:
    """Figures of one database and number of workers; CPU in milliseconds a login with its confirmation.

    `ratio`: logins a CPU second of authsvc's processes over powmods a CPU second. `ratio_with_database`: the same with
    the CPU of the database's backends added; None with SQLite, which works inside authsvc's processes, and where the
    backends cannot be seen. `busy_cores`: what server, backends and clients used together, of the machine's `cores`.
    """

    backend: str
    workers: int
    clients: int
    devices: int
    logins: int
    no_matches: int
    seconds: float
    logins_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    powmod_sec_ms: float
    powmods_per_cpu_s: float
    server_cpu_ms: float
    database_cpu_ms: float | None
    client_cpu_ms: float
    busy_cores: float
    cores: int
    logins_per_server_cpu_s: float
    ratio: float
    ratio_with_database: float | None
    processes_ended: int
    """Of server and database while they were measured; unless it is 0, some of their CPU went uncounted."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON, rounded to what the clocks can tell."""
        return {name: round(value, 4) if isinstance(value, float) else value for name, value in asdict(self).items()}


def percentile(samples: Sequence[float], percent: int) -> float:
    """Of at least one sample; between two samples, the line between them."""
    if len(samples) == 1:
        return samples[0]
    return statistics.quantiles(samples, n=100, method="inclusive")[percent - 1]
