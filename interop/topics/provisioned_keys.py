"""Dealt keys: the device's recipient file, a sealed half, and the proof that two halves fit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from interop.drawing import Draws
from interop.enrolled import ENROLMENT_ID, RP_ID, SERVER_ID
from interop.given_keys import given_key
from interop.notation import Json, cbor, message, number, topic
from mpc.login.enrolment_messages import Accepted
from mpc.login.provisioned_messages import (
    AdoptKey,
    PairingStatement,
    PairShares,
    pairing_proof,
    pairing_proof_is_valid,
)
from mpc.primitives import base64url
from mpc.primitives.hpke import HpkePrivateKey, HpkeSuite
from mpc.provisioning.recipient import RECIPIENT_FORMAT, Recipient
from mpc.provisioning.signed_document import sign_document
from mpc.provisioning.times import to_text
from mpc.threshold_rsa.encodings import Algorithm, encode_message
from mpc.threshold_rsa.share_package import Role, SharePackage, open_share, read_share_header, seal_share
from mpc.threshold_rsa.shares import KeyShare, split
from mpc.threshold_rsa.signing import partial_signature

_MADE_AT = 1_800_000_000
_NOT_AFTER = 2_000_000_000
_SEALED = Path(__file__).with_name("sealed_share.hex")


@dataclass(frozen=True, slots=True)
class _Dealt:
    """What a dealer made: both halves, and the recipient whose the device's is."""

    recipient_key: HpkePrivateKey
    recipient: Recipient
    package: SharePackage
    server: KeyShare
    seed: str
    draws: list[Json]


def _dealt() -> _Dealt:
    draws, key = Draws("tandem vectors: a dealt key"), given_key(2048)
    with draws.named(
        "X25519 private key of the recipient",
        "Ed25519 private key of the file",
        "ceremony id",
        "d2, of which the highest B bits count",
    ) as drawn:
        recipient_key = HpkePrivateKey(HpkeSuite.X25519, draws.bytes(32))
        document = _recipient_file(recipient_key, Ed25519PrivateKey.from_private_bytes(draws.bytes(32)))
        ceremony_id = draws.bytes(16)
        device, server = split(draws, key.public, key.d)
    package = SharePackage(Role.DEVICE, device, 0, RP_ID, _NOT_AFTER, ceremony_id)
    return _Dealt(recipient_key, Recipient.decode(document), package, server, draws.seed, drawn)


def vectors() -> Json:
    dealt, key = _dealt(), given_key(2048)
    recipient, package = dealt.recipient, dealt.package
    sealed = bytes.fromhex(_SEALED.read_text(encoding="ascii"))
    opened = open_share(
        sealed,
        dealt.recipient_key,
        recipient_id=recipient.id,
        expected_role=Role.DEVICE,
        expected_key_id=key.public.key_id,
    )
    assert opened.encode() == package.encode(), "make it anew: python -m interop.topics.provisioned_keys"
    return topic(
        "Provisioned keys",
        "A recipient file, a half that is sealed to it, and how the device shows that its half fits. Sealing draws a "
        "key inside a library, so the sealed file was made once and is kept; everything else follows from the draws.",
        ["docs/protocol.md 13", "docs/provisioning.md", "RFC 9180"],
        {
            "seed": dealt.seed,
            "draws": dealt.draws,
            "recipient": {
                "file": recipient.document.decode("utf-8"),
                "id": recipient.id.hex(),
                "fingerprint": recipient.fingerprint,
                "public key": recipient.public_key.raw.hex(),
            },
            "key": {**key.shown(), "key_id": key.public.key_id.hex()},
            "share_package": cbor(package.encode()),
            "sealed_share": {"file": sealed.hex(), "header": cbor(read_share_header(sealed).encode())},
            "pairing": _pairing(package.share, dealt.server, package.ceremony_id),
        },
    )


def _recipient_file(key: HpkePrivateKey, signing_key: Ed25519PrivateKey) -> bytes:
    return sign_document(
        {
            "format": RECIPIENT_FORMAT,
            "role": Role.DEVICE.value,
            "name": "Ann's phone",
            "server_id": SERVER_ID,
            "suite": key.suite.value,
            "public_key": base64url.encode(key.public_key.raw),
            "created_at": to_text(_MADE_AT),
            "enrolment_id": ENROLMENT_ID.hex(),
        },
        signing_key,
    )


def _pairing(device: KeyShare, server: KeyShare, ceremony_id: bytes) -> Json:
    key_id = device.key.key_id
    statement = PairingStatement(SERVER_ID, ENROLMENT_ID, RP_ID, _NOT_AFTER, ceremony_id)
    forever = PairingStatement(SERVER_ID, ENROLMENT_ID, RP_ID, None, ceremony_id)
    proof = pairing_proof(device, statement)
    assert pairing_proof_is_valid(server, statement, proof) and not pairing_proof_is_valid(server, forever, proof)
    encoded = encode_message(Algorithm.RS256, statement.digest(key_id), None, device.key.bits)
    return {
        "server_id": SERVER_ID,
        "rp_id": RP_ID,
        "not_after": _NOT_AFTER,
        "ceremony_id": ceremony_id.hex(),
        "d1": device.to_bytes().hex(),
        "d2": server.to_bytes().hex(),
        "P": statement.digest(key_id).hex(),
        "P without an expiry": forever.digest(key_id).hex(),
        "EM": number(encoded, device.key),
        "s1": number(partial_signature(device, encoded), device.key),
        "proof": proof.hex(),
        "messages": [
            message(
                "PairShares", "device", "POST /v1/credentials/pair", PairShares(ENROLMENT_ID, key_id, proof).encode()
            ),
            message(
                "Accepted", "server", "answer to POST /v1/credentials/pair", Accepted(0, 0, ((key_id, 0),)).encode()
            ),
            message(
                "AdoptKey",
                "device",
                "POST /v1/credentials/adopt",
                AdoptKey(ENROLMENT_ID, key_id, Algorithm.RS256).encode(),
            ),
            message("Accepted", "server", "answer to POST /v1/credentials/adopt", Accepted(0, 0).encode()),
        ],
    }


def _seal_anew() -> None:
    """Replaces the kept file. Needed only where the package itself changes."""
    dealt = _dealt()
    sealed = seal_share(dealt.package, dealt.recipient.public_key, dealt.recipient.id)
    _SEALED.write_text(sealed.hex() + "\n", encoding="ascii")


if __name__ == "__main__":
    _seal_anew()
