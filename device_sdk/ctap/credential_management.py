"""authenticatorCredentialManagement (CTAP 2.1, section 6.8): the discoverable passkeys, for a verified person."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from device_sdk.ctap import entities
from device_sdk.ctap.parameters import Parameters
from device_sdk.ctap.session import Answer, Enumeration, Request
from device_sdk.ctap.status import CommandRefused, Status
from device_sdk.ctap.tokens import Permission, Token
from device_sdk.vault.state import MAX_CREDENTIALS, Credential
from mpc.login.authenticator_data import cose_rsa_map, rp_id_hash


class SubCommand(IntEnum):
    GET_CREDS_METADATA = 0x01
    ENUMERATE_RPS_BEGIN = 0x02
    ENUMERATE_RPS_NEXT = 0x03
    ENUMERATE_CREDENTIALS_BEGIN = 0x04
    ENUMERATE_CREDENTIALS_NEXT = 0x05
    DELETE_CREDENTIAL = 0x06
    UPDATE_USER_INFORMATION = 0x07


_SUB_COMMAND, _PARAMS, _PROTOCOL, _AUTH_PARAM = 0x01, 0x02, 0x03, 0x04
_RP_ID_HASH_IN, _CREDENTIAL_ID_IN, _USER_IN = 0x01, 0x02, 0x03
_COUNT_OUT, _REMAINING_OUT, _RP_OUT, _RP_ID_HASH_OUT, _TOTAL_RPS_OUT = range(0x01, 0x06)
_USER_OUT, _CREDENTIAL_OUT, _PUBLIC_KEY_OUT, _TOTAL_CREDENTIALS_OUT, _CRED_PROTECT_OUT = range(0x06, 0x0B)


@dataclass(frozen=True, slots=True)
class _NextRelyingParties(Enumeration):
    rp_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _NextCredentials(Enumeration):
    credential_ids: tuple[bytes, ...]


def credential_management(request: Request, received: Parameters) -> Answer:
    match received.uint(_SUB_COMMAND):
        case SubCommand.GET_CREDS_METADATA:
            _require_allowed(_token(request, received), None)
            count = len(_discoverable(request))
            remaining = MAX_CREDENTIALS - len(request.session.authenticator.credentials())
            return {_COUNT_OUT: count, _REMAINING_OUT: max(remaining, 0)}
        case SubCommand.ENUMERATE_RPS_BEGIN:
            _require_allowed(_token(request, received), None)
            rp_ids = tuple(sorted({credential.rp_id for credential in _discoverable(request)}))
            return _relying_party(request, rp_ids) | {_TOTAL_RPS_OUT: len(rp_ids)}
        case SubCommand.ENUMERATE_RPS_NEXT:
            return _relying_party(request, request.session.going_on(_NextRelyingParties).rp_ids)
        case SubCommand.ENUMERATE_CREDENTIALS_BEGIN:
            ids = _ids_of_relying_party(request, received)
            return _credential(request, ids) | {_TOTAL_CREDENTIALS_OUT: len(ids)}
        case SubCommand.ENUMERATE_CREDENTIALS_NEXT:
            return _credential(request, request.session.going_on(_NextCredentials).credential_ids)
        case SubCommand.DELETE_CREDENTIAL:
            credential = _named_credential(request, received)
            request.under_way.working()
            request.session.authenticator.delete(credential.credential_id)
            return {}
        case SubCommand.UPDATE_USER_INFORMATION:
            return _rename(request, received)
        case _:
            raise CommandRefused(Status.CTAP2_ERR_INVALID_SUBCOMMAND)


def _ids_of_relying_party(request: Request, received: Parameters) -> tuple[bytes, ...]:
    token = _token(request, received)
    wanted = received.map(_PARAMS).octets(_RP_ID_HASH_IN, at_least=32, at_most=32)
    found = [credential for credential in _discoverable(request) if rp_id_hash(credential.rp_id) == wanted]
    # A token for one relying party says of others neither that they are known here nor that they are not.
    if token.rp_id is not None and rp_id_hash(token.rp_id) != wanted:
        raise CommandRefused(Status.CTAP2_ERR_PIN_AUTH_INVALID)
    return tuple(credential.credential_id for credential in found)


def _named_credential(request: Request, received: Parameters) -> Credential:
    """The passkey that a command is about, if its token allows it."""
    token = _token(request, received)
    named = entities.credential_id(received.map(_PARAMS).map(_CREDENTIAL_ID_IN))
    for credential in _discoverable(request):
        if credential.credential_id == named and token.rp_id in (None, credential.rp_id):
            return credential
    raise CommandRefused(Status.CTAP2_ERR_NO_CREDENTIALS)


def _rename(request: Request, received: Parameters) -> Answer:
    credential = _named_credential(request, received)
    user = entities.user_entity(received.map(_PARAMS).map(_USER_IN))
    if user.id != credential.user_handle:
        raise CommandRefused(Status.CTAP1_ERR_INVALID_PARAMETER)
    request.session.authenticator.rename(
        credential.credential_id, user_name=user.name, user_display_name=user.display_name
    )
    return {}


def _token(request: Request, received: Parameters) -> Token:
    """The token behind the command: for this, and with a match behind it, or there is nothing here to tell of.

    The command is authenticated with its parameters as they were sent.
    """
    if _AUTH_PARAM not in received:
        raise CommandRefused(Status.CTAP2_ERR_PUAT_REQUIRED)
    params = received.map(_PARAMS).encoded() if _PARAMS in received else b""
    token = request.session.tokens.authenticated(
        received,
        param=_AUTH_PARAM,
        protocol=_PROTOCOL,
        message=bytes([received.uint(_SUB_COMMAND)]) + params,
        permission=Permission.CREDENTIAL_MANAGEMENT,
    )
    if not token.verified and request.session.authenticator.credentials():
        raise CommandRefused(Status.CTAP2_ERR_PIN_AUTH_INVALID)
    return token


def _require_allowed(token: Token, rp_id: str | None) -> None:
    if not token.allows(Permission.CREDENTIAL_MANAGEMENT, rp_id):
        raise CommandRefused(Status.CTAP2_ERR_PIN_AUTH_INVALID)


def _discoverable(request: Request) -> list[Credential]:
    return [credential for credential in request.session.authenticator.credentials() if credential.discoverable]


def _relying_party(request: Request, rp_ids: tuple[str, ...]) -> Answer:
    if not rp_ids:
        raise CommandRefused(Status.CTAP2_ERR_NO_CREDENTIALS)
    if rp_ids[1:]:
        request.session.go_on_with(_NextRelyingParties(request.session.clock(), rp_ids[1:]))
    return {_RP_OUT: {"id": rp_ids[0]}, _RP_ID_HASH_OUT: rp_id_hash(rp_ids[0])}


def _credential(request: Request, credential_ids: tuple[bytes, ...]) -> Answer:
    held = {credential.credential_id: credential for credential in request.session.authenticator.credentials()}
    if not credential_ids or credential_ids[0] not in held:
        raise CommandRefused(Status.CTAP2_ERR_NO_CREDENTIALS)
    if credential_ids[1:]:
        request.session.go_on_with(_NextCredentials(request.session.clock(), credential_ids[1:]))
    credential = held[credential_ids[0]]
    key = credential.key_share.key
    return {
        _USER_OUT: entities.user_of(credential, named=True),
        _CREDENTIAL_OUT: entities.descriptor_of(credential),
        _PUBLIC_KEY_OUT: cose_rsa_map(int(credential.algorithm), key.modulus, key.exponent),
        _CRED_PROTECT_OUT: int(credential.cred_protect),
    }
