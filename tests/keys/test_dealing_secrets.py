"""No secret of a key in any file, output or argument list, whether a command succeeds or fails.

The tests hold the recipients' private keys, so they can do what two conspiring holders could: compute d and factor N.
"""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from dealers_room import (
    PASSPHRASE,
    Holder,
    Room,
    Secrets,
    checkout,
    command,
    files_of,
    holder,
    manifest_of,
    remains_of,
    signer_of,
    succeeds,
)

from keys.ceremony.ceremony_key import read_ceremony_key
from keys.dealing.one_key import generate_source
from keys.sources.source_key import SourceKey
from mpc.threshold_rsa.share_package import Role, seal_share


class Watched:
    """A run whose output and whose processes' argument lists and environments are all kept."""

    def __init__(self, *arguments: str, limit_file_bytes: int | None = None) -> None:
        def limits() -> None:
            import resource

            if limit_file_bytes is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit_file_bytes, limit_file_bytes))

        self.seen: set[bytes] = set()
        self.processes: set[int] = set()
        process = subprocess.Popen(
            command(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=checkout(),
            start_new_session=True,
            preexec_fn=limits,
        )
        ended = threading.Event()
        watcher = threading.Thread(target=self._watch, args=(process.pid, ended))
        watcher.start()
        output, errors = process.communicate(timeout=300)
        ended.set()
        watcher.join()
        self.returncode = process.returncode
        self.output = output + b"\n" + errors
        assert self.seen, "the process was looked at while it ran"

    def _watch(self, group: int, ended: threading.Event) -> None:
        while not ended.wait(0.002):
            for entry in Path("/proc").iterdir():
                if not entry.name.isdigit():
                    continue
                try:
                    if os.getpgid(int(entry.name)) == group:
                        self.processes.add(int(entry.name))
                        self.seen.add((entry / "cmdline").read_bytes())
                        self.seen.add((entry / "environ").read_bytes())
                except OSError:
                    continue

    @property
    def everything(self) -> bytes:
        return self.output + b"\n".join(self.seen)


def nothing_shows(secrets: Secrets, watched: Watched, *folders: Path) -> None:
    assert not secrets.found_in(watched.everything)
    assert PASSPHRASE.encode() not in watched.everything
    for folder in folders:
        for path, data in files_of(folder).items():
            assert not secrets.found_in(data), path
            assert not secrets.found_in(path.encode())
            assert PASSPHRASE.encode() not in data


def secrets_of(folder: Path, server: Holder, devices: dict[bytes, Holder]) -> list[Secrets]:
    return [
        Secrets.of_halves(devices[dealt.device].opens(folder, dealt), server.opens(folder, dealt))
        for dealt in manifest_of(folder).keys
    ]


def by_id(room: Room) -> dict[bytes, Holder]:
    return {device.recipient.id: device for device in room.devices}


def test_the_search_finds_each_form_of_each_secret(tmp_path: Path) -> None:
    """A search that finds nothing proves something only if it can find."""
    key = rsa.generate_private_key(65537, 2048)
    numbers = key.private_numbers()
    secrets = Secrets.of_key(numbers.p, numbers.q, numbers.d)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    der = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    assert {"d as big-endian", "p as big-endian", "q as big-endian", "dp as big-endian"} <= set(secrets.found_in(der))
    assert any(found.startswith("p as base64") for found in secrets.found_in(b"".join(pem.splitlines()[1:-1])))
    assert "d as decimal" in secrets.found_in(repr(numbers.d).encode())
    assert "q as hex" in secrets.found_in(hex(numbers.q).upper().encode())
    assert not secrets.found_in(str(numbers.public_numbers.n).encode() + numbers.public_numbers.n.to_bytes(256, "big"))


@pytest.mark.parametrize(("count", "processes"), [(3, 1), (20, 2)])
def test_generate_shows_no_secret(tmp_path: Path, count: int, processes: int) -> None:
    """In one process and with workers, whose results pass through pipes and whose arguments anybody can list."""
    room = Room.furnish(tmp_path / "room")

    watched = Watched("generate", *room.options(), "--count", str(count), "--processes", str(processes))

    assert watched.returncode == 0, watched.output
    assert len(watched.processes) >= processes
    found = secrets_of(room.out, room.server, by_id(room))
    assert len(found) == count
    for secrets in found:
        nothing_shows(secrets, watched, room.out)


def test_import_shows_no_secret_and_no_passphrase(tmp_path: Path) -> None:
    """The source is under a passphrase, which is in a file and never in an argument."""
    room = Room.furnish(tmp_path / "room")
    key = rsa.generate_private_key(65537, 2048)
    source = tmp_path / "old.pem"
    protection = BestAvailableEncryption(PASSPHRASE.encode())
    source.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection))

    watched = Watched(
        "import",
        str(source),
        *room.options(device=room.devices[0].file),
        "--passphrase-file",
        str(room.passphrase_file()),
    )

    assert watched.returncode == 0, watched.output
    numbers = key.private_numbers()
    (secrets,) = secrets_of(room.out, room.server, by_id(room))
    assert {secrets.values["p"], secrets.values["q"]} == {numbers.p, numbers.q}
    nothing_shows(secrets | {"source d": numbers.d}, watched, room.out)


