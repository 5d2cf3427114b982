"""authenticatorData as this server builds it, from what it knows of a credential and the kind of ceremony (row L7)."""

from __future__ import annotations

from typing import Final

from mpc.login.authenticator_data import assertion_data, cose_rsa_key, registration_data, sign_count_of
from mpc.login.extension_outputs import ExtensionOutputs, possible_outputs
from mpc.login.messages import LoginStatement
from mpc.login.profile import Profile
from mpc.login.user_verification import verification_method

from ..store.credentials import CredentialRow

MAX_SIGN_COUNT_JUMP: Final = 65_536


def expected_data(statement: LoginStatement, credential: CredentialRow, profile: Profile) -> bytes | None:
    """The bytes, with the counter that the device chose; None unless those received are the same and the counter grows.

    Flags, relying party and, in a registration, AAGUID, credential id and key come from here. Of extension outputs only
    those may stand there that are true.
    """
    received = statement.authenticator_data
    count = sign_count_of(received)
    if not 0 < count - credential.sign_count <= MAX_SIGN_COUNT_JUMP:
        return None

    def built(outputs: ExtensionOutputs) -> bytes:
        if statement.kind != "create":
            return assertion_data(credential.rp_id, count, outputs)
        cose_key = cose_rsa_key(credential.algorithm, int.from_bytes(credential.modulus, "big"), credential.exponent)
        return registration_data(credential.rp_id, count, credential.id, cose_key, outputs)

    possible = map(built, possible_outputs(verification_method(profile), registration=statement.kind == "create"))
    return next((each for each in possible if each == received), None)
