"""`python -m benchmarks.provisioning`: how fast keys are dealt, against bare key generation on the same cores.

Both are timed in turn within one run, so that a machine that changes its speed slows both. The dealer's time is that
of the whole command, from its start to the finished folder, and of `tandem-keys verify` after it.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from keys.dealing.processes import available_processes
from mpc.primitives.hpke import HpkeSuite
from mpc.provisioning.recipient import Recipient, new_recipient
from mpc.threshold_rsa.share_package import Role


@dataclass(frozen=True, slots=True)
class ProvisioningFigures:
    """keys: how many were made each way. Rates in keys a second over all cores; ratio: dealt / bare."""

    bits: int
    keys: int
    processes: int
    bare_s: float
    dealt_s: float
    verified_s: float
    bare_rate: float
    dealt_rate: float
    ratio: float
    ratio_with_verify: float


def measure(keys: int, bits: int, rounds: int) -> ProvisioningFigures:
    """`rounds` times in turn: a part of the bare keys, then a part of the dealt ones."""
    processes = available_processes()
    each = keys // rounds
    bare_s = dealt_s = verified_s = 0.0
    spawn = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory(prefix="benchmark-") as directory,
        ProcessPoolExecutor(processes, mp_context=spawn) as bare,
    ):
        folder = Path(directory)
        server, device = _recipients(folder)
        read_out = [option for file in (server, device) for option in ("--expect", _fingerprint(file))]
        list(bare.map(_generate, [bits] * processes))  # the processes are up before the clock starts
        for number in range(rounds):
            start = time.perf_counter()
            list(bare.map(_generate, [bits] * each))
            bare_s += time.perf_counter() - start
            out = folder / f"ceremony-{number}"
            dealing = ["generate", "--bits", str(bits), "--count", str(each), "--server", str(server)]
            dealt_s += _timed([*dealing, "--device", str(device), "--rp-id", "localhost", "--out", str(out), *read_out])
            verified_s += _timed(["verify", str(out)])
    made = each * rounds
    return ProvisioningFigures(
        bits=bits,
        keys=made,
        processes=processes,
        bare_s=round(bare_s, 3),
        dealt_s=round(dealt_s, 3),
        verified_s=round(verified_s, 3),
        bare_rate=round(made / bare_s, 2),
        dealt_rate=round(made / dealt_s, 2),
        ratio=round(bare_s / dealt_s, 4),
        ratio_with_verify=round(bare_s / (dealt_s + verified_s), 4),
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="make bench-keys ARGS=…", description="How fast keys are dealt.")
    parser.add_argument("--count", type=int, default=1000, help="keys each way (default 1000)")
    parser.add_argument("--bits", type=int, choices=(2048, 3072, 4096), default=2048)
    parser.add_argument("--rounds", type=int, default=2, help="in how many turns (default 2)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures")
    options = parser.parse_args(arguments)
    if not 1 <= options.rounds <= options.count:
        parser.error("--rounds: from 1 to --count")
    console = Console()
    with console.status(f"{options.count} keys each way; a core makes some 20 a second"):
        figures = measure(options.count, options.bits, options.rounds)
    table = Table(title=f"{figures.keys} keys of {figures.bits} bits, {figures.processes} processes")
    for heading in ("", "seconds", "keys/s", "against bare"):
        table.add_column(heading, justify="left" if not heading else "right")
    table.add_row("bare generate_private_key", f"{figures.bare_s:.1f}", f"{figures.bare_rate:.1f}", "1")
    table.add_row("tandem-keys generate", f"{figures.dealt_s:.1f}", f"{figures.dealt_rate:.1f}", f"{figures.ratio:.3f}")
    both = figures.dealt_s + figures.verified_s
    rate = f"{figures.keys / both:.1f}"
    table.add_row("… and tandem-keys verify", f"{both:.1f}", rate, f"{figures.ratio_with_verify:.3f}")
    console.print(table)
    if options.json is not None:
        document = {**asdict(figures), "machine": machine.description()}
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def _recipients(folder: Path) -> tuple[Path, Path]:
    paths = folder / "server.json", folder / "device.json"
    for path, role in zip(paths, (Role.SERVER, Role.DEVICE), strict=True):
        _, recipient = new_recipient(
            role=role,
            name="benchmark",
            server_id="tandem",
            enrolment_id=bytes(16) if role is Role.DEVICE else None,
            suite=HpkeSuite.X25519,
            now=int(time.time()),
        )
        path.write_bytes(recipient.document)
    return paths


def _fingerprint(file: Path) -> str:
    return Recipient.decode(file.read_bytes()).fingerprint


def _generate(bits: int) -> None:
    rsa.generate_private_key(public_exponent=65537, key_size=bits)


def _timed(arguments: Sequence[str]) -> float:
    start = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", "keys", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"tandem-keys {arguments[0]} failed:\n{done.stderr}")
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
