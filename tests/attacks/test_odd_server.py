"""A server that lies, dawdles or babbles: the device releases nothing, moves on by one index, and says nothing more."""

from __future__ import annotations

import http.server
import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cbor2
import httpx
import pytest
from people import Person, enrolled_device
from real_server import ThreadServer
from relying_parties import RelyingParty

from device_sdk import BinaryCode, Device
from device_sdk.errors import Advice, NoMatch, ProfileChanged, ServerMisbehaved, TandemError, TransportError
from device_sdk.transport import RequestKey
from device_sdk.vault.state import DeviceState
from mpc.circuits.matchers import PlainRule, matcher
from mpc.login import server_side
from mpc.login.session import OutputKeys
from mpc.primitives import codec

Answer = tuple[int, dict[str, str], bytes]
Tamper = Callable[[Answer, bytes], Answer]


@dataclass
class OddServer:
    """Forwards to the real server and may alter the answer to a login. `requests`: every path, in order."""

    port: int
    requests: list[str] = field(default_factory=list)
    tamper: Tamper | None = None
    raw: Callable[[http.server.BaseHTTPRequestHandler], None] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def odd_server(behind: ThreadServer) -> Iterator[OddServer]:
    client = httpx.Client()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._forward()

        def do_POST(self) -> None:
            self._forward()

        def _forward(self) -> None:
            odd.requests.append(self.path)
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name: value for name, value in self.headers.items() if name.lower() != "content-length"}
            reply = client.request(self.command, behind.url + self.path, content=body, headers=headers)
            answer: Answer = (reply.status_code, {"content-type": reply.headers["content-type"]}, reply.content)
            if self.path == "/v1/logins":
                if odd.raw is not None:
                    odd.raw(self)
                    self.close_connection = True
                    return
                if odd.tamper is not None:
                    answer = odd.tamper(answer, body)
            status, fields, content = answer
            self.send_response(status)
            for name, value in fields.items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A device that hangs up is no news here."""

    listening = Server(("127.0.0.1", 0), Handler)
    odd = OddServer(listening.server_address[1])
    thread = threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield odd
    finally:
        listening.shutdown()
        listening.server_close()
        client.close()


@pytest.fixture
def odd(server: ThreadServer) -> Iterator[OddServer]:
    with odd_server(server) as running:
        yield running


@pytest.fixture
def person() -> Person:
    return Person(1)


@pytest.fixture
def shop() -> RelyingParty:
    return RelyingParty()


@pytest.fixture
def device(
    server: ThreadServer, odd: OddServer, tmp_path: Path, person: Person, shop: RelyingParty
) -> Iterator[Device]:
    """Enrolled through the odd server, with one passkey and nothing outstanding."""
    with enrolled_device(server, tmp_path, person, server=odd.url) as enrolled:
        options = shop.creation_options()
        shop.register(options, enrolled.create(options, shop.origin, person.capture()))
        assert enrolled.confirm_now()
        odd.requests.clear()
        yield enrolled


def state_of(device: Device) -> DeviceState:
    return device._store.state


def login(device: Device, shop: RelyingParty, capture: BinaryCode) -> None:
    options = shop.request_options()
    shop.authenticate(options, device.get(options, shop.origin, capture))


def assert_nothing_released(
    device: Device, odd: OddServer, shop: RelyingParty, person: Person, fault_type: type[TandemError]
) -> TandemError:
    """One login fails; one index and one counter are used; the server hears nothing; the next login works."""
    before = state_of(device)
    with pytest.raises(fault_type) as fault:
        device.get(shop.request_options(), shop.origin, person.capture())
    after = state_of(device)
    assert odd.requests == ["/v1/logins"]
    assert after.ot_index == before.ot_index + 1
    assert after.credentials[0].sign_count == before.credentials[0].sign_count + 1
    assert (after.epoch, after.next) == (before.epoch, None)
    assert after.template == before.template
    device._confirmer.wait(0.05)
    assert odd.requests == ["/v1/logins"], "something was sent afterwards"
    odd.tamper = odd.raw = None
    login(device, shop, person.capture())
    return fault.value


def change(**fields: Callable[[bytes], bytes]) -> Tamper:
    def tamper(answer: Answer, _: bytes) -> Answer:
        status, headers, body = answer
        values = cbor2.loads(body)
        for name, step in fields.items():
            values[name] = step(values[name])
        return status, headers, codec.encode(values)

    return tamper


def body(step: Callable[[bytes], bytes]) -> Tamper:
    return lambda answer, _: (answer[0], answer[1], step(answer[2]))


def flip(value: bytes) -> bytes:
    return value[:5] + bytes([value[5] ^ 0x10]) + value[6:]


WRONG_MESSAGES: dict[str, Tamper] = {
    "sealed box": change(sealed=flip),
    "accept tag": change(tag1=flip),
    "both tags": change(tag0=flip, tag1=flip),
    "tags swapped for noise": change(tag0=lambda _: secrets.token_bytes(16), tag1=lambda _: secrets.token_bytes(16)),
    "server nonce": change(server_nonce=flip),
    "ephemeral": change(ephemeral=flip),
    "ephemeral of small order": change(ephemeral=lambda _: bytes(32)),
    "every table": change(tables=lambda tables: secrets.token_bytes(len(tables))),
    "tables all zero": change(tables=lambda tables: bytes(len(tables))),
    "tables cut short": change(tables=lambda tables: tables[:-16]),
    "tables too long": change(tables=lambda tables: tables + bytes(16)),
    "sealed box cut short": change(sealed=lambda sealed: sealed[:-1]),
    "cut short": body(lambda data: data[:-1]),
    "one byte more": body(lambda data: data + b"\x00"),
    "another version": body(lambda data: data.replace(b"\x61v\x01", b"\x61v\x02")),
    "empty": body(lambda data: b""),
    "empty map": body(lambda data: b"\xa0"),
    "message 1 sent back": lambda answer, sent: (answer[0], answer[1], sent),
    "html": lambda answer, _: (200, {"content-type": "text/html"}, b"<html>"),
    "json": lambda answer, _: (200, {"content-type": "application/json"}, b"{}"),
    "compressed": lambda answer, _: (200, {**answer[1], "content-encoding": "gzip"}, answer[2]),
    "redirect elsewhere": lambda answer, _: (307, {"location": "http://auth.example/v1/logins"}, b""),
    "redirect to itself": lambda answer, _: (308, {"location": "/v1/logins"}, b""),
    "created": lambda answer, _: (201, answer[1], answer[2]),
    "no content": lambda answer, _: (203, answer[1], answer[2]),
    "a problem that is none": lambda answer, _: (400, {"content-type": "application/problem+json"}, b"{"),
    "a problem of another status": lambda answer, _: (
        400, {"content-type": "application/problem+json"}, b'{"code": "throttled", "status": 429}'
    ),
    "teapot": lambda answer, _: (418, {"content-type": "text/plain"}, b""),
    "ten megabytes": lambda answer, _: (200, answer[1], bytes(10_000_000)),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_MESSAGES)
def test_a_wrong_answer(device: Device, odd: OddServer, shop: RelyingParty, person: Person, name: str) -> None:
    odd.tamper = WRONG_MESSAGES[name]
    fault = assert_nothing_released(device, odd, shop, person, ServerMisbehaved)
    assert fault.advice is Advice.STOP


def test_the_answer_to_another_login(device: Device, odd: OddServer, shop: RelyingParty, person: Person) -> None:
    """A good answer, an hour old: its session is another one."""
    kept: list[Answer] = []

    def keep(answer: Answer, _: bytes) -> Answer:
        kept.append(answer)
        return answer

    odd.tamper = keep
    login(device, shop, person.capture())
    assert device.confirm_now()
    odd.requests.clear()
    odd.tamper = lambda answer, sent: kept[0]
    assert_nothing_released(device, odd, shop, person, ServerMisbehaved)


@pytest.mark.parametrize("wrong", ["one more", "zero", "squared", "larger than N"])
def test_a_wrong_partial_signature_well_sealed(
    device: Device,
    odd: OddServer,
    shop: RelyingParty,
    person: Person,
    wrong: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The circuit says match, the box opens, and the signature is wrong: it is checked before it is released."""
    seal = OutputKeys.seal

    def badly(self: OutputKeys, partial: bytes, rho: bytes) -> bytes:
        s2 = int.from_bytes(partial, "big")
        bad = {"one more": s2 ^ 1, "zero": 0, "squared": pow(s2, 2, 1 << 2040), "larger than N": (1 << 2048) - 1}[wrong]
        return seal(self, bad.to_bytes(len(partial), "big"), rho)

    with monkeypatch.context() as patched:
        patched.setattr(OutputKeys, "seal", badly)
        before = state_of(device)
        with pytest.raises(ServerMisbehaved) as fault:
            device.get(shop.request_options(), shop.origin, person.capture())
    assert fault.value.reason == "bad_partial_signature"
    assert odd.requests == ["/v1/logins"]
    assert (state_of(device).next, state_of(device).ot_index) == (None, before.ot_index + 1)
    login(device, shop, person.capture())


