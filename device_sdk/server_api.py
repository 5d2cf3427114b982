"""The authentication server's endpoints as typed calls: encode, sign, send, decode, and map refusals to faults."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from typing import NoReturn, TypeVar

from device_sdk.ceremony_report import ReportBuilder
from device_sdk.errors import (
    BudgetSpent,
    CodeRequired,
    EnrolmentRefused,
    LockedOut,
    MatchMissing,
    NoSuchTemplate,
    NotActive,
    NotAllowed,
    ProvisionedKeyRefused,
    ProvisioningRequired,
    Quarantined,
    RelyingPartyNotAllowed,
    ServerHalfMissing,
    ServerMisbehaved,
    ServerRefused,
    ServerUnavailable,
    TooManyTemplates,
)
from device_sdk.transport import RequestKey, ServerProblem, Transport, signing_key_id
from mpc.errors import DecodeError
from mpc.login.attestation import MAX_BOX_BYTES
from mpc.login.enrolment_messages import (
    Accepted,
    AddCredential,
    BaseOtOffer,
    EnrolmentFinish,
    EnrolmentStart,
    RecoveryFinish,
    RecoveryStart,
    RevokeCredential,
)
from mpc.login.history import MAX_PAGE_BYTES, HistoryPage, HistoryRequest
from mpc.login.measurement import Measurement
from mpc.login.messages import Acknowledgement, Message3
from mpc.login.profile import Profile
from mpc.login.provisioned_messages import AdoptKey, PairShares
from mpc.login.published_profiles import PUBLISHED
from mpc.login.rotation_messages import RotationFinish, RotationOffer, RotationSettle, RotationSettled, RotationStart
from mpc.login.template_messages import AddTemplate, RemoveTemplate

_T = TypeVar("_T")
_SMALL_ANSWER_BYTES = 4096
_OFFER_BYTES = 16_384
_REVOKE_TIMEOUT_S = 5.0
_COUNTERS_BYTES = 1024 * 1024  # a counter for each of some thousand passkeys
_MESSAGE_2_OVERHEAD_BYTES = 2048 + MAX_BOX_BYTES
_BESIDE_A_PROFILE = {"digest", "server_id"}


class Deadline:
    """Until when a ceremony may last. Raises NotAllowed once it has passed, as WebAuthn asks for a timeout.

    cancelled: may be set from another thread at any time; no further request is then begun.
    """

    def __init__(self, timeout_s: float, *, cancelled: threading.Event | None = None) -> None:
        self._until = time.monotonic() + timeout_s
        self._cancelled = cancelled

    def remaining_s(self) -> float:
        if self._cancelled is not None and self._cancelled.is_set():
            raise NotAllowed("the ceremony was cancelled; start again")
        left = self._until - time.monotonic()
        if left <= 0:
            raise NotAllowed("the ceremony took longer than the relying party's timeout; start again")
        return left


class ServerApi:
    """Calls on behalf of one enrolment. `RequestKey` and id change at recovery, so they are arguments."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def profile(self, name: str) -> Profile:
        """The profile the server offers under `name`.

        Raises ServerMisbehaved for one that makes no sense, that is more lenient than the published profile of that
        name, or that comes with a measurement that is not its own.
        """
        body = self._transport.get_json(f"/v1/profiles/{name}", max_response_bytes=_SMALL_ANSWER_BYTES).body
        try:
            document = json.loads(body)
            measurement = document.pop("measurement", None)
            profile = Profile.from_dict({name: document[name] for name in document.keys() - _BESIDE_A_PROFILE})
            if measurement is not None and Measurement.from_dict(measurement).digest != profile.measured:
                raise ServerMisbehaved("bad_profile")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise ServerMisbehaved("bad_profile") from None
        if profile.name != name or _loosens_a_published_one(profile):
            raise ServerMisbehaved("bad_profile")
        return profile

    def start_enrolment(self, message: EnrolmentStart, key: RequestKey, report: ReportBuilder) -> BaseOtOffer:
        identity = signing_key_id(public_point=key.public_point())
        body = self._post("/v1/enrolments", message.encode(), key, identity, limit=_OFFER_BYTES, report=report)
        return _decoded(BaseOtOffer.decode, body)

    def finish_enrolment(self, message: EnrolmentFinish, key: RequestKey, report: ReportBuilder) -> Accepted:
        identity = signing_key_id(enrolment_id=message.enrolment_id)
        body = self._post("/v1/enrolments/finish", message.encode(), key, identity, report=report)
        return _decoded(Accepted.decode, body)

    def add_credential(
        self, message: AddCredential, key: RequestKey, deadline: Deadline, report: ReportBuilder
    ) -> Accepted:
        identity = signing_key_id(enrolment_id=message.enrolment_id)
        body = self._post("/v1/credentials", message.encode(), key, identity, deadline=deadline, report=report)
        return _decoded(Accepted.decode, body)

    def pair_shares(self, message: PairShares, key: RequestKey) -> Accepted:
        """Raises ServerHalfMissing if the server does not know the key, or its half does not fit."""
        identity = signing_key_id(enrolment_id=message.enrolment_id)
        try:
            body = self._send("/v1/credentials/pair", message.encode(), key, identity)
        except ServerProblem as problem:
            if problem.problem.code == "provisioned_key_not_usable":
                raise ServerHalfMissing from None
            raise_as_fault(problem)
        return _decoded(Accepted.decode, body)

    def adopt_key(self, message: AdoptKey, key: RequestKey, deadline: Deadline, report: ReportBuilder) -> Accepted:
        identity = signing_key_id(enrolment_id=message.enrolment_id)
        body = self._post("/v1/credentials/adopt", message.encode(), key, identity, deadline=deadline, report=report)
        return _decoded(Accepted.decode, body)

    def revoke_credential(self, message: RevokeCredential, key: RequestKey) -> Accepted:
        identity = signing_key_id(enrolment_id=message.enrolment_id)
        body = self._post(
            "/v1/credentials/revoke", message.encode(), key, identity, deadline=Deadline(_REVOKE_TIMEOUT_S)
        )
        return _decoded(Accepted.decode, body)

    def login(
        self,
        message_1: bytes,
        enrolment_id: bytes,
        key: RequestKey,
        *,
        expected_bytes: int,
        deadline: Deadline,
        report: ReportBuilder,
    ) -> bytes:
        """Message 1 to message 2. Raises ServerProblem untranslated: the caller's state machine reads its code."""
        identity = signing_key_id(enrolment_id=enrolment_id)
        limit = expected_bytes + _MESSAGE_2_OVERHEAD_BYTES
        return self._send("/v1/logins", message_1, key, identity, limit=limit, deadline=deadline, report=report)

    def confirm(self, message: Message3, key: RequestKey, *, timeout_s: float | None = None) -> Acknowledgement:
        """Message 3. Raises ServerProblem untranslated."""
        identity = signing_key_id(enrolment_id=message.enrolment_id)
        deadline = Deadline(timeout_s) if timeout_s is not None else None
        body = self._send("/v1/confirmations", message.encode(), key, identity, deadline=deadline)
        return _decoded(Acknowledgement.decode, body)

    def start_recovery(self, message: RecoveryStart, old_key: RequestKey) -> BaseOtOffer:
        """Raises ServerProblem untranslated: the caller's state machine reads its code."""
        identity = signing_key_id(enrolment_id=message.enrolment_id)
        body = self._send("/v1/recoveries", message.encode(), old_key, identity, limit=_OFFER_BYTES)
        return _decoded(BaseOtOffer.decode, body)

    def finish_recovery(self, message: RecoveryFinish, new_key: RequestKey) -> Accepted:
        identity = signing_key_id(enrolment_id=message.enrolment_id)
        body = self._post("/v1/recoveries/finish", message.encode(), new_key, identity, limit=_COUNTERS_BYTES)
        return _decoded(Accepted.decode, body)

    def start_rotation(self, message: RotationStart, key: RequestKey) -> RotationOffer:
        identity = signing_key_id(enrolment_id=message.enrolment_id)
        body = self._post("/v1/rotations", message.encode(), key, identity, limit=_OFFER_BYTES)
        return _decoded(RotationOffer.decode, body)

    def finish_rotation(self, message: RotationFinish, key: RequestKey) -> Accepted:
        identity = signing_key_id(enrolment_id=message.enrolment_id)
        body = self._post("/v1/rotations/finish", message.encode(), key, identity)
        return _decoded(Accepted.decode, body)

    def settle_rotation(self, message: RotationSettle, key: RequestKey) -> RotationSettled:
        """Raises ServerProblem untranslated."""
        identity = signing_key_id(enrolment_id=message.enrolment_id)
        body = self._send("/v1/rotations/settle", message.encode(), key, identity)
        return _decoded(RotationSettled.decode, body)

    def announce_change(
        self, message: AddTemplate | RemoveTemplate, key: RequestKey, report: ReportBuilder
    ) -> Accepted:
        identity = signing_key_id(enrolment_id=message.enrolment_id)
        path = "/v1/templates/add" if isinstance(message, AddTemplate) else "/v1/templates/remove"
        return _decoded(Accepted.decode, self._post(path, message.encode(), key, identity, report=report))

    def history(self, message: HistoryRequest, key: RequestKey) -> HistoryPage:
        identity = signing_key_id(enrolment_id=message.enrolment_id)
        body = self._post("/v1/history", message.encode(), key, identity, limit=MAX_PAGE_BYTES)
        return _decoded(HistoryPage.decode, body)

    def _post(
        self,
        path: str,
        body: bytes,
        key: RequestKey,
        identity: str,
        *,
        limit: int = _SMALL_ANSWER_BYTES,
        deadline: Deadline | None = None,
        report: ReportBuilder | None = None,
    ) -> bytes:
        """`_send`, with the server's refusal raised as the fault that it means to an app."""
        try:
            return self._send(path, body, key, identity, limit=limit, deadline=deadline, report=report)
        except ServerProblem as problem:
            raise_as_fault(problem)

    def _send(
        self,
        path: str,
        body: bytes,
        key: RequestKey,
        identity: str,
        *,
        limit: int = _SMALL_ANSWER_BYTES,
        deadline: Deadline | None = None,
        report: ReportBuilder | None = None,
    ) -> bytes:
        timeout_s = deadline.remaining_s() if deadline else None
        received = b""
        try:
            received = self._transport.post_cbor(
                path, body, key, identity, max_response_bytes=limit, timeout_s=timeout_s
            ).body
        finally:
            if report is not None:
                report.exchanged(len(body), len(received))
        return received


