"""What relying parties will see, judged by two independent libraries and by the W3C test vector.

The signatures are made with a whole RSA key of the `cryptography` package: the split key has its own tests,
here the bytes around the signature are on trial.
"""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import webauthn
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key
from fido2 import cbor
from fido2.attestation import Attestation
from fido2.server import Fido2Server
from fido2.webauthn import (
    AttestationObject,
    PublicKeyCredentialRpEntity,
    PublicKeyCredentialUserEntity,
)
from webauthn.helpers.cose import COSEAlgorithmIdentifier
from webauthn.helpers.exceptions import InvalidAuthenticationResponse, InvalidRegistrationResponse
from webauthn.helpers.structs import AttestationConveyancePreference

from device_sdk.authenticator.attestation import none_attestation, packed_self_attestation
from device_sdk.authenticator.client_data import Ceremony, build_client_data
from device_sdk.authenticator.options import (
    AttestationForm,
    parse_creation_options,
    parse_request_options,
)
from device_sdk.authenticator.origin import Origin, parse_origin, relying_party_id
from device_sdk.authenticator.responses import authentication_response, registration_response
from mpc.login.authenticator_data import AAGUID, PS256, RS256, assertion_data, cose_rsa_key, registration_data
from mpc.primitives import base64url

ORIGIN = "https://login.example.org"
RP_ID = "example.org"
CREDENTIAL_ID = bytes(range(32))
USER_HANDLE = b"user-1"
VECTOR = json.loads((Path(__file__).parents[1] / "vectors" / "w3c_rs256.json").read_text())


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@dataclass
class WholeKeyAuthenticator:
    """Answers options with our bytes and an ordinary RSA key."""

    key: rsa.RSAPrivateKey
    algorithm: int = RS256
    sign_count: int = 0

    def create(self, options_json: str) -> dict[str, Any]:
        options = parse_creation_options(options_json)
        origin = parse_origin(ORIGIN)
        rp_id = relying_party_id(origin, options.rp_id)
        self.algorithm = options.algorithm
        self.sign_count += 1
        numbers = self.key.public_key().public_numbers()
        client_data = build_client_data(Ceremony.CREATE, options.challenge, origin)
        cose_key = cose_rsa_key(self.algorithm, numbers.n, numbers.e)
        data = registration_data(rp_id, self.sign_count, CREDENTIAL_ID, cose_key)
        if options.attestation is AttestationForm.PACKED:
            attestation = packed_self_attestation(self.algorithm, self.sign(data + client_data.hash))
        else:
            attestation = none_attestation()
        return registration_response(
            credential_id=CREDENTIAL_ID,
            client_data=client_data,
            authenticator_data=data,
            attestation_object=attestation.object(data),
            algorithm=self.algorithm,
            modulus=numbers.n,
            exponent=numbers.e,
            discoverable=options.discoverable if options.cred_props else None,
        )

    def get(self, options_json: str) -> dict[str, Any]:
        options = parse_request_options(options_json)
        origin = parse_origin(ORIGIN)
        self.sign_count += 1
        client_data = build_client_data(Ceremony.GET, options.challenge, origin)
        data = assertion_data(relying_party_id(origin, options.rp_id), self.sign_count)
        return authentication_response(
            credential_id=CREDENTIAL_ID,
            client_data=client_data,
            authenticator_data=data,
            signature=self.sign(data + client_data.hash),
            user_handle=USER_HANDLE,
        )

    def sign(self, message: bytes) -> bytes:
        scheme: Any = padding.PKCS1v15()
        if self.algorithm == PS256:
            scheme = padding.PSS(padding.MGF1(hashes.SHA256()), salt_length=32)
        return self.key.sign(message, scheme, hashes.SHA256())


def flipped(text: str, index: int) -> str:
    """base64url text with the lowest bit of one byte flipped."""
    data = bytearray(base64url.decode(text))
    data[index] ^= 1
    return base64url.encode(bytes(data))


CASES = [
    pytest.param(algorithm, attestation, id=f"{name}-{attestation}")
    for algorithm, name in ((RS256, "RS256"), (PS256, "PS256"))
    for attestation in ("none", "direct")
]


