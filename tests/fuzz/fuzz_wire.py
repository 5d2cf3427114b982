"""Fuzz everything that strangers send to the server: the messages it decodes, and the signatures of requests.

    python tests/fuzz/fuzz_wire.py --count 210000 [--json FILE]

Nearly all inputs come from atheris (the extra "fuzz" of the package), the rest from hypothesis. The promise: what is no
valid message is a DecodeError, what is not signed by the device is refused, and nothing else comes out; one message has
one encoding; and no process grows. Exit code 0 if it was kept for all inputs, 1 if not, 2 if an engine is missing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fuzz_engines import run_engines
from fuzz_wire_targets import all_targets


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return run_engines(
        arguments,
        description="Fuzz everything that strangers send to the server.",
        module="fuzz_wire_targets",
        all_targets=all_targets,
        default_count=210_000,
        structured_part=0.04,
    )


if __name__ == "__main__":
    sys.exit(main())
