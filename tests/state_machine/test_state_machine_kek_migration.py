"""Revision 0003 with shares in place: what 0002 sealed goes on opening, and going back gives 0002 what it knows.

Revision 0002 is played by its own rules, written here a second time: a key of each owner by HKDF, and AES-GCM.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from sqlalchemy import Connection, text
from state_machine_databases import database_url
from state_machine_harness import KEK, Clock, Phone, Server

from authsvc.key_port.port import KekKind
from authsvc.key_port.raw_key import RawKeyWrapper
from authsvc.services import attestation, recipients
from authsvc.services.kek_adoption import WrongKek, adopt_kek
from authsvc.services.kek_rotation import rotate_kek
from authsvc.services.keyring import Keyring
from authsvc.store import migrate
from authsvc.store.data_keys import DataKeyRow, delete_data_key, insert_data_keys
from authsvc.store.engine import Store
from mpc.primitives.hpke import HpkeSuite

OTHER = bytes(range(64, 96))


class _InAToken:
    """A KEK whose bytes this process does not have, as far as anybody can see."""

    kind: KekKind = "pkcs11"

    def __init__(self, kek: bytes) -> None:
        self._inner = RawKeyWrapper(kek)
        self.key_id, self.wrap, self.unwrap = self._inner.key_id, self._inner.wrap, self._inner.unwrap

    def close(self) -> None:
        pass


def opened_by_0002(kek: bytes, owner: bytes, column: str, context: bytes, sealed: bytes) -> bytes:
    """InvalidTag if revision 0002 could not open it."""
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"tandem at rest v1" + owner).derive(kek)
    parts = (column.encode(), owner, context)
    aad = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    assert sealed[:1] == b"\x01"
    return AESGCM(key).decrypt(sealed[1:13], sealed[13:], aad)


def sealed_values(store: Store) -> list[tuple[bytes, str, bytes, bytes]]:
    """(owner, column, context, sealed value) of every sealed column there is."""
    number = lambda value: int(value).to_bytes(8, "big")  # noqa: E731
    found: list[tuple[Any, str, Any, Any]] = []
    with store.read() as conn:
        for row in conn.execute(text("SELECT * FROM enrolments")).mappings():
            found += [
                (row["id"], "sealed_base_ot", row["base_ot_id"], row["sealed_base_ot"]),
                (row["id"], "sealed_pending_base_ot", row["pending_base_ot_id"], row["sealed_pending_base_ot"]),
                (row["id"], "sealed_template", number(row["epoch"]), row["sealed_template"]),
            ]
            of = {"id": row["id"]}
            for login in conn.execute(text("SELECT * FROM logins WHERE enrolment_id = :id"), of).mappings():
                context = number(login["ot_index"]) + number(row["epoch"])
                found.append((row["id"], "sealed_rho", context, login["sealed_rho"]))
        for row in conn.execute(text("SELECT * FROM credentials")).mappings():
            found.append((row["enrolment_id"], "sealed_share", row["id"], row["sealed_share"]))
        for row in conn.execute(text("SELECT * FROM recipients")).mappings():
            found.append((row["id"], "sealed_key", row["id"], row["sealed_key"]))
        for name in ("kek_check", attestation.NAME):
            value = conn.execute(text("SELECT value FROM server_state WHERE name = :name"), {"name": name}).scalar()
            found.append((bytes(16), name, b"", value))
    return [(bytes(o), c, bytes(x or b""), bytes(s)) for o, c, x, s in found if s is not None]


@pytest.fixture
def full(phone: Phone, server: Server) -> Server:
    """Something in every sealed column: a pending login, a recovery that has begun elsewhere, a recipient."""
    recipients.create(server.ctx, suite=HpkeSuite.X25519)
    attestation.create(server.ctx, country="DE", organization="Beispiel GmbH")
    assert phone.get() > 0
    return server


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    store = Store(database_url(folder))
    yield store
    store.close()


def test_down_to_0002_and_up_again_with_everybody_signing_in(
    full: Server, phone: Phone, folder: Path, clock: Clock, store: Store
) -> None:
    """An upgrade that has to be taken back must not cost the shares of anybody."""
    columns = {column for _, column, _, _ in sealed_values(store)}
    assert columns >= {"sealed_base_ot", "sealed_template", "sealed_share", "sealed_rho", "sealed_key", "kek_check"}
    assert attestation.NAME in columns
    root = attestation.current(full.ctx).root
    before = sealed_values(store)
    for owner, column, context, sealed in before:
        with pytest.raises(InvalidTag):
            opened_by_0002(KEK, owner, column, context, sealed)

    migrate.downgrade(store, "0002", full.ctx.keyring)

    old = sealed_values(store)
    assert len(old) == len(before)
    for owner, column, context, sealed in old:
        assert opened_by_0002(KEK, owner, column, context, sealed)
    with store.read() as conn:
        assert migrate.current_revision(conn) == "0002"

    migrate.upgrade(store)
    upgraded = Server(folder, clock)
    assert sealed_values(store) == old, "an upgrade touches no sealed column"
    phone.network.serve = upgraded.serve
    assert phone.confirm(), "the login that was pending all the time"
    assert phone.get() > 0 and phone.confirm()
    with store.read() as conn:
        assert recipients.opening_key(upgraded.ctx, conn, recipients.list_recipients(conn)[0])
    assert attestation.current(upgraded.ctx).root == root, "relying parties have it"
    moved = Server(folder, clock, keks=[RawKeyWrapper(OTHER), RawKeyWrapper(KEK)])
    assert rotate_kek(moved.ctx).retired == (RawKeyWrapper(KEK).key_id,)
    phone.network.serve = moved.serve
    assert phone.get() > 0
    upgraded.close()
    moved.close()


def test_a_pending_base_ot_goes_down_too(full: Server, phone: Phone, store: Store) -> None:
    """A device in the middle of its recovery finishes it at the older server."""
    with store.write() as conn:
        key = full.ctx.keyring.key_of(conn, phone.id)
        values = {"sealed": key.seal("sealed_pending_base_ot", b"p" * 16, b"state"), "ot": b"p" * 16, "id": phone.id}
        conn.execute(
            text(
                "UPDATE enrolments SET sealed_pending_base_ot = :sealed, pending_base_ot_id = :ot,"
                " status = 'recovering' WHERE id = :id"
            ),
            values,
        )
    migrate.downgrade(store, "0002", full.ctx.keyring)
    (value,) = [each for each in sealed_values(store) if each[1] == "sealed_pending_base_ot"]
    assert opened_by_0002(KEK, *value) == b"state"


@pytest.mark.parametrize("what", ["no key", "a token's key", "an altered share", "a key that is not there"])
def test_going_down_is_refused_as_a_whole_where_something_would_be_lost(
    what: str, full: Server, phone: Phone, store: Store
) -> None:
    keys: Keyring | None = full.ctx.keyring
    told = "needs the key-encryption key"
    if what == "no key":
        keys = None
    elif what == "a token's key":
        keys, told = Keyring([_InAToken(KEK)]), "rotate to one of those"  # type: ignore[list-item]
    elif what == "an altered share":
        told = "does not open"
        with store.write() as conn:
            conn.execute(text("UPDATE credentials SET sealed_share = sealed_base_ot FROM enrolments"))
    else:
        keys, told = Keyring([RawKeyWrapper(OTHER)]), "do not name"
    before = full.dump()
    with pytest.raises(migrate.DowngradeRefused, match=told):
        migrate.downgrade(store, "0002", keys)
    assert full.dump() == before
    with store.read() as conn:
        assert migrate.current_revision(conn) == migrate.head_revision()


def test_an_erased_person_stays_erased_when_going_down(full: Server, phone: Phone, store: Store) -> None:
    with store.write() as conn:
        delete_data_key(conn, phone.id)
    migrate.downgrade(store, "0002", full.ctx.keyring)
    for owner, column, context, sealed in sealed_values(store):
        if owner == phone.id:
            with pytest.raises(InvalidTag):
                opened_by_0002(KEK, owner, column, context, sealed)


def test_a_database_of_0002_is_taken_over_with_its_own_key_alone(full: Server, store: Store) -> None:
    """With another key the data keys would be wrong ones, and every share would be lost at the next write."""
    migrate.downgrade(store, "0002", full.ctx.keyring)
    migrate.upgrade(store)
    before = full.dump()
    for keyring, told in (
        (Keyring([RawKeyWrapper(OTHER)]), "not the one"),
        (Keyring([_InAToken(OTHER)]), "start once with that"),  # type: ignore[list-item]
    ):
        with pytest.raises(WrongKek, match=told):
            adopt_kek(store, keyring)
        assert full.dump() == before
    both = Keyring([_InAToken(OTHER), RawKeyWrapper(KEK)])  # type: ignore[list-item]
    adopt_kek(store, both)
    assert {bytes(row[1]) for row in full.dump()["data_keys"]} == {RawKeyWrapper(KEK).key_id}


def test_the_keys_of_many_people_are_stored_while_the_next_are_wrapped(
    full: Server, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL would end the transaction while the keys of all lie in memory, and the upgrade with it."""
    for _ in range(3):
        recipients.create(full.ctx, suite=HpkeSuite.X25519)
    migrate.downgrade(store, "0002", full.ctx.keyring)
    migrate.upgrade(store)
    sizes: list[int] = []

    def counted(conn: Any, rows: list[DataKeyRow]) -> None:
        sizes.append(len(rows))
        insert_data_keys(conn, rows)

    monkeypatch.setattr("authsvc.services.kek_adoption._BATCH", 2)
    monkeypatch.setattr("authsvc.services.kek_adoption.insert_data_keys", counted)
    adopt_kek(store, Keyring([RawKeyWrapper(KEK)]))
    assert sizes == [2, 2, 2] and len(full.dump()["data_keys"]) == 6


