"""What extension and agent share: a key that both prove to know and neither sends.

The person carries it over once, as text. A bearer token would not do: whoever takes the port while the agent is down
would be sent it. So each request carries a MAC over its method, host, path, time, nonce and body, and each answer one
over that nonce, the status and the body.

    request MAC = HMAC-SHA256(key, "tandem agent request v1\n" method "\n" host "\n" path "\n"
                              time "\n" nonce "\n" body)
    answer MAC  = HMAC-SHA256(key, "tandem agent answer v1\n" nonce "\n" status "\n" body)

No field before the body can hold a line feed, so no two requests have the same text. `host` is 127.0.0.1:PORT as the
browser has it: whoever took that port from an agent that now listens on another cannot pass requests on to it, and so
does not get to see its answers, the consent window's address and the signature among them.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mpc.primitives import base64url
from mpc.primitives.secrecy import NeverPickled

KEY_BYTES = 32
FRESH_FOR_S = 60.0
"""How old a request may be; both clocks are of one machine."""
TIME_HEADER, NONCE_HEADER, MAC_HEADER = "x-tandem-time", "x-tandem-nonce", "x-tandem-mac"

_NONCE = re.compile(r"[A-Za-z0-9_-]{22}", re.ASCII)  # 16 bytes in base64url
_TIME = re.compile(r"[0-9]{1,15}", re.ASCII)


class PairingError(ValueError):
    """The pairing file cannot be used. The text is for the person at the command."""


class NotProven(Exception):
    """A request without proof of the key, an old one, or one seen before. Says no more, on purpose."""


@dataclass(frozen=True, slots=True)
class PairingKey(NeverPickled):
    """32 random bytes of one vault's agent and the browsers paired with it."""

    key: bytes = field(repr=False)

    @classmethod
    def load(cls, file: Path) -> PairingKey:
        """Raises PairingError for a file that is none, or that others may read; FileNotFoundError."""
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as opened:
            status = os.fstat(opened.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise PairingError("the pairing file is open to other users; delete it and pair the browser again")
            content = opened.read(4 * KEY_BYTES)
        try:
            key = base64url.decode(content.decode("ascii").strip())
        except ValueError:
            key = b""
        if len(key) != KEY_BYTES:
            raise PairingError("the pairing file is damaged; delete it and pair the browser again")
        return cls(key)

    @classmethod
    def load_or_make(cls, file: Path) -> PairingKey:
        """The key in `file`; where there is none, a new one in a file of its owner's alone."""
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError:
            return cls.load(file)
        made = cls(secrets.token_bytes(KEY_BYTES))
        with os.fdopen(descriptor, "w", encoding="ascii") as opened:
            opened.write(base64url.encode(made.key) + "\n")
            opened.flush()
            os.fsync(opened.fileno())
        return made

    def code(self, port: int) -> str:
        """What the person pastes into the extension. Whoever reads it can ask this agent for ceremonies."""
        return f"tandem-{port}-{base64url.encode(self.key)}"

    def request_mac(self, method: str, host: str, path: str, time_ms: str, nonce: str, body: bytes) -> str:
        return self._mac(f"tandem agent request v1\n{method}\n{host}\n{path}\n{time_ms}\n{nonce}\n", body)

    def answer_mac(self, nonce: str, status: int, body: bytes) -> str:
        return self._mac(f"tandem agent answer v1\n{nonce}\n{status}\n", body)

    def _mac(self, head: str, body: bytes) -> str:
        return base64url.encode(hmac.new(self.key, head.encode("ascii") + body, hashlib.sha256).digest())


def pairing_file(vault: Path) -> Path:
    """Where the pairing key of a vault's agent is."""
    return vault.with_suffix(".pairing")


class ProvenRequests:
    """Checks the MACs of requests, and that each is fresh and comes once.

    `clock`: Unix seconds. `host`: 127.0.0.1:PORT. `since`: Unix seconds at which the agent took that port. What is
    older went to whoever had the port before, who may have kept it.
    """

    def __init__(self, key: PairingKey, clock: Callable[[], float], *, host: str, since: float) -> None:
        self._key = key
        self._clock = clock
        self._host = host
        self._since_ms = int(since * 1000)
        self._seen: dict[str, float] = {}

    def check(self, *, method: str, path: str, time_ms: str, nonce: str, mac: str, body: bytes) -> None:
        """Raises NotProven."""
        if not (_TIME.fullmatch(time_ms) and _NONCE.fullmatch(nonce) and path.isascii() and mac.isascii()):
            raise NotProven
        if not hmac.compare_digest(self._key.request_mac(method, self._host, path, time_ms, nonce, body), mac):
            raise NotProven
        # Only what the key's holders sent is remembered, so strangers cannot fill the memory.
        now = self._clock()
        if int(time_ms) < self._since_ms or abs(now - int(time_ms) / 1000) > FRESH_FOR_S or nonce in self._seen:
            raise NotProven
        # A request stays fresh until this long after its own time, which may lie ahead of our clock.
        self._seen = {known: until for known, until in self._seen.items() if until >= now}
        self._seen[nonce] = now + 2 * FRESH_FOR_S
