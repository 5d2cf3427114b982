"""Registrations of one make of authenticator only, as its FIDO metadata statement describes it.

python-fido2 verifies: the chain up to a root of the statement, the certificate's form, the AAGUID in it, and the
signature. It takes no look at the certificate's dates, so that is done here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

from cryptography import x509
from fido2.mds3 import MdsAttestationVerifier, MetadataBlobPayload, MetadataBlobPayloadEntry, MetadataStatement
from fido2.webauthn import AttestationObject

from relying_party_demo.errors import NotAttested


@dataclass(frozen=True, slots=True)
class KnownMake:
    """`description`: what the statement calls it."""

    description: str
    _verifier: MdsAttestationVerifier = field(repr=False)

    @classmethod
    def load(cls, path: Path) -> KnownMake:
        """From a file with the statement. Raises ValueError if it cannot be read or is none."""
        try:
            statement = MetadataStatement.from_dict(json.loads(path.read_text(encoding="utf-8")))
            if statement.aaguid is None or not statement.attestation_root_certificates:
                raise ValueError("it names no AAGUID or no root certificate")
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ValueError(f"metadata statement {path}: {error}") from None
        entry = MetadataBlobPayloadEntry(
            aaguid=statement.aaguid,
            metadata_statement=statement,
            status_reports=[],
            time_of_last_status_change=date.today(),
        )
        known = MetadataBlobPayload(legal_header="", no=1, next_update=date.today(), entries=[entry])
        return cls(statement.description, MdsAttestationVerifier(known))

    def check(self, attestation_object: bytes, client_data_hash: bytes, now: float) -> None:
        """Raise NotAttested unless a certificate of this make attests the registration. now: Unix seconds."""
        try:
            attested = AttestationObject(attestation_object)
            # Self attestation has no chain, and anybody can make it under any AAGUID.
            chain = attested.att_stmt.get("x5c") if attested.fmt == "packed" else None
            if not chain:
                raise NotAttested()
            certificate = x509.load_der_x509_certificate(chain[0])
            today = datetime.fromtimestamp(now, UTC)
            if not certificate.not_valid_before_utc <= today <= certificate.not_valid_after_utc:
                raise NotAttested()
            self._verifier.verify_attestation(attested, client_data_hash)
        except NotAttested:
            raise
        except Exception as error:  # the libraries parse foreign bytes and promise no single kind of error
            raise NotAttested() from error
