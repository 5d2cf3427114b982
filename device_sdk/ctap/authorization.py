"""What stands behind a request: a token with its capture, a match that was shown, or nothing yet."""

from __future__ import annotations

from dataclasses import dataclass, field

from device_sdk.biometrics import BinaryCode
from device_sdk.ctap.parameters import Parameters
from device_sdk.ctap.session import Request
from device_sdk.ctap.status import CommandRefused, Status
from device_sdk.ctap.tokens import Permission, Token
from device_sdk.ctap.user import Prompt, Purpose


@dataclass(frozen=True, slots=True)
class AuthKeys:
    """Under which keys a command has pinUvAuthParam and pinUvAuthProtocol."""

    param: int
    protocol: int


@dataclass(slots=True)
class Authorization:
    """`verified`: a match was shown since the person was asked. `token`: None where the request came without one."""

    request: Request
    prompt: Prompt
    token: Token | None = field(repr=False)
    verified: bool = False

    def require_match_shown(self) -> None:
        """Show one now unless it was, with a capture of its own. Where there is no passkey there is none to show."""
        if self.verified or not self.request.session.authenticator.credentials():
            return
        self.request.session.verification.show_match(self.request.under_way, self.spend_capture())
        self.verified = True

    def spend_capture(self) -> BinaryCode:
        """A capture for one joint login: the token's if it was given for this, else a fresh one. The token is spent."""
        capture = None
        if self.token is not None:
            capture = self.token.take_capture(self.prompt.purpose)
            self.request.session.tokens.void(self.token)
        if capture is None:
            capture = self.request.session.verification.capture(self.request.under_way, self.prompt)
        return capture


def authorize(
    request: Request,
    received: Parameters,
    keys: AuthKeys,
    *,
    message: bytes,
    permission: Permission,
    rp_id: str,
    prompt: Prompt,
) -> Authorization:
    """With the token that the request was authenticated with, if it names one.

    Raises CommandRefused: PIN_AUTH_INVALID where the token is not for this, or not for this relying party.
    """
    if keys.param not in received:
        return Authorization(request, prompt, None)
    token = request.session.tokens.authenticated(
        received, param=keys.param, protocol=keys.protocol, message=message, permission=permission
    )
    if not token.allows(permission, rp_id):
        raise CommandRefused(Status.CTAP2_ERR_PIN_AUTH_INVALID)
    return Authorization(request, prompt, token, token.verified)


def answer_the_old_way_to_select(request: Request, received: Parameters, keys: AuthKeys) -> None:
    """An empty pinUvAuthParam asks for presence alone, as clients did before authenticatorSelection (section 6.1.2).

    Ends the command in any case: with PIN_INVALID where the person agreed.
    """
    if keys.param in received and not received.octets(keys.param, at_most=32):
        request.session.verification.confirm(request.under_way, Prompt(Purpose.SELECT))
        raise CommandRefused(Status.CTAP2_ERR_PIN_INVALID)
