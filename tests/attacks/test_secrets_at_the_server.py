"""What a thief of the server's memory, files and logs finds: no signature, no share of the device, nothing in clear."""

from __future__ import annotations

import math
import os
import re
import secrets
import shutil
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from attacker import Attacker, flipped
from parties import private_exponent, private_key
from real_server import ProcessServer, ThreadServer, process_server, thread_server
from typer.testing import CliRunner

from authsvc.cli import app as command_line
from authsvc.sealing import DataKey, SealingError
from authsvc.services import secrets_at_rest
from authsvc.services.administration import revoke_enrolment
from authsvc.services.secrets_at_rest import open_base_keys, open_key_share, open_template
from authsvc.store.credentials import load_credential
from authsvc.store.enrolments import load_enrolment
from authsvc.store.logins import pending_logins
from mpc.login.messages import Message1
from mpc.threshold_rsa.encodings import Algorithm, encode_message
from mpc.threshold_rsa.shares import KeyShare
from mpc.threshold_rsa.signing import partial_signature

NEEDLE_BYTES = 24


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessServer]:
    with process_server(tmp_path_factory.mktemp("server")) as running:
        yield running


def memory_of(pid: int) -> bytes:
    """Every readable and writable page of a process of ours."""
    pages = []
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            found = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw", line)
            if found and "[v" not in line:
                start, stop = (int(part, 16) for part in found.groups())
                try:
                    memory.seek(start)
                    pages.append(memory.read(stop - start))
                except (OSError, ValueError, OverflowError):
                    continue  # gone meanwhile, or not backed by anything
    return b"".join(pages)


def python_digits(number: int) -> bytes:
    """How CPython lays an int out: 30 bits in each 32-bit word, lowest first."""
    words = []
    while number:
        words.append((number & (2**30 - 1)).to_bytes(4, "little"))
        number >>= 30
    return b"".join(words)


def forms(number: int) -> dict[str, bytes]:
    """A piece from the middle of each form a number takes: network bytes, GMP's limbs, CPython's digits, text."""
    size = (number.bit_length() + 7) // 8
    middle = size // 2
    return {
        "big-endian": number.to_bytes(size, "big")[middle : middle + NEEDLE_BYTES],
        "limbs": number.to_bytes(size, "little")[middle : middle + NEEDLE_BYTES],
        "digits": python_digits(number)[middle : middle + NEEDLE_BYTES],
        "hexadecimal": number.to_bytes(size, "big").hex()[size : size + 2 * NEEDLE_BYTES].encode(),
    }


def partials(attacker: Attacker, body: bytes) -> tuple[int, int]:
    """(s1, s) of a login: what the device computed, and the signature that both would make."""
    statement = Message1.decode(body).statement
    private = private_key(2048, 0)
    encoded = encode_message(Algorithm.RS256, statement.signed_message, None, 2048)
    share = attacker.shares[statement.credential_id]
    signature = pow(encoded, private_exponent(private), private.public_key().public_numbers().n)
    assert pow(signature, 65537, share.key.modulus) == encoded
    return partial_signature(share, encoded), signature


def test_memory_after_rejected_and_accepted_logins(process: ProcessServer) -> None:
    """RSA is a permutation: the one x with x^e = EM is s itself, so looking for s looks for all of them."""
    with Attacker.enrolled(process) as attacker:
        attacker.register()
        unwanted: dict[str, int] = {}
        for number in range(4):
            far = flipped(attacker.template, 300, seed=number)
            login = attacker.prepare(probe=far)
            unwanted[f"s1 of rejected login {number}"], unwanted[f"s of rejected login {number}"] = partials(
                attacker, login.message_1
            )
            assert attacker.try_login(login.message_1).status == 200
        good = attacker.prepare()
        unwanted["s1 of the accepted login"], unwanted["s of the accepted login"] = partials(attacker, good.message_1)
        share = attacker.shares[attacker.credentials[0].credential_id]
        unwanted["d1"] = abs(share.value)
        unwanted["d"] = private_exponent(private_key(2048, 0))
        match = attacker.succeed(good)
        assert int.from_bytes(match.signature, "big") == unwanted["s of the accepted login"]

        memory = memory_of(process.process.pid)

        # The search finds what is there: the modulus in one form or another, and the server's own id.
        assert any(form in memory for form in forms(share.key.modulus).values())
        for name, number in unwanted.items():
            for form, needle in forms(number).items():
                assert needle not in memory, f"{name} as {form}"
        for name, data in (
            ("t1", attacker.state.template.codes),
            ("template", attacker.template.packed()),
            ("request key", attacker.state.request_key),
            ("device's base-OT keys", attacker.state.base_keys.zeros[:64]),
        ):
            assert data not in memory, name


def test_the_search_would_find_a_signature(process: ProcessServer) -> None:
    """A test of the test: the same search over this process, where s is."""
    number = secrets.randbits(2048) | 1 << 2047
    kept = [number.to_bytes(256, "big"), number]
    memory = memory_of(os.getpid())
    found = forms(number)
    assert found["big-endian"] in memory and found["digits"] in memory and kept


