"""Whether this server can answer logins."""

from __future__ import annotations

from ..key_port.port import KeyUnavailable
from ..store.data_keys import current_kek
from ..store.engine import StoreUnavailable
from ..store.migrate import current_revision
from .context import ServiceContext
from .kek_adoption import opens_server_key


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