def raise_as_fault(refusal: ServerProblem) -> NoReturn:
    """Raise what the server's refusal means to an app."""
    problem = refusal.problem
    match problem.code:
        case "throttled":
            raise LockedOut(problem.retry_after_s or 0) from None
        case "budget_spent":
            raise BudgetSpent from None
        case "quarantined":
            raise Quarantined from None
        case "not_active":
            raise NotActive from None
        case "bad_enrolment_code":
            raise EnrolmentRefused from None
        case "match_missing":
            raise MatchMissing from None
        case "too_many_templates":
            raise TooManyTemplates from None
        case "no_such_template":
            raise NoSuchTemplate from None
        case "code_required":
            raise CodeRequired from None
        case "rp_not_allowed":
            raise RelyingPartyNotAllowed from None
        case "provisioned_key_not_usable":
            raise ProvisionedKeyRefused() from None
        case "provisioning_required":
            raise ProvisioningRequired from None
        case "unavailable" | "internal":
            raise ServerUnavailable from None
        case code:
            raise ServerRefused(code) from None


def _decoded(decode: Callable[[bytes], _T], body: bytes) -> _T:
    try:
        return decode(body)
    except DecodeError:
        raise ServerMisbehaved("malformed_answer") from None


def _loosens_a_published_one(profile: Profile) -> bool:
    published = PUBLISHED.get(profile.name)
    if published is None or profile.version > published.version or profile == published:
        return False
    return not profile.tightens(published)