@pytest.mark.parametrize(("algorithm", "attestation"), CASES)
def test_py_webauthn_accepts_registration_and_login(key: rsa.RSAPrivateKey, algorithm: int, attestation: str) -> None:
    authenticator = WholeKeyAuthenticator(key)
    listed = [COSEAlgorithmIdentifier(algorithm)]
    creation = webauthn.generate_registration_options(
        rp_id=RP_ID,
        rp_name="Example",
        user_name="ada",
        user_id=USER_HANDLE,
        attestation=AttestationConveyancePreference(attestation),
        supported_pub_key_algs=listed,
    )

    registration = authenticator.create(webauthn.options_to_json(creation))
    registered = webauthn.verify_registration_response(
        credential=registration,
        expected_challenge=creation.challenge,
        expected_rp_id=RP_ID,
        expected_origin=ORIGIN,
        require_user_verification=True,
        supported_pub_key_algs=listed,
    )
    request = webauthn.generate_authentication_options(rp_id=RP_ID)
    login = authenticator.get(webauthn.options_to_json(request))
    verified = webauthn.verify_authentication_response(
        credential=login,
        expected_challenge=request.challenge,
        expected_rp_id=RP_ID,
        expected_origin=ORIGIN,
        credential_public_key=registered.credential_public_key,
        credential_current_sign_count=registered.sign_count,
        require_user_verification=True,
    )

    assert registered.credential_id == CREDENTIAL_ID
    assert registered.fmt == ("none" if attestation == "none" else "packed")
    assert bytes.fromhex(registered.aaguid.replace("-", "")) == AAGUID
    assert registered.credential_device_type == "single_device"
    assert (registered.sign_count, verified.new_sign_count) == (1, 2)


@pytest.mark.parametrize("algorithm", [RS256, PS256])
def test_py_webauthn_refuses_a_tampered_login_and_attestation(key: rsa.RSAPrivateKey, algorithm: int) -> None:
    """The judge must be able to say no, or its yes is worth nothing."""
    authenticator = WholeKeyAuthenticator(key)
    listed = [COSEAlgorithmIdentifier(algorithm)]
    creation = webauthn.generate_registration_options(
        rp_id=RP_ID,
        rp_name="Example",
        user_name="ada",
        attestation=AttestationConveyancePreference.DIRECT,
        supported_pub_key_algs=listed,
    )
    registration = authenticator.create(webauthn.options_to_json(creation))
    request = webauthn.generate_authentication_options(rp_id=RP_ID)
    login = authenticator.get(webauthn.options_to_json(request))
    numbers = key.public_key().public_numbers()

    def verify_registration(credential: dict[str, Any]) -> None:
        webauthn.verify_registration_response(
            credential=credential,
            expected_challenge=creation.challenge,
            expected_rp_id=RP_ID,
            expected_origin=ORIGIN,
            supported_pub_key_algs=listed,
        )

    def verify_login(credential: dict[str, Any]) -> None:
        webauthn.verify_authentication_response(
            credential=credential,
            expected_challenge=request.challenge,
            expected_rp_id=RP_ID,
            expected_origin=ORIGIN,
            credential_public_key=cose_rsa_key(algorithm, numbers.n, numbers.e),
            credential_current_sign_count=0,
        )

    verify_registration(registration)
    verify_login(login)
    decoded: Any = cbor.decode(base64url.decode(registration["response"]["attestationObject"]))
    signature = bytearray(decoded["attStmt"]["sig"])
    signature[-1] ^= 1
    tampered = copy.deepcopy(registration)
    tampered["response"]["attestationObject"] = base64url.encode(
        packed_self_attestation(algorithm, bytes(signature)).object(decoded["authData"])
    )
    with pytest.raises(InvalidRegistrationResponse):
        verify_registration(tampered)
    for member, index in (("signature", 100), ("authenticatorData", 36)):
        tampered = copy.deepcopy(login)
        tampered["response"][member] = flipped(login["response"][member], index)
        with pytest.raises(InvalidAuthenticationResponse, match="signature"):
            verify_login(tampered)