def test_a_migration_may_compute_for_as_long_as_it_needs(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Statements of a large database are far apart; a server that works must still not hold others up for long."""
    if store.engine.dialect.name != "postgresql":
        return  # SQLite ends no transaction by itself
    seen: list[str] = []
    monkeypatch.setattr(
        "authsvc.store.migrate.command.upgrade",
        lambda config, revision: seen.append(patience(config.attributes["connection"])),
    )
    migrate.upgrade(store)
    with store.read() as conn:
        assert (seen, patience(conn)) == (["0"], "5s")


def patience(conn: Connection) -> str:
    return str(conn.execute(text("SHOW idle_in_transaction_session_timeout")).scalar())


def test_down_and_up_again_gives_the_tables_of_a_fresh_database(full: Server, store: Store, folder: Path) -> None:
    def columns() -> set[tuple[Any, ...]]:
        from sqlalchemy import inspect

        with store.read() as conn:
            found = inspect(conn)
            return {
                (table, column["name"], str(column["type"]), column["nullable"])
                for table in ("data_keys", "keks")
                for column in found.get_columns(table)
            } | {(table, index["name"]) for table in ("data_keys", "keks") for index in found.get_indexes(table)}

    fresh = columns()
    assert len(fresh) == 7
    migrate.downgrade(store, "0002", full.ctx.keyring)
    migrate.upgrade(store)
    assert columns() == fresh
