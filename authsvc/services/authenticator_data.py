"""authenticatorData as this server builds it, from what it knows of a credential and the kind of ceremony (row L7)."""

from __future__ import annotations

from typing import Final

from mpc.login.authenticator_data import assertion_data, cose_rsa_key, rebuilt_registration, sign_count_of
from mpc.login.messages import LoginStatement

from ..store.credentials import CredentialRow

MAX_SIGN_COUNT_JUMP: Final = 65_536


def expected_data(statement: LoginStatement, credential: CredentialRow) -> bytes | None:
    """The bytes, with the counter that the device chose; None unless those received are the same and the counter grows.

    Flags, relying party and, in a registration, AAGUID, credential id and key come from here.
    """
    received = statement.authenticator_data
    count = sign_count_of(received)
    if not 0 < count - credential.sign_count <= MAX_SIGN_COUNT_JUMP:
        return None
    if statement.kind == "get":
        built = assertion_data(credential.rp_id, count)
        return built if built == received else None
    cose_key = cose_rsa_key(credential.algorithm, int.from_bytes(credential.modulus, "big"), credential.exponent)
    return rebuilt_registration(received, rp_id=credential.rp_id, credential_id=credential.id, cose_key=cose_key)
