"""authenticatorGetAssertion and authenticatorGetNextAssertion (CTAP 2.1, sections 6.2 and 6.3)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from device_sdk.authenticator.accounts import eligible_credentials
from device_sdk.authenticator.client_data import ClientDataHash
from device_sdk.ceremony_report import ReportBuilder
from device_sdk.credential_info import credential_info
from device_sdk.ctap import entities
from device_sdk.ctap.authorization import AuthKeys, Authorization, answer_the_old_way_to_select, authorize
from device_sdk.ctap.parameters import Parameters
from device_sdk.ctap.session import Answer, Enumeration, Request, is_visible
from device_sdk.ctap.status import CommandRefused, Status
from device_sdk.ctap.tokens import Permission
from device_sdk.ctap.user import AccountChooser, Prompt, Purpose
from device_sdk.expiry import is_expired
from device_sdk.vault.state import Credential
from mpc.login.authenticator_data import rp_id_hash

_RP_ID, _CLIENT_DATA_HASH, _ALLOW_LIST, _EXTENSIONS, _OPTIONS = 0x01, 0x02, 0x03, 0x04, 0x05
_AUTH = AuthKeys(param=0x06, protocol=0x07)
_NOBODY_WAS_THERE = 0x00  # flags of authenticator data: neither UP nor UV
_CREDENTIAL_OUT, _DATA_OUT, _SIGNATURE_OUT, _USER_OUT, _NUMBER_OUT, _SELECTED_OUT = range(0x01, 0x07)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One request. `allowed_ids` None: it names none. `silent`: up is false, so nobody is asked and nothing signed."""

    rp_id: str
    client_data_hash: ClientDataHash
    allowed_ids: tuple[bytes, ...] | None
    silent: bool
    uvm: bool
    """The authenticator data are to tell how the user was verified."""

    @classmethod
    def read(cls, received: Parameters) -> _Wanted:
        options = received.optional_map(_OPTIONS)
        options.all_options()
        wanted = cls(
            rp_id=entities.rp_id(received, _RP_ID),
            client_data_hash=entities.client_data_hash(received, _CLIENT_DATA_HASH),
            allowed_ids=entities.credential_ids(received, _ALLOW_LIST) if _ALLOW_LIST in received else None,
            silent=not options.option("up", default=True),
            uvm=received.optional_map(_EXTENSIONS).option("uvm", default=False),
        )
        uses_uv_option = options.option("uv", default=False) and _AUTH.param not in received
        if "rk" in options or (wanted.silent and uses_uv_option):
            # Verified here means captured, so there is no verification without presence.
            raise CommandRefused(Status.CTAP2_ERR_UNSUPPORTED_OPTION)
        return wanted


@dataclass(frozen=True, slots=True)
class _NextAssertions(Enumeration):
    """The accounts that a request may still have an assertion for, newest first."""

    wanted: _Wanted
    credential_ids: tuple[bytes, ...]


def get_assertion(request: Request, received: Parameters) -> Answer:
    wanted = _Wanted.read(received)
    prompt = Prompt(Purpose.SIGN_IN, wanted.rp_id)
    answer_the_old_way_to_select(request, received, _AUTH)
    authorization = authorize(
        request,
        received,
        _AUTH,
        message=wanted.client_data_hash.digest,
        permission=Permission.GET_ASSERTION,
        rp_id=wanted.rp_id,
        prompt=prompt,
    )
    if not wanted.silent and request.session.is_guarded():
        authorization.require_match_shown()
    found = _applicable(request, wanted, verified=authorization.verified)
    if not found:
        raise CommandRefused(Status.CTAP2_ERR_NO_CREDENTIALS)
    if wanted.allowed_ids is not None:
        found = found[:1]  # any of them, and the client is not told how many
    if wanted.silent:
        return _with_the_rest(request, wanted, found, _silent(request, found[0]))
    if len(found) > 1 and isinstance(request.session.user, AccountChooser):
        chosen = _chosen(request, prompt, request.session.user, found)
        authorization.prompt = replace(prompt, account=chosen.user_name or None)
        return _signed(request, wanted, chosen, authorization, named=True) | {_SELECTED_OUT: True}
    answer = _signed(request, wanted, found[0], authorization, named=len(found) > 1)
    return _with_the_rest(request, wanted, found, answer)


