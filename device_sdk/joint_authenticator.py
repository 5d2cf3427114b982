"""The authenticator below every face of the SDK: it makes credentials and assertions for whoever holds client data.

`Device` builds client data from options and origin, and speaks JSON; a CTAP client has hashed its own. Both come down
to authenticatorMakeCredential and authenticatorGetAssertion (WebAuthn Level 3, sections 6.3.2 and 6.3.3).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from device_sdk.authenticator.client_data import ClientDataHash
from device_sdk.authenticator.new_credential import NewCredential
from device_sdk.biometrics import BinaryCode, Encoder
from device_sdk.ceremony import RunningCeremony
from device_sdk.ceremony_report import CeremonyReport, ReportBuilder
from device_sdk.confirmer import Confirmer
from device_sdk.joint_login import Signed
from device_sdk.recovery import finish_outstanding
from device_sdk.registration import Registered, register
from device_sdk.server_api import Deadline, ServerApi
from device_sdk.state_store import StateStore
from device_sdk.template_changes import settle_change
from device_sdk.template_rotation import settle_rotation
from device_sdk.transport import RequestKey
from device_sdk.vault.state import Credential
from mpc.login.enrolment_messages import RevokeCredential
from mpc.login.user_verification import VerificationMethod, verification_method
from mpc.login.verification import verification_challenge
from mpc.primitives.rng import Rng

_LOOK_EVERY_S = 0.05


class JointAuthenticator:
    """One enrolment's passkeys. No call gives a signature without a match of the probe that it was given.

    The match and the signature are one act, made together with the server. Calls block, and take turns.
    """

    def __init__(
        self,
        store: StateStore,
        api: ServerApi,
        confirmer: Confirmer,
        encoder: Encoder,
        *,
        rng: Rng,
        clock: Callable[[], float],
    ) -> None:
        """clock: Unix seconds; judges whether a key that was dealt has expired."""
        self._store = store
        self._api = api
        self._confirmer = confirmer
        self._encoder = encoder
        self.rng = rng
        self.clock = clock
        self.last_ceremony: CeremonyReport | None = None
        """What the last ceremony cost, successful or not."""

    @property
    def verification_method(self) -> VerificationMethod | None:
        """What a match verifies a person by, in the words of the FIDO registry; None where it has no true one."""
        return verification_method(self._store.state.profile)

    def credentials(self) -> list[Credential]:
        """The passkeys in use, oldest first."""
        return [credential for credential in self._store.state.credentials if not credential.provisional]

    def encoded(self, sample: Any, report: ReportBuilder) -> BinaryCode:
        """A sample, or what a function without arguments gives, as a probe. Raises EncodingError."""
        with report.step("device: capture and encode"):
            return self._encoder.encode(sample() if callable(sample) else sample)

    def make_credential(
        self,
        wanted: NewCredential,
        client_data_hash: ClientDataHash,
        probe: BinaryCode,
        deadline: Deadline,
        report: ReportBuilder,
        *,
        modulus_bits: int,
    ) -> Registered:
        """A new passkey with its first joint signature, durable here. For the faults see `Device.create`.

        What it takes the place of is revoked at the server, in one try.
        """
        with self._ceremony(client_data_hash, probe, deadline, report) as ceremony:
            registered = register(ceremony, wanted, modulus_bits=modulus_bits, now=self.clock())
        self._revoke_at_server(registered.replaced)
        return registered

    def get_assertion(
        self,
        credential: Credential,
        client_data_hash: ClientDataHash,
        probe: BinaryCode,
        deadline: Deadline,
        report: ReportBuilder,
        *,
        uvm: bool = False,
    ) -> Signed:
        """A signature by a passkey that is in use. uvm: the authenticator data are to tell how the user was verified.

        For the faults see `Device.get`.
        """
        with self._ceremony(client_data_hash, probe, deadline, report) as ceremony:
            return ceremony.assertion(credential, uvm=uvm)

    def verify_user(self, probe: BinaryCode, deadline: Deadline, report: ReportBuilder) -> None:
        """A match for its own sake, in a login that signs for nobody. It counts like any other.

        Raises MatchMissing where there is no passkey to sign with, and the faults of `Device.get`.
        """
        challenge = ClientDataHash(verification_challenge(self._store.state.enrolment_id))
        with self._ceremony(challenge, probe, deadline, report) as ceremony:
            ceremony.show_match(now=self.clock())

    def rename(self, credential_id: bytes, *, user_name: str, user_display_name: str) -> None:
        """Other names for the account of a passkey, here alone. KeyError if unknown."""
        self._store.change(
            lambda now: now.with_credential(
                replace(now.credential(credential_id), user_name=user_name, user_display_name=user_display_name)
            )
        )

    def delete(self, credential_id: bytes) -> None:
        """Give up a passkey, or a provisioned key that waits: at the server first, then here. KeyError if unknown."""
        with self._store.in_flight:
            if self._store.state.provisioned_key(credential_id) is None:
                self._store.state.credential(credential_id)
            self._revoke(credential_id)
            self._store.change(lambda now: now.without_credentials([credential_id]).without_provisioned(credential_id))

    def settle_outstanding(self) -> None:
        """What a lost answer left open. Which templates hold must be known before anything is done with them.

        Call with the store's `in_flight` held.
        """
        finish_outstanding(self._store, self._api)
        settle_rotation(self._store, self._api)
        settle_change(self._store, self._confirmer)

    def __repr__(self) -> str:
        return "JointAuthenticator()"

    @contextlib.contextmanager
    def _ceremony(
        self, client_data_hash: ClientDataHash, probe: BinaryCode, deadline: Deadline, report: ReportBuilder
    ) -> Iterator[RunningCeremony]:
        """One ceremony at a time; afterwards the report is kept."""
        try:
            with self._turn(deadline):
                self.settle_outstanding()
                yield RunningCeremony(
                    self.rng, self._store, self._api, self._confirmer, deadline, report, client_data_hash, probe
                )
        finally:
            self.last_ceremony = report.finish()

    @contextlib.contextmanager
    def _turn(self, deadline: Deadline) -> Iterator[None]:
        """The store's `in_flight`, waited for until the deadline or its cancellation."""
        while not self._store.in_flight.acquire(timeout=min(deadline.remaining_s(), _LOOK_EVERY_S)):
            pass
        try:
            deadline.remaining_s()
            yield
        finally:
            self._store.in_flight.release()

    def _revoke_at_server(self, credential_ids: Sequence[bytes]) -> None:
        """Tell the server that replaced passkeys are gone; one it cannot be told now leaves a share of no use."""
        for credential_id in credential_ids:
            # The new passkey is there already: nothing may come between it and the relying party.
            with contextlib.suppress(Exception):
                self._revoke(credential_id)

    def _revoke(self, credential_id: bytes) -> None:
        state = self._store.state
        self._api.revoke_credential(
            RevokeCredential(state.enrolment_id, credential_id), RequestKey.from_scalar(state.request_key)
        )
