"""Data keys: made for new owners, unwrapped for the rest, and kept in memory for those who log in often."""

from __future__ import annotations

import hmac
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from mpc.primitives.rng import Rng
from mpc.primitives.secrecy import NeverPickled

from ..key_port.health import KeyHealth
from ..key_port.port import KeyUnavailable, KeyWrapper, WrappedKeyRefused, owner_context
from ..key_port.raw_key import RawKeyWrapper
from ..sealing import DATA_KEY_BYTES, SERVER_OWNER, DataKey, SealingError
from ..store.data_keys import DataKeyRow, current_kek, insert_data_keys, load_data_key

_KEPT_KEYS = 4096
_REMEMBERED_ERASURES = 65_536


@dataclass(frozen=True, slots=True)
class NewDataKey:
    """A data key that no row holds yet: its row, and the key for those who may use it once the row is inserted."""

    row: DataKeyRow
    key: DataKey = field(repr=False)


class Keyring(NeverPickled):
    """The KEKs that the settings name, and the data keys unwrapped lately. Safe to share between threads.

    Which KEK is current is what the database says, for all servers at once, and not what comes first here: new data
    keys go under that one. A server that does not have it makes none.
    """

    __slots__ = ("_erased", "_health", "_keys", "_lock", "_wrappers")

    def __init__(self, wrappers: Sequence[KeyWrapper], health: KeyHealth | None = None) -> None:
        """wrappers: the one that should be current first, then those that a rotation takes rows away from."""
        self._wrappers = {wrapper.key_id: wrapper for wrapper in reversed(wrappers)}
        self._health = health or KeyHealth()
        self._keys: OrderedDict[bytes, DataKey] = OrderedDict()
        self._erased: OrderedDict[bytes, None] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def wanted(self) -> KeyWrapper:
        """The KEK that the settings name as the current one."""
        return next(reversed(self._wrappers.values()))

    @property
    def wrappers(self) -> list[KeyWrapper]:
        """All KEKs that the settings name, the wanted one first."""
        return list(reversed(self._wrappers.values()))

    @property
    def raw(self) -> list[RawKeyWrapper]:
        """Those whose bytes are here, the wanted one first."""
        return [each for each in self.wrappers if isinstance(each, RawKeyWrapper)]

    def holds(self, kek_id: bytes) -> bool:
        """Whether the settings name this KEK."""
        return kek_id in self._wrappers

    def is_usable(self, kek_id: bytes) -> bool:
        """Whether this KEK works, by an answer that is a few seconds old at most."""
        return self.holds(kek_id) and self._health.usable(self._wrappers[kek_id])

    def current(self, conn: Connection) -> bytes:
        """The id of the KEK for new data keys. KeyUnavailable("not_held") if it is not among ours."""
        kek_id = current_kek(conn)
        if kek_id is None or not self.holds(kek_id):
            raise KeyUnavailable(
                "not_held",
                "the database is being moved to a key-encryption key that this server's settings do not name",
            )
        return kek_id

    def new_key(self, rng: Rng, owner_id: bytes, kek_id: bytes) -> NewDataKey:
        """A random data key for a new owner, wrapped. It may ask a key service: call it outside write transactions."""
        key = rng.bytes(DATA_KEY_BYTES)
        return NewDataKey(self.wrapped(owner_id, key, kek_id), DataKey(owner_id, key))

    def insert(self, conn: Connection, new: NewDataKey) -> None:
        """Store a new key's row in the caller's write transaction.

        Raises KeyUnavailable if a rotation has begun since it was wrapped. It is not kept in memory: the transaction
        may yet be rolled back.
        """
        if self.current(conn) != new.row.kek_id:
            raise KeyUnavailable("not_held", "a rotation of the key-encryption key has just begun; try again")
        insert_data_keys(conn, [new.row])

    def key_of(self, conn: Connection, owner_id: bytes) -> DataKey:
        """An owner's key; from memory, or from the row, which must have been committed before.

        Raises SealingError if it was erased, is wrapped under a KEK that is retired or unknown, or does not open;
        KeyUnavailable.
        """
        with self._lock:
            kept = self._keys.get(owner_id)
            if kept is not None:
                self._keys.move_to_end(owner_id)
                return kept
        found = load_data_key(conn, owner_id)
        if found is None:
            raise SealingError("the owner has no data key: it was erased")
        row, status = found
        if status not in ("current", "leaving"):
            raise SealingError("the data key is wrapped under a key-encryption key that is retired or unknown")
        key = DataKey(owner_id, self.unwrapped(row))
        with self._lock:
            if owner_id in self._erased:  # this row is from a snapshot of before the erasure
                return key
            self._keys[owner_id] = key
            while len(self._keys) > _KEPT_KEYS:
                # Never the server's own: it is used inside transactions beside which nobody writes.
                del self._keys[next(owner for owner in self._keys if owner != SERVER_OWNER)]
        return key

    def prefetch(self, conn: Connection, owner_id: bytes) -> None:
        """Have the owner's key in memory, if it has one, so that a write transaction need not wait for a key service.
        KeyUnavailable.
        """
        try:
            self.key_of(conn, owner_id)
        except SealingError:
            return  # whoever needs the key will say so

    def forget(self, owner_id: bytes) -> None:
        """Drop an erased owner's key from this process's memory, and keep it no more.

        Others may have begun to read before the erasure was committed, and find the row at any time until they end;
        so what is remembered is the owner, and for longer than a transaction lives.
        """
        with self._lock:
            self._keys.pop(owner_id, None)
            self._erased[owner_id] = None
            while len(self._erased) > _REMEMBERED_ERASURES:
                self._erased.popitem(last=False)

    def unwrapped(self, row: DataKeyRow) -> bytes:
        """The bytes of a data key, whatever the state of its KEK. Raises SealingError, KeyUnavailable."""
        wrapper = self._wrappers.get(row.kek_id)
        if wrapper is None:
            raise KeyUnavailable(
                "not_held", "a data key is wrapped under a key-encryption key that the settings do not name"
            )
        try:
            key = wrapper.unwrap(row.wrapped, owner_context(row.owner_id))
        except WrappedKeyRefused:
            key = b""
        if len(key) != DATA_KEY_BYTES:
            raise SealingError("a wrapped data key does not open for its owner")
        return key

    def wrapped(self, owner_id: bytes, key: bytes, kek_id: bytes) -> DataKeyRow:
        """The row of a data key under one of our KEKs. It has been opened once. KeyUnavailable."""
        row = DataKeyRow(owner_id, kek_id, self._wrappers[kek_id].wrap(key, owner_context(owner_id)))
        try:
            opened = self.unwrapped(row)
        except SealingError:
            opened = b""
        # A row is the only copy of its key: an answer that nobody can open would cost its owner everything.
        if not hmac.compare_digest(opened, key):
            raise KeyUnavailable("bad_answer", "the key-encryption key does not open what it has just wrapped")
        return row

    # The two that `authsvc.store.migrate.OldKeys` asks for.

    def data_key(self, owner_id: bytes, kek_id: bytes, wrapped: bytes) -> DataKey:
        """A data key from the columns of its row. Raises SealingError, KeyUnavailable."""
        return DataKey(owner_id, self.unwrapped(DataKeyRow(owner_id, kek_id, wrapped)))

    def revision_0002_key(self, owner_id: bytes) -> DataKey | None:
        """The key that revision 0002 derives for an owner; None if the wanted KEK is not a file or setting."""
        wanted = self.wanted
        return DataKey(owner_id, wanted.revision_0002_key(owner_id)) if isinstance(wanted, RawKeyWrapper) else None

    def close(self) -> None:
        """End the sessions of the KEKs."""
        for wrapper in self._wrappers.values():
            wrapper.close()

    def __repr__(self) -> str:
        return "Keyring(<hidden>)"
