"""What base OT leaves with each side, for use by the extension.

Roles swap: the base-OT *sender* (device) becomes the extension *receiver*, the base-OT *receiver* (server)
becomes the extension *sender*. κ = 128 instances.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mpc.errors import DecodeError
from mpc.parameters import TANDEM_SUITE_1
from mpc.primitives.secrecy import NeverPickled

KAPPA = TANDEM_SUITE_1.kappa_bits
KEY_BYTES = 16
KEYS_BYTES = KAPPA * KEY_BYTES


@dataclass(frozen=True, slots=True)
class ReceiverBaseKeys(NeverPickled):
    """Both keys of each instance, concatenated: 128 × 16 bytes each. Held by the extension receiver."""

    zeros: bytes = field(repr=False)
    ones: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.zeros) != KEYS_BYTES or len(self.ones) != KEYS_BYTES:
            raise DecodeError("receiver_base_keys", f"must be two times {KEYS_BYTES} bytes")


@dataclass(frozen=True, slots=True)
class SenderBaseKeys(NeverPickled):
    """Δ (16 bytes, bit i in LSB-first order, bit 0 is 1) and, for each instance i, the key for choice Δ_i."""

    delta: bytes = field(repr=False)
    chosen: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.delta) != KEY_BYTES or not self.delta[0] & 1:
            raise DecodeError("sender_base_keys.delta", "must be 16 bytes with the lowest bit set")
        if len(self.chosen) != KEYS_BYTES:
            raise DecodeError("sender_base_keys.chosen", f"must be {KEYS_BYTES} bytes")

    def to_bytes(self) -> bytes:
        """Δ ‖ keys, for sealing at rest."""
        return self.delta + self.chosen

    @classmethod
    def from_bytes(cls, data: bytes) -> SenderBaseKeys:
        return cls(delta=data[:KEY_BYTES], chosen=data[KEY_BYTES:])
