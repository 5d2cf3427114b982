"""The vault file: one opener, whole or not at all, and a clear word for each way it can be damaged."""

from __future__ import annotations

import os
import random
import signal
import stat
import struct
import subprocess
import sys
import threading
import time
import zlib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_sdk.errors import VaultCorrupt, VaultExists, VaultInUse, VaultKeyWrong, VaultMissing
from device_sdk.vault import KeyFile, Passphrase, VaultFile, VaultKeyUnavailable, VaultUnusable
from device_sdk.vault.header import HEADER_BYTES, MAGIC

PAYLOAD = b"opaque state " * 50
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def key(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "key")


@pytest.fixture
def path(tmp_path: Path, key: KeyFile) -> Path:
    """A vault that holds PAYLOAD, closed."""
    where = tmp_path / "phone.vault"
    with VaultFile.create(where, key) as vault:
        vault.write(PAYLOAD)
    return where


# ---- honest use --------------------------------------------------------------------------------------------


@given(payload=st.binary(max_size=5000))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read_back_after_reopening(path: Path, key: KeyFile, payload: bytes) -> None:
    with VaultFile.open(path, key) as vault:
        vault.write(payload)
        assert vault.read() == payload

    with VaultFile.open(path, key) as vault:
        assert vault.read() == payload


def test_the_file_shows_nothing_of_the_payload_and_only_the_owner_may_read_it(path: Path) -> None:
    content = path.read_bytes()

    assert b"opaque" not in content
    assert len(content) == HEADER_BYTES + len(PAYLOAD) + 16
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_two_writes_of_one_payload_share_no_nonce_and_no_ciphertext(path: Path, key: KeyFile) -> None:
    """A repeated GCM nonce would give away the XOR of two states and the authentication key."""
    seen = set()
    with VaultFile.open(path, key) as vault:
        for _ in range(20):
            vault.write(PAYLOAD)
            content = path.read_bytes()
            seen.add((content[65:77], content[HEADER_BYTES:]))

    assert len({nonce for nonce, _ in seen}) == len({text for _, text in seen}) == 20


def test_a_vault_exists_only_once_something_was_written(tmp_path: Path, key: KeyFile) -> None:
    """So an enrolment that dies early leaves no half-made vault in the way of the next."""
    where = tmp_path / "new.vault"

    with VaultFile.create(where, key) as vault:
        assert not where.exists()
        with pytest.raises(VaultMissing):
            vault.read()
    with VaultFile.create(where, key) as vault:
        vault.write(b"now")

    with VaultFile.open(where, key) as vault:
        assert vault.read() == b"now"


def test_create_never_touches_a_file_that_is_there(path: Path, key: KeyFile) -> None:
    before = path.read_bytes()

    with pytest.raises(VaultExists):
        VaultFile.create(path, key)

    assert path.read_bytes() == before
    with VaultFile.open(path, key) as vault:  # and the refused call gave the lock back
        assert vault.read() == PAYLOAD


def test_opening_a_missing_vault_says_so_and_leaves_no_trace(tmp_path: Path, key: KeyFile) -> None:
    with pytest.raises(VaultMissing):
        VaultFile.open(tmp_path / "absent.vault", key)

    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_its_own_error(tmp_path: Path, key: KeyFile) -> None:
    with pytest.raises(VaultUnusable):
        VaultFile.create(tmp_path / "absent" / "phone.vault", key)


def test_a_closed_vault_cannot_be_used(path: Path, key: KeyFile) -> None:
    vault = VaultFile.open(path, key)
    vault.close()
    vault.close()

    with pytest.raises(ValueError, match="closed"):
        vault.read()
    with pytest.raises(ValueError, match="closed"):
        vault.write(b"")


def test_threads_that_write_at_once_leave_one_whole_payload(path: Path, key: KeyFile) -> None:
    """The confirmation of a login is written in the background while the app may start the next."""
    payloads = [bytes([number]) * 20_000 for number in range(4)]
    failures: list[BaseException] = []

    def write_many(vault: VaultFile, payload: bytes) -> None:
        try:
            for _ in range(15):
                vault.write(payload)
                assert vault.read() in payloads
        except BaseException as error:
            failures.append(error)

    with VaultFile.open(path, key) as vault:
        threads = [threading.Thread(target=write_many, args=(vault, payload)) for payload in payloads]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert vault.read() in payloads

    assert failures == []


