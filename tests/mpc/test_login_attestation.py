"""An attestation in the answer: who can open it, what it must be over, and that nothing else of the login changes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from parties import (
    CREDENTIAL_ID,
    PLAIN,
    RP_ID,
    Device,
    Pair,
    Server,
    enrol,
    private_exponent,
    private_key,
    probe_at,
    public_key,
)

from mpc.errors import Blame, DecodeError, ProtocolAbort
from mpc.login import attestation as attestation_module
from mpc.login.attestation import MAX_BOX_BYTES, MAX_CERTIFICATE_BYTES, MAX_SIGNATURE_BYTES, AttestationStatement
from mpc.login.authenticator_data import cose_rsa_key, registration_data
from mpc.login.device_side import DeviceLogin, LoginRequest, Match, NoMatch
from mpc.login.messages import Message1
from mpc.login.server_side import Answer, ServerLoginState, decide
from mpc.primitives import codec, modular
from mpc.primitives.hashing import tagged_hash
from mpc.primitives.rng import SeededRng
from mpc.threshold_rsa.encodings import encode_message
from mpc.threshold_rsa.shares import split
from mpc.threshold_rsa.signing import partial_signature

CLIENT_DATA_HASH = b"\x5a" * 32
NOW = datetime(2026, 11, 1, tzinfo=UTC)


@lru_cache(maxsize=8)
def attestation_key(kind: str = "P-256") -> tuple[ec.EllipticCurvePrivateKey, bytes]:
    """(a key, a certificate of `kind`): "P-256" is of this key, the others are of keys of other sorts."""
    key = ec.generate_private_key(ec.SECP256R1())
    certified = {
        "P-256": key,
        "P-384": ec.generate_private_key(ec.SECP384R1()),
        "RSA": private_key(2048, 1),
        "Ed25519": ed25519.Ed25519PrivateKey.generate(),
        "another P-256": ec.generate_private_key(ec.SECP256R1()),
    }[kind]
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(certified.public_key())
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .sign(key, SHA256())
    )
    return key, certificate.public_bytes(Encoding.DER)


def statement_over(message: bytes, kind: str = "P-256") -> AttestationStatement:
    key, certificate = attestation_key(kind)
    return AttestationStatement(certificate, key.sign(message, ec.ECDSA(SHA256())))


@dataclass(frozen=True)
class Registration:
    """A pair of parties that register, and what the device asks for."""

    pair: Pair
    request: LoginRequest

    @property
    def signed(self) -> bytes:
        return self.request.authenticator_data + self.request.client_data_hash

    def start(self, distance: int = 0, device: Device | None = None) -> DeviceLogin:
        capture = probe_at(self.pair.enrolled, distance)
        return (device or self.pair.device).start(capture, request=self.request)

    def answer(self, body: bytes, given: AttestationStatement | None, state: ServerLoginState | None = None) -> Answer:
        message = Message1.decode(body)
        verdict = decide(SeededRng(b"server"), state or self.pair.server.state, message, body, attestation=given)
        assert isinstance(verdict, Answer), type(verdict).__name__
        return verdict


def registration(pair: Pair, *, attest: bool = True) -> Registration:
    key = pair.device.state.key_share.key
    cose = cose_rsa_key(int(pair.device.state.algorithm), key.modulus, key.exponent)
    data = registration_data(RP_ID, 1, CREDENTIAL_ID, cose)
    return Registration(pair, LoginRequest("create", 1, data, CLIENT_DATA_HASH, attest=attest))


@pytest.fixture(scope="module")
def pair() -> Pair:
    return enrol(PLAIN)


@pytest.fixture
def asked(pair: Pair) -> Registration:
    return registration(pair)


@pytest.mark.parametrize("key_bits", [2048, 3072, 4096])
def test_a_match_opens_the_statement_that_the_server_made(key_bits: int) -> None:
    asked = registration(enrol(PLAIN, key_bits=key_bits))
    given = statement_over(asked.signed)
    login = asked.start()
    answer = asked.answer(login.message_1, given)
    match = login.finish(answer.message_2)

    assert isinstance(match, Match)
    assert answer.attested
    assert match.attestation == given
    box = codec.decode(answer.message_2, what="m")._values["attestation"]
    assert len(box) == 2 * key_bits // 8 + len(given.encode()) + 32 <= MAX_BOX_BYTES


def test_the_largest_box_is_as_long_as_the_device_allows() -> None:
    largest = AttestationStatement(bytes(MAX_CERTIFICATE_BYTES), bytes(MAX_SIGNATURE_BYTES))
    asked = registration(enrol(PLAIN, key_bits=4096))
    box = codec.decode(asked.answer(asked.start().message_1, largest).message_2, what="m")._values["attestation"]

    assert len(box) == MAX_BOX_BYTES


def test_without_a_match_nothing_opens(asked: Registration) -> None:
    """The box hangs on the accept label: whoever holds the reject label has no key to try."""
    login = asked.start(distance=PLAIN.threshold + 1)

    assert login.finish(asked.answer(login.message_1, statement_over(asked.signed)).message_2) == NoMatch()


def test_a_server_that_gives_none_is_no_fault(asked: Registration) -> None:
    login = asked.start()
    answer = asked.answer(login.message_1, None)
    match = login.finish(answer.message_2)

    assert isinstance(match, Match)
    assert not answer.attested
    assert match.attestation is None


def test_an_attestation_that_nobody_asked_for_is_refused(pair: Pair) -> None:
    unasked = registration(pair, attest=False)
    login = unasked.start()
    answer = unasked.answer(login.message_1, statement_over(unasked.signed))

    with pytest.raises(DecodeError):
        login.finish(answer.message_2)


def test_the_rest_of_both_messages_is_as_without_it(pair: Pair) -> None:
    """What is optional must not move anything else: the same seed gives the same bytes in every other field."""
    asked, unasked = registration(pair), registration(pair, attest=False)
    values = codec.decode(asked.start().message_1, what="m")._values
    assert values.pop("attest") is True
    same = ("authenticator_data", "client_data_hash", "device_nonce", "ephemeral", "u", "base_ot_id", "kind")
    others = codec.decode(unasked.start().message_1, what="m")._values
    assert values.keys() == others.keys()
    assert all(values[name] == others[name] for name in same)

    given = statement_over(asked.signed)
    body = asked.start().message_1
    with_it, without = (codec.decode(asked.answer(body, each).message_2, what="m")._values for each in (given, None))
    del with_it["attestation"]
    assert with_it == without


# --- the joint key -----------------------------------------------------------------------------------------------


def _of_a_foreign_modulus(pair: Pair) -> tuple[Device, Server]:
    """The device has made up a share of somebody else's key and sent the server the rest of nothing."""
    foreign = public_key(private_key(2048, 1))
    made_up, sent = split(SeededRng(b"made up"), foreign, 12_345_678_901)
    device = Device(replace(pair.device.state, key_share=made_up))
    return device, Server(replace(pair.server.state, key_share=sent))


