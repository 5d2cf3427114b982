"""One client of the load: a process with devices of the SDK, as apps have them.

    python -m benchmarks.load_client --server URL --directory DIR --seed N CODE …

Enrols one device for each code, registers a passkey with each, and says `{"ready": true}`. Then one byte on standard
input is one login with the next of its devices; clients that share a pipe share the work. Each login is one line of
JSON on standard output. The end of the input is the end of the client.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

from benchmarks.people import Person, enrolled
from benchmarks.rows import Combination
from device_sdk import HttpTransport
from device_sdk.errors import NoMatch

_WARM_UP = 3


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="benchmarks.load_client", description="One client of the load.")
    parser.add_argument("--server", required=True)
    parser.add_argument("--directory", required=True, type=Path)
    parser.add_argument("--seed", required=True, type=int)
    parser.add_argument("--code-bits", type=int, default=2048)
    parser.add_argument("--modulus-bits", type=int, default=2048)
    parser.add_argument("codes", nargs="+")
    options = parser.parse_args(arguments)
    combination = Combination(options.code_bits, options.modulus_bits)
    options.directory.mkdir(parents=True, exist_ok=True)
    people = [
        enrolled(
            combination,
            server=options.server,
            code=code,
            transport=HttpTransport(options.server),
            directory=options.directory,
            seed=options.seed + at,
        )
        for at, code in enumerate(options.codes)
    ]
    for person in people:
        for _ in range(_WARM_UP):
            _one_login(person)
    _say(ready=True)
    for person in cycle(people):
        if not os.read(0, 1):
            break
        _say(**_one_login(person))
    for person in people:
        person.device.close()


def _one_login(person: Person) -> dict[str, Any]:
    """From the SDK's call to the assertion, in milliseconds; then the confirmation, which nobody waits for, is awaited
    so that it belongs to this login.
    """
    wanted, capture = person.options(), person.capture()
    start = time.perf_counter()
    try:
        person.login(wanted, capture)
        matched = True
    except NoMatch:
        matched = False
    wall_ms = (time.perf_counter() - start) * 1000
    person.wait_for_confirmation()
    return {"wall_ms": wall_ms, "matched": matched}


def _say(**values: Any) -> None:
    # One write, so that the lines of several clients in one pipe do not mix.
    os.write(1, json.dumps(values).encode() + b"\n")


if __name__ == "__main__":
    main()