def test_a_refusing_disk_is_reported_and_keeps_the_old_payload(path: Path, key: KeyFile) -> None:
    """A directory in the way of the new file stands for any refusal; it holds for root too, unlike a mode."""
    obstacle = path.with_name(path.name + ".new")
    with VaultFile.open(path, key) as vault:
        obstacle.mkdir()
        with pytest.raises(VaultUnusable):
            vault.write(b"lost")
        assert vault.read() == PAYLOAD

        obstacle.rmdir()
        vault.write(b"later")
        assert vault.read() == b"later"


# ---- one opener --------------------------------------------------------------------------------------------


def test_a_second_open_in_the_same_process_is_refused_until_the_first_closes(path: Path, key: KeyFile) -> None:
    """Two writers would each spend login indices the other does not know of."""
    with VaultFile.open(path, key):
        with pytest.raises(VaultInUse):
            VaultFile.open(path, key)
        with pytest.raises(VaultInUse):
            VaultFile.create(path, key)

    VaultFile.open(path, key).close()


def test_a_second_name_of_the_vault_shares_its_lock(path: Path, key: KeyFile) -> None:
    link = path.with_name("other-name.vault")
    link.symlink_to(path)

    with VaultFile.open(link, key) as vault:
        with pytest.raises(VaultInUse):
            VaultFile.open(path, key)
        vault.write(b"through the link")

    assert link.is_symlink()
    with VaultFile.open(path, key) as vault:
        assert vault.read() == b"through the link"


_HOLD = """
import sys
from device_sdk.vault import KeyFile, VaultFile
vault = VaultFile.open(sys.argv[1], KeyFile(sys.argv[2]))
print("open", flush=True)
sys.stdin.read()
"""


def test_another_process_is_refused_while_one_holds_it_and_served_once_that_is_killed(
    path: Path, tmp_path: Path, key: KeyFile
) -> None:
    with _child(_HOLD, path, tmp_path / "key") as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"

        with pytest.raises(VaultInUse):
            VaultFile.open(path, key)
        holder.send_signal(signal.SIGKILL)
        holder.wait()

    assert path.with_name(path.name + ".lock").exists()  # left behind, and in nobody's way
    with VaultFile.open(path, key) as vault:
        assert vault.read() == PAYLOAD


# ---- crashes -----------------------------------------------------------------------------------------------

_WRITE_FOREVER = """
import sys
from device_sdk.vault import KeyFile, VaultFile
vault = VaultFile.open(sys.argv[1], KeyFile(sys.argv[2]))
number = int.from_bytes(vault.read()[:8])
while True:
    number += 1
    print("w", number, flush=True)
    vault.write(number.to_bytes(8) * int(sys.argv[3]))
    print("d", number, flush=True)
"""


@pytest.mark.parametrize("repeats", [4, 40_000])
def test_a_process_killed_at_any_moment_leaves_the_old_or_the_new_payload(
    path: Path, tmp_path: Path, key: KeyFile, repeats: int
) -> None:
    """What the child reported as written must be there; the write under way may or may not be, but whole."""
    moments = random.Random(repeats)
    with VaultFile.open(path, key) as vault:
        vault.write(bytes(8) * repeats)
    interrupted = 0

    for _ in range(12):
        with _child(_WRITE_FOREVER, path, tmp_path / "key", repeats) as writer:
            assert writer.stdout is not None
            first = writer.stdout.readline()
            time.sleep(moments.uniform(0, 0.03))
            writer.send_signal(signal.SIGKILL)
            told = (first + writer.stdout.read()).splitlines(keepends=True)
            lines = [line.split() for line in told if line.endswith(b"\n")]  # a kill may tear the last one
            writer.wait()
        begun = max(int(word[1]) for word in lines if word[0] == b"w")
        done = max((int(word[1]) for word in lines if word[0] == b"d"), default=begun - 1)
        with VaultFile.open(path, key) as vault:
            payload = vault.read()
        number = int.from_bytes(payload[:8])

        assert payload == number.to_bytes(8) * repeats
        assert done <= number <= begun
        interrupted += begun != done

    assert interrupted > 0  # the kills did fall into writes
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["key", "phone.vault", "phone.vault.lock"]


