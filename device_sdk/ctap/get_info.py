"""authenticatorGetInfo (CTAP 2.1, section 6.4): what this authenticator can do, and nothing that it cannot."""

from __future__ import annotations

from device_sdk.ctap.entities import MAX_CREDENTIALS_IN_LIST, PUBLIC_KEY
from device_sdk.ctap.session import Answer, Request
from mpc.login.authenticator_data import AAGUID, ALGORITHMS, MAX_CREDENTIAL_ID_BYTES
from mpc.login.authenticator_info import EXTENSIONS, OPTIONS, PIN_PROTOCOLS, TRANSPORTS, VERSIONS

MAX_MESSAGE_BYTES = 8192
ATTESTATION_FORMATS = ["packed", "none"]


def get_info(request: Request) -> Answer:
    method = request.session.authenticator.verification_method
    told: Answer = {
        0x01: list(VERSIONS),
        0x02: [*EXTENSIONS] if method is None else [*EXTENSIONS, "uvm"],
        0x03: AAGUID,
        0x04: OPTIONS,
        0x05: MAX_MESSAGE_BYTES,
        0x06: list(PIN_PROTOCOLS),
        0x07: MAX_CREDENTIALS_IN_LIST,
        0x08: MAX_CREDENTIAL_ID_BYTES,
        0x09: list(TRANSPORTS),
        0x0A: [{"alg": algorithm, "type": PUBLIC_KEY} for algorithm in ALGORITHMS],
        0x16: ATTESTATION_FORMATS,
    }
    return told if method is None else told | {0x12: int(method.method)}  # uvModality
