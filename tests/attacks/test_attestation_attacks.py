"""Somebody with a whole device wants the server to attest what it should not.

What an attestation must mean: this server knows this key for this relying party, the request was answered because its
capture matched, and whoever shows it could complete the joint signature.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import cbor2
import pytest
from attacker import Attacker, altered, flipped
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding
from parties import private_key, public_key
from real_server import ThreadServer, thread_server

from authsvc.services import attestation
from authsvc.store.credentials import revoke_credential
from device_sdk.vault.state import Credential
from mpc.errors import Blame, ProtocolAbort
from mpc.garbling.evaluator import evaluate
from mpc.garbling.hashing import input_whitening
from mpc.login import attestation as opening
from mpc.login.attestation import open_statement
from mpc.login.authenticator_data import cose_rsa_key, registration_data
from mpc.login.device_side import DeviceLogin, Match, NoMatch
from mpc.login.enrolment_messages import AddCredential
from mpc.login.messages import Message2
from mpc.login.session import OutputKeys, exchange, session_id
from mpc.primitives import modular
from mpc.primitives.hashing import tagged_hash
from mpc.primitives.rng import SystemRng
from mpc.threshold_rsa.encodings import Algorithm, encode_message
from mpc.threshold_rsa.shares import split
from mpc.threshold_rsa.signing import partial_signature

BANK = "bank.example"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadServer]:
    with thread_server(tmp_path_factory.mktemp("server")) as running:
        attestation.create(running.context, country="DE", organization="Beispiel GmbH")
        yield running


@pytest.fixture
def registering(server: ThreadServer, attacker: Attacker) -> Credential:
    """A provisional credential that a registration may be asked for."""
    return attacker.add_credential(BANK, which_key=1)


def certificate(server: ThreadServer) -> bytes:
    return attestation.current(server.context).certificate.public_bytes(Encoding.DER)


def events(attacker: Attacker, name: str) -> int:
    rows = attacker.database.rows("SELECT 1 FROM events WHERE enrolment_id = ? AND name = ?", attacker.id, name)
    return len(rows)


def test_what_an_honest_registration_gets(server: ThreadServer, attacker: Attacker, registering: Credential) -> None:
    """Without this the refusals below would show nothing."""
    login = attacker.prepare(registering, kind="create", attest=True)
    match = attacker.succeed(login)

    assert match.attestation is not None
    assert match.attestation.certificate == certificate(server)
    signed = attacker.right_data(registering, "create", 1) + b"\x5a" * 32
    assert match.attestation.signs(signed) and not match.attestation.signs(signed + b"\x00")
    assert events(attacker, "attestation_sealed") == 1


def key_of_his_own() -> rsa.RSAPublicNumbers:
    return private_key(2048, 0).public_key().public_numbers()


NOT_THIS_CREDENTIALS: dict[str, Callable[[bytes, Credential], bytes]] = {
    "a key of his own": lambda good, credential: registration_data(
        BANK, 1, credential.credential_id, cose_rsa_key(-257, key_of_his_own().n, 65537)
    ),
    "the exponent 3": lambda good, credential: registration_data(
        BANK, 1, credential.credential_id, cose_rsa_key(-257, credential.key_share.key.modulus, 3)
    ),
    "another algorithm": lambda good, credential: registration_data(
        BANK, 1, credential.credential_id, cose_rsa_key(-37, credential.key_share.key.modulus, 65537)
    ),
    "another credential id": lambda good, credential: good.replace(credential.credential_id, bytes(32)),
    "another relying party": lambda good, credential: hashlib.sha256(b"shop.example").digest() + good[32:],
    "another AAGUID": lambda good, credential: good[:37] + bytes(16) + good[53:],
    "no user verification": lambda good, credential: good[:32] + b"\x41" + good[33:],
    "a backed-up credential": lambda good, credential: good[:32] + b"\x5d" + good[33:],
    "an extension of his own": lambda good, credential: good[:32] + b"\xc5" + good[33:] + b"\xa1\x63uvm\x80",
    "a counter that does not grow": lambda good, credential: good[:33] + bytes(4) + good[37:],
    "a login's data": lambda good, credential: good[:32] + b"\x05" + good[33:37],
}


@pytest.mark.parametrize("name", NOT_THIS_CREDENTIALS)
def test_authenticator_data_of_his_own_are_not_attested(
    server: ThreadServer, attacker: Attacker, registering: Credential, name: str
) -> None:
    """Every proof in the message belongs to the altered data; it is the contents that stop it."""
    good = attacker.right_data(registering, "create", 1)
    bad = NOT_THIS_CREDENTIALS[name](good, registering)
    assert bad != good
    outcome = attacker.try_login(
        attacker.prepare(registering, kind="create", attest=True, authenticator_data=bad).message_1
    )

    assert (outcome.told, outcome.counted) == ((400, "bad_authenticator_data"), True)
    assert certificate(server) not in outcome.body
    assert events(attacker, "attestation_sealed") == 0
    assert attacker.still_works()


def opened_as_far_as_he_can(attacker: Attacker, login: DeviceLogin, answer: bytes) -> tuple[OutputKeys, bytes]:
    """(keys from the label that he got, the box), with everything else as the honest device has it."""
    state = login._state
    profile, key = state.profile, state.key_share.key
    fields = cbor2.loads(answer)
    box = fields.pop("attestation")
    received = Message2.decode(
        cbor2.dumps(fields, canonical=True), tables_bytes=len(fields["tables"]), sealed_bytes=len(fields["sealed"])
    )
    sid = session_id(
        message_1=login.message_1,
        server_id=state.server_id,
        profile_digest=profile.digest,
        key=key,
        server_nonce=received.server_nonce,
        server_ephemeral=received.ephemeral,
    )
    label = evaluate(
        profile.circuit, sid, received.tables, login._labels ^ input_whitening(sid, profile.circuit.inputs)
    )
    shared = exchange(login._ephemeral, received.ephemeral, Blame.SERVER)
    return OutputKeys.derive(sid, label, shared), box


def test_without_a_match_there_is_no_attestation(
    server: ThreadServer, attacker: Attacker, registering: Credential
) -> None:
    """The answer holds the box, and nothing that he has opens it; certificate and signature are nowhere in clear."""
    stranger = flipped(attacker.template, 256)
    login = attacker.prepare(registering, kind="create", attest=True, probe=stranger)
    outcome = attacker.try_login(login.message_1)
    assert outcome.status == 200
    assert certificate(server) not in outcome.body

    keys, box = opened_as_far_as_he_can(attacker, login, outcome.body)
    with pytest.raises(ProtocolAbort):
        open_statement(keys, attacker.shares[registering.credential_id], box, b"")
    assert login.finish(outcome.body) == NoMatch()

    # The same steps with the genuine capture do open it, so they are the right ones.
    login = attacker.prepare(registering, kind="create", attest=True)
    answer = attacker.try_login(login.message_1).body
    keys, box = opened_as_far_as_he_can(attacker, login, answer)
    signed = login._request.authenticator_data + login._request.client_data_hash
    assert open_statement(keys, attacker.shares[registering.credential_id], box, signed).signs(signed)


def test_the_answer_to_another_request_does_not_open(attacker: Attacker, registering: Credential) -> None:
    """A box belongs to one session: neither a second request of his nor another's match opens the first one's."""
    first = attacker.prepare(registering, kind="create", attest=True, probe=flipped(attacker.template, 256))
    closed = attacker.try_login(first.message_1).body
    second = attacker.prepare(registering, kind="create", attest=True)
    opened = attacker.try_login(second.message_1).body
    swapped = altered(opened, attestation=cbor2.loads(closed)["attestation"])

    with pytest.raises(ProtocolAbort) as refused:
        second.finish(swapped)
    assert refused.value.reason == "attestation"


def test_a_request_sent_again_is_not_answered_again(
    server: ThreadServer, attacker: Attacker, registering: Credential
) -> None:
    login = attacker.prepare(registering, kind="create", attest=True)
    assert attacker.try_login(login.message_1).status == 200
    again = attacker.try_login(login.message_1)
    assert (again.told, again.counted) == ((409, "stale_index"), False)
    assert events(attacker, "attestation_sealed") == 1


def test_a_passkey_in_use_is_not_attested_again(attacker: Attacker, registering: Credential) -> None:
    """What is attested is a registration. Later ones would let a thief of the device vouch for it at new sites."""
    attacker.succeed(attacker.prepare(registering, kind="create"))
    outcome = attacker.try_login(attacker.prepare(registering, kind="create", attest=True).message_1)
    assert (outcome.told, outcome.counted) == ((403, "credential_not_usable"), False)


def test_nor_is_a_revoked_one(server: ThreadServer, attacker: Attacker, registering: Credential) -> None:
    with server.context.store.write() as conn:
        revoke_credential(conn, registering.credential_id)
    outcome = attacker.try_login(attacker.prepare(registering, kind="create", attest=True).message_1)
    assert outcome.told == (403, "credential_not_usable")


def test_a_login_cannot_ask_for_one(attacker: Attacker) -> None:
    outcome = attacker.try_login(attacker.prepare(attest=True).message_1)
    assert (outcome.told, outcome.counted) == ((400, "malformed"), False)
    assert outcome.document["field"] == "message_1.attest"


def test_a_key_that_he_does_not_have(server: ThreadServer, attacker: Attacker, monkeypatch: pytest.MonkeyPatch) -> None:
    """He registers somebody else's public key, with a share that he made up, and passes the share check with it.

    The check needs EM·s2^-e, which he computes from d2: he chose it. A relying party that took the attestation for a
    proof of possession would put the other person's key into his account. So the box is sealed to the private key.
    """
    stolen = public_key(private_key(2048, 3))
    made_up, sent = split(SystemRng(), stolen, 987_654_321)
    credential = Credential(b"s" * 32, BANK, b"u", "u", "u", Algorithm.RS256, made_up, 0, True, True, 0)
    message = AddCredential(
        attacker.id, credential.credential_id, BANK, -257, stolen.modulus_bytes, stolen.exponent, sent.to_bytes()
    )
    assert attacker.post("/v1/credentials", message.encode()).status_code == 200
    attacker.shares[credential.credential_id] = made_up
    data = attacker.right_data(credential, "create", 1)
    encoded = encode_message(credential.algorithm, data + b"\x5a" * 32, None, stolen.bits)

    def forged(_key: object, transcript: bytes, _partial: int) -> bytes:
        raised = pow(partial_signature(sent, encoded), stolen.exponent, stolen.modulus)
        inverse = modular.public_inverse(raised, stolen.modulus)
        assert inverse is not None
        number = encoded * inverse % stolen.modulus
        return tagged_hash("tandem share v1", transcript, number.to_bytes(stolen.size_bytes, "big"))

    monkeypatch.setattr("mpc.login.device_side.share_tag", forged)
    login = attacker.prepare(credential, kind="create", attest=True, authenticator_data=data)
    outcome = attacker.try_login(login.message_1)
    assert outcome.status == 200, "the server sees nothing wrong"
    assert attacker.status() == ("active", None)

    keys, box = opened_as_far_as_he_can(attacker, login, outcome.body)
    with pytest.raises(ProtocolAbort):
        open_statement(keys, made_up, box, data + b"\x5a" * 32)
    # The match did open the outer box: what is missing is the private key, and with that it would be enough.
    numbers = private_key(2048, 3).private_numbers()
    size = stolen.size_bytes
    plain = opening.AESGCM(keys.attestation_key).decrypt(bytes(12), box, keys.sid)
    secret = pow(int.from_bytes(plain[:size], "big"), numbers.d, stolen.modulus)
    inner = opening.AESGCM(opening._inner_key(stolen, secret, keys.sid))
    assert certificate(server) in inner.decrypt(bytes(12), plain[2 * size :], keys.sid)
    with pytest.raises(InvalidTag):
        wrong = opening.AESGCM(opening._inner_key(stolen, secret ^ 1, keys.sid))
        wrong.decrypt(bytes(12), plain[2 * size :], keys.sid)


def test_an_operator_who_attests_dealt_keys_only(tmp_path: Path) -> None:
    """A key that a device made was whole in its memory: such a one registers without, with self attestation."""
    with thread_server(tmp_path, attestation="provisioned") as running:
        attestation.create(running.context, country="DE", organization="Beispiel GmbH")
        with Attacker.enrolled(running) as attacker:
            credential = attacker.add_credential(BANK)
            match = attacker.succeed(attacker.prepare(credential, kind="create", attest=True))
            assert isinstance(match, Match) and match.attestation is None
            assert events(attacker, "attestation_sealed") == 0