_DIE_BEFORE = """
import os, signal, sys
from device_sdk.vault import KeyFile, VaultFile
vault = VaultFile.open(sys.argv[1], KeyFile(sys.argv[2]))
calls = [0]
def watch(event, arguments):
    if event in ("open", "os.rename", "os.remove"):
        if str(arguments[0]).startswith("phone.vault"):
            calls[0] += 1
            if calls[0] == int(sys.argv[3]):
                os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
vault.write(b"new")
print("written", flush=True)
"""


@pytest.mark.parametrize("step", [1, 2])
def test_a_crash_right_before_each_step_of_a_write_keeps_the_old_payload(
    path: Path, tmp_path: Path, key: KeyFile, step: int
) -> None:
    """Step 1 makes the new file, step 2 gives it the vault's name."""
    with _child(_DIE_BEFORE, path, tmp_path / "key", step) as writer:
        assert writer.stdout is not None
        assert writer.stdout.read() == b""
        assert writer.wait() == -signal.SIGKILL
    leftover = path.with_name("phone.vault.new")
    assert leftover.exists() == (step == 2)

    with VaultFile.open(path, key) as vault:
        assert vault.read() == PAYLOAD
        assert not leftover.exists()


def test_a_leftover_of_a_crashed_write_is_ignored_and_removed(path: Path, key: KeyFile) -> None:
    leftover = path.with_name("phone.vault.new")
    leftover.write_bytes(b"half a vau")

    with VaultFile.open(path, key) as vault:
        assert not leftover.exists()
        assert vault.read() == PAYLOAD


# ---- damage ------------------------------------------------------------------------------------------------


def test_every_truncation_is_called_cut_short_or_empty(path: Path, key: KeyFile) -> None:
    content = path.read_bytes()

    for length in [*range(HEADER_BYTES + 20), len(content) - 1]:
        path.write_bytes(content[:length])
        with pytest.raises(VaultCorrupt, match="cut short" if length else "empty"):
            VaultFile.open(path, key)


