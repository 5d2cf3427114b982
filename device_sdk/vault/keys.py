"""Where the key of a vault comes from: the platform's key store, a passphrase, or a key file.

Every source yields 32 bytes; `vault_cipher` turns them into the AES-256-GCM key and the key-check value.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import stat
import unicodedata
from pathlib import Path
from typing import Protocol

import keyring
import keyring.errors
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from keyring.backend import KeyringBackend
from keyring.backends.chainer import ChainerBackend

from device_sdk.vault.errors import VaultKeyUnavailable
from device_sdk.vault.header import KEY_CHECK_BYTES, SALT_BYTES, SCRYPT_INTERACTIVE, KeyRecipe, KeySource

KEY_BYTES = 32
MIN_PASSPHRASE_CHARACTERS = 8  # NIST SP 800-63B section 5.1.1.1


class VaultKey(Protocol):
    """A source of one vault's key. An app may bring its own, of `KeySource.APPLICATION`."""

    @property
    def source(self) -> KeySource:
        """The kind of source, written into the vault so that a later open can say what is needed."""

    def new_recipe(self) -> KeyRecipe:
        """How the key of a vault created now is to be made; the salt must be fresh (`new_salt`)."""

    def key_material(self, recipe: KeyRecipe, *, creating: bool) -> bytes:
        """Give 32 secret bytes, the same for the same recipe.

        Called once when a vault is created or opened. Only with `creating` may a missing key be made.
        The source keeps no copy on the vault's behalf. Raises `VaultKeyUnavailable`.
        """


class PlatformKey:
    """A random key kept in the platform's key store: Keychain, Credential Manager, Secret Service or KWallet.

    service, account: the name of the entry. backend: a keyring backend to use instead of the one configured
    on the machine. Stores that keep nothing, or keep secrets in a plain file, are refused.
    """

    source = KeySource.PLATFORM

    def __init__(self, service: str = "tandem", *, account: str, backend: KeyringBackend | None = None) -> None:
        self._service = service
        self._account = account
        self._store = backend if backend is not None else keyring.get_keyring()
        acceptable = not _is_refused(self._store) if backend is not None else _is_platform_store(self._store)
        if not acceptable:
            raise VaultKeyUnavailable(
                "no key store on this machine protects secrets; pass a Passphrase or a KeyFile as vault_key"
            )

    def new_recipe(self) -> KeyRecipe:
        return KeyRecipe(source=self.source, salt=new_salt())

    def key_material(self, recipe: KeyRecipe, *, creating: bool) -> bytes:
        try:
            stored = self._store.get_password(self._service, self._account)
            if stored is None and creating:
                stored = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
                self._store.set_password(self._service, self._account, stored)
                # Read back: a store that lost the entry would otherwise show only when the vault is opened
                # again.
                if self._store.get_password(self._service, self._account) != stored:
                    raise VaultKeyUnavailable("the platform key store did not keep the new vault key")
        except keyring.errors.KeyringError as error:
            raise VaultKeyUnavailable("the platform key store is locked or refused access to the vault key") from error
        if stored is None:
            raise VaultKeyUnavailable("the platform key store has no key for this vault")
        try:
            return _exactly_32_bytes(base64.b64decode(stored, validate=True))
        except (binascii.Error, ValueError) as error:
            raise VaultKeyUnavailable("the platform key store's entry for this vault is not a vault key") from error

    def __repr__(self) -> str:
        return f"PlatformKey(service={self._service!r}, account={self._account!r})"


class Passphrase:
    """A passphrase, stretched with scrypt (RFC 7914) under the vault's salt.

    Normalised to NFKC, so that another keyboard's encoding of the same text opens the vault.
    Raises `ValueError` for fewer than 8 characters.
    """

    source = KeySource.PASSPHRASE
    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        if len(text) < MIN_PASSPHRASE_CHARACTERS:
            raise ValueError(f"a vault passphrase has at least {MIN_PASSPHRASE_CHARACTERS} characters")
        self._text = unicodedata.normalize("NFKC", text)

    def new_recipe(self) -> KeyRecipe:
        return KeyRecipe(source=self.source, salt=new_salt(), scrypt=SCRYPT_INTERACTIVE)

    def key_material(self, recipe: KeyRecipe, *, creating: bool) -> bytes:
        if recipe.scrypt is None:
            raise ValueError("a passphrase needs a recipe with a scrypt cost")
        n = 1 << recipe.scrypt.log2_n
        kdf = Scrypt(salt=recipe.salt, length=KEY_BYTES, n=n, r=recipe.scrypt.r, p=recipe.scrypt.p)
        try:
            return kdf.derive(self._text.encode())
        except MemoryError as error:
            raise VaultKeyUnavailable("there is not enough memory to check the vault passphrase") from error

    def __repr__(self) -> str:
        return "Passphrase(...)"


