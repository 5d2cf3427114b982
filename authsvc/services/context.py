"""What every use case is given: its tools, and the request as it arrived."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mpc.primitives.rng import Rng

from ..policy import Policy
from ..sealing import DataKey
from ..store.engine import Store
from .audit_memory import AuditMemory
from .keyring import Keyring
from .leases import Leases

COMMAND_LINE = "command line"
"""How events name whoever ran a command on the server's machine; otherwise they name the id of an API token."""


@dataclass(frozen=True, slots=True)
class LoginLatency:
    """How long logins took to be answered, in milliseconds, for people who watch."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    count: int
    """Of how many logins these are the figures."""
    over: str
    """Of which ones, in words: "since this server was started", say."""


@dataclass(frozen=True, slots=True)
class ServiceContext:
    """The server's tools, made once at start and shared by all requests."""

    store: Store
    keyring: Keyring
    policy: Policy
    rng: Rng
    clock: Callable[[], float]
    """Unix time in seconds."""
    leases: Leases = field(default_factory=Leases)
    """What this process holds of the rate limits that all share."""
    audit_memory: AuditMemory = field(default_factory=AuditMemory)
    """How far this process has seen the audit log's checkpoints."""
    login_latency: Callable[[], LoginLatency | None] | None = None
    """Where something measures it: its figures so far. The database holds none."""

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
    address: str | None = None
    """Who asks, for rate limits; None if that is not known or would stand for everybody."""
