"""The figures as tables on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.rows import MPC_BUDGET_POWMODS, SERVER_BUDGET_POWMODS, WALL_BUDGET_POWMODS, Row


def print_tables(console: Console, rows: Sequence[Row]) -> None:
    """One table of totals, one of parts for each side."""
    console.print(_totals(rows))
    for title, parts_of in _SPLITS:
        console.print(_split(title, rows, parts_of))
    console.print(
        f"Aims for n = 2048, N = 2048, in bare exponentiations: server at most {SERVER_BUDGET_POWMODS:g}, "
        f"its protocol part at most {MPC_BUDGET_POWMODS:g}, wall at most {WALL_BUDGET_POWMODS:g}."
    )


_SPLITS: tuple[tuple[str, Callable[[Row], Mapping[str, float]]], ...] = (
    ("Server CPU by part, ms a login with its confirmation", lambda row: row.server_parts_ms),
    ("Server CPU of the confirmation by part, ms", lambda row: row.server_confirmation_parts_ms),
    ("Device CPU by part, ms a login with its confirmation", lambda row: row.device_parts_ms),
    ("Wall time by step as the app sees it, ms (mean)", lambda row: row.wall_parts_ms),
)


def _totals(rows: Sequence[Row]) -> Table:
    table = Table(title="A login, all in", title_justify="left")
    table.add_column("n\nN", no_wrap=True)
    for row in rows:
        table.add_column(_name(row), justify="right", no_wrap=True)
    for heading, of in _TOTALS:
        table.add_row(heading, *(of(row) for row in rows))
    return table


_TOTALS: tuple[tuple[str, Callable[[Row], str]], ...] = (
    ("powmod_sec, ms", lambda row: f"{row.powmod_sec_ms:.2f}"),
    ("server CPU, ms", lambda row: f"{row.server_cpu_ms:.2f}"),
    ("  of it the confirmation", lambda row: f"{row.server_confirmation_cpu_ms:.2f}"),
    ("device CPU, ms", lambda row: f"{row.device_cpu_ms:.2f}"),
    ("  of it the confirmation", lambda row: f"{row.device_confirmation_cpu_ms:.2f}"),
    ("wall, ms: median", lambda row: f"{row.wall_ms:.2f}"),
    ("  95th percentile", lambda row: f"{row.wall_p95_ms:.2f}"),
    ("server CPU / powmod_sec", lambda row: f"{row.server_ratio:.2f}"),
    ("  OT, garbling, sealing alone", lambda row: f"{row.server_mpc_ratio:.2f}"),
    ("wall / powmod_sec", lambda row: f"{row.wall_powmods:.2f}"),
    ("wall / plain RSA trip", lambda row: f"{row.wall_ratio:.2f}"),
    ("plain RSA trip, ms", lambda row: f"{row.plain_rsa_wall_ms:.2f}"),
    ("KB up", lambda row: f"{row.bytes_up / 1000:.1f}"),
    ("KB down", lambda row: f"{row.bytes_down / 1000:.1f}"),
    ("round trips", lambda row: str(row.round_trips)),
    ("logins", lambda row: str(row.logins)),
    ("  without a match", lambda row: str(row.no_matches)),
)


def _split(title: str, rows: Sequence[Row], parts_of: Callable[[Row], Mapping[str, float]]) -> Table:
    names = list(dict.fromkeys(name for row in rows for name in parts_of(row)))
    table = Table(title=title, title_justify="left")
    table.add_column("n\nN", no_wrap=True)
    for row in rows:
        table.add_column(_name(row), justify="right", no_wrap=True)
    for name in names:
        table.add_row(name, *(f"{parts_of(row).get(name, 0.0):.3f}" for row in rows))
    return table


def _name(row: Row) -> str:
    return f"{row.code_bits if row.profile.startswith('sim') else row.profile}\n{row.modulus_bits}"
