"""One encrypted file that holds a device's whole state, and survives a crash at any moment.

A write goes to a new file beside the vault, is forced to disk, then takes the vault's name in one step, and
that step is forced to disk too: after a crash the vault is the old one or the new one, whole. POSIX systems.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import sys
import threading
from pathlib import Path
from types import TracebackType

import filelock
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from device_sdk.errors import VaultCorrupt, VaultExists, VaultInUse, VaultKeyWrong, VaultMissing
from device_sdk.vault.errors import VaultUnusable
from device_sdk.vault.header import (
    HEADER_BYTES,
    MAX_CIPHERTEXT_BYTES,
    NONCE_BYTES,
    TAG_BYTES,
    Header,
    KeyRecipe,
    KeySource,
    parse_header,
)
from device_sdk.vault.keys import VaultKey, vault_cipher

MAX_PAYLOAD_BYTES = MAX_CIPHERTEXT_BYTES - TAG_BYTES


class VaultFile:
    """An open vault, locked against every other opener until `close`. Safe to use from several threads.

    The lock is on `<path>.lock` and belongs to the open file, not to its existence: it ends with the
    process, so a lock file left by a killed process blocks nobody. Do not delete it while a vault is open.
    The payload is opaque; it is decrypted at each `read` and not kept.
    """

    __slots__ = ("_cipher", "_folder", "_key_check", "_lock", "_name", "_path", "_recipe", "_turn")

    def __init__(
        self,
        *,
        path: Path,
        folder: int,
        lock: filelock.BaseFileLock,
        recipe: KeyRecipe,
        cipher: AESGCM,
        check: bytes,
    ) -> None:
        """For `create` and `open`, which hand over the lock and the folder's descriptor."""
        self._path = path
        self._name = path.name
        self._folder: int | None = folder
        self._lock = lock
        self._recipe = recipe
        self._cipher = cipher
        self._key_check = check
        self._turn = threading.Lock()

    @classmethod
    def create(cls, path: str | Path, key: VaultKey) -> VaultFile:
        """Claim `path` for a new vault. Its file appears with the first `write`; before, `read` finds none.

        Raises `VaultExists`, `VaultInUse`, `VaultKeyUnavailable`, or `VaultUnusable` when the folder is
        missing or cannot be written.
        """
        with contextlib.ExitStack() as undo:
            real, folder, lock = _claim(path, undo)
            if os.path.lexists(real):
                raise VaultExists("there is already a file where the new vault should be; it was not touched")
            recipe = key.new_recipe()
            cipher, check = vault_cipher(key, recipe, creating=True)
            undo.pop_all()
            return cls(path=real, folder=folder, lock=lock, recipe=recipe, cipher=cipher, check=check)

    @classmethod
    def open(cls, path: str | Path, key: VaultKey) -> VaultFile:
        """Open an existing vault and check the whole of it.

        Raises `VaultMissing`, `VaultInUse`, `VaultKeyUnavailable`, `VaultKeyWrong` (another key, or another
        kind of key), `VaultCorrupt` (damaged, cut short, or an unknown version) or `VaultUnusable`.
        """
        if not os.path.exists(path):  # before the lock: asking for a vault that is not there should leave no trace
            raise VaultMissing("there is no vault at this path; enrol the device first")
        with contextlib.ExitStack() as undo:
            real, folder, lock = _claim(path, undo)
            data = _load(folder, real.name)
            header = parse_header(data)
            if header.recipe.source != key.source:
                raise VaultKeyWrong(f"this vault is locked by {header.recipe.source.title}, not {key.source.title}")
            cipher, check = vault_cipher(key, header.recipe, creating=False)
            if not hmac.compare_digest(check, header.key_check):
                raise VaultKeyWrong("this key does not open the vault")
            _decrypt(cipher, data, header)
            undo.pop_all()
            return cls(path=real, folder=folder, lock=lock, recipe=header.recipe, cipher=cipher, check=check)

    @property
    def path(self) -> Path:
        """The vault's full path, links resolved."""
        return self._path

    def read(self) -> bytes:
        """Give the payload last written. Raises `VaultMissing` before the first write, or `VaultCorrupt`."""
        with self._turn:
            data = _load(self._descriptor(), self._name)
            return _decrypt(self._cipher, data, parse_header(data))

    def write(self, payload: bytes) -> None:
        """Replace the payload, durably: when this returns, a crash or power cut cannot undo it.

        Raises `VaultUnusable` when the disk refuses (full, read-only, failing). The vault then holds the old
        payload or the new one, whole, and writing again is allowed. Raises `ValueError` above 16 MiB.
        """
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise ValueError("the payload is larger than a vault may hold")
        with self._turn:
            folder = self._descriptor()
            header = Header(
                recipe=self._recipe,
                key_check=self._key_check,
                ciphertext_bytes=len(payload) + TAG_BYTES,
                # 96 random bits: with one vault written 2^32 times, two nonces meet with probability 2^-33
                # (NIST SP 800-38D section 8.3 allows as many).
                nonce=secrets.token_bytes(NONCE_BYTES),
            )
            encoded = header.encode()
            try:
                _replace_durably(folder, self._name, encoded + self._cipher.encrypt(header.nonce, payload, encoded))
            except OSError as error:
                raise VaultUnusable("the vault could not be written: the disk is full, read-only or failing") from error

    def close(self) -> None:
        """Give up the lock. Further use raises `ValueError`; closing again does nothing."""
        with self._turn:
            if self._folder is None:
                return
            os.close(self._folder)
            self._folder = None
            self._lock.release()

    def __enter__(self) -> VaultFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"VaultFile({str(self._path)!r}, {'closed' if self._folder is None else 'open'})"

    def _descriptor(self) -> int:
        if self._folder is None:
            raise ValueError("the vault is closed")
        return self._folder


