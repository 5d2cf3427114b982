"""Fuzz everything that provisioning reads: share files, recipients, manifests, ceremonies, key files.

    python tests/fuzz/fuzz_provisioning.py --count 210000 [--json FILE]

Half of the inputs come from each engine: hypothesis, and atheris (the extra "fuzz" of the package). The promise: a
damaged file is refused with the documented error and never taken. Exit code 0 if it was kept for all inputs, 1 if not,
2 if an engine is missing.
"""

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
from collections.abc import Iterator, Sequence
from pathlib import Path

from fuzz_room import make_room
from fuzz_structured import run_structured
from fuzz_targets import Outcome, Target, Violation, targets

_SLOW_INPUTS = 60
_HERE = Path(__file__).parent


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Fuzz everything that provisioning reads.")
    parser.add_argument("--count", type=int, default=210_000, help="inputs in all, at least (default 210000)")
    parser.add_argument("--json", type=Path, help="write the counts here")
    parser.add_argument("--seed", type=int, default=secrets.randbelow(2**31), help="default: a fresh one, printed")
    given = parser.parse_args(arguments)
    if importlib.util.find_spec("atheris") is None:
        print("atheris is not installed: install the package with its extra [fuzz]", file=sys.stderr)
        return 2
    print(f"seed {given.seed}", flush=True)
    everything = targets(make_room())
    started = time.monotonic()
    results: dict[str, dict[str, dict[str, int]]] = {}
    for engine, run in (("hypothesis", _structured), ("atheris", _coverage)):
        results[engine] = {}
        for number, (target, count) in enumerate(_shares(everything, -(-given.count // 2))):
            try:
                outcomes = run(target, number, count, given.seed)
            except Violation as violation:
                print(f"BROKEN PROMISE: {engine}, {target.name}: {violation}", file=sys.stderr)
                print("\n".join(getattr(violation, "__notes__", [])), file=sys.stderr)
                return 1
            results[engine][target.name] = {outcome.value: outcomes[outcome] for outcome in Outcome}
            print(f"{engine:10} {target.name:45} {_line(outcomes)}", flush=True)
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


def _structured(target: Target, number: int, count: int, seed: int) -> Counter[Outcome]:
    return run_structured(target, count, seed + number * 1000)


def _coverage(target: Target, number: int, count: int, seed: int) -> Counter[Outcome]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, str(_HERE / "fuzz_coverage.py"), str(number), str(count), str(seed or 1), name]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment())
        counts = folder / "counts"
        data = counts.read_bytes() if counts.exists() else b""
        outcomes = Counter(dict(zip(Outcome, struct.unpack(">3Q", data), strict=True))) if data else Counter()
        if done.returncode != 0 or outcomes.total() < count:
            found = [path for path in folder.iterdir() if path.name.startswith(("crash-", "timeout-", "oom-"))]
            violation = Violation(f"libFuzzer ended with {done.returncode} after {outcomes.total()} of {count} inputs")
            violation.add_note(done.stdout[-2000:] + done.stderr[-4000:])
            for path in found:
                violation.add_note(f"{path.name}: {path.read_bytes()[:4000].hex()}")
            raise violation
        return outcomes


def _environment() -> dict[str, str]:
    """The folder of `mpc` and `keys` first, wherever the command was started."""
    return {**os.environ, "PYTHONPATH": str(_HERE.parents[1])}


def _line(outcomes: Counter[Outcome]) -> str:
    return "  ".join(f"{outcome.value} {outcomes[outcome]}" for outcome in Outcome)


if __name__ == "__main__":
    sys.exit(main())
