"""An RSA private key as the dealer holds it, from generation or import until both halves are sealed."""

from __future__ import annotations

from dataclasses import dataclass, field

from mpc.primitives.secrecy import NeverPickled
from mpc.threshold_rsa.public_key import PublicKey


@dataclass(frozen=True, slots=True)
class SourceKey(NeverPickled):
    """The whole key. It is never written and never leaves its process; nothing is checked here yet."""

    modulus: int
    exponent: int
    private_exponent: int = field(repr=False)
    p: int = field(repr=False)
    q: int = field(repr=False)

    @property
    def public(self) -> PublicKey:
        """ValueError for a key that Tandem does not take at all (size, parity, exponent)."""
        return PublicKey(self.modulus, self.exponent)
