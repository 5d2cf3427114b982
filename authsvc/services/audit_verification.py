"""Verifying the audit log: every chain, every checkpoint, and whether the two and the heads agree.

What is found is told in words and nothing is put right. A break is told once: after it the walk goes on from what is
stored, so that one changed event does not accuse all that follow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from sqlalchemy import Connection

from mpc.errors import DecodeError
from mpc.login.history import HASH_BYTES, NO_HASH, event_hash
from mpc.provisioning.signed_document import key_fingerprint

from ..sealing import SERVER_OWNER, SealingError
from ..store.audit_walk import StoredHead, count_events, enrolment_events, server_events, stored_heads
from ..store.checkpoints import CheckpointRow, checkpoints, event_hashes
from ..store.events import EventRow, server_head
from ..store.server_state import load_state
from .audit_memory import CheckpointHead
from .checkpoint_document import EventsDigest, SignedCheckpoint
from .checkpoints import BEGUN_NAME, HEAD_NAME, KEY_NAME, key_from_bytes
from .context import ServiceContext
from .secrets_at_rest import open_server_value

Kind = Literal[
    "event_changed",
    "events_missing",
    "event_repeated",
    "event_out_of_order",
    "event_after_erasure",
    "chain_cut",
    "chain_without_enrolment",
    "checkpoint_missing",
    "checkpoint_unreadable",
    "checkpoint_of_other_key",
    "checkpoint_out_of_order",
    "checkpoint_contradicted",
    "checkpoint_key_missing",
    "rolled_back",
    "rewritten",
]
Progress = Callable[[int, int], None]

MAX_FINDINGS = 1000
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken place. event_id: the first event that is concerned, where that is known."""

    kind: Kind
    text: str
    event_id: int | None = None
    enrolment_id: bytes | None = None
    seq: int | None = None
    checkpoint: int | None = None


@dataclass(slots=True)
class Report:
    """What was walked and found. `findings` holds the first thousand, `found` counts all."""

    events: int = 0
    chains: int = 0
    checkpoints: int = 0
    covered: int = 0
    """Events up to the last checkpoint; those after it have no signature yet."""
    signing_key: str | None = None
    """The fingerprint of the key that the checkpoints were verified with."""
    found: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return self.found == 0

    @property
    def first(self) -> Finding | None:
        """The finding at the earliest event."""
        placed = [each for each in self.findings if each.event_id is not None]
        return min(placed, key=lambda each: each.event_id or 0) if placed else next(iter(self.findings), None)

    def add(self, finding: Finding) -> None:
        self.found += 1
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(finding)


def verify_log(
    ctx: ServiceContext,
    *,
    kept: bytes | None = None,
    public_key: bytes | None = None,
    progress: Progress = lambda done, total: None,
) -> Report:
    """Walk everything in one snapshot, beside a running server.

    kept: a checkpoint that was exported before, which the log must still contain. public_key: the 32-byte key that
    signed; if None, the one that the database holds sealed under the KEK, which nobody can exchange without it.
    DecodeError if `kept` is no checkpoint, or of another key.
    """
    with ctx.store.read() as conn:
        walk = _Walk(ctx, conn, public_key, progress)
        witness = None if kept is None else walk.read_witness(kept)
        walk.chains()
        walk.checkpoints(witness)
    return walk.report


