"""A login that signs for nobody: it shows the server that the person matches, over what is to be done then."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from device_sdk.authenticator.client_data import ClientDataHash
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

MATCH_TIMEOUT_S = 60.0
"""Enough for one login where nobody else has set a deadline."""


def show_match(
    rng: Rng,
    store: StateStore,
    api: ServerApi,
    challenge: ClientDataHash,
    probe: BinaryCode,
    *,
    deadline: Deadline,
    now: float,
    report: ReportBuilder,
    kind: str = "get",
    change: Callable[[TemplateShare], TemplateShare] = lambda share: share,
    on_match: Callable[[DeviceState], DeviceState] = lambda state: state,
) -> None:
    """One login with any passkey that the server takes. Call with `store.in_flight` held. now: Unix seconds.

    Its signature is thrown away: no client data have the hash `challenge`, so it is good at no relying party. It counts
    as an attempt, its confirmation is outstanding afterwards, and with that the match counts. Raises MatchMissing where
    there is no passkey to sign with, NoMatch, and the other faults of `sign_jointly`.
    """
    refused: TandemError = MatchMissing()
    for credential in store.state.credentials:
        if credential.provisional or is_expired(credential, now):
            continue
        wanted = JointLogin(
            kind=kind,
            credential_id=credential.credential_id,
            client_data_hash=challenge,
            authenticator_data=lambda current: assertion_data(current.rp_id, current.sign_count),
            probe=probe,
            change=change,
            on_match=on_match,
        )
        try:
            sign_jointly(rng, store, api, wanted, deadline, report)
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
