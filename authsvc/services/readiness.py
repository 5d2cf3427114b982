"""Whether this server can answer logins, and that its key-encryption key belongs to its database."""

from __future__ import annotations

from ..sealing import Sealer, SealingError
from ..store.engine import Store, StoreUnavailable
from ..store.migrate import current_revision
from ..store.server_state import any_enrolment, insert_state, load_state
from .context import ServiceContext

_NAME = "kek_check"
_OWNER = bytes(16)
_KNOWN = b"tandem kek check v1"


class WrongKek(Exception):
    """The key-encryption key is not the one this database was sealed with.

    Put the right key file (or setting) back. Starting with a new key would leave every share in the database
    unreadable.
    """


def adopt_kek(store: Store, sealer: Sealer) -> None:
    """Check the KEK against the database; an empty database takes it as its own. Raises WrongKek."""
    with store.write() as conn:
        sealed = load_state(conn, _NAME)
        if sealed is None:
            if any_enrolment(conn):
                raise WrongKek("the database holds enrolments but no record of its key-encryption key")
            insert_state(conn, _NAME, sealer.seal(_OWNER, _NAME, b"", _KNOWN))
        elif not _opens(sealer, sealed):
            raise WrongKek("the key-encryption key is not the one this database was sealed with")


def readiness(ctx: ServiceContext, head: str | None) -> dict[str, bool]:
    """What a load balancer asks, by name; the server is ready if all are true. head: the revision the code
    was written for.
    """
    checks = {"database": False, "schema": False, "key": False}
    try:
        with ctx.store.read() as conn:
            checks["database"] = True
            checks["schema"] = current_revision(conn) == head
            if checks["schema"]:
                sealed = load_state(conn, _NAME)
                checks["key"] = sealed is not None and _opens(ctx.sealer, sealed)
    except StoreUnavailable:
        pass
    return checks


def _opens(sealer: Sealer, sealed: bytes) -> bool:
    try:
        return sealer.open(_OWNER, _NAME, b"", sealed) == _KNOWN
    except SealingError:
        return False
