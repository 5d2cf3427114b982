"""Runs `tandem-keys` in a child process and kills it with SIGKILL just before its n-th change of a folder.

The interpreter's audit events see every file operation, so the program itself needs nothing for this. The child is a
fork: starting Python anew takes longer than what is watched.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import traceback
from pathlib import Path
from typing import NoReturn

import keys.commands  # noqa: F401  (so that no child has to)
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


def killed_before_change(number: int, folder: Path, arguments: list[str]) -> bool:
    """Whether the run was killed; False if it finished well with fewer changes. Anything else fails the test."""
    with tempfile.TemporaryFile() as said:
        pid = os.fork()
        if pid == 0:
            _child(number, folder, arguments, said.fileno())
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        said.seek(0)
        assert code in (0, -signal.SIGKILL), said.read().decode()
    return code != 0


def _child(number: int, folder: Path, arguments: list[str], said: int) -> NoReturn:
    code = 1
    try:
        with open(os.devnull, "rb") as nothing:
            os.dup2(nothing.fileno(), 0)
        for stream in (1, 2):
            os.dup2(said, stream)
        sys.stdin, sys.stdout, sys.stderr = (os.fdopen(at, mode) for at, mode in enumerate("rww"))
        sys.argv = ["tandem-keys", *arguments]
        die_before(number, str(folder))
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