@pytest.mark.parametrize("role", list(Role))
def test_rewrap_shows_no_secret_and_no_passphrase(tmp_path: Path, role: Role) -> None:
    """Half of each key is open in memory meanwhile; the old private key must not show either."""
    room = Room.furnish(tmp_path / "room")
    assert Watched("generate", *room.options(), "--count", "2").returncode == 0
    old = room.server if role is Role.SERVER else room.devices[0]
    new = holder(tmp_path / "room" / "new.json", role)
    out = tmp_path / "room" / "next"

    watched = Watched(
        *("rewrap", str(room.out), "--key", str(old.key_file()), "--to", str(new.file), "--out", str(out)),
        *("--passphrase-file", str(room.passphrase_file()), "--not-compared"),
        *("--ceremony-key-fingerprint", signer_of(room.out)),
    )

    assert watched.returncode == 0, watched.output
    recipient_keys = {name: int.from_bytes(who.key.raw, "big") for name, who in {"old": old, "new": new}.items()}
    for secrets in secrets_of(room.out, room.server, by_id(room)):
        nothing_shows(secrets | recipient_keys, watched, room.out, out)


def test_failing_imports_show_no_secret(tmp_path: Path) -> None:
    """Errors are where secrets usually slip out: wrong passphrase, weak key, damaged file, full disk."""
    room = Room.furnish(tmp_path / "room")
    key, weak = rsa.generate_private_key(65537, 2048), rsa.generate_private_key(65537, 1024)
    plain = Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()
    wrong = room.passphrase_file("wrong, but also secret")
    contents = {
        "locked": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSPHRASE.encode())),
        "weak": weak.private_bytes(*plain),
        "damaged": key.private_bytes(*plain).replace(b"\nMII", b"\nMIJ", 1),
        "full": key.private_bytes(*plain),
    }
    numbers = [one.private_numbers() for one in (key, weak)]
    for name, content in contents.items():
        source = tmp_path / f"{name}.pem"
        source.write_bytes(content)

        watched = Watched(
            *("import", str(source), *room.options(device=room.devices[0].file), "--passphrase-file", str(wrong)),
            limit_file_bytes=1000 if name == "full" else None,
        )

        assert watched.returncode == 1, (name, watched.output)
        assert b"Traceback" not in watched.output
        assert b"wrong, but also secret" not in watched.everything
        for one in numbers:
            nothing_shows(Secrets.of_key(one.p, one.q, one.d), watched)
        assert not remains_of(room.out)


def test_a_failing_rewrap_shows_no_secret(tmp_path: Path) -> None:
    """The disk refuses after halves were opened."""
    room = Room.furnish(tmp_path / "room")
    assert Watched("generate", *room.options()).returncode == 0
    new, out = holder(tmp_path / "room" / "new.json", Role.SERVER), tmp_path / "room" / "next"

    watched = Watched(
        *("rewrap", str(room.out), "--key", str(room.server.key_file()), "--to", str(new.file), "--out", str(out)),
        *("--passphrase-file", str(room.passphrase_file()), "--not-compared"),
        *("--ceremony-key-fingerprint", signer_of(room.out)),
        limit_file_bytes=1300,
    )

    assert watched.returncode == 1, watched.output
    assert b"nothing was made" in watched.output
    for secrets in secrets_of(room.out, room.server, by_id(room)):
        nothing_shows(secrets, watched)
    assert not remains_of(out)


def test_the_ceremonys_key_is_nowhere_but_in_its_own_file(tmp_path: Path) -> None:
    """Whoever finds it can sign another ceremony under the fingerprint that witnesses signed."""
    room = Room.furnish(tmp_path / "room")
    key_file, passphrase = tmp_path / "team.key", room.passphrase_file()
    made = Watched("ceremony-key", "--out", str(key_file), "--ceremony-passphrase-file", str(passphrase))
    raw = read_ceremony_key(key_file, PASSPHRASE).private_bytes_raw()

    watched = Watched(
        *("generate", *room.options(), "--ceremony-key", str(key_file), "--ceremony-passphrase-file", str(passphrase))
    )

    assert made.returncode == watched.returncode == 0
    secrets = Secrets({"signing key": int.from_bytes(raw, "big")})
    nothing_shows(secrets, made)
    nothing_shows(secrets, watched, room.out)


def test_a_whole_key_is_never_pickled_or_printed() -> None:
    """Worker processes send their results by pickle: a whole key refuses to go that way, and its repr is silent."""
    source = generate_source(2048)

    with pytest.raises(TypeError):
        pickle.dumps(source)

    shown = repr(source).encode()
    assert not Secrets.of_key(source.p, source.q, source.private_exponent).found_in(shown)


@pytest.mark.parametrize("command_", ["generate", "import"])
def test_no_whole_key_is_left_when_its_halves_are_sealed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command_: str
) -> None:
    """Of imported keys, only those whose turn is still to come may be in memory: a dump at the end shows none."""
    room = Room.furnish(tmp_path, devices=("alice", "bob", "carol"))
    alive: list[int] = []

    def whole_keys() -> list[SourceKey]:
        return [thing for thing in gc.get_objects() if isinstance(thing, SourceKey)]

    def count_and_seal(*arguments: Any) -> bytes:
        alive.append(len(whole_keys()) - len(of_other_tests))
        return seal_share(*arguments)

    sources = []
    for device in room.devices:
        pem = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        sources.append(tmp_path / f"{device.file.stem}.pem")
        sources[-1].write_bytes(pem)
    monkeypatch.setattr("keys.dealing.one_key.seal_share", count_and_seal)
    gc.collect()
    of_other_tests = whole_keys()

    succeeds(command_, *(map(str, sources) if command_ == "import" else ()), *room.options())

    # Two halves each.
    assert alive == ([2, 2, 1, 1, 0, 0] if command_ == "import" else [0] * 6)