@pytest.mark.parametrize(("algorithm", "attestation"), CASES)
def test_fido2_server_accepts_registration_and_login(key: rsa.RSAPrivateKey, algorithm: int, attestation: str) -> None:
    authenticator = WholeKeyAuthenticator(key)
    server, state, registration = _register_with_fido2(authenticator, algorithm, attestation)

    registered = server.register_complete(state, registration)
    assert registered.credential_data is not None
    request, login_state = server.authenticate_begin([registered.credential_data], user_verification="required")
    login = authenticator.get(json.dumps(dict(request.public_key)))
    server.authenticate_complete(login_state, [registered.credential_data], login)

    assert registered.credential_data.credential_id == CREDENTIAL_ID
    assert registered.credential_data.aaguid == AAGUID
    assert registered.credential_data.public_key[3] == algorithm


@pytest.mark.parametrize("algorithm", [RS256, PS256])
def test_fido2_server_refuses_a_tampered_login_and_attestation(key: rsa.RSAPrivateKey, algorithm: int) -> None:
    authenticator = WholeKeyAuthenticator(key)
    server, state, registration = _register_with_fido2(authenticator, algorithm, "direct")
    registered = server.register_complete(state, registration)
    assert registered.credential_data is not None
    request, login_state = server.authenticate_begin([registered.credential_data])
    login = authenticator.get(json.dumps(dict(request.public_key)))

    for member, index in (("signature", 100), ("authenticatorData", 36)):
        tampered = copy.deepcopy(login)
        tampered["response"][member] = flipped(login["response"][member], index)
        with pytest.raises(ValueError, match="Invalid signature"):
            server.authenticate_complete(login_state, [registered.credential_data], tampered)
    tampered = copy.deepcopy(registration)
    # 20 bytes before the end lies the modulus, in the COSE key that the signature covers.
    tampered["response"]["attestationObject"] = flipped(registration["response"]["attestationObject"], -20)
    with pytest.raises(Exception) as raised:
        server.register_complete(state, tampered)
    assert "ignature" in type(raised.value).__name__


def _register_with_fido2(
    authenticator: WholeKeyAuthenticator, algorithm: int, attestation: str
) -> tuple[Fido2Server, Any, dict[str, Any]]:
    def verify_attestation(received: AttestationObject, client_data_hash: bytes) -> None:
        Attestation.for_type(received.fmt)().verify(received.att_stmt, received.auth_data, client_data_hash)

    server = Fido2Server(
        PublicKeyCredentialRpEntity(name="Example", id=RP_ID),
        attestation=attestation,  # type: ignore[arg-type]
        verify_attestation=verify_attestation,
    )
    server.allowed_algorithms = [entry for entry in server.allowed_algorithms if entry.alg == algorithm]
    user = PublicKeyCredentialUserEntity(id=USER_HANDLE, name="ada", display_name="Ada")
    creation, state = server.register_begin(user, user_verification="required")  # type: ignore[arg-type]
    return server, state, authenticator.create(json.dumps(dict(creation.public_key)))


@pytest.mark.parametrize(("part", "ceremony"), [("registration", Ceremony.CREATE), ("authentication", Ceremony.GET)])
def test_client_data_is_that_of_the_w3c_vector(part: str, ceremony: Ceremony) -> None:
    """Known answer: the very bytes of the WebAuthn specification."""
    vector = VECTOR[part]

    client_data = build_client_data(ceremony, bytes.fromhex(vector["challenge"]), parse_origin("https://example.org"))

    assert client_data.json.hex() == vector["clientDataJSON"]
    assert client_data.hash == hashlib.sha256(bytes.fromhex(vector["clientDataJSON"])).digest()


