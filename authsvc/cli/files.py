"""Files that the commands read and write: a ceremony's folder, key lists, passphrases, and what goes out."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path

from mpc.provisioning.ceremony import CeremonyError
from mpc.provisioning.manifest import MAX_MANIFEST_BYTES

from ..settings import SettingsError

_MAX_PASSPHRASE_BYTES = 4096


def folder_reader(folder: Path) -> Callable[[str], bytes | None]:
    """Reads a file of a ceremony's folder by its path in it, None if it is not there. CeremonyError.

    The paths come from what a file is, never from a manifest, so they stay inside the folder.
    """

    def read(path: str) -> bytes | None:
        try:
            return read_regular(folder / path, MAX_MANIFEST_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CeremonyError(path, "missing", f"cannot be read: {error.strerror or 'not a regular file'}") from None

    return read


def folder_listing(folder: Path) -> list[str]:
    """The paths of everything in the folder that is not a folder itself. SettingsError."""

    def failed(error: OSError) -> None:
        raise SettingsError(f"cannot list {folder}: {error.strerror}")

    found: list[str] = []
    for place, _, names in os.walk(folder, onerror=failed):
        found.extend((Path(place) / name).relative_to(folder).as_posix() for name in names)
    return found


def read_regular(path: Path, max_bytes: int) -> bytes:
    """The content of a regular file of at most `max_bytes`. OSError otherwise."""
    # Not waiting for a writer: a pipe that somebody put there is refused instead.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "not a regular file")
        if status.st_size > max_bytes:
            raise OSError(0, f"larger than {max_bytes} bytes")
        return file.read(max_bytes)


def read_input(path: Path, max_bytes: int) -> bytes:
    """The content of a file that the operator named. SettingsError."""
    try:
        return read_regular(path, max_bytes)
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from None


def read_passphrase(path: Path) -> str:
    """The first line of a file that its owner alone can read. SettingsError."""
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            raise SettingsError(f"{path} can be read by others than its owner; run chmod 600 {path}")
        text = read_regular(path, _MAX_PASSPHRASE_BYTES).decode("utf-8")
    except OSError as error:
        raise SettingsError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path} does not hold text") from None
    return text.split("\n", 1)[0].rstrip("\r")


def write_new(path: Path, content: bytes) -> None:
    """A secret file for its owner alone, complete or not there at all; an existing one stays. SettingsError."""
    _write(path, content, mode=0o600, put=_link_new)


def write_over(path: Path, content: bytes) -> None:
    """A public file, complete at every moment; an existing one is replaced. SettingsError."""
    _write(path, content, mode=0o644, put=os.replace)


def _write(path: Path, content: bytes, *, mode: int, put: Callable[[Path, Path], None]) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            put(temporary, path)
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
        directory = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except FileExistsError:
        raise SettingsError(f"{path} exists already; name another file, or move it away") from None
    except OSError as error:
        raise SettingsError(f"cannot write {path}: {error.strerror}") from None


def _link_new(temporary: Path, path: Path) -> None:
    os.link(temporary, path)
