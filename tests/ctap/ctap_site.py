"""The person, as the authenticator's port to people; and a site with a browser, both from python-fido2."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from fido2.client import AssertionSelection, DefaultClientDataCollector, Fido2Client
from fido2.ctap import CtapError
from fido2.ctap2 import AssertionResponse, AttestationResponse, Ctap2
from fido2.ctap2.credman import CredentialManagement
from fido2.ctap2.pin import ClientPin, PinProtocolV2
from fido2.server import Fido2Server
from fido2.webauthn import (
    AttestedCredentialData,
    AuthenticationResponse,
    PublicKeyCredentialDescriptor,
    PublicKeyCredentialParameters,
    PublicKeyCredentialRpEntity,
    PublicKeyCredentialType,
    PublicKeyCredentialUserEntity,
    RegistrationResponse,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)
from people import Person
from real_server import ThreadServer
from relying_parties import strictly_verify

from device_sdk import CredentialInfo, Device
from device_sdk.ctap import Prompt, TandemCtapDevice

RS256, PS256 = -257, -37


@dataclass
class Finger:
    """A `User` who agrees to everything and gives fresh captures of `person`, until told otherwise.

    `answer`: what a question gets in place of a capture or a yes; called with the event that gives it up.
    """

    person: Person
    answer: Callable[[threading.Event], Any] | None = None
    asked: list[Prompt] = field(default_factory=list)
    given: list[bytes] = field(default_factory=list)

    def capture(self, prompt: Prompt, cancelled: threading.Event) -> Any:
        self.asked.append(prompt)
        if self.answer is not None:
            return self.answer(cancelled)
        capture = self.person.capture()
        self.given.append(capture.packed())
        return capture

    def confirm(self, prompt: Prompt, cancelled: threading.Event) -> bool:
        self.asked.append(prompt)
        return True if self.answer is None else bool(self.answer(cancelled))


@dataclass
class ChoosingFinger(Finger):
    """A `User` with a display, who picks the account of that name."""

    wanted: str = ""
    offered: list[list[str]] = field(default_factory=list)

    def choose_account(
        self, prompt: Prompt, accounts: Sequence[CredentialInfo], cancelled: threading.Event
    ) -> bytes | None:
        self.offered.append([account.user_name for account in accounts])
        return next((account.credential_id for account in accounts if account.user_name == self.wanted), None)


class Site:
    """A relying party, and the browser of its visitor. It believes what python-fido2 and a strict check believe.

    `known`: what the site remembers, by credential id; `counts`: the last counter of each.
    """

    def __init__(self, authenticator: TandemCtapDevice, rp_id: str = "shop.example") -> None:
        self.authenticator = authenticator
        self.rp_id = rp_id
        self.server = Fido2Server(PublicKeyCredentialRpEntity(name="Site", id=rp_id), attestation="direct")
        self.known: dict[bytes, AttestedCredentialData] = {}
        self.counts: dict[bytes, int] = {}

    def client(self) -> Fido2Client:
        return Fido2Client(self.authenticator, DefaultClientDataCollector(f"https://{self.rp_id}"))

    def register(
        self,
        user: str = "ann",
        *,
        resident: bool = True,
        algorithms: tuple[int, ...] = (RS256,),
        exclude: Sequence[bytes] = (),
        verification: str = "required",
        event: threading.Event | None = None,
        timeout_ms: int | None = None,
        extensions: dict[str, Any] | None = None,
    ) -> bytes:
        """The id of a new passkey that was verified. Raises ClientError."""
        self.server.allowed_algorithms = [
            PublicKeyCredentialParameters(type=PublicKeyCredentialType.PUBLIC_KEY, alg=alg) for alg in algorithms
        ]
        options, state = self.server.register_begin(
            PublicKeyCredentialUserEntity(name=user, id=user.encode(), display_name=user.title()),
            [descriptor(one) for one in exclude],
            ResidentKeyRequirement.REQUIRED if resident else ResidentKeyRequirement.DISCOURAGED,
            UserVerificationRequirement(verification),
            extensions=extensions,
        )
        wanted = replace(options.public_key, timeout=timeout_ms)
        answer = self.client().make_credential(wanted, event)
        return self._registered(state, answer)

    def _registered(self, state: Any, answer: RegistrationResponse) -> bytes:
        data = self.server.register_complete(state, answer)
        attested = data.credential_data
        assert attested is not None
        assert data.is_user_verified() and data.is_user_present()
        attestation = answer.response.attestation_object
        assert set(attestation.att_stmt) == {"alg", "sig"}
        message = bytes(data) + answer.response.client_data.hash
        strictly_verify(attested.public_key, message, attestation.att_stmt["sig"])
        self.known[attested.credential_id] = attested
        self.counts[attested.credential_id] = data.counter
        return bytes(attested.credential_id)

    def ask(
        self,
        *,
        allow: Sequence[bytes] | None = None,
        verification: str = "required",
        event: threading.Event | None = None,
        timeout_ms: int | None = None,
    ) -> tuple[Any, AssertionSelection]:
        """(the server's state, what the browser got). Raises ClientError."""
        options, state = self.server.authenticate_begin(
            None if allow is None else [descriptor(one) for one in allow],
            UserVerificationRequirement(verification),
        )
        return state, self.client().get_assertion(replace(options.public_key, timeout=timeout_ms), event)

    def sign_in(self, **wanted: Any) -> bytes:
        """The id of the passkey that an assertion was verified of: the first, if there are several."""
        state, selection = self.ask(**wanted)
        return self.check(state, selection.get_response(0))

    def check(self, state: Any, answer: AuthenticationResponse) -> bytes:
        credential_id = bytes(answer.raw_id)
        self.server.authenticate_complete(state, list(self.known.values()), answer)
        data = answer.response.authenticator_data
        assert data.is_user_verified() and data.is_user_present()
        assert data.counter > self.counts[credential_id]
        self.counts[credential_id] = data.counter
        message = bytes(data) + answer.response.client_data.hash
        strictly_verify(self.known[credential_id].public_key, message, answer.response.signature)
        return credential_id

    def ctap(self) -> Ctap2:
        return Ctap2(self.authenticator)

    def token(self, permissions: int, rp_id: str | None = "") -> bytes:
        """A pinUvAuthToken. rp_id: this site's unless told otherwise, None for none."""
        wanted = self.rp_id if rp_id == "" else rp_id
        return ClientPin(self.ctap()).get_uv_token(ClientPin.PERMISSION(permissions), wanted)

    def raw_get(self, token: bytes | None, *, hashed: bytes = b"h" * 32, **more: Any) -> AssertionResponse:
        """GetAssertion as a client that does as it likes. more: what is to be other than the usual."""
        wanted: dict[str, Any] = {"rp_id": self.rp_id, "client_data_hash": hashed}
        if token is not None:
            wanted |= {"pin_uv_param": authenticated(token, hashed), "pin_uv_protocol": 2}
        return self.ctap().get_assertion(**wanted | more)

    def raw_make(self, token: bytes | None, *, hashed: bytes = b"h" * 32, **more: Any) -> AttestationResponse:
        """MakeCredential likewise."""
        wanted: dict[str, Any] = {
            "client_data_hash": hashed,
            "rp": {"id": self.rp_id},
            "user": {"id": b"u", "name": "ulf"},
            "key_params": [{"type": "public-key", "alg": RS256}],
        }
        if token is not None:
            wanted |= {"pin_uv_param": authenticated(token, hashed), "pin_uv_protocol": 2}
        return self.ctap().make_credential(**wanted | more)

    def management(self, token: bytes | None = None) -> CredentialManagement:
        pin = ClientPin(self.ctap())
        return CredentialManagement(self.ctap(), pin.protocol, token or self.token(4, None))


class Clock:
    """Seconds that pass only when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Traces:
    """What a device has done at the server. `since()`: (attempts, requests) since the last look."""

    def __init__(self, server: ThreadServer, device: Device) -> None:
        self._server, self._device = server, device
        self._attempts = self.attempts()
        server.traffic.clear()

    def attempts(self) -> int:
        query = "SELECT template_attempts AS n FROM enrolments WHERE id = ?"
        return int(self._server.database.one(query, self._device.enrolment_id)["n"])

    def since(self) -> tuple[int, int]:
        """Confirmations in the background are not counted as requests."""
        requests = [path for path in self._server.traffic.paths() if path != "/v1/confirmations"]
        attempts, before = self.attempts(), self._attempts
        self._attempts = attempts
        self._server.traffic.clear()
        return attempts - before, len(requests)


def authenticated(token: bytes, message: bytes) -> bytes:
    return PinProtocolV2().authenticate(token, message)


@contextmanager
def refused(code: CtapError.ERR) -> Iterator[None]:
    """The block ends with this status."""
    with pytest.raises(CtapError) as fault:
        yield
    assert fault.value.code == code


def plain(*credential_ids: bytes) -> list[dict[str, Any]]:
    """Descriptors as they travel."""
    return [{"id": one, "type": "public-key"} for one in credential_ids]


def descriptor(credential_id: bytes) -> PublicKeyCredentialDescriptor:
    return PublicKeyCredentialDescriptor(type=PublicKeyCredentialType.PUBLIC_KEY, id=credential_id)
