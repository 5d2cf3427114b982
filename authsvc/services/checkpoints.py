"""Writing checkpoints: which events are covered, signed with a key that only this server's KEK opens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection

from mpc.errors import DecodeError
from mpc.login.history import NO_HASH

from ..sealing import SERVER_OWNER, SealingError
from ..store.checkpoints import CheckpointRow, event_hashes, insert_checkpoint, latest_checkpoint, newest_event_id
from ..store.server_state import insert_state, load_state, put_state
from .audit_memory import CheckpointHead
from .checkpoint_document import Checkpoint, EventsDigest, SignedCheckpoint
from .context import ServiceContext
from .secrets_at_rest import open_server_value, seal_server_value

KEY_NAME = "audit_key"
HEAD_NAME = "audit_head"
BEGUN_NAME = "audit_begun"
"""Present once key and head were made: where it is, the absence of either is somebody's doing."""
_NAMES = (KEY_NAME, HEAD_NAME, BEGUN_NAME)
_PAGE = 10_000


class AuditLogAltered(Exception):
    """What the database holds of the audit log is not what this server wrote last, so nothing more is signed.

    Run `authsvc audit verify`, which tells what; keep the exported checkpoints, and put the database back.
    """


def begin_audit(ctx: ServiceContext) -> None:
    """Make key and head, with no checkpoint yet, in a database that has none. For every start, after `adopt_kek`.

    A log that was altered stops no start: whoever is to sign tells of it. StoreUnavailable, KeyUnavailable.
    """
    floor = ctx.audit_memory.highest()
    try:
        with ctx.store.read() as conn:
            begun = load_state(conn, BEGUN_NAME) is not None
        if begun:
            return
        with ctx.store.write() as conn:
            head, _ = _checked(ctx, conn, floor, begin=True)
    except AuditLogAltered:
        return
    if head is not None:
        ctx.audit_memory.note(head)


def write_checkpoint(ctx: ServiceContext, *, unless_within_s: float = 0.0) -> CheckpointRow | None:
    """Cover the events that no checkpoint covers yet; None if there are none, or another worker was faster.

    unless_within_s: write nothing if the last checkpoint is younger. Other writers wait for two short transactions,
    however many events there are: one to find where the range ends, one to insert. Nothing is signed on the word of
    the rows alone: the last of them must be the one that the sealed head names, before and after the events are read.

    Raises AuditLogAltered, after logging it; StoreUnavailable; SealingError if the key was tampered with; ValueError
    as `Checkpoint.signed`.
    """
    with _told():
        return _written(ctx, unless_within_s)


def _written(ctx: ServiceContext, unless_within_s: float) -> CheckpointRow | None:
    floor = ctx.audit_memory.highest()
    with ctx.store.read() as conn:
        # Here too, or a row that claims to cover all events to come would silence the thread.
        head, latest = _checked(ctx, conn, floor)
        is_over = newest_event_id(conn) <= (latest.last_event_id if latest else 0)
    if head is not None:
        ctx.audit_memory.note(head)
    if is_over or (latest is not None and 0 <= ctx.clock() - latest.at < unless_within_s):
        return None
    floor = ctx.audit_memory.highest()
    with ctx.store.write() as conn:
        # Nobody is inside a transaction now, so no event with an id up to this one can still appear.
        last_id = newest_event_id(conn)
        before, latest = _checked(ctx, conn, floor, begin=True)
        key = _signing_key(ctx, conn)
    assert before is not None
    ctx.audit_memory.note(before)
    first_id = 1 if latest is None else latest.last_event_id + 1
    if last_id < first_id:
        return None
    covered = _digest(ctx, first_id, last_id)
    checkpoint = Checkpoint(
        server_id=ctx.policy.server_id,
        number=before.number + 1,
        at=int(ctx.clock()),
        first_event_id=first_id,
        last_event_id=last_id,
        events=covered.count,
        events_digest=covered.value(),
        previous=before.digest,
    )
    document = checkpoint.signed(key)
    row = CheckpointRow(checkpoint.number, float(checkpoint.at), last_id, document)
    head = CheckpointHead(row.number, SignedCheckpoint.decode(document).digest)
    floor = ctx.audit_memory.highest()
    with ctx.store.write() as conn:
        if _checked(ctx, conn, floor)[0] != before:
            return None
        insert_checkpoint(conn, row)
        put_state(
            conn, HEAD_NAME, seal_server_value(ctx.keyring.key_of(conn, SERVER_OWNER), HEAD_NAME, head.to_bytes())
        )
    ctx.audit_memory.note(head)
    return row


