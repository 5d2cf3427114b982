"""`python -m benchmarks.load`: how many logins a running server carries, and what each costs it."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import machine
from benchmarks.databases import BACKENDS, postgresql_is_reachable
from benchmarks.load_measure import Load, measure_load
from benchmarks.load_report import print_load
from benchmarks.load_rows import LoadRow

_LOGINS = 400
_QUICK_LOGINS = 80


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    options = _options(arguments)
    if not sys.platform.startswith("linux"):
        sys.exit("make bench-load: needs Linux, whose clocks tell one process another's CPU time")
    if "postgresql" in options.backend and not postgresql_is_reachable():
        sys.exit("make bench-load: PostgreSQL not reachable; see TANDEM_TEST_POSTGRESQL, or ask for --backend sqlite")
    for name in [name for name in os.environ if name.startswith("TANDEM_")]:
        del os.environ[name]
    console = Console()
    rows: list[LoadRow] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # No thread that redraws the bar: it would use CPU while the server's is measured.
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as progress:
        task = progress.add_task("", total=options.logins * len(options.backend) * len(options.workers))
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            progress.advance(task, count)
            if done % 10 == 0:
                progress.refresh()

        for backend in options.backend:
            for workers in options.workers:
                progress.update(task, description=f"{backend}, {workers} worker{'s' * (workers > 1)}")
                progress.refresh()
                load = Load(backend, workers, options.clients, options.devices, options.logins)
                with tempfile.TemporaryDirectory(prefix="benchmark-") as directory:
                    rows.append(measure_load(load, Path(directory), advance))
    print_load(console, rows)
    if options.json is not None:
        document = {"rows": [row.as_dict() for row in rows], "machine": machine.description()}
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    # Here, since drawing loads a lot that measuring does not need.
    from benchmarks.load_plot import draw_load

    draw_load(rows, options.plot)
    console.print(f"drawn: {options.plot}", highlight=False)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-load ARGS=…", description="What load a server carries.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument("--plot", type=Path, default=Path("bench-load.png"), metavar="FILE.png")
    parser.add_argument("--logins", type=_positive, help=f"logins a row (default {_LOGINS})")
    parser.add_argument("--quick", action="store_true", help=f"{_QUICK_LOGINS} logins a row")
    parser.add_argument(
        "--backend", choices=BACKENDS, nargs="+", default=list(BACKENDS), help="databases (default: both)"
    )
    parser.add_argument("--workers", type=_positive, nargs="+", default=[1, 2], help="numbers of workers (default 1 2)")
    parser.add_argument("--clients", type=_positive, default=4, help="client processes (default 4)")
    parser.add_argument("--devices", type=_positive, default=3, help="enrolled devices of each client (default 3)")
    options = parser.parse_args(arguments)
    if options.logins is None:
        options.logins = _QUICK_LOGINS if options.quick else _LOGINS
    return options


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


if __name__ == "__main__":
    main()
