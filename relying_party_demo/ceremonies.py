"""Registration and login, checked by py_webauthn. What a relying party does, and all of it."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import webauthn
from webauthn.helpers import base64url_to_bytes, decode_credential_public_key, parse_client_data_json
from webauthn.helpers.cose import COSEAlgorithmIdentifier
from webauthn.helpers.options_to_json_dict import options_to_json_dict
from webauthn.helpers.structs import (
    AttestationConveyancePreference,
    AttestationFormat,
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialCreationOptions,
    PublicKeyCredentialDescriptor,
    PublicKeyCredentialRequestOptions,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from relying_party_demo.accounts import (
    PASSKEYS_PER_USER_MAX,
    User,
    add_passkey,
    add_user,
    checked_display_name,
    count_up,
    normalised_name,
    passkey_by_id,
    passkeys_of,
    user_by_id,
    user_by_name,
)
from relying_party_demo.challenges import Expectation, Purpose, give_challenge, take_challenge
from relying_party_demo.database import Database
from relying_party_demo.errors import (
    ChallengeNotOpen,
    CounterWentBack,
    LoginRefused,
    Malformed,
    NameTaken,
    RegistrationRefused,
    TooManyPasskeys,
    WrongOrigin,
)
from relying_party_demo.known_make import KnownMake
from relying_party_demo.settings import RelyingPartySettings

SUPPORTED_ALGORITHMS = [
    COSEAlgorithmIdentifier.EDDSA,
    COSEAlgorithmIdentifier.ECDSA_SHA_256,
    COSEAlgorithmIdentifier.RSASSA_PKCS1_v1_5_SHA_256,
    COSEAlgorithmIdentifier.RSASSA_PSS_SHA_256,
]
"""In order of preference: the library's defaults, then PS256."""

ALGORITHM_NAMES = {-8: "EdDSA", -7: "ES256", -257: "RS256", -37: "PS256"}

