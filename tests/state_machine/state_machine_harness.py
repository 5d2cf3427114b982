"""One server on a SQLite file, a network that loses and repeats, phones, and a relying party that checks.

Everything between the parties is the real thing: requests are signed and verified, bodies are bytes, refusals are
problem documents, and the store is a file. Only the socket is missing, so that a test decides what arrives when.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import shutil
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key
from state_machine_databases import NAME, database_url

from authsvc.api.problems import internal_error, response_to
from authsvc.api.profiles import router
from authsvc.api.protocol import CBOR, protocol_endpoints
from authsvc.errors import Refused
from authsvc.key_port.port import KeyWrapper
from authsvc.key_port.raw_key import RawKeyWrapper
from authsvc.policy import Limits, Policy
from authsvc.services import administration, login, template_rotation
from authsvc.services.audit_verification import verify_log
from authsvc.services.confirmation import apply_confirmation
from authsvc.services.context import ServiceContext, SignedRequest
from authsvc.services.frame import authenticated_enrolment
from authsvc.services.kek_adoption import adopt_kek
from authsvc.services.keyring import Keyring
from authsvc.store import migrate
from authsvc.store.credentials import CredentialRow, list_credentials
from authsvc.store.engine import Store
from authsvc.store.enrolments import EnrolmentRow, load_enrolment
from authsvc.store.event_search import EventFilter, search_events
from authsvc.store.events import list_events
from authsvc.store.logins import LoginRow
from authsvc.store.tables import logins, metadata
from device_sdk import Device
from device_sdk.biometrics import BinaryCodeEncoder
from device_sdk.errors import TandemError, TransportError
from device_sdk.state_store import StateStore
from device_sdk.transport import RequestKey, ServerProblem, TransportReply
from device_sdk.transport.problem import parse_problem
from device_sdk.transport.request_signing import signed_headers
from device_sdk.vault.file import VaultFile
from device_sdk.vault.keys import KeyFile
from device_sdk.vault.state import DeviceState
from mpc.login.messages import Message1
from mpc.login.profile import Profile
from mpc.primitives.rng import SystemRng

AUTHORITY = "auth.example"
SERVER_URL = f"https://{AUTHORITY}"
RP_ID = "shop.example"
ORIGIN = f"https://{RP_ID}"
ENCODER = BinaryCodeEncoder(512)
PROFILE = Profile(name="sim-512", code_bits=512, threshold=120, encoder_id=ENCODER.encoder_id)
NO_LIMITS = Limits(
    consecutive_before_delay=10**6,
    consecutive_before_disabled=10**6,
    unconfirmed_per_30_days=10**6,
    attempts_per_day=10**6,
    attempts_per_template=10**6,
)
FACE = np.random.default_rng(20).integers(0, 2, 512, dtype=np.uint8)
STRANGER = 1 - FACE
GROWING = replace(PROFILE, thresholds=(120, 110, 105))
"""The profile with room for three templates."""
GLASSES = np.random.default_rng(21).integers(0, 2, 512, dtype=np.uint8)
"""Another look of the same person, too far from the face to match it."""
BEARD = np.random.default_rng(22).integers(0, 2, 512, dtype=np.uint8)

LOGINS, CONFIRMATIONS = "/v1/logins", "/v1/confirmations"
PAIR, ADOPT, REVOKE = "/v1/credentials/pair", "/v1/credentials/adopt", "/v1/credentials/revoke"
RECOVERIES, RECOVERIES_FINISH = "/v1/recoveries", "/v1/recoveries/finish"
ROTATIONS, ROTATIONS_FINISH, ROTATIONS_SETTLE = "/v1/rotations", "/v1/rotations/finish", "/v1/rotations/settle"
ADD, REMOVE = "/v1/templates/add", "/v1/templates/remove"
KEK = bytes(range(32))


def policy(profile: Profile = PROFILE, limits: Limits = NO_LIMITS, **more: Any) -> Policy:
    return Policy(
        server_id=AUTHORITY, profiles={profile.name: profile}, allowed_rp_ids=frozenset({RP_ID}), limits=limits, **more
    )


def at_distance(distance: int) -> np.ndarray[Any, Any]:
    """The enrolled face with that many bits changed."""
    return FACE ^ (np.arange(512) < distance).astype(np.uint8)


AGED = [at_distance(60)] * 3
"""Captures of the same person years later: they match the enrolled face, and make another template."""
LATER = at_distance(140)
"""And later still: too far from the enrolled face, near to the aged one."""


class Clock:
    """The time of both sides, in Unix seconds; it stands still until told otherwise."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


