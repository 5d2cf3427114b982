"""A folder that appears complete or not at all, also when the process is killed or the power fails.

Everything is written into `.<name>.part` beside the target and forced to disk; one rename makes it the target. What a
killed run left behind is removed by the next. The .part folder itself carries the lock, so no lock file stays.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from keys.refusal import Refusal


class OutputFolder:
    """Use it with `with`; without `publish` nothing remains. Folders have mode 0700, files 0600."""

    def __init__(self, target: Path, tell: Callable[[str], None]) -> None:
        """`tell` gets a line if the remains of a killed run were removed.

        Raises Refusal: "out_exists", "out_no_parent", "out_busy" (another run is writing there), "out_foreign" (another
        user made the folder for it); OSError.
        """
        self.target = target.absolute()
        self._part = self.target.with_name(f".{self.target.name}.part")
        self._tell = tell
        self._published = False
        self._folders: set[Path] = set()
        refuse_existing(self.target)

    def __enter__(self) -> OutputFolder:
        self._lock = self._claim()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not self._published:
                shutil.rmtree(self._part, ignore_errors=True)
                if os.path.lexists(self._part):
                    self._tell(f"{self._part} could not be removed: destroy it, it holds what was to be published")
        finally:
            os.close(self._lock)

    @property
    def working_path(self) -> Path:
        """Where the files lie until they are published."""
        return self._part

    def write(self, path: str, data: bytes) -> None:
        """A new file, on disk when this returns. `path` has "/" between its parts. Raises OSError."""
        place = self._part / path
        self._make_folder(place.parent)
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)

    def _make_folder(self, folder: Path) -> None:
        # mkdir(parents=True) would give the folders between another mode.
        if folder != self._part and folder not in self._folders:
            self._make_folder(folder.parent)
            folder.mkdir(mode=0o700)
            self._folders.add(folder)

    def publish(self) -> None:
        """Give the folder its name: the one step that makes the result exist. Raises OSError, Refusal."""
        # A file is found after a power failure only if the folders that name it are on disk too.
        for folder in sorted(self._folders | {self._part}, reverse=True):
            _sync_folder(folder)
        refuse_existing(self.target)
        os.rename(self._part, self.target)
        self._published = True
        _sync_folder(self.target.parent)

    def _claim(self) -> int:
        """The locked descriptor of an empty .part folder of our own."""
        while True:
            try:
                self._part.mkdir(mode=0o700)
                left_behind = False
            except FileExistsError:
                left_behind = True
            try:
                lock = os.open(self._part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # the run that held it has just finished
            except NotADirectoryError:
                raise Refusal("out_busy", f"{self._part} is in the way and is not a folder; remove it") from None
            if self._is_current(lock):
                break
            os.close(lock)
        try:
            self._refuse_foreign(lock)
            os.fchmod(lock, 0o700)
            refuse_existing(self.target)
            if left_behind:
                for entry in os.scandir(self._part):
                    if entry.is_dir(follow_symlinks=False):
                        shutil.rmtree(entry.path)
                    else:
                        os.unlink(entry.path)
                self._tell(f"removed what an interrupted run left in {self._part}")
        except BaseException:
            os.close(lock)
            raise
        return lock

    def _is_current(self, lock: int) -> bool:
        """Whether the lock was free and the folder is still the one of that name."""
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise Refusal("out_busy", f"another run is writing {self.target}; wait for it") from None
        try:
            # Between opening and locking, the run before may have renamed or removed the folder.
            return os.path.samestat(os.fstat(lock), os.stat(self._part, follow_symlinks=False))
        except FileNotFoundError:
            return False

    def _refuse_foreign(self, lock: int) -> None:
        """Another user who made the folder beforehand would own what is published under its name."""
        if os.fstat(lock).st_uid != os.geteuid():
            raise Refusal("out_foreign", f"{self._part} belongs to another user; find out why, and have it removed")


def refuse_existing(target: Path) -> None:
    """Raises Refusal("out_exists"), ("out_no_parent")."""
    if os.path.lexists(target):
        raise Refusal(
            "out_exists",
            f"{target} exists, and a finished ceremony is never changed: "
            "check it with `tandem-keys verify`, or give another folder",
        )
    if not target.parent.is_dir():
        raise Refusal("out_no_parent", f"{target.parent} is not a folder; make it first")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
