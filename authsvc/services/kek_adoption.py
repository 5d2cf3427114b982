"""At every start: the key-encryption key of the settings must be the one that the database was sealed under.

| in the database | happens |
|---|---|
| nothing sealed | it takes the KEK of the settings as its own |
| a current KEK | the settings must name it and none that is retired; the server's own data key must open under it |
| the state of revision 0002 | the data keys which that derived from its KEK are wrapped under it; no column changes |
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from sqlalchemy import Connection, select, union

from mpc.primitives.rng import SystemRng

from ..key_port.port import KeyWrapper
from ..key_port.raw_key import RawKeyWrapper
from ..sealing import SERVER_OWNER, DataKey, SealingError
from ..store.data_keys import (
    current_kek,
    insert_data_keys,
    kek_status,
    load_data_key,
    set_kek_status,
)
from ..store.engine import Store
from ..store.server_state import any_enrolment, insert_state, load_state
from ..store.tables import enrolments, recipients
from .keyring import Keyring, NewDataKey

_CHECK = "kek_check"
_KNOWN = b"tandem kek check v1"
_BATCH = 1_000


class WrongKek(Exception):
    """The key-encryption key is not the one this database needs.

    Put the right key (file, setting, token or command) back. Starting with a new key would leave every share in the
    database unreadable; `authsvc rotate-kek` changes it.
    """


def adopt_kek(store: Store, keyring: Keyring) -> None:
    """Check the KEK against the database; an empty database takes it as its own. Raises WrongKek, KeyUnavailable."""
    with store.read() as conn:
        is_new = current_kek(conn) is None
    if is_new:
        # Made before the transaction: it may ask a key service.
        fresh = keyring.new_key(SystemRng(), SERVER_OWNER, keyring.wanted.key_id)
        with store.write() as conn:
            if current_kek(conn) is None:  # of two servers that start at once, one was first
                _first_kek(conn, keyring, fresh)
    with store.read() as conn:
        _check(conn, keyring)


def rotation_is_due(store: Store, keyring: Keyring) -> bool:
    """Whether the settings name another KEK than the one that is current: `authsvc rotate-kek` is still to be run."""
    with store.read() as conn:
        return current_kek(conn) != keyring.wanted.key_id


def opens_server_key(conn: Connection, keyring: Keyring) -> bool:
    """Whether the server's own data key is here and is the right one. KeyUnavailable."""
    sealed = load_state(conn, _CHECK)
    try:
        return sealed is not None and _opens(keyring.key_of(conn, SERVER_OWNER), sealed)
    except SealingError:
        return False


def _check(conn: Connection, keyring: Keyring) -> None:
    wanted, current = keyring.wanted, current_kek(conn)
    for wrapper in keyring.wrappers:
        # That it is retired is a row that anybody with the database can change. What is not held opens nothing.
        if kek_status(conn, wrapper.key_id) == "retired":
            advice = "is not taken any more" if wrapper is wanted else "is still named; take it out of kek_previous"
            raise WrongKek(f"the key-encryption key ({_told(wrapper)}) was retired by a rotation and {advice}")
    if current is None or not keyring.holds(current):
        found = load_data_key(conn, SERVER_OWNER)
        if found is not None and kek_status(conn, wanted.key_id) == "leaving":
            raise WrongKek("a rotation to another key-encryption key has begun, and the settings do not name that key")
        raise WrongKek("the key-encryption key is not the one this database was sealed with")
    if not opens_server_key(conn, keyring):
        raise WrongKek("the key-encryption key does not open what this database was sealed with")


def _first_kek(conn: Connection, keyring: Keyring, fresh: NewDataKey) -> None:
    now = time.time()
    sealed = load_state(conn, _CHECK)
    if sealed is None:
        if any_enrolment(conn):
            raise WrongKek("the database holds enrolments but no record of its key-encryption key")
        insert_data_keys(conn, [fresh.row])
        set_kek_status(conn, fresh.row.kek_id, "current", now)
        insert_state(conn, _CHECK, fresh.key.seal(_CHECK, b"", _KNOWN))
        return
    of_0002 = _kek_of_revision_0002(keyring.raw, sealed)
    owners = select(enrolments.c.id).where(enrolments.c.status != "revoked")
    ids = [bytes(row[0]) for row in conn.execute(union(owners, select(recipients.c.id)))]
    ids.append(SERVER_OWNER)
    # In batches: PostgreSQL ends a transaction that lies idle for seconds, as while many keys are wrapped.
    for start in range(0, len(ids), _BATCH):
        keys = ((each, of_0002.revision_0002_key(each)) for each in ids[start : start + _BATCH])
        insert_data_keys(conn, [keyring.wrapped(owner_id, key, of_0002.key_id) for owner_id, key in keys])
    set_kek_status(conn, of_0002.key_id, "current", now)


def _kek_of_revision_0002(raw: Iterable[RawKeyWrapper], sealed: bytes) -> RawKeyWrapper:
    found = False
    for wrapper in raw:
        found = True
        if _opens(DataKey(SERVER_OWNER, wrapper.revision_0002_key(SERVER_OWNER)), sealed):
            return wrapper
    if not found:
        raise WrongKek(
            "this database is from a version whose key-encryption key was a file or setting; start once with that"
            " (kek_file, kek, or in kek_previous), then run authsvc rotate-kek"
        )
    raise WrongKek("the key-encryption key is not the one this database was sealed with")


def _opens(key: DataKey, sealed: bytes) -> bool:
    try:
        return key.open(_CHECK, b"", sealed) == _KNOWN
    except SealingError:
        return False


def _told(wrapper: KeyWrapper) -> str:
    return f"{wrapper.kind}, id {wrapper.key_id.hex()}"
