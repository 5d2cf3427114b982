"""A login: frame, then in the enrolment's turn the confirmation carried along, advisory checks, silent computation and
one transaction, and the answer.

The transaction re-reads everything and writes the verdict; the answer is a function of what was committed. Before
it nothing is told to anybody, so any number of parallel requests see at most one failed verdict.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import structlog
from sqlalchemy import Connection

from mpc.errors import DecodeError, ProtocolAbort
from mpc.login.attestation import AttestationStatement
from mpc.login.authenticator_data import sign_count_of
from mpc.login.messages import Confirmation, LoginStatement, Message1, message_1_max_bytes
from mpc.login.profile import Profile
from mpc.login.rotation_messages import rotation_challenge
from mpc.login.server_side import Answer, OtProofFailed, ServerLoginState, ShareTagFailed, Verdict, decide
from mpc.login.verification import verification_challenge
from mpc.threshold_rsa.encodings import Algorithm

from ..attestation_certificates import AttestationAuthority
from ..errors import Refused
from ..observation import login_came_to, step_ended
from ..policy import Policy
from ..sealing import DataKey
from ..store.credentials import CredentialRow, load_credential, set_sign_count
from ..store.enrolments import EnrolmentRow, load_enrolment, update_enrolment
from ..store.events import EnrolmentChain
from ..store.logins import LoginKind, LoginRow, LoginState, insert_login
from ..store.turns import TurnNotFree
from .attestation import attested, attester, renew_if_due
from .authenticator_data import expected_data
from .confirmation import apply_confirmation
from .context import ServiceContext, SignedRequest
from .credentials import require_allowed_origin
from .frame import authenticated_enrolment, require_same_enrolment
from .limits import MAX_INDEX_JUMP, check_budgets, check_delay
from .login_events import LoginEvent, attestation_event, login_event
from .quarantine import QuarantineReason, quarantine
from .secrets_at_rest import open_base_keys, open_key_share, open_template, seal_refresh

_MAX_RECOMPUTATIONS = 8
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the computation is based on. The transaction checks that it is still so."""

    enrolment: EnrolmentRow
    credential: CredentialRow
    key: DataKey = field(repr=False)
    """The enrolment's. Never replaced as long as the enrolment exists, so it needs no check."""
    attester: AttestationAuthority | None = field(default=None, repr=False)
    """Who attests what is registered, if the device asks for it. One that was replaced meanwhile is good for once."""


@dataclass(frozen=True, slots=True)
class Crashed:
    """The computation raised something unexpected. Counted as a failed attempt, then raised again."""

    error: Exception


Computed = Verdict | Crashed


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the transaction wrote, as what the device is told."""

    row: str = ""
    """In metrics; a refusal that writes nothing goes by its code."""
    reply: bytes | None = field(default=None, repr=False)
    refusal: Refused | None = None
    error: Exception | None = None
    recompute: Snapshot | None = None


def login(ctx: ServiceContext, request: SignedRequest) -> bytes:
    """Message 1 to message 2. Raises Refused, or DecodeError for malformed bodies."""
    try:
        outcome = _outcome(ctx, request)
    except Refused as refused:
        login_came_to(refused.code)
        raise
    login_came_to(outcome.row or (outcome.refusal.code if outcome.refusal else "crashed"))
    return _told(outcome)


def _outcome(ctx: ServiceContext, request: SignedRequest) -> Outcome:
    with ctx.store.look() as conn:
        enrolment = authenticated_enrolment(ctx, conn, request)
        # With a confirmation carried along a write transaction comes first, which should not wait for a key service.
        ctx.keyring.prefetch(conn, enrolment.id)
    message = _parsed(ctx.policy, enrolment, request.body)
    if message.statement.attest:
        renew_if_due(ctx)
    if message.statement.confirmation is None:
        # Whoever has to wait anyway need not queue for it. A confirmation may end the waiting, so it comes first.
        _check_in_service(ctx, enrolment)
    try:
        # Only now: a stranger must not be able to hold a turn. And what was read before it is not used below, since
        # other logins may have gone by while this one waited. Nothing about security rests on the turn: however many
        # requests computed at the same time, `commit_verdict` would tell at most one failed verdict.
        with ctx.store.enrolment_turn(enrolment.id):
            step_ended("turn")
            return _decided(ctx, enrolment, message, request.body)
    except TurnNotFree:
        raise Refused("unavailable") from None


def _decided(ctx: ServiceContext, enrolment: EnrolmentRow, message: Message1, body: bytes) -> Outcome:
    """What became of it, in the enrolment's turn. `enrolment` is the row that authenticated the request."""
    confirmation = message.statement.confirmation
    unknown = None
    if confirmation is not None:
        unknown = _settle(ctx, enrolment.id, confirmation)
        step_ended("settle")
    # The enrolment first: if its row is the same in the transaction of the verdict, nothing of it changed in between.
    with ctx.store.look() as conn:
        current = load_enrolment(conn, enrolment.id) or enrolment
        # C4. If the login is of an epoch that is over, it goes on to row L4: under a fresh index it is signed
        # evidence that somebody else was confirmed in between, even where the void token was forgotten.
        if unknown is not None and message.statement.epoch >= current.epoch:
            raise unknown
        snapshot = _advisory_snapshot(ctx, conn, current, message)
    step_ended("advisory")
    for _ in range(_MAX_RECOMPUTATIONS):
        computed = _compute(ctx, snapshot, message, body)
        outcome = commit_verdict(ctx, snapshot, message, body, computed)
        step_ended("commit")
        if outcome.recompute is None:
            return outcome
        snapshot = outcome.recompute
    raise Refused("unavailable")


