"""Somebody with a whole device in his hands: its vault, its request key, and programs of his own.

He builds message 1 from the protocol's pieces and alters whatever he likes before he signs the request with the
real key. Nothing here asks the SDK's state machine for permission.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field, replace
from typing import Any, Self

import cbor2
import httpx
import numpy as np
from parties import private_exponent, private_key, public_key
from real_server import Database, ProcessServer, ThreadServer

from device_sdk import BinaryCode, BinaryCodeEncoder, HttpTransport, SimulatedSensor
from device_sdk.ceremony_report import ReportBuilder
from device_sdk.enrolment import enrol
from device_sdk.server_api import ServerApi
from device_sdk.transport import RequestKey, signing_key_id
from device_sdk.transport.request_signing import signed_headers
from device_sdk.vault.state import Credential, DeviceState
from mpc.login.authenticator_data import assertion_data, cose_rsa_key, registration_data
from mpc.login.device_side import DeviceLogin, DeviceLoginState, LoginRequest, Match, NoMatch, Probe
from mpc.login.enrolment_messages import AddCredential
from mpc.login.messages import Confirmation, Message3
from mpc.primitives import codec
from mpc.primitives.rng import SystemRng
from mpc.threshold_rsa.encodings import Algorithm
from mpc.threshold_rsa.shares import KeyShare, split

SHOP = "shop.example"
RNG = SystemRng()


@dataclass(frozen=True)
class Outcome:
    """What came of one request: the answer, and what the database says has changed."""

    status: int
    document: dict[str, Any]
    body: bytes
    counted: bool
    login_state: str | None
    enrolment: dict[str, Any]

    @property
    def code(self) -> str | None:
        return self.document.get("code")

    @property
    def told(self) -> tuple[int, str | None]:
        return self.status, self.code


@dataclass
class Attacker:
    """`state` and `shares` are the stolen device's; `last_index` and `counts` are what he last used."""

    url: str
    database: Database
    state: DeviceState
    template: BinaryCode
    http: httpx.Client = field(repr=False)
    shares: dict[bytes, KeyShare] = field(default_factory=dict, repr=False)
    credentials: list[Credential] = field(default_factory=list)

    @classmethod
    def enrolled(
        cls, server: ThreadServer | ProcessServer, *, profile: str = "sim-512", code_bits: int = 512, person: int = 1
    ) -> Attacker:
        """An honest enrolment whose result falls into his hands. Its template is one capture, three times."""
        capture = SimulatedSensor(person, code_bits).capture()
        code = server.code()
        transport = HttpTransport(server.url)
        try:
            state = enrol(
                RNG,
                ServerApi(transport),
                server_url=server.url,
                code=code,
                profile_name=profile,
                captures=[capture] * 3,
                encoder=BinaryCodeEncoder(code_bits),
                report=ReportBuilder("enrol"),
            )
        finally:
            transport.close()
        return cls(server.url, server.database, state, capture, httpx.Client(timeout=30))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    @property
    def id(self) -> bytes:
        return self.state.enrolment_id

    @property
    def key(self) -> RequestKey:
        return RequestKey.from_scalar(self.state.request_key)

    @property
    def key_id(self) -> str:
        return signing_key_id(enrolment_id=self.id)

    # ---- requests ----

    def headers(self, path: str, body: bytes, **altered: Any) -> dict[str, str]:
        """The signed headers of a request; `altered` replaces what goes into the signature."""
        arguments: dict[str, Any] = {
            "method": "POST",
            "url": self.url + path,
            "content_type": "application/cbor",
            "body": body,
            "key": self.key,
            "key_id": self.key_id,
            "now_s": time.time(),
            **altered,
        }
        return signed_headers(**arguments)

    def post(self, path: str, body: bytes, **altered: Any) -> httpx.Response:
        return self.http.post(self.url + path, content=body, headers=self.headers(path, body, **altered))

    def try_login(self, body: bytes) -> Outcome:
        """Send message 1 and look at the server's rows before and after."""
        query = "SELECT * FROM enrolments WHERE id = ?"
        before, rows_before = self.database.one(query, self.id), self.logins()
        answer = self.post("/v1/logins", body)
        after, rows_after = self.database.one(query, self.id), self.logins()
        is_problem = answer.headers["content-type"] == "application/problem+json"
        counted = len(rows_after) == len(rows_before) + 1
        # What "counted" means: a row, both counters, and the index consumed; or none of it.
        for column in ("consecutive_failures", "template_attempts"):
            assert after[column] - before[column] == int(counted), column
        assert (after["last_index"] > before["last_index"]) == counted
        if not counted:
            assert rows_after == rows_before
        return Outcome(
            answer.status_code,
            answer.json() if is_problem else {},
            answer.content,
            counted,
            rows_after[-1]["state"] if counted else None,
            after,
        )

    def logins(self) -> list[dict[str, Any]]:
        return self.database.rows("SELECT * FROM logins WHERE enrolment_id = ? ORDER BY ot_index", self.id)

    def status(self) -> tuple[str, str | None]:
        row = self.database.one("SELECT status, status_reason FROM enrolments WHERE id = ?", self.id)
        return row["status"], row["status_reason"]

    # ---- credentials ----

    def add_credential(
        self,
        rp_id: str = SHOP,
        algorithm: Algorithm = Algorithm.RS256,
        which_key: int = 0,
        credential_id: bytes | None = None,
    ) -> Credential:
        """A provisional credential. `which_key` picks one of a few RSA keys made once a test run."""
        private = private_key(2048, which_key)
        own, server_share = split(RNG, public_key(private), private_exponent(private))
        credential = Credential(
            credential_id or secrets.token_bytes(32), rp_id, b"u", "u", "u", algorithm, own, 0, True, True, 0
        )
        message = AddCredential(
            self.id,
            credential.credential_id,
            rp_id,
            int(algorithm),
            own.key.modulus_bytes,
            own.key.exponent,
            server_share.to_bytes(),
        )
        answer = self.post("/v1/credentials", message.encode())
        assert answer.status_code == 200, answer.text
        self.shares[credential.credential_id] = own
        self.credentials.append(credential)
        return credential

    def register(self, rp_id: str = SHOP, algorithm: Algorithm = Algorithm.RS256, which_key: int = 0) -> Credential:
        """An active credential."""
        credential = self.add_credential(rp_id, algorithm, which_key)
        login = self.prepare(credential, kind="create")
        self.succeed(login)
        return credential

    # ---- logins ----

    def prepare(
        self,
        credential: Credential | None = None,
        *,
        kind: str = "get",
        probe: BinaryCode | None = None,
        authenticator_data: bytes | None = None,
        client_data_hash: bytes = b"\x5a" * 32,
        ot_index: int | None = None,
        sign_count: int | None = None,
        confirmation: Confirmation | None = None,
        attest: bool = False,
        **state_changes: Any,
    ) -> DeviceLogin:
        """Message 1 of a login that is right but for what the arguments say."""
        credential = credential or self.credentials[0]
        if ot_index is None:
            ot_index = self.state.ot_index + 1
            self.state = replace(self.state, ot_index=ot_index)
        if sign_count is None:
            sign_count = self.last_count(credential) + 1
        if authenticator_data is None:
            authenticator_data = self.right_data(credential, kind, sign_count)
        state = DeviceLoginState(
            enrolment_id=self.id,
            server_id=self.state.server_id,
            profile=self.state.profile,
            base_ot_id=self.state.base_ot_id,
            base_keys=self.state.base_keys,
            epoch=self.state.epoch,
            template=self.state.template,
            credential_id=credential.credential_id,
            algorithm=credential.algorithm,
            key_share=self.shares[credential.credential_id],
        )
        request = LoginRequest(kind, ot_index, authenticator_data, client_data_hash, confirmation, attest=attest)
        code = probe or self.template
        return DeviceLogin(
            RNG, replace(state, **state_changes), request, Probe(code.packed(), code.packed_mask() or b"")
        )

    def last_count(self, credential: Credential) -> int:
        row = self.database.one("SELECT sign_count FROM credentials WHERE id = ?", credential.credential_id)
        return int(row["sign_count"])

    @staticmethod
    def right_data(credential: Credential, kind: str, sign_count: int) -> bytes:
        if kind == "get":
            return assertion_data(credential.rp_id, sign_count)
        key = credential.key_share.key
        cose = cose_rsa_key(int(credential.algorithm), key.modulus, key.exponent)
        return registration_data(credential.rp_id, sign_count, credential.credential_id, cose)

    def succeed(self, login: DeviceLogin) -> Match:
        """The login goes through and is confirmed; both sides move on."""
        outcome = self.try_login(login.message_1)
        assert outcome.status == 200, outcome.document
        match = login.finish(outcome.body)
        assert isinstance(match, Match)
        self.confirm(match)
        return match

    def confirm(self, match: Match) -> None:
        answer = self.post("/v1/confirmations", Message3(self.id, match.confirmation).encode())
        assert answer.status_code == 200, answer.text
        index = match.confirmation.ot_index
        row = self.database.one("SELECT * FROM logins WHERE enrolment_id = ? AND ot_index = ?", self.id, index)
        self.adopt(bytes(row["credential_id"]), match)

    def adopt(self, credential_id: bytes, match: Match) -> None:
        self.shares[credential_id] = match.next_key_share
        self.state = replace(self.state, epoch=self.state.epoch + 1, template=match.next_template)

    def still_works(self) -> bool:
        """Whether the honest device could log in after all this."""
        login = self.prepare()
        outcome = self.try_login(login.message_1)
        return outcome.status == 200 and isinstance(login.finish(outcome.body), Match)


def altered(body: bytes, **fields: Any) -> bytes:
    """A message with fields replaced; None removes one, a function gets the old value."""
    values = cbor2.loads(body)
    for name, value in fields.items():
        if value is None:
            del values[name]
        else:
            values[name] = value(values[name]) if callable(value) else value
    return codec.encode(values)


def flipped(code: BinaryCode, count: int, seed: int = 1) -> BinaryCode:
    """The code with `count` bits turned over."""
    bits = code.bits.copy()
    bits[np.random.default_rng(seed).choice(len(bits), count, replace=False)] ^= 1
    return BinaryCode(bits)


def is_match(result: Match | NoMatch) -> bool:
    return isinstance(result, Match)