class WatchedRng:
    """The system's generator. `change`, where set, is given the number of the draw and its bytes."""

    def __init__(self) -> None:
        self.draws = 0
        self.change: Callable[[int, bytes], bytes] | None = None

    def bytes(self, count: int) -> bytes:
        drawn = SystemRng().bytes(count)
        self.draws += 1
        return self.change(self.draws, drawn) if self.change else drawn


@dataclass(frozen=True, slots=True)
class Answer:
    """What leaves the server."""

    status: int
    body: bytes = field(repr=False)

    @property
    def problem(self) -> dict[str, Any]:
        """The members of the problem document; {} for a good answer."""
        return {} if self.status == 200 else json.loads(self.body)

    @property
    def code(self) -> str:
        return "ok" if self.status == 200 else self.problem["code"]


class Server:
    """One worker of the authentication server. Several may share the folder, as several processes do."""

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        use: Policy | None = None,
        make_store: Callable[[Any], Store] = Store,
        keks: Sequence[KeyWrapper] = (),
    ) -> None:
        self.path = folder / NAME
        is_new = not self.path.exists()
        self.clock, self.rng = clock, WatchedRng()
        self.store = make_store(database_url(folder))
        if is_new:
            migrate.upgrade(self.store)
        keyring = Keyring(keks or [RawKeyWrapper(KEK)])
        self.ctx = ServiceContext(self.store, keyring, use or policy(), self.rng, clock)
        adopt_kek(self.store, keyring)
        self._endpoints = {endpoint.path: endpoint for endpoint in protocol_endpoints(self.ctx)}

    def serve(self, request: SignedRequest) -> Answer:
        """What the HTTP layer does around a use case."""
        endpoint = self._endpoints[request.path]
        if len(request.body) > endpoint.max_body_bytes:
            return answer_to(Refused("too_large", max_bytes=endpoint.max_body_bytes))
        return self.answer(lambda: endpoint.use_case(self.ctx, request))

    def answer(self, use_case: Callable[[], bytes]) -> Answer:
        """A use case's result or error as what goes out."""
        try:
            return Answer(200, use_case())
        except Exception as error:
            return answer_to(error)

    def profile_document(self, name: str) -> bytes:
        """GET /v1/profiles/{name}."""
        endpoint: Any = router(self.ctx.policy).routes[0]
        return json.dumps(asyncio.run(endpoint.endpoint(name))).encode()

    def enrolment(self, enrolment_id: bytes) -> EnrolmentRow:
        with self.store.read() as conn:
            row = load_enrolment(conn, enrolment_id)
        assert row is not None
        return row

    def credentials(self, enrolment_id: bytes) -> list[CredentialRow]:
        with self.store.read() as conn:
            return list_credentials(conn, enrolment_id)

    def logins(self, enrolment_id: bytes) -> list[LoginRow]:
        """Every counted attempt, by index."""
        with self.store.read() as conn:
            found = logins.select().where(logins.c.enrolment_id == enrolment_id).order_by(logins.c.ot_index)
            return [LoginRow(**row._mapping) for row in conn.execute(found)]

    def states(self, enrolment_id: bytes) -> list[str]:
        return [row.state for row in self.logins(enrolment_id)]

    def events(self, enrolment_id: bytes) -> list[str]:
        with self.store.read() as conn:
            return [event.name for event in list_events(conn, enrolment_id)]

    def dump(self) -> dict[str, list[tuple[Any, ...]]]:
        """Every row, to compare before and after; but for the rate limits, which every request may touch."""
        compared = [table for table in metadata.sorted_tables if table.name != "rate_limits"]
        with self.store.read() as conn:
            return {table.name: [tuple(row) for row in conn.execute(table.select())] for table in compared}

    def lift(self, enrolment_id: bytes) -> str:
        return administration.lift(self.ctx, enrolment_id).code

    def rotation_code(self, enrolment_id: bytes, *, without_match: bool = False) -> str:
        return template_rotation.issue_rotation_code(self.ctx, enrolment_id, without_match=without_match).code

    def close(self) -> None:
        try:
            assert_audited(self)
        finally:
            self.store.close()


def assert_audited(server: Server) -> None:
    """Whatever a test did: the audit log is whole, and every login that was answered or confirmed stands in it."""
    with server.store.read() as conn:
        if migrate.current_revision(conn) != migrate.head_revision():
            return  # a test that went back to before there was a log
        rows = [LoginRow(**row._mapping) for row in conn.execute(logins.select())]
        recorded = [
            (e.name, e.enrolment_id, json.loads(e.detail)) for e in search_events(conn, EventFilter(), limit=10**6)
        ]
    report = verify_log(server.ctx)
    assert report.ok, [each.text for each in report.findings]
    for name, states in (("login_answered", {"pending", "void", "confirmed"}), ("login_confirmed", {"confirmed"})):
        told = {(owner, detail["ot_index"]) for event, owner, detail in recorded if event == name}
        assert {(row.enrolment_id, row.ot_index) for row in rows if row.state in states} <= told


