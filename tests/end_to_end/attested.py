"""Registrations with attestation through a real server, and what a relying party that verifies them needs."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, ObjectIdentifier
from fido2 import cbor
from fido2.attestation import InvalidData, InvalidSignature, UntrustedAttestation
from fido2.mds3 import (
    AuthenticatorStatus,
    MdsAttestationVerifier,
    MetadataBlobPayload,
    MetadataBlobPayloadEntry,
    MetadataStatement,
    StatusReport,
)
from fido2.server import Fido2Server
from fido2.utils import websafe_decode, websafe_encode
from fido2.webauthn import PublicKeyCredentialRpEntity, PublicKeyCredentialUserEntity
from real_server import ThreadServer, thread_server
from relying_parties import RelyingParty
from webauthn import verify_registration_response
from webauthn.helpers.cose import COSEAlgorithmIdentifier
from webauthn.helpers.exceptions import InvalidRegistrationResponse
from webauthn.helpers.structs import AttestationFormat

from authsvc.services import attestation
from authsvc.services.metadata_statement import metadata_statement

TODAY = date(2026, 11, 1)


@contextmanager
def attesting_server(folder: Path) -> Iterator[ThreadServer]:
    """A running server with an attestation authority."""
    with thread_server(folder) as running:
        attestation.create(running.context, country="DE", organization="Beispiel GmbH")
        yield running


def statement_of(server: ThreadServer) -> dict[str, Any]:
    """What `authsvc metadata-statement` writes, through its JSON."""
    ctx = server.context
    told: dict[str, Any] = json.loads(json.dumps(metadata_statement(ctx.policy, attestation.current(ctx))))
    return told


def by_py_webauthn(party: RelyingParty, options: Any, answer: Any, statement: Any) -> bool:
    """Whether py_webauthn, given the roots of the statement, verifies the registration."""
    roots = [base64.b64decode(each) for each in statement["attestationRootCertificates"]]
    pem = [x509.load_der_x509_certificate(each).public_bytes(Encoding.PEM) for each in roots]
    try:
        found = verify_registration_response(
            credential=answer,
            expected_challenge=websafe_decode(options["challenge"]),
            expected_rp_id=party.rp_id,
            expected_origin=party.origin,
            require_user_verification=True,
            supported_pub_key_algs=[COSEAlgorithmIdentifier(-257), COSEAlgorithmIdentifier(-37)],
            pem_root_certs_bytes_by_fmt={AttestationFormat.PACKED: pem},
        )
    except InvalidRegistrationResponse:
        return False
    return AttestationFormat(found.fmt) is AttestationFormat.PACKED


def verifier(statement: Any) -> MdsAttestationVerifier:
    """fido2's verifier, given the metadata statement as an entry of a metadata service."""
    entry = MetadataBlobPayloadEntry(
        status_reports=[StatusReport(status=AuthenticatorStatus.NOT_FIDO_CERTIFIED)],
        time_of_last_status_change=TODAY,
        aaguid=MetadataStatement.from_dict(statement).aaguid,
        metadata_statement=MetadataStatement.from_dict(statement),
    )
    return MdsAttestationVerifier(MetadataBlobPayload(legal_header="", no=1, next_update=TODAY, entries=[entry]))


def by_fido2(party: RelyingParty, options: Any, answer: Any, statement: Any) -> bool:
    """Whether fido2.server verifies it against the metadata statement."""
    server = Fido2Server(
        PublicKeyCredentialRpEntity(name="Test", id=party.rp_id),
        attestation="direct",
        verify_origin=lambda origin: origin == party.origin,
        verify_attestation=verifier(statement),
    )
    user = PublicKeyCredentialUserEntity(name="x", id=b"x")
    challenge = websafe_decode(options["challenge"])
    _, state = server.register_begin(user, user_verification="required", challenge=challenge)
    try:
        server.register_complete(state, answer)
    except (InvalidData, InvalidSignature, UntrustedAttestation):
        return False
    except IndexError:  # self attestation: the library looks at the end of a chain, and there is none
        return False
    return True


def attested_object(answer: Any) -> dict[str, Any]:
    """{fmt, attStmt, authData} of a registration."""
    read = cbor.decode(websafe_decode(answer["response"]["attestationObject"]))
    assert isinstance(read, dict)
    return read


def tampered(answer: Any, change: Callable[[dict[str, Any]], None]) -> Any:
    """The registration with its attestation object changed in place."""
    changed = copy.deepcopy(answer)
    inner = attested_object(answer)
    change(inner)
    changed["response"]["attestationObject"] = websafe_encode(cbor.encode(inner))
    changed["response"].pop("authenticatorData", None)
    return changed


def flipped(data: bytes, at: int) -> bytes:
    at %= len(data)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


class OtherAuthority:
    """An attestation authority of somebody else's, with names like the real one's."""

    def __init__(self, genuine_root: x509.Certificate, genuine: x509.Certificate) -> None:
        self._root_key = ec.generate_private_key(ec.SECP256R1())
        self.key = ec.generate_private_key(ec.SECP256R1())
        self._names = genuine_root.subject, genuine.subject

    def certificate(self, aaguid: bytes) -> bytes:
        root, subject = self._names
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(root)
            .public_key(self.key.public_key())
            .serial_number(1)
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(
                x509.UnrecognizedExtension(ObjectIdentifier("1.3.6.1.4.1.45724.1.1.4"), b"\x04\x10" + aaguid),
                critical=False,
            )
            .sign(self._root_key, SHA256())
            .public_bytes(Encoding.DER)
        )

    def sign(self, message: bytes) -> bytes:
        return self.key.sign(message, ec.ECDSA(SHA256()))


def common_name(certificate: bytes) -> str:
    read = x509.load_der_x509_certificate(certificate)
    return str(read.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
