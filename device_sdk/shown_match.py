"""A match that is shown to the server and signs for nobody: a login over 32 bytes that are no client data's hash."""

from __future__ import annotations

from device_sdk.authenticator.client_data import ClientDataHash
from device_sdk.biometrics import BinaryCode
from device_sdk.ceremony_report import ReportBuilder
from device_sdk.errors import MatchMissing, RelyingPartyNotAllowed, ServerRefused, TandemError
from device_sdk.expiry import is_expired
from device_sdk.joint_login import JointLogin, sign_jointly
from device_sdk.server_api import Deadline, ServerApi
from device_sdk.state_store import StateStore
from mpc.login.authenticator_data import assertion_data
from mpc.primitives.rng import Rng


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
) -> None:
    """One login with any passkey that the server takes. Call with `store.in_flight` held. now: Unix seconds.

    Its signature is thrown away: no client data have the hash `challenge`, so it is good at no relying party. It counts
    as an attempt and its confirmation is outstanding afterwards. Raises MatchMissing where there is no passkey to sign
    with, NoMatch, and the other faults of `sign_jointly`.
    """
    refused: TandemError = MatchMissing()
    for credential in store.state.credentials:
        if credential.provisional or is_expired(credential, now):
            continue
        wanted = JointLogin(
            kind="get",
            credential_id=credential.credential_id,
            client_data_hash=challenge,
            authenticator_data=lambda current: assertion_data(current.rp_id, current.sign_count),
            probe=probe,
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
