"""Registration: a key of the device's own or a provisioned one, the server's share, and the first joint signature.

Until that signature both sides hold the credential as provisional, and it answers no request. If there is none, a
key of the device's own is forgotten and a provisioned one waits for the next try.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from device_sdk.authenticator.accounts import check_not_excluded, replaced_credentials
from device_sdk.authenticator.attestation import (
    Attestation,
    none_attestation,
    packed_attestation,
    packed_self_attestation,
)
from device_sdk.authenticator.new_credential import NewCredential
from device_sdk.authenticator.options import AttestationForm
from device_sdk.ceremony import RunningCeremony
from device_sdk.errors import ProvisionedKeyRefused, TandemError, VaultFull
from device_sdk.expiry import unexpired
from device_sdk.joint_login import JointLogin, Signed
from device_sdk.key_generation import generate_split_key
from device_sdk.transport import RequestKey
from device_sdk.vault.provisioned import ProvisionedKey
from device_sdk.vault.state import MAX_CREDENTIALS, Credential, DeviceState
from mpc.login.authenticator_data import cose_rsa_key, registration_data
from mpc.login.enrolment_messages import AddCredential
from mpc.login.extension_outputs import CredProtect, ExtensionOutputs
from mpc.login.provisioned_messages import AdoptKey
from mpc.threshold_rsa.shares import KeyShare

_CREDENTIAL_ID_BYTES = 32


@dataclass(frozen=True, slots=True)
class Registered:
    """A new passkey that is durable on this device. `replaced`: ids of those that it took the place of."""

    credential: Credential
    signed: Signed
    replaced: list[bytes]

    def attestation(self, form: AttestationForm) -> Attestation:
        """The statement that goes with the authenticator data of the first signature.

        Packed is by the server's certificate where it gave an attestation, else by the credential itself.
        """
        if form is AttestationForm.NONE:
            return none_attestation()
        given = self.signed.attestation
        if given is not None:
            return packed_attestation(given.certificate, given.signature)
        return packed_self_attestation(int(self.credential.algorithm), self.signed.signature)


def register(ceremony: RunningCeremony, wanted: NewCredential, *, modulus_bits: int, now: float) -> Registered:
    """Register with a relying party. now: Unix seconds. A provisioned key that waits for it is taken before all else.

    Raises InvalidState, VaultFull, ShareExpired, ProvisioningRequired, ProvisionedKeyRefused and the faults of a
    joint login.
    """
    _refuse_excluded(ceremony, wanted, now)
    # What a crash has left behind goes first: its counter belongs to the key that waits again.
    state = ceremony.store.change(DeviceState.without_provisional)
    if len(state.credentials) >= MAX_CREDENTIALS:
        # Also where the new passkey would replace one: until its first signature the vault holds both.
        raise VaultFull
    waiting = unexpired((key for key in state.provisioned if key.rp_id == wanted.rp_id), now)
    if waiting:
        return _with_dealt_key(ceremony, wanted, waiting, int(now))
    return _with_own_key(ceremony, wanted, modulus_bits, int(now))


def _with_dealt_key(
    ceremony: RunningCeremony, wanted: NewCredential, waiting: Sequence[ProvisionedKey], now: int
) -> Registered:
    """With the oldest key that the server takes. One that it refuses keeps its place, for a person to look at."""
    for key in waiting:
        credential = replace(
            _provisional(wanted, key.key_id, key.key_share, now),
            sign_count=key.sign_count,
            not_after=key.not_after,
        )
        with contextlib.suppress(ProvisionedKeyRefused):
            return _signed_first(ceremony, wanted, credential, partial(_adopt_key, ceremony, credential))
    # Never with a key of the device's own instead: it would be one that nobody dealt.
    raise ProvisionedKeyRefused([key.key_id for key in waiting])


def _with_own_key(ceremony: RunningCeremony, wanted: NewCredential, modulus_bits: int, now: int) -> Registered:
    with ceremony.report.step("device: generate and split key"):
        own, server_share = generate_split_key(ceremony.rng, modulus_bits)
    credential = _provisional(wanted, ceremony.rng.bytes(_CREDENTIAL_ID_BYTES), own, now)
    return _signed_first(ceremony, wanted, credential, partial(_add_credential, ceremony, credential, server_share))


def _signed_first(
    ceremony: RunningCeremony, wanted: NewCredential, credential: Credential, tell_server: Callable[[], None]
) -> Registered:
    """The provisional credential is stored, told to the server, and counts with its first signature."""
    state = ceremony.store.change(lambda before: before.with_credential(credential))
    replaced = _replaced_by(state, credential)
    try:
        tell_server()
        signed = ceremony.sign(
            JointLogin(
                kind="create",
                credential_id=credential.credential_id,
                client_data_hash=ceremony.client_data_hash,
                authenticator_data=partial(_registration_data, outputs=_outputs(ceremony, wanted)),
                probe=ceremony.probe,
                on_match=lambda before: _activated(before, credential),
                attest=wanted.attest,
            )
        )
    except TandemError:
        # No signature, no passkey. The server forgets a provisional one by itself, and keeps a provisioned one.
        ceremony.store.change(DeviceState.without_provisional)
        raise
    return Registered(credential, signed, replaced)


def _refuse_excluded(ceremony: RunningCeremony, wanted: NewCredential, now: float) -> None:
    """Raise InvalidState if a passkey here is excluded, once the user is verified by a match with it.

    ShareExpired if it has expired, since no match can come about with it. The signature of that match is dropped: its
    client data are those of a registration, so nothing it could be used for would accept it.
    """
    active = [c for c in ceremony.store.state.credentials if not c.provisional]
    excluded = [c for c in active if c.rp_id == wanted.rp_id and c.credential_id in wanted.excluded_ids]
    if excluded:
        ceremony.assertion(unexpired(excluded, now)[0])
        check_not_excluded(active, wanted.rp_id, wanted.excluded_ids)


def _provisional(wanted: NewCredential, credential_id: bytes, own: KeyShare, now: int) -> Credential:
    return Credential(
        credential_id=credential_id,
        rp_id=wanted.rp_id,
        user_handle=wanted.user_handle,
        user_name=wanted.user_name,
        user_display_name=wanted.user_display_name,
        algorithm=wanted.algorithm,
        key_share=own,
        sign_count=0,
        discoverable=wanted.discoverable,
        provisional=True,
        created_at=now,
        cred_protect=wanted.cred_protect or CredProtect.UV_OPTIONAL,
    )


def _add_credential(ceremony: RunningCeremony, credential: Credential, server_share: KeyShare) -> None:
    state = ceremony.store.state
    key = server_share.key
    message = AddCredential(
        enrolment_id=state.enrolment_id,
        credential_id=credential.credential_id,
        rp_id=credential.rp_id,
        algorithm=int(credential.algorithm),
        modulus=key.modulus_bytes,
        exponent=key.exponent,
        key_share=server_share.to_bytes(),
    )
    request_key = RequestKey.from_scalar(state.request_key)
    with ceremony.report.step("server: store its share"):
        ceremony.api.add_credential(message, request_key, ceremony.deadline, ceremony.report)


def _adopt_key(ceremony: RunningCeremony, credential: Credential) -> None:
    state = ceremony.store.state
    message = AdoptKey(state.enrolment_id, credential.credential_id, int(credential.algorithm))
    request_key = RequestKey.from_scalar(state.request_key)
    with ceremony.report.step("server: adopt the provisioned key"):
        ceremony.api.adopt_key(message, request_key, ceremony.deadline, ceremony.report)


def _outputs(ceremony: RunningCeremony, wanted: NewCredential) -> ExtensionOutputs:
    return replace(ceremony.outputs(uvm=wanted.uvm), cred_protect=wanted.cred_protect)


def _registration_data(credential: Credential, *, outputs: ExtensionOutputs) -> bytes:
    key = credential.key_share.key
    cose_key = cose_rsa_key(int(credential.algorithm), key.modulus, key.exponent)
    return registration_data(credential.rp_id, credential.sign_count, credential.credential_id, cose_key, outputs)


def _activated(state: DeviceState, credential: Credential) -> DeviceState:
    """The new passkey counts, and takes the place of the discoverable one of the same account.

    In the same write a provisioned key stops waiting: it can never be registered a second time.
    """
    current = state.credential(credential.credential_id)
    kept = state.without_credentials(_replaced_by(state, credential)).without_provisioned(credential.credential_id)
    return kept.with_credential(replace(current, provisional=False))


def _replaced_by(state: DeviceState, credential: Credential) -> list[bytes]:
    """Ids of the passkeys that a new one takes the place of."""
    others = [c for c in state.credentials if not c.provisional]
    replaced = replaced_credentials(
        others, credential.rp_id, credential.user_handle, discoverable=credential.discoverable
    )
    return [c.credential_id for c in replaced]