_USER_HANDLE_BYTES = 32
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the verifying library found, for the page and for programs."""

    algorithm: str
    sign_count: int
    user_verified: bool
    attestation: str | None = None
    make: str | None = None
    """What the authenticator was verified to be, where the site takes one make only."""
    library: str = "py_webauthn"
    version: str = webauthn.__version__


@dataclass(frozen=True, slots=True)
class Verified:
    """The outcome of a ceremony that succeeded: whose, by which passkey."""

    user: User
    credential_id: bytes
    verdict: Verdict


class Ceremonies:
    """The use cases of a relying party. `browser_hash` names the browser a challenge is given to.

    A challenge is taken before anything is checked, in a transaction of its own: a failed answer uses it up.
    Registration tells whether a name is taken, as it must; a login does not.
    """

    def __init__(self, settings: RelyingPartySettings, database: Database, clock: Callable[[], float]) -> None:
        """Raises ValueError for a metadata statement that cannot be read."""
        self._settings = settings
        self._database = database
        self._clock = clock
        statement = settings.metadata_statement
        self._make = None if statement is None else KnownMake.load(statement)

    # ---- a new account -------------------------------------------------------------------------------

    def registration_options(self, browser_hash: bytes, name: object, display_name: object) -> dict[str, Any]:
        """PublicKeyCredentialCreationOptionsJSON for a new account. Raises InvalidName, NameTaken."""
        name = normalised_name(name)
        display_name = checked_display_name(display_name if display_name else name)
        handle = secrets.token_bytes(_USER_HANDLE_BYTES)
        with self._database.transaction() as transaction:
            if user_by_name(transaction, name):
                raise NameTaken()
            challenge = give_challenge(
                transaction,
                browser_hash=browser_hash,
                purpose=Purpose.REGISTER,
                now=self._clock(),
                lifetime_s=self._settings.challenge_lifetime_s,
                handle=handle,
                name=name,
                display_name=display_name,
            )
        return self._creation_options(challenge, handle, name, display_name, existing=[])

    def finish_registration(self, browser_hash: bytes, response: object) -> Verified:
        """Make the account with its first passkey. Raises Malformed, ChallengeNotOpen, WrongOrigin,
        RegistrationRefused, NotAttested, NameTaken."""
        expected = self._take(browser_hash, Purpose.REGISTER, response)
        new = self._verify_registration(response, expected)
        assert expected.handle and expected.name and expected.display_name
        with self._database.transaction() as transaction:
            now = self._clock()
            user = add_user(
                transaction,
                handle=expected.handle,
                name=expected.name,
                display_name=expected.display_name,
                now=now,
            )
            return self._store(transaction, user, new, now)

    # ---- another passkey for an account ----------------------------------------------------------------

    def addition_options(self, browser_hash: bytes, user: User) -> dict[str, Any]:
        """Like registration_options, for a signed-in user; their passkeys are excluded. Raises TooManyPasskeys."""
        with self._database.transaction() as transaction:
            existing = [passkey.id for passkey in passkeys_of(transaction, user)]
            if len(existing) >= PASSKEYS_PER_USER_MAX:
                raise TooManyPasskeys()
            challenge = give_challenge(
                transaction,
                browser_hash=browser_hash,
                purpose=Purpose.ADD_PASSKEY,
                now=self._clock(),
                lifetime_s=self._settings.challenge_lifetime_s,
                name=user.name,
            )
        return self._creation_options(challenge, user.handle, user.name, user.display_name, existing)

    def finish_addition(self, browser_hash: bytes, user: User, response: object) -> Verified:
        """Add the passkey to `user`, who must be the one who asked. Raises as finish_registration does."""
        expected = self._take(browser_hash, Purpose.ADD_PASSKEY, response)
        if expected.name != user.name:
            raise ChallengeNotOpen()
        new = self._verify_registration(response, expected)
        with self._database.transaction() as transaction:
            return self._store(transaction, user, new, self._clock())

    # ---- login -----------------------------------------------------------------------------------------

    def login_options(self, browser_hash: bytes, name: object = None) -> dict[str, Any]:
        """PublicKeyCredentialRequestOptionsJSON; without a name, for any discoverable passkey.

        For a name of no account the list has one credential id that looks like any other and is the same each
        time, so the answer does not tell who has an account. Raises InvalidName.
        """
        name = normalised_name(name) if name else None
        with self._database.transaction() as transaction:
            user = user_by_name(transaction, name) if name else None
            ids = [passkey.id for passkey in passkeys_of(transaction, user)] if user else []
            challenge = give_challenge(
                transaction,
                browser_hash=browser_hash,
                purpose=Purpose.LOGIN,
                now=self._clock(),
                lifetime_s=self._settings.challenge_lifetime_s,
                name=name,
            )
        if name and not ids:
            ids = [self._decoy_id(name)]
        options = webauthn.generate_authentication_options(
            rp_id=self._settings.rp_id,
            challenge=challenge,
            timeout=int(self._settings.challenge_lifetime_s * 1000),
            allow_credentials=[PublicKeyCredentialDescriptor(id=id) for id in ids],
            user_verification=UserVerificationRequirement.REQUIRED,
        )
        return _as_json(options)

    def finish_login(self, browser_hash: bytes, response: object) -> Verified:
        """Raises Malformed, ChallengeNotOpen, WrongOrigin, LoginRefused, CounterWentBack."""
        expected = self._take(browser_hash, Purpose.LOGIN, response)
        with self._database.transaction() as transaction:
            passkey = passkey_by_id(transaction, _credential_id(response))
            user = user_by_id(transaction, passkey.user_id) if passkey else None
        if passkey is None or user is None or expected.name not in (None, user.name):
            raise LoginRefused()
        handle = _user_handle(response)
        # WebAuthn 7.2 step 6: a handle, if given, must be the owner's; without a named account it must be given.
        if handle != user.handle and not (handle is None and expected.name is not None):
            raise LoginRefused()
        try:
            found = webauthn.verify_authentication_response(
                credential=_mapping(response),
                expected_challenge=expected.challenge,
                expected_rp_id=self._settings.rp_id,
                expected_origin=self._settings.origin,
                credential_public_key=passkey.public_key,
                # The library looks at the counter before the signature and not in our transaction. Given 0 it
                # leaves the counter alone; count_up judges it, once the signature is known to be good.
                credential_current_sign_count=0,
                require_user_verification=True,
            )
        except Exception as error:  # the library parses foreign bytes and promises no single kind of error
            _log.info("an assertion was refused: %s", type(error).__name__)
            raise LoginRefused() from error
        with self._database.transaction() as transaction:
            counted = count_up(transaction, passkey.id, sign_count=found.new_sign_count, now=self._clock())
        if not counted:  # raised outside, so that the note on the passkey stays
            raise CounterWentBack()
        verdict = Verdict(
            algorithm=ALGORITHM_NAMES[passkey.algorithm],
            sign_count=found.new_sign_count,
            user_verified=found.user_verified,
        )
        return Verified(user, passkey.id, verdict)

    # ---- shared ----------------------------------------------------------------------------------------

    def _creation_options(
        self, challenge: bytes, handle: bytes, name: str, display_name: str, existing: list[bytes]
    ) -> dict[str, Any]:
        options = webauthn.generate_registration_options(
            rp_id=self._settings.rp_id,
            rp_name=self._settings.rp_name,
            user_id=handle,
            user_name=name,
            user_display_name=display_name,
            challenge=challenge,
            timeout=int(self._settings.challenge_lifetime_s * 1000),
            attestation=AttestationConveyancePreference(self._settings.attestation),
            authenticator_selection=AuthenticatorSelectionCriteria(
                resident_key=ResidentKeyRequirement.REQUIRED,
                user_verification=UserVerificationRequirement.REQUIRED,
            ),
            exclude_credentials=[PublicKeyCredentialDescriptor(id=id) for id in existing],
            supported_pub_key_algs=SUPPORTED_ALGORITHMS,
        )
        return _as_json(options)

    def _take(self, browser_hash: bytes, purpose: Purpose, response: object) -> Expectation:
        """The challenge that the answer names, if this browser holds it; then the origin, for a clear text."""
        try:
            client_data = parse_client_data_json(
                base64url_to_bytes(_text(_mapping(_mapping(response).get("response")), "clientDataJSON"))
            )
        except Malformed:
            raise
        except Exception as error:  # see finish_login
            raise Malformed("response.clientDataJSON cannot be read.") from error
        with self._database.transaction() as transaction:
            expected = take_challenge(
                transaction,
                client_data.challenge,
                browser_hash=browser_hash,
                purpose=purpose,
                now=self._clock(),
            )
        if expected is None:
            raise ChallengeNotOpen()
        if client_data.origin != self._settings.origin:
            raise WrongOrigin()
        return expected

    def _verify_registration(self, response: object, expected: Expectation) -> _NewPasskey:
        try:
            found = webauthn.verify_registration_response(
                credential=_mapping(response),
                expected_challenge=expected.challenge,
                expected_rp_id=self._settings.rp_id,
                expected_origin=self._settings.origin,
                require_user_verification=True,
                supported_pub_key_algs=SUPPORTED_ALGORITHMS,
            )
            algorithm = int(decode_credential_public_key(found.credential_public_key).alg)
        except Exception as error:  # see finish_login
            _log.info("a registration was refused: %s", type(error).__name__)
            raise RegistrationRefused() from error
        # The library compares rawId with id but neither with the attested id; and 1023 bytes is the limit of
        # WebAuthn (7.1 step 25).
        if _credential_id(response) != found.credential_id or len(found.credential_id) > 1023:
            raise RegistrationRefused()
        if self._make is not None:
            client_data = _bytes(_mapping(_mapping(response).get("response")), "clientDataJSON")
            self._make.check(found.attestation_object, hashlib.sha256(client_data).digest(), self._clock())
        verdict = Verdict(
            algorithm=ALGORITHM_NAMES[algorithm],
            sign_count=found.sign_count,
            user_verified=found.user_verified,
            attestation=AttestationFormat(found.fmt).value,
            make=None if self._make is None else self._make.description,
        )
        return _NewPasskey(found.credential_id, found.credential_public_key, algorithm, verdict)

    def _store(self, transaction: Any, user: User, new: _NewPasskey, now: float) -> Verified:
        add_passkey(
            transaction,
            user,
            credential_id=new.credential_id,
            public_key=new.public_key,
            algorithm=new.algorithm,
            attestation=new.verdict.attestation or "none",
            sign_count=new.verdict.sign_count,
            now=now,
        )
        return Verified(user, new.credential_id, new.verdict)

    def _decoy_id(self, name: str) -> bytes:
        label = b"relying party v1 decoy credential\0"
        return hmac.new(self._database.site_key, label + name.encode(), hashlib.sha256).digest()


@dataclass(frozen=True, slots=True)
class _NewPasskey:
    credential_id: bytes
    public_key: bytes
    algorithm: int
    verdict: Verdict


def _as_json(
    options: PublicKeyCredentialCreationOptions | PublicKeyCredentialRequestOptions,
) -> dict[str, Any]:
    # Through text and back: the library leaves enum members in the dictionary.
    form: dict[str, Any] = json.loads(json.dumps(options_to_json_dict(options)))
    return form


def _mapping(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Malformed("The credential is not an object of the form WebAuthn describes.")
    return value


def _text(mapping: dict[str, Any], name: str) -> str:
    value = mapping.get(name)
    if not isinstance(value, str):
        raise Malformed("The credential is not an object of the form WebAuthn describes.")
    return value


def _bytes(mapping: dict[str, Any], name: str) -> bytes:
    try:
        return base64url_to_bytes(_text(mapping, name))
    except ValueError as error:
        raise Malformed("A field of the credential is not base64url.") from error


def _credential_id(response: object) -> bytes:
    return _bytes(_mapping(response), "rawId")


def _user_handle(response: object) -> bytes | None:
    fields = _mapping(_mapping(response).get("response"))
    return None if fields.get("userHandle") is None else _bytes(fields, "userHandle")