def test_files_and_logs(process: ProcessServer) -> None:
    """Database, write-ahead log and log output hold nothing of the device, and nothing of the server's in clear."""
    with Attacker.enrolled(process, person=3) as attacker:
        code = process.code("label-of-ann")
        attacker.register()
        tokens, signatures, templates = [], [], [attacker.state.template.codes]
        for _ in range(3):
            match = attacker.succeed(attacker.prepare())
            tokens.append(match.confirmation.token)
            signatures.append(match.signature)
            templates.append(attacker.state.template.codes)
        attacker.try_login(attacker.prepare(probe=flipped(attacker.template, 300)).message_1)
        share = attacker.shares[attacker.credentials[0].credential_id]
        server_template = bytes(
            a ^ b for a, b in zip(attacker.state.template.codes, attacker.template.packed(), strict=True)
        )
        kek = (process.folder / "kek").read_bytes()
        server_share = private_exponent(private_key(2048, 0)) - share.value
        found_in = process.database.file_bytes() + process.log
        assert attacker.id in found_in and b"label-of-ann" in found_in, "the search looks at the right files"
        unwanted = {
            "d1": abs(share.value).to_bytes(300, "big").lstrip(b"\0"),
            "d2": server_share.to_bytes(300, "big").lstrip(b"\0"),
            "d": private_exponent(private_key(2048, 0)).to_bytes(256, "big"),
            "t2": server_template,
            "template": attacker.template.packed(),
            "code": code.encode(),
            "code without dashes": code.replace("-", "").encode(),
            "request key": attacker.state.request_key,
            "admin token": process.admin_token.encode(),
            "kek": kek,
            "base-OT keys": attacker.state.base_keys.zeros[:32],
            **{f"token {n}": token for n, token in enumerate(tokens)},
            **{f"signature {n}": signature for n, signature in enumerate(signatures)},
            **{f"t1 at epoch {n}": template for n, template in enumerate(templates)},
        }
        for name, needle in unwanted.items():
            for form in (needle, needle[::-1], needle.hex().encode()):
                assert form not in found_in, name
        for at in range(128):
            for keys in (attacker.state.base_keys.zeros, attacker.state.base_keys.ones):
                assert keys[16 * at : 16 * at + 16] not in found_in, "a base-OT key"
    assert b'"level": "error"' not in process.log


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ThreadServer, Attacker, Attacker]]:
    """Two enrolments, each with a pending login."""
    with (
        thread_server(tmp_path_factory.mktemp("server")) as server,
        Attacker.enrolled(server) as one,
        Attacker.enrolled(server, person=2) as other,
    ):
        for attacker in (one, other):
            attacker.register()
            assert attacker.try_login(attacker.prepare().message_1).status == 200
        yield server, one, other


