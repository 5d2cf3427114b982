"""The command around both engines: hypothesis here, atheris in processes of its own, and what came of it."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import secrets
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fuzz_memory import Memory
from fuzz_promise import Outcome, Target, Violation
from fuzz_structured import run_structured

_SLOW_INPUTS = 60
_HERE = Path(__file__).parent
_COUNTS_NAME, _FORMAT = "counts", ">4Q"  # as fuzz_coverage.py writes them
MOST_GROWN_BYTES = 64 * 2**20
"""By how much a process may grow over one target's inputs. libFuzzer keeps inputs that reached new lines."""


def run_engines(
    arguments: Sequence[str] | None,
    *,
    description: str,
    module: str,
    all_targets: Callable[[], Sequence[Target]],
    default_count: int,
    structured_part: float,
) -> int:
    """Exit code 0 if every promise was kept for all inputs, 1 if not, 2 if an engine is missing.

    module: where atheris's process finds `all_targets`. structured_part: hypothesis's part of the inputs.
    """
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--count", type=int, default=default_count, help=f"inputs, at least (default {default_count})")
    parser.add_argument("--json", type=Path, help="write the counts here")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31), help="default: a fresh one, printed")
    given = parser.parse_args(arguments)
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed: install the package with its extra [fuzz]", file=sys.stderr)
        return 2
    print(f"seed {given.seed}", flush=True)
    everything = all_targets()
    started = time.monotonic()
    results: dict[str, dict[str, dict[str, int]]] = {}

    def structured(target: Target, number: int, count: int) -> tuple[Counter[Outcome], int]:
        memory = Memory(count)
        return run_structured(target, count, given.seed + number * 1000, memory.note), memory.grown

    def coverage(target: Target, number: int, count: int) -> tuple[Counter[Outcome], int]:
        return _coverage(module, number, count, given.seed)

    parts = {"hypothesis": (structured, structured_part), "atheris": (coverage, 1 - structured_part)}
    for engine, (run, part) in parts.items():
        results[engine] = {}
        for number, (target, count) in enumerate(_shares(everything, max(1, round(given.count * part)))):
            try:
                outcomes, grown = run(target, number, count)
                if engine == "atheris" and grown > MOST_GROWN_BYTES:
                    raise Violation(f"the process grew by {grown} bytes over {count} inputs")
            except Violation as violation:
                print(f"BROKEN PROMISE: {engine}, {target.name}: {violation}", file=sys.stderr)
                print("\n".join(getattr(violation, "__notes__", [])), file=sys.stderr)
                return 1
            results[engine][target.name] = {outcome.value: outcomes[outcome] for outcome in Outcome}
            print(f"{engine:10} {target.name:45} {_line(outcomes)}  grown {grown / 2**20:.1f} MiB", flush=True)
    totals = {engine: sum(sum(counts.values()) for counts in results[engine].values()) for engine in results}
    seconds = round(time.monotonic() - started)
    print(f"{sum(totals.values())} inputs in {seconds} s, every promise kept: {totals}")
    if given.json:
        values = {"seed": given.seed, "seconds": seconds, "inputs": totals, "targets": results}
        given.json.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    return 0


def _shares(everything: Sequence[Target], count: int) -> Iterator[tuple[Target, int]]:
    """Each target with its number of inputs: few for the slow ones, the rest evenly."""
    fast = sum(not target.slow for target in everything)
    slow_inputs = min(_SLOW_INPUTS, count)
    for target in everything:
        yield target, slow_inputs if target.slow else -(-count // fast)


def _coverage(module: str, number: int, count: int, seed: int) -> tuple[Counter[Outcome], int]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [
            sys.executable,
            str(_HERE / "fuzz_coverage.py"),
            module,
            str(number),
            str(count),
            str(seed or 1),
            name,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
        counts = folder / _COUNTS_NAME
        data = counts.read_bytes() if counts.exists() else bytes(struct.calcsize(_FORMAT))
        *numbers, grown = struct.unpack(_FORMAT, data)
        outcomes = Counter(dict(zip(Outcome, numbers, strict=True)))
        if done.returncode != 0 or outcomes.total() < count:
            found = [path for path in folder.iterdir() if path.name.startswith(("crash-", "timeout-", "oom-"))]
            violation = Violation(f"libFuzzer ended with {done.returncode} after {outcomes.total()} of {count} inputs")
            violation.add_note(done.stdout[-2000:] + done.stderr[-4000:])
            for path in found:
                violation.add_note(f"{path.name}: {path.read_bytes()[:4000].hex()}")
            raise violation
        return outcomes, grown


def _environment() -> dict[str, str]:
    """The folder of `mpc` and `keys` first, wherever the command was started."""
    return {**os.environ, "PYTHONPATH": str(_HERE.parents[1])}


def _line(outcomes: Counter[Outcome]) -> str:
    return "  ".join(f"{outcome.value} {outcomes[outcome]}" for outcome in Outcome)
