"""The load's figures as a table on a terminal, with what they do not say."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.load_rows import RATIO_AIM, RATIO_FLOOR, LoadRow


def print_load(console: Console, rows: Sequence[LoadRow]) -> None:
    """One column a row."""
    table = Table(title="Logins by SDK clients over loopback, confirmations and SQL included", title_justify="left")
    table.add_column("", no_wrap=True)
    for row in rows:
        workers = "1 worker" if row.workers == 1 else f"{row.workers} workers"
        table.add_column(f"{row.backend}\n{workers}", justify="right", no_wrap=True)
    for heading, of in _LINES:
        table.add_row(heading, *(of(row) for row in rows))
    console.print(table)
    for row in rows:
        name = f"{row.backend}, {row.workers}"
        if row.backend == "postgresql" and row.database_cpu_ms is None:
            console.print(f"{name}: the database's processes cannot be seen from here, so their CPU is unknown.")
        if row.processes_ended:
            console.print(f"{name}: {row.processes_ended} processes ended while measured; some CPU went uncounted.")
    console.print(
        f"Clients, server and database share {rows[0].cores} cores, so logins/s is what is left beside the clients; "
        "logins per CPU second of the server is what its own processes could do.\n"
        f"Ratio: on PostgreSQL at least {RATIO_FLOOR:g}, the aim is {RATIO_AIM:g}. Of {rows[0].clients} clients each "
        "always has a login under way."
    )


def _milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


_LINES: tuple[tuple[str, Callable[[LoadRow], str]], ...] = (
    ("logins/s", lambda row: f"{row.logins_per_s:.1f}"),
    ("latency, ms: median", lambda row: f"{row.p50_ms:.1f}"),
    ("  95th percentile", lambda row: f"{row.p95_ms:.1f}"),
    ("  99th percentile", lambda row: f"{row.p99_ms:.1f}"),
    ("CPU a login, ms: authsvc", lambda row: _milliseconds(row.server_cpu_ms)),
    ("  database backends", lambda row: _milliseconds(row.database_cpu_ms)),
    ("  clients", lambda row: _milliseconds(row.client_cpu_ms)),
    ("cores busy", lambda row: f"{row.busy_cores:.2f} of {row.cores}"),
    ("powmod_sec, ms", lambda row: _milliseconds(row.powmod_sec_ms)),
    ("logins/CPU s of authsvc", lambda row: f"{row.logins_per_server_cpu_s:.1f}"),
    ("powmods/CPU s", lambda row: f"{row.powmods_per_cpu_s:.1f}"),
    ("ratio: authsvc", lambda row: _ratio(row.ratio)),
    ("  with database backends", lambda row: _ratio(row.ratio_with_database)),
    ("logins", lambda row: str(row.logins)),
    ("  without a match", lambda row: str(row.no_matches)),
)