def commit_verdict(
    ctx: ServiceContext, snapshot: Snapshot, message: Message1, body: bytes, computed: Computed | None
) -> Outcome:
    """Rows L1–L8 in one transaction under the enrolment's lock; what is written decides what is told.

    `computed` is None where the statement did not fit the snapshot, so that there was nothing to compute with.
    """
    statement = message.statement
    with ctx.store.write_enrolment() as conn:
        enrolment = load_enrolment(conn, snapshot.enrolment.id, lock=True)
        step_ended("lock")
        credential = load_credential(conn, statement.credential_id)
        if enrolment is None:
            return Outcome(refusal=Refused("not_active"))

        def consumed(
            state: LoginState = "failed",
            reason: str | None = None,
            attester: AttestationAuthority | None = None,
            **details: bytes | None,
        ) -> None:
            kind = _kind_of(enrolment, statement)
            events = [login_event(enrolment, credential, statement, kind, reason)]
            if attester is not None:
                events.append(attestation_event(statement, attester))
            _consume(ctx, conn, enrolment, statement, body, state, kind, events, **details)

        def caught(reason: QuarantineReason) -> Outcome:
            consumed(reason=reason)
            quarantine(ctx, conn, enrolment, reason)
            return Outcome(reason, refusal=Refused("quarantined"))

        # L5 before all other rows: a failed proof against the current Δ must never be thrown away by a refusal
        # that the device can bring about meanwhile (a revoked credential, an index used by a parallel request).
        # An honest late message cannot get here, since its proof holds as long as the base OT is the same.
        if isinstance(computed, OtProofFailed) and _same_base_ot(snapshot, enrolment):
            return caught("ot_proof_failed")
        if credential is None:
            return Outcome(refusal=Refused("credential_not_usable"))
        try:
            # Every row of `logins` is written together with its enrolment's. Between two equal enrolment rows only time
            # has passed, and with time budgets grow: what the snapshot was admitted under need not be counted again.
            counted = enrolment == snapshot.enrolment
            profile = _check_admissible(ctx, conn, enrolment, credential, statement, budgets=not counted)  # L1–L3
        except Refused as refusal:
            return Outcome(refusal=refusal)
        if statement.epoch < enrolment.epoch:  # L4
            return caught("clone_suspected")
        if computed is None or not _same_basis(snapshot, enrolment, credential):
            return Outcome(recompute=replace(snapshot, enrolment=enrolment, credential=credential))
        if isinstance(computed, OtProofFailed):
            raise AssertionError("a failed proof on the current base OT was handled above")
        if isinstance(computed, ShareTagFailed):  # L6
            return caught("share_tag_failed")
        if isinstance(computed, Crashed):
            consumed(reason="computation_failed")
            return Outcome("crashed", error=computed.error)
        if expected_data(statement, credential, profile) is None:  # L7
            consumed(reason="bad_authenticator_data")
            # The counter tells an honest device that somebody else has signed with a copy of it.
            return Outcome(refusal=Refused("bad_authenticator_data", sign_count=credential.sign_count))
        consumed(  # L8
            "pending",
            attester=snapshot.attester if computed.attested else None,
            token_hash=computed.token_hash,
            sealed_rho=seal_refresh(
                snapshot.key, statement.ot_index, enrolment.epoch, computed.session_id, computed.rho
            ),
        )
        set_sign_count(conn, credential.id, sign_count_of(statement.authenticator_data))
    return Outcome("answered", reply=computed.message_2)


