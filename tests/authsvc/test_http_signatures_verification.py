"""Request signatures: what the independent signer of the library produces is accepted, and nothing else is."""

from __future__ import annotations

import base64
import datetime
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from http_message_signatures import HTTPMessageSigner, HTTPSignatureKeyResolver
from http_message_signatures.algorithms import ECDSA_P256_SHA256, ED25519, HTTPSignatureAlgorithm

from authsvc.errors import Refused
from authsvc.services.request_authentication import authenticate, is_signing_key

NOW = 1_800_000_000
KEY_ID = base64.urlsafe_b64encode(b"e" * 16).decode().rstrip("=")
COMPONENTS = ("@method", "@authority", "@path", "content-type", "content-digest")
DEVICE_KEY = ec.generate_private_key(ec.SECP256R1())
OTHER_KEY = ec.generate_private_key(ec.SECP256R1())


def point(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


@dataclass(frozen=True)
class Sent:
    """A request as it arrives."""

    method: str = "POST"
    authority: str = "auth.example:8443"
    path: str = "/v1/logins"
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"body"

    def header(self, name: str, value: str | None) -> Sent:
        rest = {key: old for key, old in self.headers.items() if key != name}
        return replace(self, headers=rest if value is None else {**rest, name: value})


@dataclass(frozen=True)
class Signing:
    """How a request is signed; the defaults are what the server asks for."""

    key: ec.EllipticCurvePrivateKey = DEVICE_KEY
    key_id: str = KEY_ID
    created: int = NOW
    nonce: str | None = "n" * 22
    label: str = "tandem"
    tag: str | None = "tandem-v1"
    include_alg: bool = True
    expires: int | None = None
    components: tuple[str, ...] = COMPONENTS
    algorithm: type[HTTPSignatureAlgorithm] = ECDSA_P256_SHA256
    body: bytes = b"body"

    def sent(self) -> Sent:
        key = self.key

        class Keys(HTTPSignatureKeyResolver):  # type: ignore[misc]
            def resolve_private_key(self, key_id: str) -> ec.EllipticCurvePrivateKey:
                return key

        request = httpx.Request(
            "POST",
            "https://auth.example:8443/v1/logins",
            content=self.body,
            headers={"content-type": "application/cbor", "date": "Mon, 01 Jan 2029 00:00:00 GMT"},
        )
        utc = datetime.UTC
        HTTPMessageSigner(signature_algorithm=self.algorithm, key_resolver=Keys()).sign(
            request,
            key_id=self.key_id,
            created=datetime.datetime.fromtimestamp(self.created, tz=utc),
            expires=None if self.expires is None else datetime.datetime.fromtimestamp(self.expires, tz=utc),
            nonce=self.nonce,
            label=self.label,
            tag=self.tag,
            include_alg=self.include_alg,
            covered_component_ids=self.components,
            body=self.body,
        )
        return Sent(headers={name.lower(): value for name, value in request.headers.items()}, body=self.body)


def known(key_id: str) -> bytes | None:
    return point(DEVICE_KEY) if key_id == KEY_ID else None


def verify(sent: Sent, resolve_key: Callable[[str], bytes | None] = known) -> str:
    return authenticate(
        method=sent.method,
        authority=sent.authority,
        path=sent.path,
        headers=sent.headers,
        body=sent.body,
        resolve_key=resolve_key,
        now=NOW,
        freshness_s=60,
    )


def refusal(sent: Sent, resolve_key: Callable[[str], bytes | None] = known) -> str:
    with pytest.raises(Refused) as raised:
        verify(sent, resolve_key)
    assert raised.value.code == "unauthenticated"
    assert set(raised.value.extension) == {"field"}
    return str(raised.value.extension["field"])


def test_what_a_standard_signer_makes_is_accepted() -> None:
    assert verify(Signing().sent()) == KEY_ID


@pytest.mark.parametrize("offset", [-60, 60])
def test_clocks_may_differ_by_the_freshness(offset: int) -> None:
    assert verify(Signing(created=NOW + offset).sent()) == KEY_ID


def test_the_order_of_components_is_the_signers_choice() -> None:
    assert verify(Signing(components=COMPONENTS[::-1]).sent()) == KEY_ID


def test_a_gateways_own_signature_beside_ours_does_no_harm() -> None:
    sent = Signing().sent()
    both = sent.header(
        "signature-input",
        sent.headers["signature-input"] + ', gw=("@method");created=1;keyid="gw";tag="gateway"',
    ).header("signature", sent.headers["signature"] + ", gw=:AAAA:")

    assert verify(both) == KEY_ID


@pytest.mark.parametrize(
    ("signing", "field"),
    [
        (Signing(created=NOW - 61), "created"),
        (Signing(created=NOW + 61), "created"),
        (Signing(created=NOW + 10**9), "created"),
        (Signing(nonce=None), "signature-input"),
        (Signing(nonce="short"), "signature-input"),
        (Signing(nonce="n" * 65), "signature-input"),
        (Signing(include_alg=False), "signature-input"),
        (Signing(expires=NOW + 10), "signature-input"),
        (Signing(tag=None), "signature-input"),
        (Signing(tag="tandem-v2"), "signature-input"),
        (Signing(label="other"), "signature-input"),
        (Signing(components=("@method", "@authority", "@path", "content-digest")), "signature-input"),
        (Signing(components=(*COMPONENTS, "date")), "signature-input"),
        (Signing(components=("@method", "@path", "content-type", "content-digest")), "signature-input"),
        (
            Signing(components=("@method", "@target-uri", "@path", "content-type", "content-digest")),
            "signature-input",
        ),
        (Signing(components=(*COMPONENTS[:-1], '"content-digest";sf')), "signature-input"),
        (Signing(key=OTHER_KEY), "signature"),
    ],
)
def test_a_signature_of_another_form_is_refused(signing: Signing, field: str) -> None:
    assert refusal(signing.sent()) == field


def test_another_algorithm_is_refused() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    sent = Signing(key=Ed25519PrivateKey.generate(), algorithm=ED25519).sent()  # type: ignore[arg-type]

    assert refusal(sent) == "signature-input"


@pytest.mark.parametrize(
    "changed",
    [
        lambda sent: replace(sent, method="PUT"),
        lambda sent: replace(sent, authority="other.example:8443"),
        lambda sent: replace(sent, authority="auth.example"),
        lambda sent: replace(sent, path="/v1/confirmations"),
        lambda sent: sent.header("content-type", "application/json"),
    ],
    ids=["method", "authority", "port", "path", "content type"],
)
def test_a_request_sent_elsewhere_does_not_verify(changed: Callable[[Sent], Sent]) -> None:
    """A signed message must not be replayable against another server or another address."""
    assert refusal(changed(Signing().sent())) == "signature"


def test_another_body_is_refused_before_a_key_is_looked_up() -> None:
    def no_lookup(_: str) -> bytes | None:
        raise AssertionError("the key was looked up")

    sent = Signing().sent()

    assert refusal(replace(sent, body=b"Body"), no_lookup) == "content-digest"
    assert refusal(replace(sent, body=b""), no_lookup) == "content-digest"


def test_another_body_with_its_own_digest_does_not_verify() -> None:
    digest = base64.b64encode(hashlib.sha256(b"other").digest()).decode()
    sent = replace(Signing().sent(), body=b"other").header("content-digest", f"sha-256=:{digest}:")

    assert refusal(sent) == "signature"


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "sha-256=:AAAA:",
        "sha-256=:" + base64.b64encode(hashlib.sha256(b"body").digest()).decode(),
        "sha-512=:" + base64.b64encode(hashlib.sha512(b"body").digest()).decode() + ":",
        "SHA-256=:" + base64.b64encode(hashlib.sha256(b"body").digest()).decode() + ":",
        "sha-256=:\u00e9:",
        "sha-256=" + "x" * 5000,
    ],
)
def test_a_content_digest_of_another_form_is_refused(value: str | None) -> None:
    assert refusal(Signing().sent().header("content-digest", value)) == "content-digest"