class KeyFile:
    """32 random bytes in a file only its owner can read; made with mode 0600 when a vault is created."""

    source = KeySource.KEY_FILE

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    def new_recipe(self) -> KeyRecipe:
        return KeyRecipe(source=self.source, salt=new_salt())

    def key_material(self, recipe: KeyRecipe, *, creating: bool) -> bytes:
        try:
            if creating:
                self._make_if_missing()
            return self._load()
        except FileNotFoundError as error:
            raise VaultKeyUnavailable("the key file of the vault does not exist") from error
        except OSError as error:
            raise VaultKeyUnavailable("the key file of the vault cannot be read or made") from error

    def _make_if_missing(self) -> None:
        # O_EXCL: a file or link that is already there is never overwritten, and two creators cannot both win.
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return
        with open(descriptor, "wb") as file:
            file.write(secrets.token_bytes(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        # The directory too: a vault must never outlive the key it was written under.
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _load(self) -> bytes:
        # Checks are made on the opened file, not on its name: the name could point elsewhere a moment later.
        # O_NONBLOCK keeps a pipe put in its place from blocking the open.
        with open(os.open(self._path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise VaultKeyUnavailable("the key file of the vault is not an ordinary file")
            if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise VaultKeyUnavailable("the key file of the vault is open to other users; set its mode to 0600")
            content = file.read(KEY_BYTES + 1)
        try:
            return _exactly_32_bytes(content)
        except ValueError as error:
            raise VaultKeyUnavailable("the key file of the vault does not hold exactly 32 bytes") from error

    def __repr__(self) -> str:
        return f"KeyFile({str(self._path)!r})"


def default_vault_key(path: str | Path) -> VaultKey:
    """The platform's key store, with an entry named after the vault's full path.

    A vault that is moved therefore needs its entry under the new name. Raises `VaultKeyUnavailable` where the
    machine has no real key store, saying to pass a `Passphrase` or a `KeyFile`.
    """
    return PlatformKey(account=f"vault:{os.path.realpath(path)}")


def new_salt() -> bytes:
    return secrets.token_bytes(SALT_BYTES)


def vault_cipher(key: VaultKey, recipe: KeyRecipe, *, creating: bool) -> tuple[AESGCM, bytes]:
    """Derive the vault's cipher and its 16-byte key-check value.

    The cipher object is the one place that keeps key bytes. The check value is an HMAC under a key of its
    own, so it says nothing about the encryption key; guessing a passphrase against it costs the same scrypt
    as against the ciphertext.
    """
    material = key.key_material(recipe, creating=creating)
    if len(material) != KEY_BYTES:
        raise ValueError("a vault key source gives exactly 32 bytes")
    check_key = _hkdf(material, recipe.salt, b"tandem vault v1 key check")
    key_check = hmac.new(check_key, b"tandem vault v1", hashlib.sha256).digest()[:KEY_CHECK_BYTES]
    return AESGCM(_hkdf(material, recipe.salt, b"tandem vault v1 encryption")), key_check


def _hkdf(material: bytes, salt: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=info).derive(material)


def _exactly_32_bytes(content: bytes) -> bytes:
    if len(content) != KEY_BYTES:
        raise ValueError("wrong length")
    return content


# keyring's own modules for stores of operating systems and desktops. A list of what is known to be good: a
# package installed for another purpose can register a store that keeps secrets in a plain file and ranks
# itself first.
_PLATFORM_STORES = (
    "keyring.backends.macOS",
    "keyring.backends.Windows",
    "keyring.backends.SecretService",
    "keyring.backends.libsecret",
    "keyring.backends.kwallet",
)
# Keep nothing, or keep it in a plain file. Refused even when the app names one itself.
_REFUSED_STORES = ("keyring.backends.fail", "keyring.backends.null", "keyrings.alt")


def _is_platform_store(store: KeyringBackend) -> bool:
    if isinstance(store, ChainerBackend):
        # It writes to the first that accepts, so one bad member spoils it.
        return bool(store.backends) and all(_is_platform_store(member) for member in store.backends)
    return type(store).__module__.startswith(_PLATFORM_STORES)


def _is_refused(store: KeyringBackend) -> bool:
    if isinstance(store, ChainerBackend):
        return not store.backends or any(_is_refused(member) for member in store.backends)
    return any(base.__module__.startswith(_REFUSED_STORES) for base in type(store).__mro__)