def test_the_attestation_object_has_the_layout_of_the_w3c_vector() -> None:
    """Known answer for key order and header bytes: the vector's own parts, put together by our encoder."""
    expected = bytes.fromhex(VECTOR["registration"]["attestationObject"])
    parts: Any = cbor.decode(expected)

    ours = none_attestation().object(parts["authData"])

    auth_data = b"\x68authData" + expected.split(b"\x68authData")[1]
    assert ours == bytes.fromhex("a363666d74646e6f6e656761747453746d74a0") + auth_data


def test_packed_self_attestation_holds_algorithm_and_signature_only() -> None:
    """x5c or anything else would make it another attestation type."""
    encoded = packed_self_attestation(RS256, b"\x02" * 256).object(b"\x01" * 37)

    assert encoded == (
        bytes.fromhex("a363666d74667061636b65646761747453746d74a263616c67390100")
        + bytes.fromhex("63736967590100")
        + b"\x02" * 256
        + b"\x68authData\x58\x25"
        + b"\x01" * 37
    )


def test_client_data_escapes_as_the_specification_says() -> None:
    """CCDToString escapes unlike JSON encoders do: four lower-case hex digits, never a short form."""
    strange = Origin("https", 'a"b\\c\n\x1f/\u00e9\U0001f600', None)

    client_data = build_client_data(Ceremony.GET, bytes(16), strange)

    assert b'"origin":"https://a\\"b\\\\c\\u000a\\u001f/\xc3\xa9\xf0\x9f\x98\x80"' in client_data.json
    assert json.loads(client_data.json)["origin"] == str(strange)


def test_a_registration_response_has_the_members_of_level_3(key: rsa.RSAPrivateKey) -> None:
    numbers = key.public_key().public_numbers()
    client_data = build_client_data(Ceremony.CREATE, bytes(16), parse_origin(ORIGIN))

    response = registration_response(
        credential_id=CREDENTIAL_ID,
        client_data=client_data,
        authenticator_data=b"data",
        attestation_object=b"object",
        algorithm=PS256,
        modulus=numbers.n,
        exponent=numbers.e,
        discoverable=True,
    )

    public_key = load_der_public_key(base64url.decode(response["response"].pop("publicKey")))
    assert isinstance(public_key, rsa.RSAPublicKey)
    assert public_key.public_numbers() == numbers
    assert response == {
        "id": base64url.encode(CREDENTIAL_ID),
        "rawId": base64url.encode(CREDENTIAL_ID),
        "type": "public-key",
        "authenticatorAttachment": "platform",
        "clientExtensionResults": {"credProps": {"rk": True}},
        "response": {
            "clientDataJSON": base64url.encode(client_data.json),
            "attestationObject": base64url.encode(b"object"),
            "authenticatorData": base64url.encode(b"data"),
            "transports": ["internal"],
            "publicKeyAlgorithm": PS256,
        },
    }
    json.dumps(response)


def test_cred_props_are_given_only_when_asked_for(key: rsa.RSAPrivateKey) -> None:
    """Unsolicited extension output is refused by strict relying parties."""
    options = {
        "rp": {"name": "Example"},
        "user": {"id": "dXNlcg", "name": "ada", "displayName": "Ada"},
        "challenge": base64url.encode(bytes(16)),
        "pubKeyCredParams": [],
    }
    asking = options | {"extensions": {"credProps": True}}

    silent = WholeKeyAuthenticator(key).create(json.dumps(options))
    asked = WholeKeyAuthenticator(key).create(json.dumps(asking))

    assert silent["clientExtensionResults"] == {}
    assert asked["clientExtensionResults"] == {"credProps": {"rk": False}}


@pytest.mark.parametrize("user_handle", [None, USER_HANDLE])
def test_the_user_handle_is_given_for_discoverable_credentials(user_handle: bytes | None) -> None:
    response = authentication_response(
        credential_id=CREDENTIAL_ID,
        client_data=build_client_data(Ceremony.GET, bytes(16), parse_origin(ORIGIN)),
        authenticator_data=b"data",
        signature=b"signature",
        user_handle=user_handle,
    )

    given = response["response"].get("userHandle")
    assert given == (None if user_handle is None else base64url.encode(user_handle))
    assert ("userHandle" in response["response"]) is (user_handle is not None)
