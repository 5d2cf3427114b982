"""Malformed bodies under a good signature: a problem document that names the field, no echo, no row, never a 5xx."""

from __future__ import annotations

import json
import random
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cbor2
import httpx
import pytest
from attacker import SHOP, Attacker
from parties import private_exponent, private_key, public_key
from real_server import ProcessServer, process_server

from device_sdk.transport import signing_key_id
from mpc.login.enrolment_messages import (
    AddCredential,
    EnrolmentFinish,
    EnrolmentStart,
    RecoveryFinish,
    RecoveryStart,
    RevokeCredential,
)
from mpc.login.messages import Confirmation, Message3, message_1_max_bytes
from mpc.login.rotation_messages import RotationFinish, RotationSettle, RotationStart
from mpc.login.template import TemplateShare
from mpc.login.template_messages import AddTemplate, RemoveTemplate
from mpc.primitives import codec
from mpc.primitives.rng import SystemRng
from mpc.threshold_rsa.shares import split

MARKER = "zzMARKERzz"
FUZZ_ROUNDS = 2_100
RSS_GROWTH_BYTES = 96 * 1024 * 1024


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProcessServer]:
    with process_server(tmp_path_factory.mktemp("server")) as running:
        yield running
        assert running.process.poll() is None, "the server died"


@pytest.fixture(scope="module")
def target(server: ProcessServer) -> Iterator[Attacker]:
    """One enrolment that every refused message leaves as it is."""
    with Attacker.enrolled(server) as enrolled:
        enrolled.register()
        yield enrolled
        assert enrolled.still_works()


@dataclass(frozen=True)
class Endpoint:
    """An address and a message that it understands, as the map it is."""

    path: str
    message: Callable[[Attacker, ProcessServer], bytes]

    def values(self, attacker: Attacker, server: ProcessServer) -> dict[str, Any]:
        values: dict[str, Any] = cbor2.loads(self.message(attacker, server))
        return values


def _enrolment(attacker: Attacker, server: ProcessServer) -> bytes:
    profile = attacker.state.profile
    return EnrolmentStart(profile.name, profile.digest, attacker.key.public_point(), server.code()).encode()


def _credential(attacker: Attacker, server: ProcessServer) -> bytes:
    _, share = split(SystemRng(), public_key(private_key(2048, 0)), private_exponent(private_key(2048, 0)))
    modulus = share.key.modulus_bytes
    return AddCredential(attacker.id, secrets.token_bytes(32), SHOP, -257, modulus, 65537, share.to_bytes()).encode()


ENDPOINTS = {
    "enrolments": Endpoint("/v1/enrolments", _enrolment),
    "finish": Endpoint(
        "/v1/enrolments/finish",
        lambda a, s: EnrolmentFinish(a.id, bytes(16), "0" * 20, bytes(4096), TemplateShare(bytes(64), b"")).encode(),
    ),
    "credentials": Endpoint("/v1/credentials", _credential),
    "revoke": Endpoint("/v1/credentials/revoke", lambda a, s: RevokeCredential(a.id, secrets.token_bytes(32)).encode()),
    "logins": Endpoint("/v1/logins", lambda a, s: a.prepare().message_1),
    "confirmations": Endpoint(
        "/v1/confirmations", lambda a, s: Message3(a.id, Confirmation(1, secrets.token_bytes(32))).encode()
    ),
    "recoveries": Endpoint(
        "/v1/recoveries", lambda a, s: RecoveryStart(a.id, "0" * 20, a.key.public_point(), 0).encode()
    ),
    "recovery finish": Endpoint(
        "/v1/recoveries/finish", lambda a, s: RecoveryFinish(a.id, bytes(16), "0" * 20, bytes(4096)).encode()
    ),
    "rotations": Endpoint("/v1/rotations", lambda a, s: RotationStart(a.id, "0" * 20, 0).encode()),
    "rotation finish": Endpoint(
        "/v1/rotations/finish",
        lambda a, s: RotationFinish(
            a.id, bytes(16), "0" * 20, 0, 0, bytes(4096), TemplateShare(bytes(64), b"")
        ).encode(),
    ),
    "template": Endpoint(
        "/v1/templates/add",
        lambda a, s: AddTemplate(a.id, 0, bytes(32), TemplateShare(bytes(64), b"")).encode(),
    ),
    "template removed": Endpoint("/v1/templates/remove", lambda a, s: RemoveTemplate(a.id, 0, bytes(32), 0).encode()),
    "rotation settle": Endpoint("/v1/rotations/settle", lambda a, s: RotationSettle(a.id, bytes(16)).encode()),
}


def send(attacker: Attacker, path: str, body: bytes) -> httpx.Response:
    """Signed as this address expects it: with the id, or with the fingerprint of the key in the body."""
    if path == "/v1/enrolments":
        return attacker.post(path, body, key_id=signing_key_id(public_point=attacker.key.public_point()))
    return attacker.post(path, body)