@pytest.mark.parametrize("name", ["signature-input", "signature"])
@pytest.mark.parametrize(
    "value", [None, "", "x" * 2000, "tandem", 'tandem="text"', "tandem=:AAAA:", "\u00e9", "=", "tandem=()"]
)
def test_signature_fields_of_another_form_are_refused(name: str, value: str | None) -> None:
    assert refusal(Signing().sent().header(name, value)) in ("signature-input", "signature")


@pytest.mark.parametrize("byte", range(64))
def test_every_altered_byte_of_the_signature_is_noticed(byte: int) -> None:
    sent = Signing().sent()
    signature = bytearray(base64.b64decode(sent.headers["signature"].split(":")[1]))
    signature[byte] ^= 1

    assert refusal(sent.header("signature", f"tandem=:{base64.b64encode(signature).decode()}:")) == "signature"


@pytest.mark.parametrize("length", [0, 32, 63, 65, 72])
def test_a_signature_of_another_length_is_refused(length: int) -> None:
    value = f"tandem=:{base64.b64encode(bytes(length)).decode()}:"

    assert refusal(Signing().sent().header("signature", value)) == "signature"


def test_a_duplicate_parameter_cannot_smuggle_another_key_id() -> None:
    sent = Signing().sent()
    doubled = sent.headers["signature-input"] + f';keyid="{KEY_ID}x"'

    assert refusal(sent.header("signature-input", doubled)) == "signature-input"


def test_an_unknown_key_id_is_verified_and_refused_like_a_wrong_signature() -> None:
    """Nobody should find out which enrolments exist."""
    asked: list[str] = []

    def resolve(key_id: str) -> bytes | None:
        asked.append(key_id)
        return known(key_id)

    unknown = Signing(key_id="A" * 22).sent()
    wrong = Signing(key=OTHER_KEY).sent()

    assert refusal(unknown, resolve) == refusal(wrong, resolve) == "signature"
    assert asked == ["A" * 22, KEY_ID]


def test_a_stored_key_that_is_no_point_verifies_nothing() -> None:
    assert refusal(Signing().sent(), lambda _: b"\x04" + bytes(64)) == "signature"


def test_a_signing_key_is_an_uncompressed_point_of_p256() -> None:
    good = point(DEVICE_KEY)
    p384 = ec.generate_private_key(ec.SECP384R1())
    compressed = DEVICE_KEY.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)

    assert is_signing_key(good)
    assert not any(
        is_signing_key(bad)
        for bad in (b"", compressed, good[:-1], good + b"\0", good[:-1] + bytes([good[-1] ^ 1]), point(p384), bytes(65))
    )
