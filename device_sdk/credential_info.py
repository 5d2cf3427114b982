"""What may be shown of a stored passkey."""

from __future__ import annotations

from dataclasses import dataclass

from device_sdk.vault.state import Credential


@dataclass(frozen=True, slots=True)
class CredentialInfo:
    """What an app may show of a stored passkey. `created_at` and `not_after` are Unix times in seconds.

    `cred_protect`: 1 to 3, the credProtect level that the relying party set; 1 where it set none.
    """

    credential_id: bytes
    rp_id: str
    user_handle: bytes
    user_name: str
    user_display_name: str
    algorithm: str
    modulus_bits: int
    sign_count: int
    discoverable: bool
    created_at: int
    not_after: int | None = None
    cred_protect: int = 1


def credential_info(credential: Credential) -> CredentialInfo:
    return CredentialInfo(
        credential_id=credential.credential_id,
        rp_id=credential.rp_id,
        user_handle=credential.user_handle,
        user_name=credential.user_name,
        user_display_name=credential.user_display_name,
        algorithm=credential.algorithm.name,
        modulus_bits=credential.key_share.key.bits,
        sign_count=credential.sign_count,
        discoverable=credential.discoverable,
        created_at=credential.created_at,
        not_after=credential.not_after,
        cred_protect=int(credential.cred_protect),
    )
