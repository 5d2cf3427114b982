"""Request signatures, judged by the library's verifier and, apart from it, by hand from RFC 9421."""

from __future__ import annotations

import base64
import datetime
import hashlib
import re
import time

import pytest
from cryptography.exceptions import InvalidSignature as BadEcdsa
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from http_message_signatures import HTTPMessageVerifier, InvalidSignature, MappingKeyResolver
from http_message_signatures.algorithms import ECDSA_P256_SHA256

from device_sdk.transport import RequestKey, signing_key_id
from device_sdk.transport.request_signing import COVERED_COMPONENTS, signed_headers

URL = "https://auth.example:8443/v1/logins"
BODY = b"\xa1\x61v\x01" * 1000
ENROLMENT_ID = bytes(range(16))


class Received:
    """A request as a server sees it, for the library's verifier."""

    def __init__(self, headers: dict[str, str], *, method: str = "POST", url: str = URL) -> None:
        self.method = method
        self.url = url
        self.headers = headers


def _sign(key: RequestKey, *, url: str = URL, body: bytes = BODY) -> dict[str, str]:
    return signed_headers(
        method="POST",
        url=url,
        content_type="application/cbor",
        body=body,
        key=key,
        key_id=signing_key_id(enrolment_id=ENROLMENT_ID),
        now_s=time.time(),
    )


def _verify(request: Received, key: RequestKey, body: bytes = BODY) -> dict[str, int | str]:
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), key.public_point())
    verifier = HTTPMessageVerifier(
        signature_algorithm=ECDSA_P256_SHA256,
        key_resolver=MappingKeyResolver(
            public_keys={signing_key_id(enrolment_id=ENROLMENT_ID): public}, private_keys={}
        ),
    )
    (result,) = verifier.verify(
        request,
        max_age=datetime.timedelta(seconds=60),
        expect_tag="tandem-v1",
        expect_label="tandem",
        require_components=COVERED_COMPONENTS,
        body=body,
    )
    return result.parameters


def _verify_by_hand(headers: dict[str, str], lines: list[str], public_point: bytes) -> None:
    """RFC 9421 section 2.5: one line a component, then @signature-params; section 3.3.4: r || s."""
    label, parameters = headers["Signature-Input"].split("=", 1)
    assert label == "tandem"
    base = "\n".join([*lines, f'"@signature-params": {parameters}'])
    found = re.fullmatch(r"tandem=:([A-Za-z0-9+/]{86}==):", headers["Signature"])
    assert found is not None
    raw = base64.b64decode(found[1])
    assert len(raw) == 64

    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public_point)
    der = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    public.verify(der, base.encode("ascii"), ec.ECDSA(SHA256()))


def test_the_library_accepts_the_signature_with_exactly_the_agreed_parameters() -> None:
    key = RequestKey.generate()

    parameters = _verify(Received(_sign(key)), key)

    assert sorted(parameters) == ["alg", "created", "keyid", "nonce", "tag"]
    assert parameters["alg"] == "ecdsa-p256-sha256"
    assert parameters["keyid"] == "AAECAwQFBgcICQoLDA0ODw"
    assert parameters["tag"] == "tandem-v1"
    assert abs(int(parameters["created"]) - time.time()) < 60


def test_the_signature_verifies_over_a_base_written_out_by_hand() -> None:
    key = RequestKey.generate()
    headers = _sign(key)
    digest = base64.b64encode(hashlib.sha256(BODY).digest()).decode()
    lines = [
        '"@method": POST',
        '"@authority": auth.example:8443',
        '"@path": /v1/logins',
        '"content-type": application/cbor',
        f'"content-digest": sha-256=:{digest}:',
    ]

    _verify_by_hand(headers, lines, key.public_point())

    assert headers["Signature-Input"].startswith(
        'tandem=("@method" "@authority" "@path" "content-type" "content-digest");created='
    )
    with pytest.raises(BadEcdsa):  # the check by hand can fail
        _verify_by_hand(headers, [*lines[:2], '"@path": /v1/logout', *lines[3:]], key.public_point())


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("https://auth.example", "auth.example"),
        ("http://127.0.0.1:8080", "127.0.0.1:8080"),
        ("https://[2001:db8::1]:8443", "[2001:db8::1]:8443"),
    ],
)
def test_the_authority_is_signed_as_the_host_field_has_it(url: str, authority: str) -> None:
    key = RequestKey.generate()
    headers = _sign(key, url=url + "/v1/logins")
    digest = base64.b64encode(hashlib.sha256(BODY).digest()).decode()

    _verify_by_hand(
        headers,
        [
            '"@method": POST',
            f'"@authority": {authority}',
            '"@path": /v1/logins',
            '"content-type": application/cbor',
            f'"content-digest": sha-256=:{digest}:',
        ],
        key.public_point(),
    )


