"""The attestation authority: a root, and the one certificate whose key signs attestations (WebAuthn, section 8.2.1).

| | root | attestation certificate |
|---|---|---|
| key, signature | P-256, itself | P-256, by the root |
| subject | C, O, CN with a number of its own | C, O, OU=Authenticator Attestation, CN |
| basicConstraints, critical | CA, no CA below it | not CA |
| keyUsage, critical | keyCertSign, cRLSign | digitalSignature |
| 1.3.6.1.4.1.45724.1.1.4, not critical | – | OCTET STRING with the AAGUID |
| valid for | 30 years | 2 years, renewed half a year before they are over |

One certificate serves all devices of the server, so that it tells nobody apart.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, ObjectIdentifier

from mpc.login.attestation import MAX_CERTIFICATE_BYTES, AttestationStatement
from mpc.login.authenticator_data import AAGUID
from mpc.primitives import codec
from mpc.primitives.secrecy import NeverPickled

ORGANIZATIONAL_UNIT: Final = "Authenticator Attestation"
AAGUID_EXTENSION: Final = ObjectIdentifier("1.3.6.1.4.1.45724.1.1.4")
MAX_ORGANIZATION_CHARACTERS: Final = 64
"""The upper bound of X.520."""
_ROOT_LIFETIME: Final = timedelta(days=30 * 365)
_LIFETIME: Final = timedelta(days=730)
_RENEW_BEFORE: Final = timedelta(days=182)
_BACKDATED: Final = timedelta(days=1)
"""A relying party's clock may be behind ours."""
_COUNTRY = re.compile(r"[A-Z]{2}")
_VERSION: Final = 1
_SCALAR_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class AttestationAuthority(NeverPickled):
    """Both private keys with their certificates. Times are Unix seconds."""

    root: x509.Certificate
    certificate: x509.Certificate
    _root_key: ec.EllipticCurvePrivateKey = field(repr=False)
    _key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def new(cls, country: str, organization: str, now: float) -> AttestationAuthority:
        """A root and its first certificate. country: ISO 3166, two capital letters. ValueError naming the field."""
        if not _COUNTRY.fullmatch(country):
            raise ValueError("country: two capital letters, as in ISO 3166")
        if not 0 < len(organization) <= MAX_ORGANIZATION_CHARACTERS or not organization.isprintable():
            raise ValueError(f"organization: 1 to {MAX_ORGANIZATION_CHARACTERS} printable characters")
        key = ec.generate_private_key(ec.SECP256R1())
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        # Some verifiers pick a root by its subject alone, so no two roots have the same.
        common_name = f"Tandem Attestation Root {identifier.digest[:8].hex()}"
        subject = _name((NameOID.COMMON_NAME, common_name), country=country, organization=organization)
        root = (
            _builder(subject, subject, key.public_key(), now, _moment(now) + _ROOT_LIFETIME)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(of_root=True), critical=True)
            .sign(key, SHA256())
        )
        return cls._with_certificate(root, key, now)

    @property
    def root_der(self) -> bytes:
        return self.root.public_bytes(Encoding.DER)

    def is_usable(self, now: float) -> bool:
        """Whether the attestation certificate is valid."""
        return self.certificate.not_valid_before_utc <= _moment(now) <= self.certificate.not_valid_after_utc

    def is_due(self, now: float) -> bool:
        """Whether the attestation certificate should be renewed, and would be valid for longer then."""
        ends = self.certificate.not_valid_after_utc
        return _moment(now) > ends - _RENEW_BEFORE and _end(self.root, now) > ends

    def renewed(self, now: float) -> AttestationAuthority:
        """With a new attestation key and certificate under the same root. ValueError if the root's time is over."""
        if _end(self.root, now) <= _moment(now):
            raise ValueError("the root certificate has expired; make another authority")
        return self._with_certificate(self.root, self._root_key, now)

    def attests(self, message: bytes) -> AttestationStatement:
        """The statement over authenticatorData ‖ client data hash."""
        signature = self._key.sign(message, ec.ECDSA(SHA256()))
        return AttestationStatement(self.certificate.public_bytes(Encoding.DER), signature)

    def to_bytes(self) -> bytes:
        """For sealing; it holds both private keys."""
        return codec.encode(
            {
                "v": _VERSION,
                "root": self.root_der,
                "root_key": _scalar(self._root_key),
                "certificate": self.certificate.public_bytes(Encoding.DER),
                "key": _scalar(self._key),
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> AttestationAuthority:
        """Raises DecodeError; ValueError for what only a program with the sealing key can have put there."""
        with codec.reading(data, what="attestation_authority", version=_VERSION) as fields:
            return cls(
                root=x509.load_der_x509_certificate(fields.bytes("root")),
                certificate=x509.load_der_x509_certificate(fields.bytes("certificate")),
                _root_key=_private_key(fields.bytes("root_key", length=_SCALAR_BYTES)),
                _key=_private_key(fields.bytes("key", length=_SCALAR_BYTES)),
            )

    @classmethod
    def _with_certificate(
        cls, root: x509.Certificate, root_key: ec.EllipticCurvePrivateKey, now: float
    ) -> AttestationAuthority:
        key = ec.generate_private_key(ec.SECP256R1())
        country, organization = (_attribute(root, oid) for oid in (NameOID.COUNTRY_NAME, NameOID.ORGANIZATION_NAME))
        unit = (NameOID.ORGANIZATIONAL_UNIT_NAME, ORGANIZATIONAL_UNIT)
        subject = _name(unit, (NameOID.COMMON_NAME, "Tandem Attestation"), country=country, organization=organization)
        authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(root_key.public_key())
        certificate = (
            _builder(subject, root.subject, key.public_key(), now, _end(root, now))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(of_root=False), critical=True)
            .add_extension(authority_key, critical=False)
            # Wrapped twice: the extension's value is itself the DER of an OCTET STRING.
            .add_extension(x509.UnrecognizedExtension(AAGUID_EXTENSION, b"\x04\x10" + AAGUID), critical=False)
            .sign(root_key, SHA256())
        )
        if len(certificate.public_bytes(Encoding.DER)) > MAX_CERTIFICATE_BYTES:
            raise ValueError("organization: too long for the certificate")
        return cls(root, certificate, root_key, key)


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the DER in hexadecimal."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: float, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_moment(now) - _BACKDATED)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _end(root: x509.Certificate, now: float) -> datetime:
    """Until when a certificate that is issued now is valid: never longer than its root."""
    return min(_moment(now) + _LIFETIME, root.not_valid_after_utc)


def _name(*more: tuple[ObjectIdentifier, str], country: str, organization: str) -> x509.Name:
    parts = ((NameOID.COUNTRY_NAME, country), (NameOID.ORGANIZATION_NAME, organization), *more)
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])


def _attribute(certificate: x509.Certificate, oid: ObjectIdentifier) -> str:
    return str(certificate.subject.get_attributes_for_oid(oid)[0].value)


def _key_usage(*, of_root: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not of_root,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=of_root,
        crl_sign=of_root,
        encipher_only=False,
        decipher_only=False,
    )


def _moment(at: float) -> datetime:
    """Certificates know whole seconds."""
    return datetime.fromtimestamp(int(at), UTC)


def _scalar(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_numbers().private_value.to_bytes(_SCALAR_BYTES, "big")


def _private_key(scalar: bytes) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(scalar, "big"), ec.SECP256R1())
