"""One login of the device's state machine (rows D1–D4, D6, D7): write ahead, ask, decide, write, release."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from device_sdk.authenticator.client_data import ClientDataHash
from device_sdk.biometrics import BinaryCode
from device_sdk.ceremony_report import ReportBuilder
from device_sdk.errors import DeviceRestored, NoMatch, ServerMisbehaved, ServerUnavailable
from device_sdk.profile_pinning import accept_tightened
from device_sdk.server_api import Deadline, ServerApi, raise_as_fault
from device_sdk.state_store import StateStore
from device_sdk.transport import Problem, RequestKey, ServerProblem
from device_sdk.vault.state import Credential, DeviceState, NextShares
from mpc.errors import ProtocolAbort
from mpc.garbling.hashing import tables_bytes
from mpc.login import device_side
from mpc.login.attestation import AttestationStatement
from mpc.login.device_side import DeviceLogin, DeviceLoginState, LoginRequest, Match, Probe
from mpc.login.template import TemplateShare
from mpc.primitives.rng import Rng

_MAX_RESTARTS = 3
_MAX_SIGN_COUNT = 2**32 - 1


@dataclass(frozen=True, slots=True)
class JointLogin:
    """What is asked: a signature of one credential over this client data hash, if the probe matches."""

    kind: str
    credential_id: bytes
    client_data_hash: ClientDataHash
    authenticator_data: Callable[[Credential], bytes]
    """authenticatorData for the credential with its counter already advanced."""
    probe: BinaryCode = field(repr=False)
    change: Callable[[TemplateShare], TemplateShare] = lambda share: share
    """What becomes of this device's template share with the next epoch."""
    on_match: Callable[[DeviceState], DeviceState] = lambda state: state
    """What else becomes durable together with the next shares, before anything is released."""
    attest: bool = False
    """Whether to ask for the server's attestation too; for a registration."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A released signature over `authenticator_data` ‖ client data hash.

    `attestation`: the server's, over the same bytes, where it was asked for and given.
    """

    authenticator_data: bytes
    signature: bytes
    attestation: AttestationStatement | None = None


def sign_jointly(
    rng: Rng, store: StateStore, api: ServerApi, wanted: JointLogin, deadline: Deadline, report: ReportBuilder
) -> Signed:
    """Run the login. Call with `store.in_flight` held.

    Raises NoMatch, ServerMisbehaved, DeviceRestored, LockedOut and the other faults of `raise_as_fault`, and
    TransportError. Where the server says that it consumed nothing (it did not know the confirmation carried
    along, or it tightened the profile) the same probe is sent again under a new index.
    """
    for _ in range(_MAX_RESTARTS):
        signed = _one_attempt(rng, store, api, wanted, deadline, report)
        if signed is not None:
            return signed
    raise ServerUnavailable


def _one_attempt(
    rng: Rng, store: StateStore, api: ServerApi, wanted: JointLogin, deadline: Deadline, report: ReportBuilder
) -> Signed | None:
    """None if the login is to be started again under the next index."""
    with report.step("device: store index"):
        state = store.change(lambda before: _with_next_index(before, wanted.credential_id))  # D1, write ahead
    credential, upcoming = state.credential(wanted.credential_id), state.promoted()
    authenticator_data = wanted.authenticator_data(credential)
    with report.step("device: message 1"):
        login = DeviceLogin(
            rng,
            _login_state(state, upcoming, credential),
            LoginRequest(
                kind=wanted.kind,
                ot_index=state.ot_index,
                authenticator_data=authenticator_data,
                client_data_hash=wanted.client_data_hash.digest,
                confirmation=state.next.confirmation if state.next else None,
                change=wanted.change,
                attest=wanted.attest,
            ),
            _probe(upcoming, wanted.probe),
        )
    try:
        with report.step("server and network"):
            answer = api.login(
                login.message_1,
                state.enrolment_id,
                RequestKey.from_scalar(state.request_key),
                expected_bytes=tables_bytes(upcoming.profile.circuit),
                deadline=deadline,
                report=report,
            )
    except ServerProblem as refusal:
        _after_refusal(store, api, state, credential, refusal)
        return None
    try:
        with report.step("device: evaluate and combine"):
            result = login.finish(answer)
    except ProtocolAbort as abort:
        # Silence towards the server, whatever it did; the app shows it to the user. What is kept is the same as
        # for "no match", or the next request would tell the server which of the two it was.
        store.change(lambda before: _settled(before, state))
        raise ServerMisbehaved(abort.reason) from None
    if isinstance(result, device_side.NoMatch):
        store.change(lambda before: _settled(before, state))  # D2
        raise NoMatch
    with report.step("device: store next shares"):
        store.change(lambda before: wanted.on_match(_with_next_shares(_settled(before, state), wanted, result)))  # D3
    return Signed(authenticator_data, result.signature, result.attestation)