@pytest.mark.parametrize("what", ["body", "path", "host", "method", "type", "nonce", "tag", "key", "digest"])
def test_a_changed_request_does_not_verify(what: str) -> None:
    key = RequestKey.generate()
    headers = _sign(key)
    body, request = BODY, Received(headers)
    match what:
        case "body":
            body = BODY + b"\x00"
        case "path":
            request.url = "https://auth.example:8443/v1/recoveries"
        case "host":
            request.url = "https://evil.example:8443/v1/logins"
        case "method":
            request.method = "PUT"
        case "type":
            headers["Content-Type"] = "application/json"
        case "nonce":
            headers["Signature-Input"] = re.sub('nonce="..', 'nonce="00', headers["Signature-Input"])
        case "tag":
            headers["Signature-Input"] = headers["Signature-Input"].replace("tandem-v1", "tandem-v2")
        case "key":
            key = RequestKey.generate()
        case "digest":
            body = b"other"
            other = base64.b64encode(hashlib.sha256(body).digest()).decode()
            headers["Content-Digest"] = f"sha-256=:{other}:"

    with pytest.raises(InvalidSignature):
        _verify(request, key, body)


def test_two_requests_with_one_body_differ_in_nonce() -> None:
    key = RequestKey.generate()

    nonces = {str(_verify(Received(_sign(key)), key)["nonce"]) for _ in range(10)}

    assert len(nonces) == 10
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{22}", nonce) for nonce in nonces)


def test_the_key_id_before_there_is_an_enrolment_is_a_hash_of_the_point() -> None:
    point = RequestKey.generate().public_point()

    key_id = signing_key_id(public_point=point)

    assert key_id == base64.urlsafe_b64encode(hashlib.sha256(point).digest()).decode()[:22]
    assert len(point) == 65
    assert point[0] == 4
    for arguments in ({}, {"public_point": point, "enrolment_id": ENROLMENT_ID}, {"enrolment_id": b"short"}):
        with pytest.raises(ValueError, match="give either"):
            signing_key_id(**arguments)


def test_a_key_survives_the_vault_as_32_bytes_and_hides_in_its_representation() -> None:
    key = RequestKey.generate()
    scalar = key.to_scalar()

    again = RequestKey.from_scalar(scalar)

    assert len(scalar) == 32
    assert again.public_point() == key.public_point()
    assert repr(key) == str(key) == "RequestKey(...)"


ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # SP 800-186 section 3.2.1.3


def test_the_smallest_scalar_gives_the_generator() -> None:
    """Known answer: G of P-256, SP 800-186."""
    point = RequestKey.from_scalar((1).to_bytes(32)).public_point()

    assert point[1:33].hex() == "6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"


@pytest.mark.parametrize("scalar", [b"", bytes(31), bytes(32), bytes(33), ORDER.to_bytes(32), b"\xff" * 32])
def test_a_scalar_out_of_range_is_refused_without_being_quoted(scalar: bytes) -> None:
    with pytest.raises(ValueError, match="scalar of a request key") as caught:
        RequestKey.from_scalar(scalar)

    assert str(caught.value).endswith(("is 32 bytes", "is out of range"))
    assert caught.value.__cause__ is None


def test_a_key_of_another_curve_is_refused() -> None:
    with pytest.raises(ValueError, match="P-256"):
        RequestKey(ec.generate_private_key(ec.SECP384R1()))