def _parsed(policy: Policy, enrolment: EnrolmentRow, body: bytes) -> Message1:
    profile = policy.profiles.get(enrolment.profile_name)
    # For as many templates as there may be: a copy from before one was removed is for row L4.
    if profile is not None and len(body) > message_1_max_bytes(profile.with_templates(profile.max_templates)):
        raise Refused("too_large")
    message = Message1.decode(body)
    require_same_enrolment(enrolment, message.statement.enrolment_id)
    return message


def _advisory_snapshot(ctx: ServiceContext, conn: Connection, enrolment: EnrolmentRow, message: Message1) -> Snapshot:
    """The checks that save work and decide nothing: they are all made again in the transaction."""
    credential = load_credential(conn, message.statement.credential_id)
    if credential is None:
        raise Refused("credential_not_usable")
    profile = _check_admissible(ctx, conn, enrolment, credential, message.statement)
    if message.statement.epoch == enrolment.epoch:
        message.check_fits(profile, Algorithm(credential.algorithm))
    vouching = attester(ctx, conn) if message.statement.attest else None
    return Snapshot(enrolment, credential, ctx.keyring.key_of(conn, enrolment.id), vouching)


def _check_admissible(
    ctx: ServiceContext,
    conn: Connection,
    enrolment: EnrolmentRow,
    credential: CredentialRow,
    statement: LoginStatement,
    *,
    budgets: bool = True,
) -> Profile:
    """Rows L1–L3: refusals that write nothing and count nothing. The profile the enrolment is bound to."""
    profile = _check_in_service(ctx, enrolment)
    if budgets:
        check_budgets(conn, ctx.policy.limits, enrolment, profile.templates, ctx.clock())
    wanted = "provisional" if statement.kind == "create" else "active"
    if credential.enrolment_id != enrolment.id or credential.status != wanted or credential.has_expired(ctx.clock()):
        raise Refused("credential_not_usable")
    if credential.rp_id not in ctx.policy.allowed_rp_ids:
        raise Refused("rp_not_allowed")
    if credential.status == "provisional":
        require_allowed_origin(ctx.policy, credential.rp_id, credential.ceremony_id)
    if statement.ot_index <= enrolment.last_index:
        raise Refused("stale_index", last_index=enrolment.last_index)
    if statement.ot_index > enrolment.last_index + MAX_INDEX_JUMP:
        raise Refused("index_ahead", last_index=enrolment.last_index)
    if statement.epoch > enrolment.epoch:
        raise Refused("epoch_ahead", epoch=enrolment.epoch)
    # With another epoch there may be another base OT, and another number of templates: a message of an older one is for
    # row L4 whatever it names, or a copy from before would be told to go away and stay in service.
    if statement.epoch < enrolment.epoch:
        return profile
    if statement.profile_digest != profile.digest:
        raise Refused("profile_changed")
    if statement.base_ot_id != enrolment.base_ot_id:
        raise Refused("base_ot_changed")
    # A login that is answered as one for a change is for the change that the confirmation will make, and no other.
    if statement.kind == "change" and statement.client_data_hash != enrolment.change_challenge:
        raise Refused("wrong_state")
    return profile


def _check_in_service(ctx: ServiceContext, enrolment: EnrolmentRow) -> Profile:
    """The part of row L1 that the enrolment's own row answers."""
    profile = ctx.policy.profile_of(enrolment.profile_name, enrolment.templates)
    if enrolment.status != "active" or profile is None:
        raise Refused("not_active")
    check_delay(ctx.policy.limits, enrolment, ctx.clock())
    return profile


def _compute(ctx: ServiceContext, snapshot: Snapshot, message: Message1, body: bytes) -> Computed | None:
    """Both checks, garbling and sealing, in memory. None if the statement is of another epoch than the snapshot."""
    enrolment, credential = snapshot.enrolment, snapshot.credential
    if message.statement.epoch != enrolment.epoch or message.statement.base_ot_id != enrolment.base_ot_id:
        return None
    profile = ctx.policy.profile_of(enrolment.profile_name, enrolment.templates)
    if profile is None:
        raise AssertionError("the profile was there when the request was admitted")
    try:
        state = ServerLoginState(
            server_id=ctx.policy.server_id,
            profile=profile,
            algorithm=Algorithm(credential.algorithm),
            base_keys=open_base_keys(snapshot.key, enrolment),
            template=open_template(snapshot.key, enrolment, profile),
            key_share=open_key_share(snapshot.key, credential),
        )
        step_ended("open")
        attestation = _attestation(ctx, snapshot, profile, message.statement)
        verdict = decide(ctx.rng, state, message, body, step_ended, attestation=attestation)
    except Exception as error:
        # Whatever it was, it is told only after it has been counted: an uncounted difference between
        # "the proof failed" and "something else failed" would be a free answer about Δ.
        return Crashed(error)
    if isinstance(verdict, Answer):
        _log.debug("garbled")  # each circuit that was ever made, whether or not it is told
    return verdict


