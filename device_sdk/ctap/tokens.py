"""pinUvAuthTokens: what a client may do, where, how long, and what stands behind it (CTAP 2.1, section 6.5.2.1).

A token is given for a capture. Behind it is either that capture, not used yet, or the fact that it was used up to show
a match. A capture serves one joint login, in which the server takes part: that of the request which the token is for,
if it is what the person was told of when asked for the capture; or, where passkeys would be told of or changed on the
token alone, one that signs for nobody.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from enum import IntFlag

from device_sdk.biometrics import BinaryCode
from device_sdk.ctap.parameters import Parameters
from device_sdk.ctap.pin_protocol import PIN_PROTOCOL, TOKEN_BYTES, verifies
from device_sdk.ctap.status import CommandRefused, Status
from device_sdk.ctap.user import Purpose
from mpc.primitives.rng import Rng
from mpc.primitives.secrecy import NeverPickled

CAPTURE_LIFETIME_S = 30.0
"""How long a token lives that holds a capture, and how soon any other must be used first (initial usage time limit)."""
MAX_LIFETIME_S = 600.0
"""How long a token lives that no capture is held for (max usage time period)."""
_MAX_PARAM_BYTES = 32


class Permission(IntFlag):
    """The permissions that are given here (CTAP 2.1, section 6.5.5.7)."""

    MAKE_CREDENTIAL = 0x01
    GET_ASSERTION = 0x02
    CREDENTIAL_MANAGEMENT = 0x04


class Token(NeverPickled):
    """`verified`: a match was shown for it. `rp_id` None: it was asked for without one, for credential management.

    `told`: what the person was told when asked for the capture; it is good for nothing else that the token allows.
    """

    __slots__ = ("_capture", "issued_at", "permissions", "rp_id", "secret", "told", "used", "verified")

    def __init__(
        self,
        secret: bytes,
        permissions: Permission,
        rp_id: str | None,
        told: Purpose,
        capture: BinaryCode | None,
        issued_at: float,
    ) -> None:
        self.secret = secret
        self.permissions = permissions
        self.rp_id = rp_id
        self.told = told
        self.issued_at = issued_at
        self.verified = capture is None
        self.used = False
        self._capture = capture

    def __repr__(self) -> str:
        return f"Token({self.permissions!r})"

    def take_capture(self, purpose: Purpose) -> BinaryCode | None:
        """The capture, once, if it was given for this; None afterwards, and where a match was shown with it."""
        capture = self._capture
        self.let_go_of_capture()
        return capture if purpose is self.told else None

    def let_go_of_capture(self) -> None:
        self._capture = None

    def allows(self, permission: Permission, rp_id: str | None) -> bool:
        """rp_id: None for what is about all relying parties, which a token for one of them does not allow."""
        return permission in self.permissions and (self.rp_id is None or self.rp_id == rp_id)

    def expires_at(self) -> float:
        return self.issued_at + (MAX_LIFETIME_S if self.verified and self.used else CAPTURE_LIFETIME_S)


class Tokens:
    """The one token in use, if there is one. Its capture is let go of in time even if no further command comes."""

    def __init__(self, rng: Rng, clock: Callable[[], float] = time.monotonic) -> None:
        """clock: seconds of any origin."""
        self._rng = rng
        self._clock = clock
        self._lock = threading.Lock()
        self._token: Token | None = None
        self._timer: threading.Timer | None = None

    def __repr__(self) -> str:
        return "Tokens()"

    def issue(self, permissions: Permission, rp_id: str | None, told: Purpose, capture: BinaryCode | None) -> bytes:
        """A new token's secret; the one before is void. capture: None where it was used to show a match."""
        token = Token(self._rng.bytes(TOKEN_BYTES), permissions, rp_id, told, capture, self._clock())
        self.void()
        with self._lock:
            self._token = token
            if capture is not None:
                self._timer = threading.Timer(CAPTURE_LIFETIME_S, self.void, [token])
                self._timer.daemon = True
                self._timer.start()
        return token.secret

    def void(self, token: Token | None = None) -> None:
        """Forget the token in use; with an argument only if it is that one."""
        with self._lock:
            if self._token is not None and token in (None, self._token):
                self._token.let_go_of_capture()
                self._token = None
                if self._timer is not None:
                    self._timer.cancel()
                    self._timer = None

    def authenticated(
        self, received: Parameters, *, param: int, protocol: int, message: bytes, permission: Permission
    ) -> Token:
        """The token that `message` was authenticated with. param, protocol: the keys of these two parameters.

        Whom it is for is the caller's to check. Raises CommandRefused: PIN_AUTH_INVALID says nothing of why.
        """
        authenticator = received.octets(param, at_most=_MAX_PARAM_BYTES)
        require_protocol(received, protocol)
        with self._lock:
            token = self._token
        if token is not None and self._clock() >= token.expires_at():
            self.void(token)
            token = None
        # A secret nobody knows stands in where there is none, so that it takes as long.
        secret = token.secret if token is not None else self._rng.bytes(TOKEN_BYTES)
        if not verifies(secret, message, authenticator) or token is None or permission not in token.permissions:
            raise CommandRefused(Status.CTAP2_ERR_PIN_AUTH_INVALID)
        token.used = True
        return token


def require_protocol(received: Parameters, key: int) -> None:
    """pinUvAuthProtocol must be there and be the one that is spoken here."""
    if received.uint(key) != PIN_PROTOCOL:
        raise CommandRefused(Status.CTAP1_ERR_INVALID_PARAMETER)
