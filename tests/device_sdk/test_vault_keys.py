"""Where a vault's key comes from, and what is refused as a source."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import keyring
import keyring.errors
import pytest
from keyring.backend import KeyringBackend
from keyring.backends import fail, null

from device_sdk.errors import Advice, VaultKeyWrong
from device_sdk.vault import (
    KeyFile,
    KeyRecipe,
    KeySource,
    Passphrase,
    PlatformKey,
    VaultFile,
    VaultKeyUnavailable,
    default_vault_key,
    new_salt,
)
from device_sdk.vault.header import SCRYPT_INTERACTIVE, ScryptCost
from device_sdk.vault.keys import vault_cipher


class MemoryStore(KeyringBackend):
    """A key store of the application that keeps entries in memory; `locked` makes it refuse."""

    priority = 0.5

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.entries: dict[tuple[str, str], str] = {}
        self.locked = False
        self.forgetful = False

    def get_password(self, service: str, username: str) -> str | None:
        if self.locked:
            raise keyring.errors.KeyringLocked("locked")
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        if not self.forgetful:
            self.entries[service, username] = password


class PlaintextStore(MemoryStore):
    """Stands where the well-known plain-file backend would: its base class is told by its module."""

    priority = 0.5


PlaintextStore.__module__ = "keyrings.alt.file"


class HiddenPlaintextStore(PlaintextStore):
    """A subclass elsewhere does not make it better."""


# ---- platform key store ------------------------------------------------------------------------------------


def test_a_platform_key_is_made_once_and_opens_its_vault_again(tmp_path: Path) -> None:
    store = MemoryStore()
    path = tmp_path / "phone.vault"

    with VaultFile.create(path, PlatformKey(account="phone", backend=store)) as vault:
        vault.write(b"state")
    entries = dict(store.entries)

    with VaultFile.open(path, PlatformKey(account="phone", backend=store)) as vault:
        assert vault.read() == b"state"
    assert store.entries == entries
    assert list(entries) == [("tandem", "phone")]


def test_two_vaults_of_one_key_entry_have_different_keys() -> None:
    """The header's salt separates them, so copying one vault's content into the other is found."""
    key = PlatformKey(account="phone", backend=MemoryStore())

    _, first = vault_cipher(key, key.new_recipe(), creating=True)
    _, second = vault_cipher(key, key.new_recipe(), creating=True)

    assert first != second


def test_a_platform_key_that_is_gone_is_not_silently_made_anew(tmp_path: Path) -> None:
    store = MemoryStore()
    path = tmp_path / "phone.vault"
    with VaultFile.create(path, PlatformKey(account="phone", backend=store)) as vault:
        vault.write(b"state")
    store.entries.clear()

    with pytest.raises(VaultKeyUnavailable, match="no key for this vault"):
        VaultFile.open(path, PlatformKey(account="phone", backend=store))

    assert store.entries == {}


def test_a_locked_store_asks_for_the_user(tmp_path: Path) -> None:
    store = MemoryStore()
    store.locked = True

    with pytest.raises(VaultKeyUnavailable, match="locked") as caught:
        VaultFile.create(tmp_path / "phone.vault", PlatformKey(account="phone", backend=store))

    assert caught.value.advice is Advice.ASK_USER


def test_a_store_that_loses_a_new_key_is_noticed_before_anything_depends_on_it(tmp_path: Path) -> None:
    store = MemoryStore()
    store.forgetful = True

    with pytest.raises(VaultKeyUnavailable, match="did not keep"):
        VaultFile.create(tmp_path / "phone.vault", PlatformKey(account="phone", backend=store))


@pytest.mark.parametrize("entry", ["", "short", "!" * 44, "QUJD", "\u00e9" * 44])
def test_a_foreign_entry_in_the_store_is_refused_without_being_repeated(entry: str) -> None:
    store = MemoryStore()
    store.entries["tandem", "phone"] = entry
    key = PlatformKey(account="phone", backend=store)

    with pytest.raises(VaultKeyUnavailable, match="is not a vault key") as caught:
        key.key_material(key.new_recipe(), creating=False)

    assert not entry or entry not in str(caught.value)


@pytest.mark.parametrize("store", [fail.Keyring, null.Keyring, PlaintextStore, HiddenPlaintextStore])
def test_stores_that_keep_nothing_or_keep_it_in_the_open_are_refused(store: type[KeyringBackend]) -> None:
    with pytest.raises(VaultKeyUnavailable, match="Passphrase or a KeyFile"):
        PlatformKey(account="phone", backend=store())


@pytest.mark.parametrize("store", [fail.Keyring, null.Keyring, MemoryStore, PlaintextStore])
def test_the_default_key_accepts_only_known_platform_stores(store: type[KeyringBackend], tmp_path: Path) -> None:
    """A package can register a store and rank it first; that does not make it a platform store."""
    before = keyring.get_keyring()
    keyring.set_keyring(store())
    try:
        with pytest.raises(VaultKeyUnavailable, match="Passphrase or a KeyFile"):
            default_vault_key(tmp_path / "phone.vault")
    finally:
        keyring.set_keyring(before)


# ---- key file ----------------------------------------------------------------------------------------------


def test_a_key_file_is_made_for_its_owner_only_and_never_again(tmp_path: Path) -> None:
    key = KeyFile(tmp_path / "key")
    recipe = key.new_recipe()

    first = key.key_material(recipe, creating=True)
    second = key.key_material(recipe, creating=True)

    assert first == second == key.key_material(recipe, creating=False) == (tmp_path / "key").read_bytes()
    assert len(first) == 32
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


def test_opening_does_not_make_a_missing_key_file(tmp_path: Path) -> None:
    key = KeyFile(tmp_path / "key")

    with pytest.raises(VaultKeyUnavailable, match="does not exist"):
        key.key_material(key.new_recipe(), creating=False)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_a_key_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    key = KeyFile(tmp_path / "key")
    recipe = key.new_recipe()
    key.key_material(recipe, creating=True)
    (tmp_path / "key").chmod(mode)

    with pytest.raises(VaultKeyUnavailable, match="0600"):
        key.key_material(recipe, creating=False)


@pytest.mark.parametrize("size", [0, 31, 33, 100_000])
def test_a_key_file_of_another_size_is_refused(tmp_path: Path, size: int) -> None:
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_bytes(bytes(size))
    key = KeyFile(path)

    with pytest.raises(VaultKeyUnavailable, match="exactly 32 bytes"):
        key.key_material(key.new_recipe(), creating=True)


def test_a_pipe_or_a_folder_in_place_of_the_key_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    (tmp_path / "folder").mkdir(mode=0o700)

    for name in ("pipe", "folder"):
        key = KeyFile(tmp_path / name)
        with pytest.raises(VaultKeyUnavailable):
            key.key_material(key.new_recipe(), creating=True)


def test_a_key_file_in_a_missing_folder_is_refused(tmp_path: Path) -> None:
    key = KeyFile(tmp_path / "absent" / "key")

    with pytest.raises(VaultKeyUnavailable):
        key.key_material(key.new_recipe(), creating=True)


# ---- passphrase --------------------------------------------------------------------------------------------


def test_scrypt_gives_the_value_of_the_rfc() -> None:
    """RFC 7914 section 12: "pleaseletmein", "SodiumChloride", N=16384, r=8, p=1; first 32 bytes."""
    recipe = KeyRecipe(source=KeySource.PASSPHRASE, salt=b"SodiumChloride", scrypt=ScryptCost(14, 8, 1))

    material = Passphrase("pleaseletmein").key_material(recipe, creating=False)

    assert material.hex() == "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"


def test_a_new_passphrase_vault_asks_for_the_full_cost_and_a_fresh_salt() -> None:
    first, second = Passphrase("correct horse").new_recipe(), Passphrase("correct horse").new_recipe()

    assert first.scrypt == SCRYPT_INTERACTIVE == ScryptCost(log2_n=17, r=8, p=1)
    assert first.salt != second.salt
    assert len(first.salt) == 32


def test_a_short_passphrase_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 8") as caught:
        Passphrase("hunter2")

    assert "hunter2" not in str(caught.value)


# ---- an app's own source -----------------------------------------------------------------------------------


class HardwareKey:
    """What an app would write over its own key store."""

    source = KeySource.APPLICATION

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def new_recipe(self) -> KeyRecipe:
        return KeyRecipe(source=self.source, salt=new_salt())

    def key_material(self, recipe: KeyRecipe, *, creating: bool) -> bytes:
        return self._secret


def test_an_app_can_bring_its_own_key_source(tmp_path: Path) -> None:
    path = tmp_path / "phone.vault"
    with VaultFile.create(path, HardwareKey(bytes(32))) as vault:
        vault.write(b"state")

    with VaultFile.open(path, HardwareKey(bytes(32))) as vault:
        assert vault.read() == b"state"
    with pytest.raises(VaultKeyWrong):
        VaultFile.open(path, HardwareKey(bytes(31) + b"\x01"))


def test_a_key_source_with_too_little_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="exactly 32 bytes"):
        VaultFile.create(tmp_path / "phone.vault", HardwareKey(bytes(16)))
