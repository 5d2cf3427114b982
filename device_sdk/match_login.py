"""A login that signs for nobody: it shows the server that the person matches, over what is to be done then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from device_sdk.authenticator.client_data import ClientData
from device_sdk.biometrics import BinaryCode
from device_sdk.ceremony_report import ReportBuilder
from device_sdk.confirmer import Confirmer
from device_sdk.errors import DeviceRestored, MatchMissing, RelyingPartyNotAllowed, ServerRefused, TandemError
from device_sdk.expiry import is_expired
from device_sdk.joint_login import JointLogin, sign_jointly
from device_sdk.server_api import Deadline, ServerApi, raise_as_fault
from device_sdk.state_store import StateStore
from device_sdk.transport import ServerProblem
from device_sdk.vault.state import DeviceState
from mpc.login.authenticator_data import assertion_data
from mpc.login.template import TemplateShare
from mpc.primitives.rng import Rng

_TIMEOUT_S = 60.0


def show_match(
    rng: Rng,
    store: StateStore,
    api: ServerApi,
    challenge: bytes,
    probe: BinaryCode,
    *,
    kind: str,
    now: float,
    report: ReportBuilder,
    change: Callable[[TemplateShare], TemplateShare] = lambda share: share,
    on_match: Callable[[DeviceState], DeviceState] = lambda state: state,
) -> None:
    """A login over a challenge that is no hash of client data, with any passkey that the server takes.

    Its signature is thrown away; it is good at no relying party. The match counts once the login is confirmed. Call
    with `store.in_flight` held. Raises MatchMissing if there is no passkey to do it with, and the faults of
    `sign_jointly`.
    """
    client_data = ClientData(b"", challenge)
    refused: TandemError = MatchMissing()
    for credential in store.state.credentials:
        if credential.provisional or is_expired(credential, now):
            continue
        wanted = JointLogin(
            kind=kind,
            credential_id=credential.credential_id,
            client_data=client_data,
            authenticator_data=lambda current: assertion_data(current.rp_id, current.sign_count),
            probe=probe,
            change=change,
            on_match=on_match,
        )
        try:
            sign_jointly(rng, store, api, wanted, Deadline(_TIMEOUT_S), report)
        except (RelyingPartyNotAllowed, ServerRefused) as fault:
            if isinstance(fault, ServerRefused) and fault.code != "credential_not_usable":
                raise
            refused = fault  # nothing was consumed
            continue
        return
    raise refused


def settle_confirmation(store: StateStore, confirmer: Confirmer) -> None:
    """Deliver what is outstanding, now. Raises DeviceRestored, TransportError, and the faults of `raise_as_fault`."""
    try:
        confirmer.deliver()
    except ServerProblem as refusal:
        if refusal.problem.code == "unknown_login" and (refusal.problem.epoch or 0) > store.state.epoch:
            mark_overtaken(store)  # D6'
            raise DeviceRestored from None
        raise_as_fault(refusal)


def mark_overtaken(store: StateStore) -> None:
    """The server stands where this device has never been: every login raises DeviceRestored until a recovery."""
    store.change(lambda now: replace(now, overtaken=True))
