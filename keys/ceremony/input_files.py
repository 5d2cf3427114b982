"""Reading: single files that an operator names, and the folder of a ceremony that somebody else may have prepared."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from keys.refusal import Refusal, printable
from mpc.provisioning.manifest import MANIFEST_NAME, MAX_MANIFEST_BYTES, REPORT_NAME
from mpc.provisioning.recipient import MAX_RECIPIENT_BYTES
from mpc.threshold_rsa.share_package import MAX_SEALED_SHARE_BYTES

_MAX_REPORT_BYTES = 4 * 1024 * 1024
_MAX_ENTRIES = 2_000_000


def read_input(path: Path, *, at_most: int) -> bytes:
    """The content of a regular file of at most so many bytes.

    Raises Refusal: "missing", "unreadable", "not_a_file", "too_large".
    """
    return _read(path, str(path), at_most, os.O_CLOEXEC)


class CeremonyFolder:
    """The files of a ceremony's folder. Links are not followed, and nothing larger than it may be is read."""

    def __init__(self, root: Path) -> None:
        """Raises Refusal("missing") or ("not_a_folder")."""
        self.root = root
        if not root.exists():
            raise Refusal("missing", f"{root} does not exist")
        if not root.is_dir():
            raise Refusal("not_a_folder", f"{root} is not a folder; give the folder of a ceremony")

    def listing(self) -> list[str]:
        """The paths of all files, with "/" between their parts.

        Raises Refusal: "not_a_file" for a link, a pipe or a device, which no ceremony has; "unreadable".
        """
        found: list[str] = []
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            try:
                with os.scandir(self.root / folder) as entries:
                    for entry in entries:
                        path = f"{folder}/{entry.name}" if folder else entry.name
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(path)
                        elif entry.is_file(follow_symlinks=False):
                            found.append(path)
                        else:
                            raise _not_a_file(path)
            except OSError as error:
                raise Refusal("unreadable", f"{printable(folder) or self.root}: {error.strerror}") from None
            if len(found) + len(waiting) > _MAX_ENTRIES:
                raise Refusal("too_large", f"{self.root} has more files than any ceremony; give its folder alone")
        return sorted(found)

    def read(self, path: str) -> bytes | None:
        """The file's content, or None if there is none. Raises Refusal as `read_input` does."""
        try:
            return _read(self.root / path, path, _size_limit(path), os.O_CLOEXEC | os.O_NOFOLLOW)
        except Refusal as refusal:
            if refusal.reason == "missing":
                return None
            raise


def _size_limit(path: str) -> int:
    if path == MANIFEST_NAME:
        return MAX_MANIFEST_BYTES
    if path == REPORT_NAME:
        return _MAX_REPORT_BYTES
    return max(MAX_RECIPIENT_BYTES, MAX_SEALED_SHARE_BYTES)


def _read(path: Path, shown: str, at_most: int, flags: int) -> bytes:
    shown = printable(shown)
    try:
        # Without O_NONBLOCK, opening a pipe would wait for its writer for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | flags)
    except FileNotFoundError:
        raise Refusal("missing", f"{shown} does not exist") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _not_a_file(shown) from None
        raise Refusal("unreadable", f"{shown} cannot be read: {error.strerror}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _not_a_file(shown)
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(at_most + 1)
    except OSError as error:
        raise Refusal("unreadable", f"{shown} cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)
    if len(data) > at_most:
        raise Refusal("too_large", f"{shown} is larger than {at_most} bytes: it is not what belongs here")
    return data


def _not_a_file(path: str) -> Refusal:
    return Refusal("not_a_file", f"{printable(path)} is not a regular file; links and special files are not read")