def answer_to(error: Exception) -> Answer:
    """An error as the problem document that goes out."""
    response = response_to(error) or internal_error(error)
    return Answer(response.status_code, bytes(response.body))


class HeldLogin:
    """A login stopped in its worker between the computation and the transaction. Refused as `login` refuses."""

    def __init__(self, server: Server, request: SignedRequest) -> None:
        self._server, self.request, ctx = server, request, server.ctx
        with ctx.store.read() as conn:
            enrolment = authenticated_enrolment(ctx, conn, request)
        self._message = login._parsed(ctx.policy, enrolment, request.body)
        if self._message.statement.confirmation is not None:
            apply_confirmation(ctx, enrolment.id, self._message.statement.confirmation)
        with ctx.store.read() as conn:
            current = load_enrolment(conn, enrolment.id)
            assert current is not None
            self._snapshot = login._advisory_snapshot(ctx, conn, current, self._message)
        self._compute()

    def _compute(self) -> None:
        self.computed = login._compute(self._server.ctx, self._snapshot, self._message, self.request.body)

    def now_for(self, request: SignedRequest) -> None:
        """Another message, judged with the rows and the verdict of the first."""
        self.request, self._message = request, Message1.decode(request.body)

    def release(self) -> Answer:
        """Let the worker go on, computing again as often as the transaction asks for it."""
        for _ in range(8):
            outcome = login.commit_verdict(
                self._server.ctx, self._snapshot, self._message, self.request.body, self.computed
            )
            if outcome.recompute is None:
                return self._server.answer(partial(login._told, outcome))
            self._snapshot = outcome.recompute
            self._compute()
        raise AssertionError("the basis never settles")


Serve = Callable[[SignedRequest], Answer]
Fate = Callable[["Network", SignedRequest], Answer]


def deliver(network: Network, request: SignedRequest) -> Answer:
    return network.serve(request)


def lose_request(network: Network, request: SignedRequest) -> Answer:
    raise TransportError


def lose_answer(network: Network, request: SignedRequest) -> Answer:
    network.serve(request)
    raise TransportError


def deliver_twice(network: Network, request: SignedRequest) -> Answer:
    """The first copy's answer arrives."""
    first = network.serve(request)
    network.serve(request)
    return first


def overtaken_by_its_copy(network: Network, request: SignedRequest) -> Answer:
    """The second copy's answer arrives, the first one's is lost."""
    network.serve(request)
    return network.serve(request)


class Network:
    """A `Transport`. Each path may have fates planned for its next requests; without one they are delivered.

    Message 3 in the background is dropped unless `background` is set: tests send it in the foreground.
    """

    def __init__(self, serve: Serve, clock: Clock, profile_document: Callable[[str], bytes]) -> None:
        self.serve, self.clock, self.profile_document = serve, clock, profile_document
        self.background = False
        self.requests: list[SignedRequest] = []
        self.answers: list[tuple[SignedRequest, Answer]] = []
        self._fates: defaultdict[str, deque[Fate]] = defaultdict(deque)

    def plan(self, path: str, *fates: Fate) -> None:
        self._fates[path].extend(fates)

    def forget_plans(self) -> None:
        self._fates.clear()

    def sent(self, path: str) -> list[SignedRequest]:
        return [request for request in self.requests if request.path == path]

    def post_cbor(
        self,
        path: str,
        body: bytes,
        key: RequestKey,
        key_id: str,
        *,
        max_response_bytes: int = 256 * 1024,
        timeout_s: float | None = None,
    ) -> TransportReply:
        if not self.background and threading.current_thread().name == "tandem-confirm":
            raise TandemError("the background is switched off")  # advice STOP: the thread ends
        request = signed(path, body, key, key_id, self.clock())
        self.requests.append(request)
        fates = self._fates[path]
        answer = (fates.popleft() if fates else deliver)(self, request)
        self.answers.append((request, answer))
        if answer.status != 200:
            raise ServerProblem(parse_problem(answer.body, expected_status=answer.status))
        assert len(answer.body) <= max_response_bytes
        return TransportReply(answer.body, len(body), len(answer.body))

    def get_json(
        self, path: str, *, max_response_bytes: int = 256 * 1024, timeout_s: float | None = None
    ) -> TransportReply:
        body = self.profile_document(path.removeprefix("/v1/profiles/"))
        assert len(body) <= max_response_bytes
        return TransportReply(body, 0, len(body))

    def close(self) -> None:
        pass