def test_the_share_check_alone_does_not_show_the_private_key(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why the box is sealed to the joint key: a device that chose d2 passes the check for a key that it does not have.

    It knows EM·s2^-e from d2 alone. Opening the box is what it cannot do: r = c^(1/e) is the RSA problem.
    """
    device, server = _of_a_foreign_modulus(pair)
    asked = registration(Pair(device, server, pair.enrolled, pair.private))
    key, d2 = device.state.key_share.key, server.state.key_share

    def forged_tag(_key: object, transcript: bytes, _partial: int) -> bytes:
        encoded = encoded_of(asked, key.bits)
        s2 = partial_signature(d2, encoded)
        inverse = modular.public_inverse(pow(s2, key.exponent, key.modulus), key.modulus)
        assert inverse is not None
        return tag_of(transcript, encoded * inverse % key.modulus, key.size_bytes)

    monkeypatch.setattr("mpc.login.device_side.share_tag", forged_tag)
    login = asked.start(device=device)
    answer = asked.answer(login.message_1, statement_over(asked.signed), server.state)
    assert answer.attested, "the server has found nothing wrong"

    # The match opens the answer, and the thief looks at everything in it that his shares give.
    monkeypatch.setattr("mpc.login.device_side.combine", lambda *_: b"no signature, but he goes on")
    with pytest.raises(ProtocolAbort) as refused:
        login.finish(answer.message_2)
    assert (refused.value.reason, refused.value.blame) == ("attestation", Blame.SERVER)


def test_it_opens_for_the_whole_private_key_and_no_other_number(
    asked: Registration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The inner key is c^d: with any other exponent it is another key, and AES-GCM says so."""
    pair = asked.pair
    seen: list[tuple[int, int, bytes]] = []
    opened = attestation_module.combine

    def watched(key: object, challenge: int, own: int, partial: int) -> bytes:
        secret = opened(key, challenge, own, partial)  # type: ignore[arg-type]
        seen.append((challenge, own, secret))
        return secret

    monkeypatch.setattr(attestation_module, "combine", watched)
    login = asked.start()
    login.finish(asked.answer(login.message_1, statement_over(asked.signed)).message_2)
    [(challenge, own, secret)] = seen

    modulus = public_key(pair.private).modulus
    assert pow(challenge, private_exponent(pair.private), modulus) == int.from_bytes(secret, "big")
    assert own != int.from_bytes(secret, "big"), "one share alone does not open it"


# --- a server that cheats ----------------------------------------------------------------------------------------


def refused_by_device(asked: Registration, given: AttestationStatement) -> None:
    login = asked.start()
    with pytest.raises(ProtocolAbort) as refused:
        login.finish(asked.answer(login.message_1, given).message_2)
    assert (refused.value.reason, refused.value.blame) == ("attestation", Blame.SERVER)


def test_a_signature_over_other_bytes_is_refused(asked: Registration) -> None:
    refused_by_device(asked, statement_over(asked.signed + b"\x00"))


@pytest.mark.parametrize("kind", ["P-384", "RSA", "Ed25519", "another P-256"])
def test_a_certificate_of_another_key_is_refused(asked: Registration, kind: str) -> None:
    refused_by_device(asked, statement_over(asked.signed, kind))


@pytest.mark.parametrize("certificate", [b"\x30", b"no certificate", b"\x30\x82\xff\xff" + bytes(64)])
def test_what_is_no_certificate_is_refused(asked: Registration, certificate: bytes) -> None:
    refused_by_device(asked, replace(statement_over(asked.signed), certificate=certificate))


def test_a_certificate_of_an_unknown_version_is_refused(asked: Registration) -> None:
    """The library has an error of its own for it, which must not come through."""
    given = statement_over(asked.signed)
    of_version_3, of_version_6 = bytes.fromhex("a003020102"), bytes.fromhex("a003020105")
    assert of_version_3 in given.certificate
    refused_by_device(asked, replace(given, certificate=given.certificate.replace(of_version_3, of_version_6)))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda box: b"", id="empty"),
        pytest.param(lambda box: box[:20], id="shorter than its numbers"),
        pytest.param(lambda box: box[:-1], id="truncated"),
        pytest.param(lambda box: box + b"\x00", id="longer"),
        pytest.param(lambda box: bytes([box[0] ^ 1]) + box[1:], id="first bit"),
        pytest.param(lambda box: box[:-1] + bytes([box[-1] ^ 1]), id="last bit"),
    ],
)
def test_an_altered_box_is_refused(asked: Registration, change: object) -> None:
    login = asked.start()
    answer = codec.decode(asked.answer(login.message_1, statement_over(asked.signed)).message_2, what="m")._values
    changed = codec.encode(answer | {"attestation": change(answer["attestation"])})  # type: ignore[operator]

    with pytest.raises(ProtocolAbort) as refused:
        login.finish(changed)
    assert (refused.value.reason, refused.value.blame) == ("attestation", Blame.SERVER)


