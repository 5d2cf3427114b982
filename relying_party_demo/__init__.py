"""An ordinary WebAuthn relying party. Its server side needs nothing of this project: only a passkey library."""

from __future__ import annotations

from relying_party_demo.app import create_app
from relying_party_demo.phone_port import Phone, PhoneOutcome, Step, WhatEachPartySaw
from relying_party_demo.settings import RelyingPartySettings

__all__ = [
    "Phone",
    "PhoneOutcome",
    "RelyingPartySettings",
    "Step",
    "WhatEachPartySaw",
    "create_app",
]