def assert_refused(answer: httpx.Response, server: ProcessServer, *, code: str = "malformed") -> dict[str, Any]:
    """A problem document with a field and without anything of the attacker's."""
    assert answer.headers["content-type"] == "application/problem+json"
    assert 400 <= answer.status_code < 500
    document: dict[str, Any] = json.loads(answer.content)
    assert document["status"] == answer.status_code
    assert document["code"] == code
    assert set(document) <= {"type", "title", "status", "detail", "code", "field", "max_bytes"}
    if code == "malformed":
        assert document["field"]
    assert MARKER not in answer.text and MARKER.encode().hex() not in answer.text
    assert MARKER.encode() not in server.log
    return document


def head_of_map(count: int) -> bytes:
    return bytes([0xA0 | count]) if count < 24 else bytes([0xB8, count])


def entries(values: dict[str, Any]) -> list[bytes]:
    ordered = sorted(values, key=lambda key: (len(key), key))
    return [cbor2.dumps(key) + cbor2.dumps(values[key], canonical=True) for key in ordered]


def rebuilt(values: dict[str, Any]) -> bytes:
    parts = entries(values)
    return head_of_map(len(parts)) + b"".join(parts)


def deep(depth: int) -> bytes:
    return b"\x81" * depth + b"\x00"


