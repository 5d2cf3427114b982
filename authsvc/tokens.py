"""Bearer tokens of the admin API: how one is spelt, and what is kept of it.

    tandem_ ‖ base64url(id, 16 bytes ‖ secret, 32 random bytes ‖ CRC-32 of both, big-endian)      77 characters

The prefix and the checksum are for scanners that look for leaked secrets: a match is a token and not noise, and a
token that was mistyped is told from one that is unknown without asking the database. Neither is a secret.

Only a hash is stored. A plain hash is right here: slow ones make guessing dear where secrets are guessable, and nobody
guesses 256 random bits, whatever a guess costs.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from enum import StrEnum

from mpc.primitives import base64url
from mpc.primitives.hashing import tagged_hash
from mpc.primitives.rng import Rng
from mpc.primitives.secrecy import NeverPickled

PREFIX = "tandem_"
ID_BYTES = 16
_SECRET_BYTES = 32
_CRC_BYTES = 4
TOKEN_CHARACTERS = len(PREFIX) + 70


class Scope(StrEnum):
    """What a token may do; one may have several. Which route asks for which stands in `authsvc.api.admin_access`."""

    PROVISIONER = "provisioner"
    """Enrolment codes, and what a dealer of keys has to know."""
    OPERATOR = "operator"
    """Everything that changes enrolments, and reading."""
    AUDITOR = "auditor"
    """Reading: enrolments, events, keys."""


@dataclass(frozen=True, slots=True)
class Token(NeverPickled):
    """A bearer token's two parts."""

    id: bytes
    secret: bytes = field(repr=False)

    @classmethod
    def new(cls, rng: Rng) -> Token:
        return cls(rng.bytes(ID_BYTES), rng.bytes(_SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> Token | None:
        """The token in its one spelling, or None."""
        if len(text) != TOKEN_CHARACTERS or not text.startswith(PREFIX):
            return None
        try:
            data = base64url.decode(text.removeprefix(PREFIX))
        except ValueError:
            return None
        body, crc = data[:-_CRC_BYTES], data[-_CRC_BYTES:]
        return cls(body[:ID_BYTES], body[ID_BYTES:]) if crc == _checksum(body) else None

    @property
    def text(self) -> str:
        """What its holder is given, once."""
        body = self.id + self.secret
        return PREFIX + base64url.encode(body + _checksum(body))

    @property
    def hash(self) -> bytes:
        """The 32 bytes that are stored."""
        return tagged_hash("tandem api token v1", self.id, self.secret)


def _checksum(body: bytes) -> bytes:
    return zlib.crc32(body).to_bytes(_CRC_BYTES, "big")
