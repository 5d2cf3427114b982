"""Runs `tandem-keys` and kills it with SIGKILL just before its n-th change of the folder it works in.

    python killed_dealer.py N FOLDER ARGUMENTS...

The interpreter's audit events see every file operation, so the program itself needs nothing for this.
"""

from __future__ import annotations

import os
import signal
import sys

from keys.cli import main

_CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree"}


def die_before(count: int, folder: str) -> None:
    left = count

    def see(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal left
        writes = event == "open" and isinstance(arguments[2], int) and bool(arguments[2] & os.O_CREAT)
        # An opened folder is about to be forced to disk, which the interpreter does not report.
        syncs = event == "open" and isinstance(arguments[2], int) and bool(arguments[2] & os.O_DIRECTORY)
        if (writes or syncs or event in _CHANGES) and folder in str(arguments[0]):
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(see)


if __name__ == "__main__":
    die_before(int(sys.argv[1]), sys.argv[2])
    sys.argv[1:] = sys.argv[3:]
    main()
