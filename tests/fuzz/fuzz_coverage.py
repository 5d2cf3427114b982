"""The second engine: atheris (libFuzzer) looks for inputs that reach new lines, with our edits among its mutators.

Run by `fuzz_engines.py`, one process a target: libFuzzer ends its process when it is done.

    python fuzz_coverage.py MODULE TARGET_NUMBER RUNS SEED FOLDER

MODULE has the targets, as its function `all_targets`.
"""

from __future__ import annotations

import importlib
import random
import struct
import sys
from collections import Counter
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["mpc", "keys", "authsvc", "http_sf"]):
    MODULE = importlib.import_module(sys.argv[1])

from fuzz_memory import Memory
from fuzz_mutations import damaged, kinds
from fuzz_promise import Outcome

MAX_INPUT_BYTES = 20_000
COUNTS_NAME = "counts"
FORMAT = ">4Q"
"""How often each outcome was met, and by how many bytes the process has grown."""


def main(number: int, runs: int, seed: int, folder: Path) -> None:
    """Seeds are the originals. Outcomes are counted in a file: nothing of ours runs after libFuzzer's end."""
    target = MODULE.all_targets()[number]
    corpus = folder / "corpus"
    corpus.mkdir()
    for at, original in enumerate(target.originals):
        (corpus / f"original-{at}").write_bytes(original)
    outcomes: Counter[Outcome] = Counter()
    counts = (folder / COUNTS_NAME).open("wb", buffering=0)
    memory = Memory(runs)

    def run_one(data: bytes) -> None:
        outcomes[target.check(data)] += 1
        memory.note()
        counts.seek(0)
        counts.write(struct.pack(FORMAT, *(outcomes[outcome] for outcome in Outcome), memory.grown))

    def mutate(data: bytes, max_size: int, draw: int) -> bytes:
        rng = random.Random(draw)
        if rng.random() < 0.5:
            return atheris.Mutate(data, max_size)
        style = rng.choice(list(target.styles))
        # Now and then from an original: what coverage has collected is mostly far from anything valid.
        base = rng.choice(list(target.originals)) if rng.random() < 0.3 else data
        edits = [
            (rng.choice(list(kinds(style))), rng.randrange(2**20), rng.randrange(2**20))
            for _ in range(rng.randint(1, 3))
        ]
        return damaged(base, style, edits)[:max_size]

    arguments = [f"-atheris_runs={runs}", f"-seed={seed}", f"-max_len={MAX_INPUT_BYTES}", "-timeout=60"]
    arguments += ["-rss_limit_mb=4096", f"-artifact_prefix={folder}/", "-print_final_stats=1", str(corpus)]
    atheris.Setup([sys.argv[0], *arguments], run_one, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main(int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
