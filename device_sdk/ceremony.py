"""What one ceremony works with, and the joint login as its one way to a signature."""

from __future__ import annotations

from dataclasses import dataclass, field

from device_sdk.authenticator.client_data import ClientDataHash
from device_sdk.biometrics import BinaryCode
from device_sdk.ceremony_report import ReportBuilder
from device_sdk.confirmer import Confirmer
from device_sdk.joint_login import JointLogin, Signed, sign_jointly
from device_sdk.match_login import show_match
from device_sdk.server_api import Deadline, ServerApi
from device_sdk.state_store import StateStore
from device_sdk.vault.state import Credential
from mpc.login.authenticator_data import assertion_data
from mpc.login.extension_outputs import ExtensionOutputs
from mpc.login.user_verification import verification_method
from mpc.primitives.rng import Rng


@dataclass(frozen=True, slots=True)
class RunningCeremony:
    """One `create` or `get`, from the encoded capture on. Used with `store.in_flight` held."""

    rng: Rng
    store: StateStore
    api: ServerApi
    confirmer: Confirmer
    deadline: Deadline
    report: ReportBuilder
    client_data_hash: ClientDataHash
    probe: BinaryCode = field(repr=False)

    def sign(self, wanted: JointLogin) -> Signed:
        """A joint login; only where it signed does its confirmation go out, after anything else there is silence."""
        signed = sign_jointly(self.rng, self.store, self.api, wanted, self.deadline, self.report)
        self.confirmer.start()
        return signed

    def show_match(self, *, now: float) -> None:
        """A match whose signature over the client data hash is thrown away. now: Unix seconds."""
        show_match(
            self.rng,
            self.store,
            self.api,
            self.client_data_hash,
            self.probe,
            deadline=self.deadline,
            now=now,
            report=self.report,
        )
        self.confirmer.start()

    def outputs(self, *, uvm: bool) -> ExtensionOutputs:
        """Extension outputs. uvm: the client asks how the user is verified, and is told where there is a true word."""
        return ExtensionOutputs(verification_method(self.store.state.profile) if uvm else None)

    def assertion(self, credential: Credential, *, uvm: bool = False) -> Signed:
        """A signature over the client data hash by a passkey that is in use. uvm: see `outputs`."""
        outputs = self.outputs(uvm=uvm)
        return self.sign(
            JointLogin(
                kind="get",
                credential_id=credential.credential_id,
                client_data_hash=self.client_data_hash,
                authenticator_data=lambda current: assertion_data(current.rp_id, current.sign_count, outputs),
                probe=self.probe,
            )
        )