class TestRowsWithoutTheirKey:
    def test_another_data_key_opens_no_column(self, two: tuple[ThreadServer, Attacker, Attacker]) -> None:
        server, one, _ = two
        key, stranger = server.context.data_key(one.id), DataKey(one.id, secrets.token_bytes(32))
        profile = server.context.policy.profiles["sim-512"]
        with server.context.store.read() as conn:
            row, credential = load_enrolment(conn, one.id), load_credential(conn, one.credentials[0].credential_id)
            pending = pending_logins(conn, one.id)
        assert row is not None and credential is not None and len(pending) == 1
        for opens in (
            lambda used: open_base_keys(used, row),
            lambda used: open_template(used, row, profile),
            lambda used: open_key_share(used, credential),
            lambda used: secrets_at_rest.open_refresh(used, pending[0], row.epoch),
        ):
            opens(key)
            with pytest.raises(SealingError):
                opens(stranger)

    def test_a_column_moved_to_another_row_or_place(self, two: tuple[ThreadServer, Attacker, Attacker]) -> None:
        server, one, other = two
        key, profile = server.context.data_key(one.id), server.context.policy.profiles["sim-512"]
        with server.context.store.read() as conn:
            mine, theirs = load_enrolment(conn, one.id), load_enrolment(conn, other.id)
            my_key = load_credential(conn, one.credentials[0].credential_id)
            their_key = load_credential(conn, other.credentials[0].credential_id)
            pending = pending_logins(conn, one.id)[0]
        assert mine and theirs and my_key and their_key
        moved = (
            lambda: open_template(key, replace(mine, sealed_template=theirs.sealed_template), profile),
            lambda: open_template(key, replace(mine, sealed_template=mine.sealed_base_ot), profile),
            lambda: open_template(key, replace(mine, epoch=mine.epoch + 1), profile),
            lambda: open_template(key, replace(mine, epoch=mine.epoch - 1), profile),
            lambda: open_base_keys(key, replace(mine, sealed_base_ot=theirs.sealed_base_ot)),
            lambda: open_base_keys(key, replace(mine, base_ot_id=theirs.base_ot_id)),
            lambda: open_base_keys(key, replace(mine, sealed_base_ot=mine.sealed_template)),
            lambda: open_key_share(key, replace(my_key, sealed_share=their_key.sealed_share)),
            lambda: open_key_share(key, replace(my_key, enrolment_id=other.id)),
            lambda: secrets_at_rest.open_refresh(key, pending, mine.epoch + 1),
            lambda: secrets_at_rest.open_refresh(key, replace(pending, ot_index=1), mine.epoch),
        )
        for attempt in moved:
            with pytest.raises(SealingError):
                attempt()

    def test_swapped_rows_in_the_file_give_an_error_and_no_answer(self, tmp_path: Path) -> None:
        """Somebody with write access to the database swaps two people's templates."""
        with (
            thread_server(tmp_path) as server,
            Attacker.enrolled(server) as one,
            Attacker.enrolled(server, person=2) as other,
        ):
            for attacker in (one, other):
                attacker.register()
            with server.context.store.write() as conn:
                rows = {
                    bytes(row[0]): row[1] for row in conn.exec_driver_sql("SELECT id, sealed_template FROM enrolments")
                }
                for mine, theirs in ((one.id, other.id), (other.id, one.id)):
                    conn.exec_driver_sql("UPDATE enrolments SET sealed_template = ? WHERE id = ?", (rows[theirs], mine))
            outcome = one.try_login(one.prepare().message_1)
            assert (outcome.status, outcome.code, outcome.counted) == (500, "internal", True)
            assert "sealed" not in outcome.document["detail"] and outcome.document["request_id"]

    def test_a_server_with_another_kek_does_not_start(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with thread_server(tmp_path) as server, Attacker.enrolled(server) as attacker:
            attacker.register()
        shutil.copy(tmp_path / "kek", tmp_path / "kek.right")
        (tmp_path / "kek").write_bytes(secrets.token_bytes(32))
        monkeypatch.setenv("TANDEM_DATA_DIR", str(tmp_path))
        for command in (["serve", "--port", "0"], ["code", "--label", "x"], ["enrolments"]):
            result = CliRunner().invoke(command_line, command)
            assert result.exit_code == 1, command
            assert "key-encryption key" in result.output and "Traceback" not in result.output
        shutil.copy(tmp_path / "kek.right", tmp_path / "kek")
        with thread_server(tmp_path) as server:
            attacker.url = server.url
            attacker.http = httpx.Client()
            assert attacker.still_works()

    def test_the_files_are_their_owners(self, two: tuple[ThreadServer, Attacker, Attacker]) -> None:
        folder = two[0].database.path.parent
        assert (folder / "kek").stat().st_mode & 0o077 == 0


def test_erased_is_erased_from_the_rows(server: ThreadServer, attacker: Attacker) -> None:
    """After a revocation neither the share nor the template is in any row, and secure_delete overwrote the pages."""
    query = "SELECT sealed_template, sealed_base_ot FROM enrolments WHERE id = ?"
    before = server.database.one(query, attacker.id)
    share = server.database.one("SELECT sealed_share FROM credentials WHERE enrolment_id = ?", attacker.id)
    revoke_enrolment(server.context, attacker.id)
    assert server.database.one(query, attacker.id) == {"sealed_template": None, "sealed_base_ot": None}
    with sqlite3.connect(server.database.path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    left = server.database.path.read_bytes()
    for value in (*before.values(), share["sealed_share"]):
        assert bytes(value) not in left
    outcome = attacker.try_login(attacker.prepare().message_1)
    assert (outcome.told, outcome.counted) == ((403, "not_active"), False)


def test_the_servers_halves_are_noise(server: ThreadServer) -> None:
    """One person and one RSA key enrolled again and again through the real server: t2 and d2 are fresh noise."""
    rounds, bits = 12, 512
    ones, agreements, tops = 0, 0, []
    private = private_exponent(private_key(2048, 0))
    for _ in range(rounds):
        with Attacker.enrolled(server) as attacker:
            credential = attacker.add_credential()
            with server.context.store.read() as conn:
                row, stored = load_enrolment(conn, attacker.id), load_credential(conn, credential.credential_id)
            assert row is not None and stored is not None
            profile = server.context.policy.profiles[row.profile_name]
            t2 = int.from_bytes(open_template(server.context.data_key(row.id), row, profile).codes, "little")
            template = int.from_bytes(attacker.template.packed(), "little")
            t1 = int.from_bytes(attacker.state.template.codes, "little")
            assert t1 ^ t2 == template
            ones += t2.bit_count()
            agreements += bits - (t2 ^ template).bit_count()
            d2: KeyShare = open_key_share(server.context.data_key(row.id), stored)
            assert d2.value + attacker.shares[credential.credential_id].value == private
            tops.append(d2.value >> (2048 + 128 - 8))
    total = rounds * bits
    bound = 6 * math.sqrt(total) / 2
    assert abs(ones - total / 2) < bound and abs(agreements - total / 2) < bound
    assert len(set(tops)) > rounds // 2, "the top byte of d2 hardly ever repeats"
