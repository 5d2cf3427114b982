"""Fuzz everything that provisioning reads: share files, recipients, manifests, ceremonies, key files.

    python tests/fuzz/fuzz_provisioning.py --count 210000 [--json FILE]

Half of the inputs come from each engine: hypothesis, and atheris (the extra "fuzz" of the package). The promise: a
damaged file is refused with the documented error and never taken. Exit code 0 if it was kept for all inputs, 1 if not,
2 if an engine is missing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fuzz_engines import run_engines
from fuzz_targets import all_targets


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    return run_engines(
        arguments,
        description="Fuzz everything that provisioning reads.",
        module="fuzz_targets",
        all_targets=all_targets,
        default_count=210_000,
        structured_part=0.5,
    )


if __name__ == "__main__":
    sys.exit(main())
