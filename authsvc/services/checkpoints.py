"""Writing checkpoints: which events are covered, signed with a key that only this server's KEK opens."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Connection

from mpc.login.history import NO_HASH

from ..sealing import SERVER_OWNER
from ..store.checkpoints import CheckpointRow, event_hashes, insert_checkpoint, latest_checkpoint, newest_event_id
from ..store.server_state import load_state, put_state
from .checkpoint_document import Checkpoint, EventsDigest, SignedCheckpoint
from .context import ServiceContext
from .secrets_at_rest import open_server_value, seal_server_value

KEY_NAME = "audit_key"
HEAD_NAME = "audit_head"
_PAGE = 10_000


@dataclass(frozen=True, slots=True)
class CheckpointHead:
    """Which checkpoint is the last. Kept sealed: whoever can only write the database cannot drop the last ones."""

    number: int
    digest: bytes

    def to_bytes(self) -> bytes:
        return self.number.to_bytes(8, "big") + self.digest

    @classmethod
    def from_bytes(cls, value: bytes) -> CheckpointHead:
        return cls(int.from_bytes(value[:8], "big"), value[8:])


def write_checkpoint(ctx: ServiceContext, *, unless_within_s: float = 0.0) -> CheckpointRow | None:
    """Cover the events that no checkpoint covers yet; None if there are none, or another worker was faster.

    unless_within_s: write nothing if the last checkpoint is younger. Other writers wait for two short transactions,
    however many events there are: one to find where the range ends, one to insert. Raises StoreUnavailable;
    SealingError and DecodeError if key or last checkpoint was tampered with; ValueError as `Checkpoint.signed`.
    """
    with ctx.store.read() as conn:
        latest = latest_checkpoint(conn)
        if newest_event_id(conn) <= (latest.last_event_id if latest else 0):
            return None
        if latest is not None and 0 <= ctx.clock() - latest.at < unless_within_s:
            return None
    with ctx.store.write() as conn:
        # Nobody is inside a transaction now, so no event with an id up to this one can still appear.
        last_id = newest_event_id(conn)
        latest = latest_checkpoint(conn)
        key = _signing_key(ctx, conn)
    before = None if latest is None else SignedCheckpoint.decode(latest.document)
    first_id = 1 if latest is None else latest.last_event_id + 1
    if last_id < first_id:
        return None
    covered = _digest(ctx, first_id, last_id)
    checkpoint = Checkpoint(
        server_id=ctx.policy.server_id,
        number=1 if latest is None else latest.number + 1,
        at=int(ctx.clock()),
        first_event_id=first_id,
        last_event_id=last_id,
        events=covered.count,
        events_digest=covered.value(),
        previous=NO_HASH if before is None else before.digest,
    )
    document = checkpoint.signed(key)
    row = CheckpointRow(checkpoint.number, float(checkpoint.at), last_id, document)
    head = CheckpointHead(row.number, SignedCheckpoint.decode(document).digest)
    with ctx.store.write() as conn:
        if latest_checkpoint(conn) != latest:
            return None
        insert_checkpoint(conn, row)
        put_state(
            conn, HEAD_NAME, seal_server_value(ctx.keyring.key_of(conn, SERVER_OWNER), HEAD_NAME, head.to_bytes())
        )
    return row


def public_key(ctx: ServiceContext) -> bytes:
    """The 32-byte Ed25519 key that verifies this server's checkpoints; the pair is made at first need. SealingError."""
    with ctx.store.write() as conn:
        return _signing_key(ctx, conn).public_key().public_bytes_raw()


def key_from_bytes(value: bytes) -> Ed25519PrivateKey:
    """The signing key as it was sealed: 32 bytes."""
    return Ed25519PrivateKey.from_private_bytes(value)


def _signing_key(ctx: ServiceContext, conn: Connection) -> Ed25519PrivateKey:
    sealed, own = load_state(conn, KEY_NAME), ctx.keyring.key_of(conn, SERVER_OWNER)
    if sealed is not None:
        return key_from_bytes(open_server_value(own, KEY_NAME, sealed))
    key = Ed25519PrivateKey.generate()
    put_state(conn, KEY_NAME, seal_server_value(own, KEY_NAME, key.private_bytes_raw()))
    return key


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