@pytest.mark.parametrize("value", [0, 1, -1, "N", "N + r"])
def test_numbers_that_are_no_honest_challenge_are_refused(
    asked: Registration, monkeypatch: pytest.MonkeyPatch, value: object
) -> None:
    """c and p2 come from the server, and a device of the right share must not be brought to anything odd by them."""
    modulus = public_key(asked.pair.private).modulus
    chosen = {"N": modulus, "N + r": modulus + 5}.get(str(value), value)
    assert isinstance(chosen, int)
    octets = attestation_module._octets
    calls: list[int] = []

    def bad_octets(key: object, number: int) -> bytes:
        calls.append(number)
        second = len(calls) == 2  # the inner key comes first, then c
        return octets(key, chosen % 2**2048 if second else number)  # type: ignore[arg-type]

    login = asked.start()
    with monkeypatch.context() as patched:
        patched.setattr(attestation_module, "_octets", bad_octets)
        answer = asked.answer(login.message_1, statement_over(asked.signed))
    with pytest.raises(ProtocolAbort) as refused:
        login.finish(answer.message_2)
    assert (refused.value.reason, refused.value.blame) == ("attestation", Blame.SERVER)


# --- message 1 ---------------------------------------------------------------------------------------------------


def test_only_a_registration_may_ask(asked: Registration) -> None:
    """The assertions of a login would otherwise be signed by the attestation key."""
    values = codec.decode(asked.start().message_1, what="m")._values
    with pytest.raises(DecodeError, match=r"message_1\.attest"):
        Message1.decode(codec.encode(values | {"kind": "get"}))


@pytest.mark.parametrize("value", [False, 1, b"\x01", "yes", None])
def test_asking_has_one_spelling(asked: Registration, value: object) -> None:
    values = codec.decode(asked.start().message_1, what="m")._values
    with pytest.raises(DecodeError, match=r"message_1\.attest"):
        Message1.decode(codec.encode(values | {"attest": value}))


def test_asking_is_bound_into_the_proof(asked: Registration) -> None:
    """Somebody on the way who adds or removes the wish changes T1, and both proofs with it."""
    body = asked.start().message_1
    values = codec.decode(body, what="m")._values
    del values["attest"]
    shorter = codec.encode(values)
    assert Message1.decode(body).statement.digest != Message1.decode(shorter).statement.digest
    verdict = decide(SeededRng(b"server"), asked.pair.server.state, Message1.decode(shorter), shorter)
    assert not isinstance(verdict, Answer)


def test_the_statement_has_one_encoding(asked: Registration) -> None:
    given = statement_over(asked.signed)
    assert AttestationStatement.decode(given.encode()) == given
    values = codec.decode(given.encode(), what="a")._values
    bad = ({"v": 2}, {"more": 1}, {"certificate": b""}, {"certificate": bytes(2049)}, {"signature": bytes(73)})
    for change in bad:
        with pytest.raises(DecodeError):
            AttestationStatement.decode(codec.encode(values | change))


def encoded_of(asked: Registration, bits: int) -> int:
    return encode_message(asked.pair.device.state.algorithm, asked.signed, None, bits)


def tag_of(transcript: bytes, raised: int, size: int) -> bytes:
    return tagged_hash("tandem share v1", transcript, raised.to_bytes(size, "big"))