def _attestation(
    ctx: ServiceContext, snapshot: Snapshot, profile: Profile, statement: LoginStatement
) -> AttestationStatement | None:
    if snapshot.attester is None:
        return None
    return attested(snapshot.attester, ctx.policy.attestation, snapshot.credential, profile, statement)


def _same_basis(snapshot: Snapshot, enrolment: EnrolmentRow, credential: CredentialRow) -> bool:
    """Whether the rows that went into the computation are those that are current now."""
    return (
        snapshot.enrolment.epoch == enrolment.epoch
        and _same_base_ot(snapshot, enrolment)
        and snapshot.enrolment.sealed_template == enrolment.sealed_template
        and snapshot.credential.sealed_share == credential.sealed_share
        # A provisioned key may be adopted again with another one.
        and snapshot.credential.algorithm == credential.algorithm
    )


def _same_base_ot(snapshot: Snapshot, enrolment: EnrolmentRow) -> bool:
    """Whether Δ is still there and still the one of the computation."""
    return (
        snapshot.enrolment.sealed_base_ot is not None
        and snapshot.enrolment.base_ot_id == enrolment.base_ot_id
        and snapshot.enrolment.sealed_base_ot == enrolment.sealed_base_ot
    )


def _consume(
    ctx: ServiceContext,
    conn: Connection,
    enrolment: EnrolmentRow,
    statement: LoginStatement,
    body: bytes,
    state: LoginState,
    kind: LoginKind,
    events: Sequence[LoginEvent],
    *,
    token_hash: bytes | None = None,
    sealed_rho: bytes | None = None,
) -> None:
    """Use up the index and count the attempt: failed until it is confirmed.

    An index that is used up already keeps its row; the attempt counts all the same.
    """
    now = ctx.clock()
    chain = EnrolmentChain(enrolment)
    for event in events:
        chain.append(conn, at=now, name=event.name, detail=event.detail)
    profile = ctx.policy.profile_of(enrolment.profile_name, enrolment.templates)
    cost = profile.templates if profile is not None else 1
    if statement.ot_index > enrolment.last_index:
        insert_login(
            conn,
            LoginRow(
                enrolment_id=enrolment.id,
                ot_index=statement.ot_index,
                credential_id=statement.credential_id,
                at=now,
                cost=cost,
                state=state,
                kind=kind,
                token_hash=token_hash,
                sealed_rho=sealed_rho,
                request_hash=hashlib.sha256(body).digest(),
            ),
        )
    update_enrolment(
        conn,
        enrolment.id,
        last_index=max(enrolment.last_index, statement.ot_index),
        consecutive_failures=enrolment.consecutive_failures + 1,
        last_attempt_at=now,
        template_attempts=enrolment.template_attempts + cost,
        updated_at=now,
        **chain.head,
    )


def _kind_of(enrolment: EnrolmentRow, statement: LoginStatement) -> LoginKind:
    """A login over the challenge of a verification or of the rotation under way shows a match, and signs for nobody."""
    if statement.kind == "create":
        return "create"
    if statement.kind == "change":
        return "change"
    if statement.client_data_hash == verification_challenge(enrolment.id):
        return "verify"
    pending = enrolment.pending_base_ot_id
    if pending is not None and statement.client_data_hash == rotation_challenge(enrolment.id, pending):
        return "rotate"
    return "get"


def _settle(ctx: ServiceContext, enrolment_id: bytes, confirmation: Confirmation) -> Refused | None:
    """The confirmation carried along, in its own transaction; the refusal if the token is unknown (row C4)."""
    try:
        apply_confirmation(ctx, enrolment_id, confirmation)
    except Refused as refusal:
        if refusal.code != "unknown_login":
            raise
        return refusal
    return None


def _told(outcome: Outcome) -> bytes:
    if outcome.refusal is not None:
        raise outcome.refusal
    if isinstance(outcome.error, DecodeError):
        raise outcome.error
    if isinstance(outcome.error, ProtocolAbort):
        raise Refused("malformed", field="message_1") from None
    if outcome.error is not None:
        raise outcome.error
    if outcome.reply is None:
        raise AssertionError("an outcome without a reply, a refusal or an error")
    return outcome.reply