def test_a_server_may_switch_the_biometric_check_off_and_no_more(
    device: Device, odd: OddServer, shop: RelyingParty, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A documented limit: a malicious server can garble "always accept" for a login that the device starts.

    The circuits have one shape for all thresholds, so the device cannot tell. What comes out is still a login
    that somebody started on the device, with its half of the key.
    """
    stranger = Person(2)
    with pytest.raises(NoMatch):
        device.get(shop.request_options(), shop.origin, stranger.capture())
    garble = server_side.garble
    always = matcher(512, 1, PlainRule(511))

    def leniently(_circuit: object, *arguments: Any) -> object:
        return garble(always, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(server_side, "garble", leniently)
        login(device, shop, stranger.capture())


class TestTransportFaults:
    def test_an_answer_that_never_ends(
        self, device: Device, odd: OddServer, shop: RelyingParty, person: Person
    ) -> None:
        def babble(handler: http.server.BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.send_header("content-type", "application/cbor")
            handler.send_header("transfer-encoding", "chunked")
            handler.end_headers()
            while True:
                handler.wfile.write(b"10000\r\n" + bytes(65_536) + b"\r\n")

        odd.raw = babble
        assert_nothing_released(device, odd, shop, person, ServerMisbehaved)

    def test_an_answer_that_stops_half_way(
        self, device: Device, odd: OddServer, shop: RelyingParty, person: Person
    ) -> None:
        def stop(handler: http.server.BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.send_header("content-type", "application/cbor")
            handler.send_header("content-length", "17000")
            handler.end_headers()
            handler.wfile.write(bytes(8_000))

        odd.raw = stop
        assert_nothing_released(device, odd, shop, person, TransportError)

    def test_no_answer_at_all(self, device: Device, odd: OddServer, shop: RelyingParty, person: Person) -> None:
        odd.raw = lambda handler: None
        assert_nothing_released(device, odd, shop, person, TransportError)

    def test_an_answer_drop_by_drop(self, device: Device, odd: OddServer, shop: RelyingParty, person: Person) -> None:
        """Each byte comes in time; the whole does not."""
        stop = threading.Event()

        def drip(handler: http.server.BaseHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.send_header("content-type", "application/cbor")
            handler.send_header("content-length", "17000")
            handler.end_headers()
            while not stop.wait(0.02):
                handler.wfile.write(b"\x00")

        odd.raw = drip
        before = state_of(device)
        try:
            with pytest.raises(TransportError):
                device._api._transport.post_cbor("/v1/logins", b"\xa0", _key(device), "x" * 22, timeout_s=0.3)
        finally:
            stop.set()
        assert state_of(device) is before

    def test_what_is_not_http(self, device: Device, odd: OddServer, shop: RelyingParty, person: Person) -> None:
        def talk(handler: http.server.BaseHTTPRequestHandler) -> None:
            handler.wfile.write(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")

        odd.raw = talk
        assert_nothing_released(device, odd, shop, person, ServerMisbehaved)


def test_problems_that_lie(device: Device, odd: OddServer, shop: RelyingParty, person: Person) -> None:
    """A refusal makes the device stop or try again; it never makes it release, go back, or loop."""
    for document in (
        '{"code": "throttled", "status": 429, "retry_after_s": 1e400}',
        '{"code": "throttled", "status": 429, "retry_after_s": -1}',
        '{"code": "stale_index", "status": 429, "last_index": "9"}',
        '{"code": "Bad Code\\u0000", "status": 429}',
        '{"status": 429}',
        "[" * 5000,
    ):
        odd.requests.clear()
        problem = (429, {"content-type": "application/problem+json"}, document.encode())
        odd.tamper = lambda answer, _, problem=problem: problem  # type: ignore[misc]
        with pytest.raises(ServerMisbehaved):
            device.get(shop.request_options(), shop.origin, person.capture())
        assert odd.requests == ["/v1/logins"]
    for code in ("unknown_login", "stale_index"):
        odd.requests.clear()
        lie = f'{{"code": "{code}", "status": 409, "epoch": 0, "last_index": 0}}'.encode()
        odd.tamper = lambda answer, _, lie=lie: (409, {"content-type": "application/problem+json"}, lie)  # type: ignore[misc]
        index = state_of(device).ot_index
        with pytest.raises(TandemError):
            device.get(shop.request_options(), shop.origin, person.capture())
        assert len(odd.requests) <= 3
        assert state_of(device).ot_index == index + len(odd.requests)
    odd.tamper = None
    login(device, shop, person.capture())


def test_a_more_lenient_profile_is_not_taken(
    device: Device, odd: OddServer, server: ThreadServer, shop: RelyingParty, person: Person
) -> None:
    """profile_changed makes the device look the profile up; it takes a stricter one only."""
    policy = server.context.policy
    pinned = policy.profiles["sim-512"]
    try:
        for threshold, accepted in ((pinned.threshold + 1, False), (pinned.threshold - 20, True)):
            profiles = {**policy.profiles, "sim-512": replace(pinned, threshold=threshold, thresholds=())}
            object.__setattr__(server.context, "policy", replace(policy, profiles=profiles))
            odd.tamper = None
            if accepted:
                with pytest.raises(TandemError):  # the profile document is served as the server started with it
                    device.get(shop.request_options(), shop.origin, person.capture())
            else:
                with pytest.raises(ProfileChanged):
                    device.get(shop.request_options(), shop.origin, person.capture())
            assert state_of(device).profile == pinned
    finally:
        object.__setattr__(server.context, "policy", policy)
    login(device, shop, person.capture())


def _key(device: Device) -> Any:
    return RequestKey.from_scalar(state_of(device).request_key)