def get_next_assertion(request: Request) -> Answer:
    """The next account of the request before. It is asked for with a capture of its own, like any signature."""
    rest = request.session.going_on(_NextAssertions)
    held = {credential.credential_id: credential for credential in request.session.authenticator.credentials()}
    credential = held.get(rest.credential_ids[0])
    if credential is None:
        raise CommandRefused(Status.CTAP2_ERR_NOT_ALLOWED)  # given up in the meantime
    if rest.wanted.silent:
        answer = _silent(request, credential)
    else:
        prompt = Prompt(Purpose.SIGN_IN, rest.wanted.rp_id, credential.user_name or None)
        answer = _signed(request, rest.wanted, credential, Authorization(request, prompt, None), named=True)
    _go_on(request, rest.wanted, rest.credential_ids[1:])
    return answer


def _applicable(request: Request, wanted: _Wanted, *, verified: bool) -> list[Credential]:
    """The passkeys that may answer, newest first."""
    authenticator, listed = request.session.authenticator, wanted.allowed_ids is not None
    return [
        credential
        for credential in eligible_credentials(authenticator.credentials(), wanted.rp_id, wanted.allowed_ids)
        if is_visible(credential, verified=verified, listed=listed)
        and not is_expired(credential, authenticator.clock())
    ]


def _chosen(request: Request, prompt: Prompt, chooser: AccountChooser, found: list[Credential]) -> Credential:
    accounts = [credential_info(credential) for credential in found]
    picked = request.under_way.ask(lambda cancelled: chooser.choose_account(prompt, accounts, cancelled))
    for credential in found:
        if credential.credential_id == picked:
            return credential
    raise CommandRefused(Status.CTAP2_ERR_OPERATION_DENIED)


def _signed(
    request: Request, wanted: _Wanted, credential: Credential, authorization: Authorization, *, named: bool
) -> Answer:
    """The one place that a signature comes from: a joint login, which gives one only if the capture matched."""
    session = request.session
    capture = authorization.spend_capture()
    with session.verification.asking_server(request.under_way) as deadline:
        signed = session.authenticator.get_assertion(
            credential, wanted.client_data_hash, capture, deadline, ReportBuilder("get"), uvm=wanted.uvm
        )
    return _answer(credential, signed.authenticator_data, signed.signature, named=named)


def _silent(request: Request, credential: Credential) -> Answer:
    """That the passkey is here, with flags that claim neither presence nor verification and random bytes to sign them.

    Nobody is asked, the server is not, and no counter moves.
    """
    data = rp_id_hash(credential.rp_id) + bytes([_NOBODY_WAS_THERE]) + credential.sign_count.to_bytes(4, "big")
    no_signature = request.session.authenticator.rng.bytes(credential.key_share.key.bits // 8)
    return _answer(credential, data, no_signature, named=False)


def _answer(credential: Credential, authenticator_data: bytes, signature: bytes, *, named: bool) -> Answer:
    answer: Answer = {
        _CREDENTIAL_OUT: entities.descriptor_of(credential),
        _DATA_OUT: authenticator_data,
        _SIGNATURE_OUT: signature,
    }
    if credential.discoverable:
        answer[_USER_OUT] = entities.user_of(credential, named=named)
    return answer


def _with_the_rest(request: Request, wanted: _Wanted, found: list[Credential], answer: Answer) -> Answer:
    """The first answer, with the number of all, and the others to come."""
    if len(found) == 1:
        return answer
    _go_on(request, wanted, tuple(credential.credential_id for credential in found[1:]))
    return answer | {_NUMBER_OUT: len(found)}


def _go_on(request: Request, wanted: _Wanted, credential_ids: tuple[bytes, ...]) -> None:
    if credential_ids:
        request.session.go_on_with(_NextAssertions(request.session.clock(), wanted, credential_ids))