def _with_next_index(state: DeviceState, credential_id: bytes) -> DeviceState:
    if state.overtaken:
        raise DeviceRestored
    credential = state.credential(credential_id)
    if credential.sign_count >= _MAX_SIGN_COUNT:
        raise ServerMisbehaved("counter_exhausted")
    counted = replace(credential, sign_count=credential.sign_count + 1)
    return replace(state.with_credential(counted), ot_index=state.ot_index + 1)


def _login_state(state: DeviceState, upcoming: DeviceState, credential: Credential) -> DeviceLoginState:
    """The shares of the current epoch, or of the next one where its confirmation goes along (`upcoming`)."""
    return DeviceLoginState(
        enrolment_id=state.enrolment_id,
        server_id=state.server_id,
        profile=upcoming.profile,
        base_ot_id=state.base_ot_id,
        base_keys=state.base_keys,
        epoch=upcoming.epoch,
        template=upcoming.template,
        credential_id=credential.credential_id,
        algorithm=credential.algorithm,
        key_share=upcoming.credential(credential.credential_id).key_share,
    )


def _probe(state: DeviceState, code: BinaryCode) -> Probe:
    return Probe(codes=code.packed() * state.profile.probe_codes, mask=code.packed_mask() or b"")


def _settled(now: DeviceState, sent: DeviceState) -> DeviceState:
    """An answer to a request that carried a confirmation proves that the server had processed it (D2, D3)."""
    return now.settled(sent.next.confirmation) if sent.next is not None else now


def _with_next_shares(state: DeviceState, wanted: JointLogin, match: Match) -> DeviceState:
    upcoming = NextShares(
        confirmation=match.confirmation,
        credential_id=wanted.credential_id,
        key_share=match.next_key_share,
        template=match.next_template,
    )
    return replace(state, next=upcoming)


def _after_refusal(
    store: StateStore, api: ServerApi, sent: DeviceState, credential: Credential, refusal: ServerProblem
) -> None:
    """Returns if the login is to be started again, raises the fault otherwise."""
    problem, outstanding = refusal.problem, sent.next
    if _shows_a_copy(problem, sent, credential):
        store.change(lambda now: replace(now, overtaken=True))  # D7
        raise DeviceRestored from None
    if problem.code == "unknown_login" and outstanding is not None and problem.epoch == sent.epoch:
        store.change(lambda now: now.dropped(outstanding.confirmation))  # D6: the server is at our own old epoch
        return
    if problem.code == "stale_index" and problem.last_index is not None:
        # A duplicate of this very request was faster, or a copy of this device took one index: the next one tells.
        return
    if problem.code == "profile_changed":
        accept_tightened(store, api.profile(sent.profile.name))
        return
    raise_as_fault(refusal)


def _shows_a_copy(problem: Problem, sent: DeviceState, credential: Credential) -> bool:
    """Whether the server stands where this device has never been: it was restored to an old state, or copied."""
    match problem.code:
        case "unknown_login":
            return problem.epoch is not None and problem.epoch > sent.epoch
        case "stale_index":
            return problem.last_index is not None and problem.last_index > sent.ot_index
        case "bad_authenticator_data":
            return (problem.sign_count or 0) >= credential.sign_count
        case _:
            return False