def signed(path: str, body: bytes, key: RequestKey, key_id: str, now_s: float) -> SignedRequest:
    """A POST as the server's HTTP layer hands it on."""
    headers = signed_headers(
        method="POST", url=SERVER_URL + path, content_type=CBOR, body=body, key=key, key_id=key_id, now_s=now_s
    )
    return SignedRequest("POST", AUTHORITY, path, {name.lower(): value for name, value in headers.items()}, body)


class RelyingParty:
    """Knows public keys and verifies with them, by a library that is not ours."""

    def __init__(self, accounts: dict[str, str] | None = None) -> None:
        self.accounts = dict(accounts or {})

    def register(self, response: dict[str, Any]) -> bytes:
        """The id of the new credential."""
        self.accounts[response["id"]] = response["response"]["publicKey"]
        return unbase64(response["id"])

    def knows(self, credential_id: bytes) -> bool:
        return to_base64(credential_id) in self.accounts

    def verify(self, response: dict[str, Any]) -> int:
        """The signature counter of a good assertion. Raises InvalidSignature."""
        key = load_der_public_key(unbase64(self.accounts[response["id"]]))
        assert isinstance(key, rsa.RSAPublicKey)
        parts = response["response"]
        authenticator_data = unbase64(parts["authenticatorData"])
        signed_message = authenticator_data + hashlib.sha256(unbase64(parts["clientDataJSON"])).digest()
        key.verify(unbase64(parts["signature"]), signed_message, padding.PKCS1v15(), SHA256())
        return int.from_bytes(authenticator_data[33:37], "big")


class Phone:
    """A vault in a folder, and the SDK on top of it. `crash` and `open` as often as a test likes."""

    def __init__(self, folder: Path, server: Server) -> None:
        self.folder = folder
        self.network = Network(server.serve, server.clock, server.profile_document)
        self.relying_party = RelyingParty(json.loads((folder / "accounts.json").read_text()))
        self.open()

    def open(self) -> None:
        self.store = StateStore.load(VaultFile.open(self.folder / "vault", KeyFile(self.folder / "vault.key")))
        self.device = Device(self.store, self.network, ENCODER, clock=self.network.clock)

    @property
    def state(self) -> DeviceState:
        return self.store.state

    @property
    def id(self) -> bytes:
        return self.state.enrolment_id

    @property
    def request_key(self) -> RequestKey:
        return RequestKey.from_scalar(self.state.request_key)

    def create(self, user: str = "ada", face: Any = FACE) -> bytes:
        """The id of the new passkey."""
        return self.relying_party.register(self.device.create(creation_options(user), ORIGIN, face))

    def get(self, face: Any = FACE, *, credential_id: bytes | None = None) -> int:
        """The counter of an assertion that the relying party accepted."""
        allowed = [] if credential_id is None else [{"type": "public-key", "id": to_base64(credential_id)}]
        options = {"challenge": "A" * 43, "rpId": RP_ID, "allowCredentials": allowed}
        return self.relying_party.verify(self.device.get(options, ORIGIN, face))

    def confirm(self) -> bool:
        return self.device.confirm_now()

    def grow(self, face: Any = GLASSES, match: Any = FACE, **more: Any) -> bool:
        """Add a template of another look."""
        return self.device.add_template([face] * 3, match, **more)

    def crash(self) -> None:
        """The process dies: nothing but the vault file remains."""
        self.store.close()

    def restart(self) -> None:
        self.crash()
        self.open()

    def clone(self, folder: Path, server: Server) -> Phone:
        """A thief's copy of vault and key, as they are on disk now."""
        return Phone(copy_vault(self.folder, folder), server)


def copy_vault(source: Path, target: Path) -> Path:
    target.mkdir()
    for name in ("vault", "vault.key", "accounts.json"):
        shutil.copy(source / name, target / name)
    return target


def creation_options(user: str) -> dict[str, Any]:
    return {
        "challenge": "A" * 43,
        "rp": {"id": RP_ID, "name": "Shop"},
        "user": {"id": to_base64(user.encode()), "name": user, "displayName": user},
        "pubKeyCredParams": [{"type": "public-key", "alg": -257}],
        "authenticatorSelection": {"residentKey": "required"},
    }


def opened_message(request: SignedRequest) -> Message1:
    return Message1.decode(request.body)


def with_body(request: SignedRequest, body: bytes, phone: Phone) -> SignedRequest:
    """The request with another body, signed anew by the phone's key."""
    return signed(request.path, body, phone.request_key, to_base64(phone.id), phone.network.clock())


def restated(message: Message1, **changes: Any) -> bytes:
    """The message with other fields in its statement; the proofs then no longer fit."""
    return replace(message, statement=replace(message.statement, **changes)).encode()


def to_base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def unbase64(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
