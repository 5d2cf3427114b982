"""What every use case is given: its tools, and the request as it arrived."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mpc.primitives.rng import Rng

from ..policy import Policy
from ..sealing import DataKey
from ..store.engine import Store
from .keyring import Keyring
from .wrong_proofs import WrongProofs


@dataclass(frozen=True, slots=True)
class ServiceContext:
    """The server's tools, made once at start and shared by all requests."""

    store: Store
    keyring: Keyring
    policy: Policy
    rng: Rng
    clock: Callable[[], float]
    """Unix time in seconds."""
    wrong_proofs: WrongProofs = field(default_factory=WrongProofs)
    """How many pairing proofs that pair nothing each enrolment may still send."""

    def data_key(self, owner_id: bytes) -> DataKey:
        """As `Keyring.key_of`, in a transaction of its own. Raises SealingError, KeyUnavailable, StoreUnavailable."""
        with self.store.read() as conn:
            return self.keyring.key_of(conn, owner_id)


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request whose signature has not been checked yet."""

    method: str
    """Upper case."""
    authority: str
    """Host and port as addressed, lower case, without the scheme's default port (RFC 9421, section 2.2.3)."""
    path: str
    headers: Mapping[str, str] = field(repr=False)
    """Names in lower case; repeated fields joined by a comma and a space."""
    body: bytes = field(repr=False)