class _Walk:
    """One verification."""

    def __init__(self, ctx: ServiceContext, conn: Connection, public_key: bytes | None, progress: Progress) -> None:
        self._conn = conn
        self._ctx = ctx
        self._progress = progress
        self._total = count_events(conn)
        self._done = 0
        self.report = Report(events=self._total)
        self._key = public_key if public_key is not None else self._sealed_key()
        self.report.signing_key = None if self._key is None else key_fingerprint(self._key)

    # ---- chains ----

    def chains(self) -> None:
        """Every chain from its first event to the head that its enrolment's row, or `server_state`, names."""
        head = server_head(self._conn)
        server = _Chain(b"", self._found)
        for row in server_events(self._conn):
            self._step(server, row)
        self.report.chains += server.length > 0
        server.end_at(head["audit_seq"], head["audit_hash"])

        heads = _Ahead(stored_heads(self._conn))
        chain: _Chain | None = None
        for row in enrolment_events(self._conn):
            if chain is None or row.enrolment_id != chain.owner:
                self._close(chain, heads)
                chain = _Chain(row.enrolment_id or b"", self._found)
                self.report.chains += 1
            self._step(chain, row)
        self._close(chain, heads)
        for left in heads.before(None):
            _Chain(left.enrolment_id, self._found).end_at(left.seq, left.hash)
        if self._done != self._total:
            text = f"{self._total - self._done} events belong to no chain: their enrolment id is of no enrolment's form"
            self._found(Finding("event_changed", text))

    def _step(self, chain: _Chain, row: EventRow) -> None:
        chain.step(row)
        self._tick()

    def _close(self, chain: _Chain | None, heads: _Ahead) -> None:
        if chain is None:
            return
        for without_events in heads.before(chain.owner):
            _Chain(without_events.enrolment_id, self._found).end_at(without_events.seq, without_events.hash)
        head = heads.take(chain.owner)
        if head is None:
            chain.end_without_row()
        else:
            chain.end_at(head.seq, head.hash)

    # ---- checkpoints ----

    def read_witness(self, kept: bytes) -> SignedCheckpoint:
        witness = SignedCheckpoint.decode(kept)
        if self._key is not None and witness.signing_key != self._key:
            raise DecodeError(
                "checkpoint",
                f"is signed with the key {key_fingerprint(witness.signing_key)}, and not with this server's",
            )
        return witness

    def checkpoints(self, witness: SignedCheckpoint | None) -> None:
        """Every checkpoint: signature, order, and the events that it covers."""
        previous: SignedCheckpoint | None = None
        number, last_id, seen = 0, 0, None
        for row in checkpoints(self._conn):
            self.report.checkpoints += 1
            if row.number != number + 1:
                lost = f"checkpoint {number + 1}" + (f" to {row.number - 1}" if row.number > number + 2 else "")
                self._found(Finding("checkpoint_missing", f"{lost} is missing", last_id + 1, checkpoint=number + 1))
                previous = None
            read = self._read(row)
            if read is not None:
                self._check(row, read, previous, after_gap=row.number != number + 1, expected_first=last_id + 1)
                if witness is not None and read.checkpoint.number == witness.checkpoint.number:
                    seen = read
            previous, number, last_id = read, row.number, row.last_event_id
        self._check_head(previous, number)
        if witness is not None:
            self._check_witness(witness, seen, number)
        self._progress(2 * self._total, 2 * self._total)

    def _read(self, row: CheckpointRow) -> SignedCheckpoint | None:
        try:
            read = SignedCheckpoint.decode(bytes(row.document))
        except (DecodeError, TypeError):
            text = f"checkpoint {row.number} is not as it was signed"
            self._found(Finding("checkpoint_unreadable", text, checkpoint=row.number))
            return None
        told = read.checkpoint
        if (told.number, float(told.at), told.last_event_id) != (row.number, row.at, row.last_event_id):
            text = f"the row of checkpoint {row.number} holds the document of another, or was changed"
            self._found(Finding("checkpoint_out_of_order", text, told.first_event_id, checkpoint=row.number))
            return None
        if self._key is not None and read.signing_key != self._key:
            text = f"checkpoint {row.number} is signed with another key, {key_fingerprint(read.signing_key)}"
            self._found(Finding("checkpoint_of_other_key", text, told.first_event_id, checkpoint=row.number))
        return read

    def _check(
        self,
        row: CheckpointRow,
        read: SignedCheckpoint,
        previous: SignedCheckpoint | None,
        *,
        after_gap: bool,
        expected_first: int,
    ) -> None:
        told = read.checkpoint
        # After a break there is no checkpoint to continue from; the break is told already.
        known = NO_HASH if row.number == 1 else previous.digest if previous else told.previous
        if told.previous != known or told.first_event_id != (told.first_event_id if after_gap else expected_first):
            text = f"checkpoint {row.number} does not continue the one before it"
            self._found(Finding("checkpoint_out_of_order", text, told.first_event_id, checkpoint=row.number))
        digest = self._digest(told.first_event_id, told.last_event_id)
        if digest is None or digest.count != told.events or digest.value() != told.events_digest:
            same = digest is None or digest.count == told.events
            text = (
                f"checkpoint {row.number} covers ids {told.first_event_id} to {told.last_event_id}, in which there were"
                f" {told.events} events; the database holds {'others' if same else digest.count if digest else 0} there"
            )
            self._found(Finding("checkpoint_contradicted", text, told.first_event_id, checkpoint=row.number))

    def _digest(self, first_id: int, last_id: int) -> EventsDigest | None:
        digest = EventsDigest()
        while page := event_hashes(self._conn, first_id, last_id, limit=_PAGE):
            try:
                digest.add(page)
            except ValueError:
                return None
            self._tick(len(page))
            first_id = page[-1][0] + 1
        self.report.covered += digest.count
        return digest

    def _check_head(self, last: SignedCheckpoint | None, number: int) -> None:
        """The sealed head names the last checkpoint, so the last ones cannot be dropped unnoticed."""
        sealed = self._state(HEAD_NAME)
        if sealed is None and number == 0 and self._state(BEGUN_NAME) is None:
            return
        try:
            head = CheckpointHead.from_bytes(open_server_value(self._ctx.data_key(SERVER_OWNER), HEAD_NAME, sealed))
        except SealingError:
            text = "the sealed record of the last checkpoint is missing or was changed"
            self._found(Finding("checkpoint_key_missing", text))
            return
        if head.number > number:
            text = f"the last checkpoint is {number}, but {head.number} were written: the end of them is missing"
            self._found(Finding("checkpoint_missing", text, checkpoint=number + 1))
        elif head.number < number or (last is not None and last.digest != head.digest):
            text = f"the last checkpoint, {number}, is not the one that was written last"
            self._found(Finding("checkpoint_out_of_order", text, checkpoint=number))

    def _check_witness(self, witness: SignedCheckpoint, seen: SignedCheckpoint | None, last: int) -> None:
        number = witness.checkpoint.number
        if last < number:
            text = (
                f"the kept checkpoint {number} is later than the last one here, {last}: the log was cut, or the"
                " database brought back to an older state"
            )
            self._found(Finding("rolled_back", text, witness.checkpoint.first_event_id, checkpoint=number))
        elif seen is None or seen.digest != witness.digest:
            text = f"checkpoint {number} here is another one than was kept: the log was written anew"
            self._found(Finding("rewritten", text, witness.checkpoint.first_event_id, checkpoint=number))

    def _sealed_key(self) -> bytes | None:
        sealed = self._state(KEY_NAME)
        if sealed is None:
            if self._state(BEGUN_NAME) is not None or next(checkpoints(self._conn), None) is not None:
                self._found(Finding("checkpoint_key_missing", "the key that signs checkpoints is missing"))
            return None
        try:
            key = key_from_bytes(open_server_value(self._ctx.data_key(SERVER_OWNER), KEY_NAME, sealed))
        except SealingError:
            self._found(Finding("checkpoint_key_missing", "the key that signs checkpoints was changed"))
            return None
        return key.public_key().public_bytes_raw()

    def _state(self, name: str) -> bytes | None:
        try:
            return load_state(self._conn, name)
        except TypeError:  # SQLite takes text in a column of bytes
            return b""

    def _found(self, finding: Finding) -> None:
        self.report.add(finding)

    def _tick(self, events: int = 1) -> None:
        before = self._done // _PAGE
        self._done += events
        if self._done // _PAGE > before:
            self._progress(min(self._done, 2 * self._total), 2 * self._total)


class _Chain:
    """One chain on the way from its first event to its head."""

    def __init__(self, owner: bytes, found: Callable[[Finding], None]) -> None:
        self.owner = owner
        self.length = 0
        self._found = found
        self._seq, self._id, self._at_hash = 0, 0, NO_HASH
        self._name = ""
        self._after_gap = False

    def step(self, row: EventRow) -> None:
        self.length += 1
        if type(row.seq) is not int or type(row.hash) is not bytes:
            self._tell("event_changed", "holds what this program never writes", row)
            self._after_gap = True
            return
        if self._name == "enrolment_erased":
            self._tell("event_after_erasure", "follows the erasure of its enrolment", row)
        if row.seq == self._seq:
            self._tell("event_repeated", "has a number that another event has too", row)
            return
        if row.seq != self._seq + 1:
            lost = range(self._seq + 1, row.seq)
            named = f"event {lost[0]} is" if len(lost) == 1 else f"events {self._seq + 1} to {row.seq - 1} are"
            text = f"{self._place()}: {named} missing"
            self._found(Finding("events_missing", text, row.id, self.owner or None, self._seq + 1))
            self._after_gap = True
        if row.id <= self._id:
            self._tell("event_out_of_order", "has a lower id than the event before it", row)
        # After a gap there is no hash to continue from; the gap is told already.
        if not self._after_gap and _hash_of(self._at_hash, self.owner, row) != row.hash:
            self._tell(
                "event_changed", "does not have the hash of its content: it, or the one before, was changed", row
            )
        self._after_gap = False
        self._seq, self._id, self._at_hash, self._name = row.seq, row.id, row.hash, row.name

    def end_at(self, seq: int, digest: bytes) -> None:
        """The chain must end where the head says that it does."""
        if (self._seq, self._at_hash) == (seq, digest):
            return
        if isinstance(seq, int) and seq > self._seq:
            text = f"{self._place()}: ends with event {self._seq}, but {seq} were written: the last ones are missing"
        elif seq == self._seq:
            text = f"{self._place()}: the last event, {self._seq}, is not the one that was written last"
        else:
            text = f"{self._place()}: ends with event {self._seq}, though only {seq} were written by this program"
        self._found(Finding("chain_cut", text, self._id or None, self.owner or None, self._seq))

    def end_without_row(self) -> None:
        """Only an erasure takes an enrolment's row away and leaves its events."""
        if self._name != "enrolment_erased":
            text = f"{self._place()}: the enrolment's row is gone, and its last event does not tell of an erasure"
            self._found(Finding("chain_without_enrolment", text, self._id, self.owner, self._seq))

    def _tell(self, kind: Kind, problem: str, row: EventRow) -> None:
        text = f"{self._place()}: event {row.seq} (id {row.id}) {problem}"
        self._found(Finding(kind, text, row.id, self.owner or None, row.seq))

    def _place(self) -> str:
        return f"enrolment {self.owner.hex()}" if self.owner else "the server's own chain"


class _Ahead:
    """Heads by enrolment id, beside the events in the same order."""

    def __init__(self, heads: Iterator[StoredHead]) -> None:
        self._heads = heads
        self._next = next(heads, None)

    def before(self, owner: bytes | None) -> Iterator[StoredHead]:
        """Those that come before that enrolment; all that are left for None."""
        while self._next is not None and (owner is None or self._next.enrolment_id < owner):
            yield self._next
            self._next = next(self._heads, None)

    def take(self, owner: bytes) -> StoredHead | None:
        """The head of that enrolment, if it has a row."""
        if self._next is None or self._next.enrolment_id != owner:
            return None
        head, self._next = self._next, next(self._heads, None)
        return head


def _hash_of(previous: bytes, owner: bytes, row: EventRow) -> bytes | None:
    """The hash that the row should have; None if its content is of no kind that this program writes."""
    try:
        if type(previous) is not bytes or len(previous) != HASH_BYTES:
            return None
        return event_hash(previous, row.seq, row.at, owner, row.name, row.detail)
    except Exception:
        return None