def public_key(ctx: ServiceContext) -> bytes:
    """The 32-byte Ed25519 key that verifies this server's checkpoints. AuditLogAltered, SealingError."""
    floor = ctx.audit_memory.highest()
    with _told(), ctx.store.write() as conn:
        _checked(ctx, conn, floor, begin=True)
        return _signing_key(ctx, conn).public_key().public_bytes_raw()


def key_from_bytes(value: bytes) -> Ed25519PrivateKey:
    """The signing key as it was sealed: 32 bytes."""
    return Ed25519PrivateKey.from_private_bytes(value)


def _checked(
    ctx: ServiceContext, conn: Connection, floor: CheckpointHead | None, *, begin: bool = False
) -> tuple[CheckpointHead | None, CheckpointRow | None]:
    """The sealed head and the last checkpoint, which agree. AuditLogAltered.

    floor: what this process had seen before the transaction. (None, None) in a database that never had key, head or
    checkpoint; with `begin`, in a transaction that writes, they are made there. One from a version without
    `audit_begun` gets it.
    """
    latest = latest_checkpoint(conn)
    key, sealed, begun = (load_state(conn, name) for name in _NAMES)
    if latest is None and sealed is None and begun is None and floor is None:
        return (_begun(ctx, conn, make_key=key is None) if begin else None), None
    if key is None:
        raise AuditLogAltered("the key that signs checkpoints is missing")
    head = _opened_head(ctx, conn, sealed)
    if begun is None and begin:
        _mark_begun(ctx, conn)
    if floor is not None and (head.number < floor.number or (head.number == floor.number and head != floor)):
        raise AuditLogAltered(f"checkpoint {floor.number} was written, but the sealed record is of {head.number}")
    if _head_of(latest) != head:
        found = 0 if latest is None else latest.number
        raise AuditLogAltered(f"the last checkpoint, {found}, is not the one that was written last, {head.number}")
    return head, latest


def _opened_head(ctx: ServiceContext, conn: Connection, sealed: bytes | None) -> CheckpointHead:
    try:
        opened = open_server_value(ctx.keyring.key_of(conn, SERVER_OWNER), HEAD_NAME, sealed)
    except SealingError:
        raise AuditLogAltered("the sealed record of the last checkpoint is missing or was changed") from None
    return CheckpointHead.from_bytes(opened)


def _head_of(latest: CheckpointRow | None) -> CheckpointHead | None:
    """The head that a row is worth; None if it does not say what its own document says."""
    if latest is None:
        return CheckpointHead(0, NO_HASH)
    try:
        read = SignedCheckpoint.decode(bytes(latest.document))
    except (DecodeError, TypeError):
        return None
    told = read.checkpoint
    if (told.number, told.last_event_id) != (latest.number, latest.last_event_id):
        return None
    return CheckpointHead(told.number, read.digest)


def _begun(ctx: ServiceContext, conn: Connection, *, make_key: bool) -> CheckpointHead:
    own, head = ctx.keyring.key_of(conn, SERVER_OWNER), CheckpointHead(0, NO_HASH)
    if make_key:
        raw = Ed25519PrivateKey.generate().private_bytes_raw()
        insert_state(conn, KEY_NAME, seal_server_value(own, KEY_NAME, raw))
    insert_state(conn, HEAD_NAME, seal_server_value(own, HEAD_NAME, head.to_bytes()))
    _mark_begun(ctx, conn)
    return head


def _mark_begun(ctx: ServiceContext, conn: Connection) -> None:
    own = ctx.keyring.key_of(conn, SERVER_OWNER)
    insert_state(conn, BEGUN_NAME, seal_server_value(own, BEGUN_NAME, b"begun"))


@contextmanager
def _told() -> Iterator[None]:
    """Every time, for as long as it is so: somebody has to see it."""
    try:
        yield
    except AuditLogAltered as altered:
        structlog.get_logger().error("audit_log_altered", reason=str(altered))
        raise


def _signing_key(ctx: ServiceContext, conn: Connection) -> Ed25519PrivateKey:
    own = ctx.keyring.key_of(conn, SERVER_OWNER)
    return key_from_bytes(open_server_value(own, KEY_NAME, load_state(conn, KEY_NAME)))


def _digest(ctx: ServiceContext, first_id: int, last_id: int) -> EventsDigest:
    """Over rows that nobody changes any more, so page after page, each in a snapshot of its own."""
    digest = EventsDigest()
    while True:
        with ctx.store.read() as conn:
            page = event_hashes(conn, first_id, last_id, limit=_PAGE)
        digest.add(page)
        if len(page) < _PAGE:
            return digest
        first_id = page[-1][0] + 1
