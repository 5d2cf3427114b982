"""A checkpoint: what the audit log held at some moment, signed, so that a copy kept elsewhere bears witness.

| member | content |
|---|---|
| format | "tandem audit checkpoint v1" |
| server_id | of the policy |
| number | from 1 |
| at | Unix seconds |
| first_event_id, last_event_id | the range of ids covered; it begins where the one before ends |
| events | how many events are in it |
| events_digest | SHA-256: the framed label "tandem audit events v1", then id as u64 big-endian ‖ hash of each, by id |
| previous | the digest of the checkpoint before; 32 zero bytes in the first |

The form is that of `mpc.provisioning.signed_document`: RFC 8785 JSON, Ed25519; bytes are base64url.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mpc.errors import DecodeError
from mpc.login.history import HASH_BYTES, NO_HASH
from mpc.primitives import base64url
from mpc.primitives.hashing import framed
from mpc.provisioning.signed_document import base64url_field, sign_document, verify_document

_FORMAT = "tandem audit checkpoint v1"
_MAX_ID = 2**53 - 1
MAX_CHECKPOINT_BYTES = 4096


class EventsDigest:
    """The digest over the events of a range, in any number of pieces."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256(framed("tandem audit events v1"))
        self.count = 0

    def add(self, rows: Iterable[tuple[int, bytes]]) -> None:
        """(id, hash) of the next events, by id. ValueError for a hash that is none: the row was tampered with."""
        for event_id, digest in rows:
            if type(digest) is not bytes or len(digest) != HASH_BYTES:
                raise ValueError("an event has no hash")
            self._hash.update(event_id.to_bytes(8, "big") + digest)
            self.count += 1

    def value(self) -> bytes:
        """32 bytes."""
        return self._hash.digest()


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is signed."""

    server_id: str
    number: int
    at: int
    first_event_id: int
    last_event_id: int
    events: int
    events_digest: bytes
    previous: bytes = NO_HASH

    def signed(self, key: Ed25519PrivateKey) -> bytes:
        """The document. ValueError for an id beyond 2^53, which nothing but tampering brings about."""
        if self.last_event_id > _MAX_ID:
            raise ValueError("an event has an id that no database gave it")
        return sign_document(
            {
                "format": _FORMAT,
                "server_id": self.server_id,
                "number": self.number,
                "at": self.at,
                "first_event_id": self.first_event_id,
                "last_event_id": self.last_event_id,
                "events": self.events,
                "events_digest": base64url.encode(self.events_digest),
                "previous": base64url.encode(self.previous),
            },
            key,
        )


@dataclass(frozen=True, slots=True)
class SignedCheckpoint:
    """A checkpoint whose signature verifies under `signing_key`; digest: SHA-256 of all that was signed."""

    checkpoint: Checkpoint
    signing_key: bytes
    digest: bytes

    @classmethod
    def decode(cls, document: bytes) -> Self:
        """Raises DecodeError. Whose key it is, the caller has to know."""
        read = verify_document(document, what="checkpoint", expected_format=_FORMAT, max_bytes=MAX_CHECKPOINT_BYTES)
        fields = read.fields
        checkpoint = Checkpoint(
            server_id=fields.text("server_id", at_most=200),
            number=fields.uint("number", at_most=_MAX_ID),
            at=fields.uint("at", at_most=_MAX_ID),
            first_event_id=fields.uint("first_event_id", at_most=_MAX_ID),
            last_event_id=fields.uint("last_event_id", at_most=_MAX_ID),
            events=fields.uint("events", at_most=_MAX_ID),
            events_digest=base64url_field(fields, "events_digest", length=HASH_BYTES),
            previous=base64url_field(fields, "previous", length=HASH_BYTES),
        )
        fields.done()
        if checkpoint.number == 0 or checkpoint.last_event_id < checkpoint.first_event_id:
            raise DecodeError("checkpoint", "cannot be: a number or range without end")
        return cls(checkpoint, read.signing_key, read.digest)
