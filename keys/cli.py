"""`tandem-keys`: the start of the program.

Worker processes import the module in which the program starts, so this one imports next to nothing by itself.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
from typing import NoReturn

_INTERRUPTED = 130


def main() -> None:
    """The `tandem-keys` command."""
    # A crash must not write memory with keys to the disk, and nothing that is made is for other users.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o077)
    signal.signal(signal.SIGINT, _interrupt_once)
    try:
        from keys.commands import app

        app(prog_name="tandem-keys")
    except KeyboardInterrupt:  # before a command began: afterwards the commands answer it themselves
        sys.exit(_INTERRUPTED)


def _interrupt_once(*_: object) -> NoReturn:
    # What follows is the removal of half-made output, which a second Ctrl-C should not stop.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt
