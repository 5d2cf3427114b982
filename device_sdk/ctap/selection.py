"""authenticatorSelection (CTAP 2.1, section 6.9): a client with several authenticators asks which one is meant."""

from __future__ import annotations

from device_sdk.ctap.session import Answer, Request
from device_sdk.ctap.user import Prompt, Purpose


def selection(request: Request) -> Answer:
    request.session.verification.confirm(request.under_way, Prompt(Purpose.SELECT))
    return {}
