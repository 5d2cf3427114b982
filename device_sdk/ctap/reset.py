"""authenticatorReset (CTAP 2.1, section 6.6): every passkey is given up.

The enrolment stays, and so do dealt keys that wait. The rule that a reset must come within ten seconds of power-up is
for authenticators without a display; here the person is told what is about to happen.
"""

from __future__ import annotations

from device_sdk.ctap.session import Answer, Request
from device_sdk.ctap.user import Prompt, Purpose


def reset(request: Request) -> Answer:
    """At the server first, then here, one passkey after the other.

    If the server cannot be told, the rest stays; the same command again gives up what is left.
    """
    session = request.session
    session.verification.confirm(request.under_way, Prompt(Purpose.RESET))
    session.forget()
    request.under_way.working()
    for credential in session.authenticator.credentials():
        session.authenticator.delete(credential.credential_id)
    return {}
