"""What every use case is given: its tools, and the request as it arrived."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mpc.primitives.rng import Rng

from ..policy import Policy
from ..sealing import Sealer
from ..store.engine import Store
from .leases import Leases

COMMAND_LINE = "command line"
"""How events name whoever ran a command on the server's machine; otherwise they name the id of an API token."""


@dataclass(frozen=True, slots=True)
class ServiceContext:
    """The server's tools, made once at start and shared by all requests."""

    store: Store
    sealer: Sealer
    policy: Policy
    rng: Rng
    clock: Callable[[], float]
    """Unix time in seconds."""
    leases: Leases = field(default_factory=Leases)
    """What this process holds of the rate limits that all share."""


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