NOT_CANONICAL: dict[str, Callable[[dict[str, Any], bytes], bytes]] = {
    "empty": lambda v, b: b"",
    "truncated by one": lambda v, b: b[:-1],
    "half": lambda v, b: b[: len(b) // 2],
    "only the head": lambda v, b: b[:1],
    "one byte more": lambda v, b: b + b"\x00",
    "twice": lambda v, b: (b + b)[: len(b) + 200],
    "marker after it": lambda v, b: b + MARKER.encode(),
    "keys in another order": lambda v, b: head_of_map(len(v)) + b"".join(entries(v)[::-1]),
    "duplicate key": lambda v, b: head_of_map(len(v) + 1) + b"".join([entries(v)[0], *entries(v)]),
    "long form of an integer": lambda v, b: b.replace(b"\x61v\x01", b"\x61v\x18\x01", 1),
    "long form of the map's head": lambda v, b: b"\xb9" + len(v).to_bytes(2, "big") + b"".join(entries(v)),
    "indefinite map": lambda v, b: b"\xbf" + b"".join(entries(v)) + b"\xff",
    "indefinite byte string": lambda v, b: rebuilt({**v, "v": 0}).replace(b"\x61v\x00", b"\x61v\x5f\x41\x01\xff", 1),
    "self-described tag": lambda v, b: b"\xd9\xd9\xf7" + b,
    "tagged date": lambda v, b: b.replace(b"\x61v\x01", b"\x61v\xc1\x01", 1),
    "bignum": lambda v, b: b.replace(b"\x61v\x01", b"\x61v\xc2\x41\x01", 1),
    "shared reference": lambda v, b: b.replace(b"\x61v\x01", b"\x61v\xd8\x1d\x00", 1),
    "float version": lambda v, b: b.replace(b"\x61v\x01", b"\x61v\xf9\x3c\x00", 1),
    "not a number": lambda v, b: b.replace(b"\x61v\x01", b"\x61v\xf9\x7e\x00", 1),
    "undefined": lambda v, b: b.replace(b"\x61v\x01", b"\x61v\xf7", 1),
    "nested 10,000 deep": lambda v, b: deep(10_000),
    "nested 5 deep": lambda v, b: deep(5),
    "length that never comes": lambda v, b: b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff" + MARKER.encode(),
    "array that never comes": lambda v, b: b"\x9a\xff\xff\xff\xff" + MARKER.encode(),
    "text that is not UTF-8": lambda v, b: b"\xa1\x61v\x63\xff\xfe\xfd",
    "text with half a surrogate": lambda v, b: b"\xa1\x61v\x63\xed\xa0\x80",
    "list": lambda v, b: cbor2.dumps([MARKER]),
    "text": lambda v, b: cbor2.dumps(MARKER),
    "integer keys": lambda v, b: cbor2.dumps({1: MARKER}),
    "map as a key": lambda v, b: b"\xa1\xa1\x01\x02\x03",
    "JSON": lambda v, b: json.dumps({"v": MARKER}).encode(),
    "zeros": lambda v, b: bytes(100),
    "ones": lambda v, b: b"\xff" * 100,
    "break alone": lambda v, b: b"\xff",
}


@pytest.mark.parametrize("name", ENDPOINTS)
def test_bodies_that_are_not_one_canonical_map(server: ProcessServer, target: Attacker, name: str) -> None:
    endpoint = ENDPOINTS[name]
    values, body = endpoint.values(target, server), endpoint.message(target, server)
    assert rebuilt(cbor2.loads(body)) == body, "the test's own encoder is the canonical one"
    before = server.database.dump()
    for kind, broken in NOT_CANONICAL.items():
        answer = send(target, endpoint.path, broken(values, body))
        too_long = answer.status_code == 413  # two messages in one, or a little more than the longest
        assert not too_long or len(broken(values, body)) > len(body) or kind.startswith("nested"), kind
        assert_refused(answer, server, code="too_large" if too_long else "malformed")
    assert server.database.dump() == before


WRONG_VALUES: dict[str, Any] = {
    "null": None,
    "true": True,
    "float": 1.5,
    "marker as text": MARKER,
    "marker as bytes": MARKER.encode(),
    "empty bytes": b"",
    "empty text": "",
    "minus one": -1,
    "largest": 2**64 - 1,
    "list": [MARKER],
    "map": {MARKER: MARKER},
    "long text": MARKER * 60,
    "control characters": f"\r\nSet-Cookie: {MARKER}\x00\x1b[31m",
}


@pytest.mark.parametrize("name", ENDPOINTS)
def test_every_field_missing_or_of_the_wrong_type(server: ProcessServer, target: Attacker, name: str) -> None:
    endpoint = ENDPOINTS[name]
    values = endpoint.values(target, server)
    before = server.database.dump()
    tried = 0
    for field in values:
        missing = {other: value for other, value in values.items() if other != field}
        document = assert_refused(send(target, endpoint.path, codec.encode(missing)), server)
        assert document["field"].endswith(f".{field}")
        for wrong in WRONG_VALUES.values():
            if type(wrong) is type(values[field]) and field in ("code", "profile", "rp_id", "masks"):
                continue  # a text of the right form: refused, or not, for what it says, in other tests
            answer = send(target, endpoint.path, codec.encode({**values, field: wrong}))
            if answer.status_code == 409 and (type(wrong) is int or field in ("codes", "masks")):
                continue  # in range: understood, and refused for its value or the enrolment's state
            if answer.status_code == 413:
                continue  # the wrong value alone is longer than any right message
            document = assert_refused(answer, server)
            assert field in document["field"] or document["field"] in ("key_share",)
            tried += 1
    document = assert_refused(send(target, endpoint.path, codec.encode({**values, MARKER: MARKER})), server)
    assert "field" in document and tried > 20
    assert server.database.dump() == before


@pytest.mark.parametrize("name", ENDPOINTS)
def test_texts_that_mean_nothing_here(server: ProcessServer, target: Attacker, name: str) -> None:
    """Right in form: a code, a profile, a relying party that do not exist."""
    endpoint = ENDPOINTS[name]
    values = endpoint.values(target, server)
    before = server.database.dump()
    for field in {"code", "profile", "rp_id"} & set(values):
        for text in (MARKER, "é" * 20, "x" * 38 + "\x00", "' OR 1=1 --", "../../etc/passwd"):
            answer = send(target, endpoint.path, codec.encode({**values, field: text}))
            assert answer.status_code in (400, 403, 409)
            assert MARKER not in answer.text and text not in answer.text
    assert server.database.dump() == before
    assert MARKER.encode() not in server.log


class TestSize:
    def test_one_byte_over_the_profiles_bound(self, server: ProcessServer, target: Attacker) -> None:
        """The bound is the profile's, for as many templates as it allows, not that of the largest profile served."""
        profile = target.state.profile
        limit = message_1_max_bytes(profile.with_templates(profile.max_templates))
        before = server.database.dump()
        body = target.prepare().message_1
        assert len(body) <= limit
        for size, code in ((limit, "malformed"), (limit + 1, "too_large"), (limit + 9_000, "too_large")):
            answer = target.post("/v1/logins", body + bytes(size - len(body)))
            assert answer.status_code == (413 if code == "too_large" else 400)
            assert_refused(answer, server, code=code)
        assert server.database.dump() == before

    @pytest.mark.parametrize("name", ENDPOINTS)
    def test_far_over_any_bound(self, server: ProcessServer, target: Attacker, name: str) -> None:
        before = server.database.dump()
        body = b"\xa1\x61v" + MARKER.encode() * 100_000
        try:
            answer = send(target, ENDPOINTS[name].path, body)
        except httpx.WriteError:
            pass  # the server answered and hung up before it had been given everything
        else:
            assert answer.status_code == 413
            assert_refused(answer, server, code="too_large")
        assert server.database.dump() == before


def mutated(generator: random.Random, values: dict[str, Any], body: bytes) -> bytes:
    """One of many ways to be nearly right."""
    match generator.randrange(7):
        case 0:  # bytes turned over
            data = bytearray(body)
            for _ in range(generator.randint(1, 4)):
                data[generator.randrange(len(data))] = generator.randrange(256)
            return bytes(data)
        case 1:  # a piece cut out
            start = generator.randrange(len(body))
            return body[:start] + body[start + generator.randint(1, 40) :]
        case 2:  # a piece put in
            start = generator.randrange(len(body))
            return body[:start] + generator.randbytes(generator.randint(1, 40)) + body[start:]
        case 3:  # the head turned over: where the structure is
            data = bytearray(body)
            data[generator.randrange(min(40, len(data)))] ^= 1 << generator.randrange(8)
            return bytes(data)
        case 4:  # a field of another type or size
            field = generator.choice(sorted(values))
            wrong = generator.choice([*WRONG_VALUES.values(), generator.randbytes(generator.randint(0, 300))])
            return codec.encode({**values, field: wrong})
        case 5:  # a field with other contents of the same form
            field = generator.choice(sorted(values))
            old = values[field]
            if isinstance(old, bytes) and old:
                return codec.encode({**values, field: generator.randbytes(len(old))})
            if isinstance(old, int):
                return codec.encode({**values, field: generator.choice([0, 1, old + 1, 2**31, 2**62, 2**63])})
            return codec.encode({**values, field: old})
        case _:  # a field lost and a stranger found
            kept = {key: value for key, value in values.items() if generator.random() > 0.1}
            return codec.encode({**kept, MARKER: generator.randbytes(8)} if generator.random() > 0.5 else kept)


def assert_whole_rows(server: ProcessServer) -> None:
    """Every row is of a state that one whole transaction leaves behind."""
    for row in server.database.rows("SELECT * FROM enrolments"):
        indexes = server.database.rows("SELECT MAX(ot_index) AS last FROM logins WHERE enrolment_id = ?", row["id"])
        assert row["last_index"] == (indexes[0]["last"] or 0)
        match row["status"]:
            case "active":
                assert row["sealed_base_ot"] and row["sealed_template"] and row["base_ot_id"]
            case "enrolling":
                assert row["sealed_pending_base_ot"] and row["pending_base_ot_id"] and not row["sealed_template"]
            case "quarantined":
                assert row["sealed_base_ot"] is None and row["status_reason"]
                events = server.database.rows(
                    "SELECT 1 FROM events WHERE enrolment_id = ? AND name = 'quarantined'", row["id"]
                )
                assert len(events) == 1
            case other:
                raise AssertionError(other)
    for row in server.database.rows("SELECT * FROM logins"):
        held = (row["token_hash"] is not None, row["sealed_rho"] is not None)
        assert held == {"pending": (True, True), "void": (True, False)}.get(row["state"], (False, False))
    for row in server.database.rows("SELECT * FROM credentials"):
        assert (row["sealed_share"] is None) == (row["status"] == "revoked")


def test_two_thousand_mutated_bodies(server: ProcessServer) -> None:
    """Never a 5xx, never half a row, never an echo, and the server does not grow."""
    generator = random.Random(20_240_117)
    attackers = [Attacker.enrolled(server, person=2)]
    attackers[0].register()
    names = sorted(ENDPOINTS)
    bodies: dict[tuple[bytes, str], bytes] = {}
    statuses: dict[int, int] = {}
    started_at = 0
    for round_ in range(FUZZ_ROUNDS):
        if round_ == FUZZ_ROUNDS // 4:
            started_at = server.resident_bytes
        attacker = attackers[-1]
        endpoint = ENDPOINTS[names[round_ % len(names)]]
        if endpoint.path == "/v1/logins" or (attacker.id, endpoint.path) not in bodies:
            bodies[attacker.id, endpoint.path] = endpoint.message(attacker, server)
        body = bodies[attacker.id, endpoint.path]
        if endpoint.path == "/v1/logins" and len(attackers) > 12:  # enough enrolments have been quarantined
            body = attacker.prepare(ot_index=1).message_1
        answer = send(attacker, endpoint.path, mutated(generator, cbor2.loads(body), body))
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
        assert answer.status_code < 500, (endpoint.path, answer.text)
        if answer.status_code >= 400:
            assert answer.headers["content-type"] == "application/problem+json"
            assert MARKER not in answer.text
        if (
            answer.status_code == 403 and attacker.status()[0] != "active"
        ):  # a proof or a tag that does not fit: rightly the end of this one
            attackers.append(Attacker.enrolled(server, person=2))
            attackers[-1].register()
    assert statuses[400] > FUZZ_ROUNDS // 2
    assert len(attackers) > 1, "no mutation got as far as the proofs"
    assert_whole_rows(server)
    assert MARKER.encode() not in server.log and b"Traceback" not in server.log
    assert server.resident_bytes - started_at < RSS_GROWTH_BYTES
    for attacker in attackers:
        attacker.http.close()
