"""`make soak`: logins while workers, connections and devices are killed; what must be true afterwards is checked.

Exit code 0 only if it is, on every database asked for.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks import machine
from benchmarks.databases import BACKENDS, postgresql_is_reachable
from tests.soak.soak_run import Result, Soak, run_soak

_COLUMNS = ("logins", "confirmed", "kills", "stranded", "index_reused", "uncounted", "audit_missing", "ok")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    options = _options(arguments)
    console = Console()
    if "postgresql" in options.backend and not postgresql_is_reachable():
        console.print("PostgreSQL not reachable; see TANDEM_TEST_POSTGRESQL, or ask for --backend sqlite")
        return 1
    for name in [name for name in os.environ if name.startswith("TANDEM_")]:
        del os.environ[name]
    console.print(f"seed {options.seed}", highlight=False)
    results: list[Result] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        for backend in options.backend:
            task = progress.add_task(backend, total=options.logins)
            soak = Soak(backend, options.logins, options.devices, options.seed, options.think_s)
            with tempfile.TemporaryDirectory(prefix="soak-") as directory:
                results.append(
                    run_soak(
                        soak,
                        Path(directory),
                        lambda count, task=task: progress.advance(task, count),  # type: ignore[misc]
                        lambda what, task=task, of=backend: progress.update(task, description=f"{of}: {what}"),  # type: ignore[misc]
                    )
                )
    _print(console, results)
    if options.json is not None:
        document = {"rows": [result.as_dict() for result in results], "machine": machine.description()}
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0 if all(result.ok for result in results) else 1


def _print(console: Console, results: Sequence[Result]) -> None:
    table = Table(title="Logins while workers, connections and devices are killed", title_justify="left")
    table.add_column("")
    for result in results:
        table.add_column(result.backend, justify="right")
    for name in _COLUMNS:
        table.add_row(name.replace("_", " "), *(_shown(getattr(result, name)) for result in results))
        if name == "kills":
            for kind in dict.fromkeys(kind for result in results for kind in result.kills_of):
                table.add_row(f"  {kind}", *(_shown(result.kills_of.get(kind)) for result in results))
    table.add_row("audit log verified", *(_shown(result.audit_verified) for result in results))
    table.add_row("quarantined", *(_shown(result.quarantined) for result in results))
    table.add_row("seconds", *(f"{result.seconds:.0f}" for result in results))
    console.print(table)
    for result in results:
        met = ", ".join(f"{code} {count}" for code, count in sorted(result.faults_seen.items())) or "none"
        console.print(f"{result.backend}: faults that devices met and went on from: {met}", highlight=False)


def _shown(value: int | bool | None) -> str:
    if value is None:
        return "–"
    return str(value) if type(value) is int else "yes" if value else "no"


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make soak ARGS=…", description="Logins while everything is killed.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the counts")
    parser.add_argument("--logins", type=int, default=2000, help="on each database, at least (default 2000)")
    parser.add_argument("--devices", type=int, default=50, help="device processes (default 50)")
    parser.add_argument("--backend", choices=BACKENDS, nargs="+", default=list(BACKENDS), help="default: both")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31), help="of what is killed; default: fresh")
    parser.add_argument("--think-s", type=float, default=0.5, help="a device's pause between logins (default 0.5)")
    options = parser.parse_args(arguments)
    if min(options.logins, options.devices) < 1 or options.think_s <= 0:
        parser.error("--logins, --devices: at least 1; --think-s: above 0")
    return options


if __name__ == "__main__":
    sys.exit(main())
