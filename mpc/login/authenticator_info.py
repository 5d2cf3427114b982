"""What this make of authenticator can do, in the words of authenticatorGetInfo (CTAP 2.1, section 6.4)."""

from __future__ import annotations

from typing import Final

from mpc.login.authenticator_data import AAGUID, MAX_CREDENTIAL_ID_BYTES

VERSIONS: Final = ("FIDO_2_0", "FIDO_2_1")
EXTENSIONS: Final = ("credProtect",)
TRANSPORTS: Final = ("internal",)
OPTIONS: Final = {
    "plat": True,
    "rk": True,
    "up": True,
    "uv": True,
    "alwaysUv": True,  # nothing is signed without a match, whatever a request asks for
    "credMgmt": True,
    "pinUvAuthToken": True,
}
PIN_PROTOCOLS: Final = (2,)


def information() -> dict[str, object]:
    """The members that are the same for every device of this make, as JSON has them.

    Without `algorithms`, which is optional: verifiers look there for the attestation's, and these are of credentials.
    """
    return {
        "versions": list(VERSIONS),
        "extensions": list(EXTENSIONS),
        "aaguid": AAGUID.hex(),
        "options": dict(OPTIONS),
        "pinUvAuthProtocols": list(PIN_PROTOCOLS),
        "maxCredentialIdLength": MAX_CREDENTIAL_ID_BYTES,
        "transports": list(TRANSPORTS),
    }