def test_every_flipped_bit_of_the_header_is_called_damage_and_never_a_wrong_key(path: Path, key: KeyFile) -> None:
    """Someone told that the key is wrong would try keys; someone told of damage goes for a recovery."""
    content = bytearray(path.read_bytes())

    for bit in range(HEADER_BYTES * 8):
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        with pytest.raises(VaultCorrupt):
            VaultFile.open(path, key)
        content[bit // 8] ^= 1 << bit % 8


def test_a_flipped_bit_of_the_content_is_named_as_damaged_content(path: Path, key: KeyFile) -> None:
    content = bytearray(path.read_bytes())

    for position in [HEADER_BYTES, HEADER_BYTES + len(PAYLOAD) // 2, len(content) - 1]:
        content[position] ^= 0x10
        path.write_bytes(content)
        with pytest.raises(VaultCorrupt, match="content of the vault file is damaged"):
            VaultFile.open(path, key)
        content[position] ^= 0x10


def test_the_header_is_bound_to_the_content(path: Path, key: KeyFile) -> None:
    """A header from another write of this vault, checksum and key check intact, does not fit."""
    old = path.read_bytes()
    with VaultFile.open(path, key) as vault:
        vault.write(PAYLOAD)
    new = path.read_bytes()

    path.write_bytes(old[:HEADER_BYTES] + new[HEADER_BYTES:])

    with pytest.raises(VaultCorrupt, match="content of the vault file is damaged"):
        VaultFile.open(path, key)


@pytest.mark.parametrize(
    ("offset", "value", "text"),
    [
        (0, b"NOTVAULT", "not a vault"),
        (8, b"\x02", "version"),
        (8, b"\x00", "version"),
        (9, b"\x09", "key source"),
        (10, b"\x11", "passphrase cost"),
        (61, b"\xff\xff\xff\xff", "impossible length"),
        (61, b"\x00\x00\x00\x01", "impossible length"),
    ],
)
def test_a_forged_header_field_is_refused_by_name(
    path: Path, key: KeyFile, offset: int, value: bytes, text: str
) -> None:
    _forge(path, offset, value)

    with pytest.raises(VaultCorrupt, match=text):
        VaultFile.open(path, key)


@pytest.mark.parametrize("cost", [(31, 8, 1), (14, 8, 1), (17, 255, 1), (17, 8, 0), (17, 8, 200), (0, 0, 0)])
def test_a_forged_passphrase_cost_is_refused_before_any_work(path: Path, cost: tuple[int, int, int]) -> None:
    """n = 2^31 would ask for two terabytes of memory."""
    _forge(path, 9, bytes([2, *cost]))

    with pytest.raises(VaultCorrupt, match="outside the accepted range"):
        VaultFile.open(path, Passphrase("not even looked at"))


def test_extra_bytes_at_the_end_are_refused(path: Path, key: KeyFile) -> None:
    with path.open("ab") as file:
        file.write(b"\x00")

    with pytest.raises(VaultCorrupt, match="extra bytes"):
        VaultFile.open(path, key)


@given(garbage=st.binary(max_size=300), with_magic=st.booleans())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_garbage_is_refused_with_the_right_error(path: Path, key: KeyFile, garbage: bytes, with_magic: bool) -> None:
    path.write_bytes((MAGIC + b"\x01" if with_magic else b"") + garbage)

    with pytest.raises(VaultCorrupt):
        VaultFile.open(path, key)


def test_damage_while_the_vault_is_open_is_found_by_the_next_read(path: Path, key: KeyFile) -> None:
    with VaultFile.open(path, key) as vault:
        path.write_bytes(path.read_bytes()[:-3])
        with pytest.raises(VaultCorrupt):
            vault.read()


# ---- keys --------------------------------------------------------------------------------------------------


def test_another_key_is_told_apart_from_damage(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    descriptor = os.open(other, os.O_CREAT | os.O_WRONLY, 0o600)
    os.write(descriptor, bytes(32))
    os.close(descriptor)

    with pytest.raises(VaultKeyWrong, match="does not open"):
        VaultFile.open(path, KeyFile(other))


def test_another_kind_of_key_is_told_which_kind_is_needed(path: Path) -> None:
    with pytest.raises(VaultKeyWrong, match="locked by a key file, not a passphrase"):
        VaultFile.open(path, Passphrase("correct horse battery"))


def test_a_refused_open_gives_the_lock_back(path: Path, tmp_path: Path, key: KeyFile) -> None:
    with pytest.raises(VaultKeyUnavailable):
        VaultFile.open(path, KeyFile(tmp_path / "no such key"))

    VaultFile.open(path, key).close()


def test_a_passphrase_opens_its_vault_in_any_unicode_form_and_no_other_does(tmp_path: Path) -> None:
    where = tmp_path / "phone.vault"
    with VaultFile.create(where, Passphrase("Fahrvergn\u00fcgen")) as vault:
        vault.write(PAYLOAD)

    with VaultFile.open(where, Passphrase("Fahrvergnu\u0308gen")) as vault:
        assert vault.read() == PAYLOAD
    with pytest.raises(VaultKeyWrong):
        VaultFile.open(where, Passphrase("Fahrvergnuegen"))


def test_nothing_secret_is_in_a_representation(path: Path, key: KeyFile, tmp_path: Path) -> None:
    secret = (tmp_path / "key").read_bytes()
    with VaultFile.open(path, key) as vault:
        shown = repr(vault) + repr(key) + repr(Passphrase("correct horse battery"))

    assert "horse" not in shown
    assert "opaque" not in shown
    assert repr(secret)[2:-1] not in shown
    assert secret.hex() not in shown


# ---- for these tests ---------------------------------------------------------------------------------------


def _child(program: str, *arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def _forge(path: Path, offset: int, value: bytes) -> None:
    """Change header bytes and make the checksum fit again, as an attacker would."""
    content = bytearray(path.read_bytes())
    content[offset : offset + len(value)] = value
    content[HEADER_BYTES - 4 : HEADER_BYTES] = struct.pack(">I", zlib.crc32(content[: HEADER_BYTES - 4]))
    path.write_bytes(content)
