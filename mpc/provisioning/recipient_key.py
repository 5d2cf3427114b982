"""A recipient's private key as a file under a passphrase, for `tandem-keys rewrap` and for custody.

"TRKY" and what `passphrase_lock` says; the content is the canonical CBOR of {suite, key, recipient}.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mpc.errors import DecodeError
from mpc.primitives import codec
from mpc.primitives.hpke import HpkePrivateKey, HpkeSuite
from mpc.primitives.rng import Rng
from mpc.primitives.secrecy import NeverPickled
from mpc.provisioning.passphrase_lock import MAX_LOCKED_BYTES, PassphraseLock
from mpc.provisioning.recipient import MAX_RECIPIENT_BYTES, Recipient

MAX_KEY_FILE_BYTES = MAX_LOCKED_BYTES
_LOCK = PassphraseLock(b"TRKY", "recipient_key")


@dataclass(frozen=True, slots=True)
class RecipientKey(NeverPickled):
    """A recipient with its private key. ValueError if they do not belong together."""

    recipient: Recipient
    key: HpkePrivateKey = field(repr=False)

    def __post_init__(self) -> None:
        if self.key.public_key != self.recipient.public_key:
            raise ValueError("the private key is not this recipient's")

    def protect(self, rng: Rng, passphrase: str) -> bytes:
        """The file. ValueError for a passphrase of fewer than 12 characters (after NFKC), or that is no text."""
        content = codec.encode(
            {"suite": self.key.suite.value, "key": self.key.raw, "recipient": self.recipient.document}
        )
        return _LOCK.close(rng, content, passphrase)

    @classmethod
    def unprotect(cls, data: bytes, passphrase: str) -> RecipientKey:
        """Raises DecodeError: not such a file, unknown version, or it does not open with this passphrase."""
        fields = codec.decode(_LOCK.open(data, passphrase), what=_LOCK.what)
        suite = HpkeSuite(fields.text("suite", at_most=40, one_of=tuple(HpkeSuite)))
        raw = fields.bytes("key", length=suite.private_bytes)
        recipient = Recipient.decode(fields.bytes("recipient", at_most=MAX_RECIPIENT_BYTES))
        fields.done()
        try:
            return cls(recipient, HpkePrivateKey(suite, raw))
        except ValueError:
            raise DecodeError(_LOCK.what, "holds a key that is not its recipient's") from None
