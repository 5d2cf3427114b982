"""Whether this server can answer logins."""

from __future__ import annotations

import threading
import time

from ..key_port.port import KeyUnavailable
from ..store.data_keys import current_kek
from ..store.engine import StoreUnavailable
from ..store.migrate import current_revision
from .context import ServiceContext
from .kek_adoption import opens_server_key

KEPT_S = 1.0
"""How long an answer is given again. Anybody may ask, and each check reads the database."""


class Readiness:
    """`readiness`, of which there is one check in `KEPT_S` however many ask. For any thread."""

    def __init__(self, ctx: ServiceContext, head: str | None) -> None:
        self._ctx = ctx
        self._head = head
        self._lock = threading.Lock()
        self._last: tuple[float, dict[str, bool]] | None = None

    def at_hand(self) -> dict[str, bool] | None:
        """The answer, if it is young enough; waits for nothing."""
        last = self._last
        return last[1] if last is not None and time.monotonic() - last[0] < KEPT_S else None

    def check(self) -> dict[str, bool]:
        """The answer; those that ask while somebody looks wait for what he finds."""
        with self._lock:
            found = self.at_hand()
            if found is None:
                found = readiness(self._ctx, self._head)
                self._last = time.monotonic(), found
            return found


def readiness(ctx: ServiceContext, head: str | None) -> dict[str, bool]:
    """What a load balancer asks, by name; the server is ready if all are true. head: the revision the code
    was written for.

    database: it answers. migrations: it is at that revision. key_port: the key-encryption key that is current in the
    database is among the settings', works (asked every few seconds at most), and belongs to this database.
    """
    checks = {"database": False, "migrations": False, "key_port": False}
    try:
        with ctx.store.read() as conn:
            checks["database"] = True
            checks["migrations"] = current_revision(conn) == head
            if not checks["migrations"]:
                return checks
            current = current_kek(conn)
            belongs = opens_server_key(conn, ctx.keyring)
        # Outside the transaction: a key service may take its time.
        checks["key_port"] = belongs and current is not None and ctx.keyring.is_usable(current)
    except (StoreUnavailable, KeyUnavailable):
        pass
    return checks
