"""authenticatorMakeCredential (CTAP 2.1, section 6.1)."""

from __future__ import annotations

from dataclasses import dataclass

from device_sdk.authenticator.client_data import ClientDataHash
from device_sdk.authenticator.new_credential import NewCredential
from device_sdk.authenticator.options import AttestationForm
from device_sdk.ceremony_report import ReportBuilder
from device_sdk.ctap import entities
from device_sdk.ctap.authorization import AuthKeys, answer_the_old_way_to_select, authorize
from device_sdk.ctap.parameters import Parameters
from device_sdk.ctap.session import Answer, Request
from device_sdk.ctap.status import CommandRefused, Status
from device_sdk.ctap.tokens import Permission
from device_sdk.ctap.user import Prompt, Purpose
from mpc.login.authenticator_data import ALGORITHMS
from mpc.login.extension_outputs import CredProtect
from mpc.threshold_rsa.encodings import Algorithm

_CLIENT_DATA_HASH, _RP, _USER, _PARAMS, _EXCLUDE_LIST, _EXTENSIONS, _OPTIONS = range(0x01, 0x08)
_AUTH = AuthKeys(param=0x08, protocol=0x09)
_ENTERPRISE_ATTESTATION, _ATTESTATION_FORMATS = 0x0A, 0x0B
_FORMAT_OUT, _DATA_OUT, _STATEMENT_OUT = 0x01, 0x02, 0x03
_MAX_PARAMS = 64
_CRED_PROTECT = "credProtect"


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One request."""

    client_data_hash: ClientDataHash
    credential: NewCredential
    attestation: AttestationForm

    @classmethod
    def read(cls, received: Parameters) -> _Wanted:
        hashed = entities.client_data_hash(received, _CLIENT_DATA_HASH)
        rp, user = received.map(_RP), entities.user_entity(received.map(_USER))
        rp.optional_text("name")
        algorithm = _algorithm(received)
        options = received.optional_map(_OPTIONS)
        options.all_options()
        if not options.option("up", default=True):
            raise CommandRefused(Status.CTAP2_ERR_INVALID_OPTION)
        extensions = received.optional_map(_EXTENSIONS)
        if _ENTERPRISE_ATTESTATION in received:
            raise CommandRefused(Status.CTAP1_ERR_INVALID_PARAMETER)
        attestation = _attestation(received)
        wanted = NewCredential(
            rp_id=entities.rp_id(rp, "id"),
            user_handle=user.id,
            user_name=user.name,
            user_display_name=user.display_name,
            algorithm=algorithm,
            discoverable=options.option("rk", default=False),
            excluded_ids=entities.credential_ids(received, _EXCLUDE_LIST) if _EXCLUDE_LIST in received else (),
            cred_protect=_cred_protect(extensions),
            uvm=extensions.option("uvm", default=False),
            attest=attestation is AttestationForm.PACKED,
        )
        return cls(hashed, wanted, attestation)


def make_credential(request: Request, received: Parameters) -> Answer:
    """A passkey with its first joint signature, which is there only if the capture matched.

    That an excluded passkey is here is told only after a match with it.
    """
    wanted, session = _Wanted.read(received), request.session
    prompt = Prompt(Purpose.REGISTER, wanted.credential.rp_id, wanted.credential.user_name or None)
    answer_the_old_way_to_select(request, received, _AUTH)
    authorization = authorize(
        request,
        received,
        _AUTH,
        message=wanted.client_data_hash.digest,
        permission=Permission.MAKE_CREDENTIAL,
        rp_id=wanted.credential.rp_id,
        prompt=prompt,
    )
    capture = authorization.spend_capture()
    with session.verification.asking_server(request.under_way) as deadline:
        registered = session.authenticator.make_credential(
            wanted.credential,
            wanted.client_data_hash,
            capture,
            deadline,
            ReportBuilder("create"),
            modulus_bits=session.modulus_bits,
        )
    attestation = registered.attestation(wanted.attestation)
    return {
        _FORMAT_OUT: attestation.fmt,
        _DATA_OUT: registered.signed.authenticator_data,
        _STATEMENT_OUT: dict(attestation.statement),
    }


def _algorithm(received: Parameters) -> Algorithm:
    """The first one listed that a split key can have."""
    listed = received.maps(_PARAMS, at_most=_MAX_PARAMS)
    for kind, algorithm in [(entry.text("type"), entry.integer("alg")) for entry in listed]:
        if kind == entities.PUBLIC_KEY and algorithm in ALGORITHMS:
            return Algorithm(algorithm)
    raise CommandRefused(Status.CTAP2_ERR_UNSUPPORTED_ALGORITHM)


def _cred_protect(extensions: Parameters) -> CredProtect | None:
    if _CRED_PROTECT not in extensions:
        return None
    try:
        return CredProtect(extensions.integer(_CRED_PROTECT))
    except ValueError:
        raise CommandRefused(Status.CTAP1_ERR_INVALID_PARAMETER) from None


def _attestation(received: Parameters) -> AttestationForm:
    """Packed attestation, unless the client prefers none (attestationFormatsPreference, CTAP 2.2)."""
    if _ATTESTATION_FORMATS in received:
        for wanted in received.texts(_ATTESTATION_FORMATS, at_most=_MAX_PARAMS):
            if wanted in tuple(AttestationForm):
                return AttestationForm(wanted)
    return AttestationForm.PACKED