def key_source(path: str | Path) -> KeySource:
    """What kind of key the vault at `path` asks for, read without the lock and without a key.

    Raises `VaultMissing`, `VaultUnusable` or `VaultCorrupt`.
    """
    real = Path(os.path.realpath(path))
    try:
        folder = os.open(real.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise VaultMissing("there is no vault at this path; enrol the device first") from error
    except OSError as error:
        raise VaultUnusable("the vault's folder cannot be read") from error
    try:
        return parse_header(_load(folder, real.name)).recipe.source
    finally:
        os.close(folder)


def _claim(path: str | Path, undo: contextlib.ExitStack) -> tuple[Path, int, filelock.BaseFileLock]:
    """Lock the vault's name and open its folder; `undo` releases both unless the caller takes them over."""
    # Links are resolved first, so that two names of one vault share one lock.
    real = Path(os.path.realpath(path))
    # Without flock the library would fall back to a lock that lives on after a crash; better to refuse.
    lock = filelock.FileLock(f"{real}.lock", mode=0o600, thread_local=False, fallback_to_soft=False)
    try:
        # The folder first: the lock library would make a missing one, readable by everybody.
        folder = os.open(real.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        undo.callback(os.close, folder)
        lock.acquire(blocking=False)
        undo.callback(lock.release)
    except filelock.Timeout as error:
        raise VaultInUse("the vault is open in another process or object; close that one first") from error
    except (OSError, NotImplementedError) as error:
        raise VaultUnusable("the vault's folder is missing, not writable, or cannot lock files") from error
    # Left by a writer that died before its rename; it never counted. If it stays, the next write says so.
    with contextlib.suppress(OSError):
        os.unlink(_unfinished(real.name), dir_fd=folder)
    return real, folder, lock


def _load(folder: int, name: str) -> bytes:
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        with open(descriptor, "rb") as file:
            return file.read(HEADER_BYTES + MAX_CIPHERTEXT_BYTES + 1)
    except FileNotFoundError as error:
        raise VaultMissing("there is no vault at this path; enrol the device first") from error
    except OSError as error:
        raise VaultUnusable("the vault file cannot be read") from error


def _decrypt(cipher: AESGCM, data: bytes, header: Header) -> bytes:
    try:
        return cipher.decrypt(header.nonce, data[HEADER_BYTES:], data[:HEADER_BYTES])
    except InvalidTag as error:
        raise VaultCorrupt("the content of the vault file is damaged") from error


def _unfinished(name: str) -> str:
    # One fixed name is enough under the lock, and makes a leftover easy to find.
    return f"{name}.new"


def _replace_durably(folder: int, name: str, data: bytes) -> None:
    fresh = _unfinished(name)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder)
    try:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            _force_to_disk(descriptor)
        finally:
            os.close(descriptor)
        os.replace(fresh, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(fresh, dir_fd=folder)
        raise
    _force_to_disk(folder)


def _force_to_disk(descriptor: int) -> None:
    if sys.platform == "darwin":  # there fsync stops at the drive's cache
        import fcntl

        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)
