"""`python -m benchmarks`: measure, print a table, write JSON and a picture."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from authsvc.app import create_context, prepare_database
from authsvc.logs import configure_logs
from authsvc.settings import load_settings
from benchmarks import machine, report
from benchmarks.measure import Bench, measure
from benchmarks.processes import ServerProcess
from benchmarks.rows import ALL, Combination, Row
from device_sdk.transport import RequestKey

_LOGINS = 120
_QUICK_LOGINS = 20


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    options = _options(arguments)
    if not sys.platform.startswith("linux"):
        sys.exit("benchmarks: needs Linux, whose clocks tell one process another's CPU time")
    console = Console()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="benchmark-") as directory, _bench(Path(directory)) as bench:
        # No thread that redraws the bar: it would use CPU while the device's is measured.
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=console, auto_refresh=False, transient=True) as progress:
            task = progress.add_task("", total=options.logins * len(options.only))

            def advance(count: int) -> None:
                progress.advance(task, count)
                progress.refresh()

            for combination in options.only:
                progress.update(task, description=f"{combination.code_bits} / {combination.modulus_bits} bits")
                progress.refresh()
                rows.append(measure(bench, combination, options.logins, advance))
    report.print_tables(console, rows)
    if options.json is not None:
        document = {"rows": [row.as_dict() for row in rows], "machine": machine.description()}
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    # Here, since drawing loads a lot that measuring does not need.
    from benchmarks.plot import draw

    draw(rows, options.plot)
    console.print(f"drawn: {options.plot}", highlight=False)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="benchmarks", description="What a login costs.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    parser.add_argument(
        "--plot",
        type=Path,
        default=Path("bench.png"),
        metavar="FILE.png",
        help="where the figures are drawn (default bench.png)",
    )
    parser.add_argument("--logins", type=_positive, help=f"logins a row (default {_LOGINS})")
    parser.add_argument("--quick", action="store_true", help=f"{_QUICK_LOGINS} logins a row")
    parser.add_argument(
        "--only",
        type=_combination,
        nargs="+",
        default=list(ALL),
        metavar="n/N",
        help=f"rows, code bits / modulus bits (default {' '.join(map(str, ALL))})",
    )
    options = parser.parse_args(arguments)
    if options.logins is None:
        options.logins = _QUICK_LOGINS if options.quick else _LOGINS
    return options


@contextmanager
def _bench(directory: Path) -> Iterator[Bench]:
    """Both servers, each a process of its own, and the tools of a third in this process."""
    key = RequestKey.generate()
    moduli = [str(bits) for bits in sorted({combination.modulus_bits for combination in ALL})]
    serve = ["authsvc", "serve", "--port", "0"]
    plain = ["benchmarks.plain_rsa_server", "--point", key.public_point().hex(), "--modulus-bits", *moduli]
    for name in [name for name in os.environ if name.startswith("TANDEM_")]:
        del os.environ[name]
    with ExitStack() as stack:
        settings = load_settings(data_dir=directory / "in-process")
        configure_logs(settings.log_level)
        context = create_context(settings)
        stack.callback(context.store.close)
        prepare_database(context)
        yield Bench(
            server=stack.enter_context(ServerProcess(serve, directory / "server")),
            plain=stack.enter_context(ServerProcess(plain, directory / "plain")),
            plain_key=key,
            context=context,
            directory=directory,
        )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _combination(text: str) -> Combination:
    for combination in ALL:
        if str(combination) == text:
            return combination
    raise argparse.ArgumentTypeError(f"one of {' '.join(map(str, ALL))}")


if __name__ == "__main__":
    main()
