"""uvm: how the person is verified, in the registry's words, signed; and only where both sides know it to be true."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ctap_site import Finger, Site
from fido2.ctap import CtapError
from fido2.utils import websafe_decode
from fido2.webauthn import AuthenticatorData
from people import Person, enrolled_device
from real_server import thread_server
from relying_parties import RelyingParty

from device_sdk import BinaryCodeEncoder, Device
from device_sdk.ctap import TandemCtapDevice
from device_sdk.errors import DeviceRestored, ServerRefused
from mpc.login.extension_outputs import MAX_OUTPUTS_BYTES, possible_outputs
from mpc.login.published_profiles import PUBLISHED
from mpc.login.user_verification import Method, VerificationMethod, verification_method

FACE_CODES = "dlib-face-v1/test"
"""Codes of faces, as far as the profile says. What the person below gives are made up, which no party can see."""
FACEPRINT = {"uvm": [[0x10, 1, 1]]}


@pytest.fixture(scope="module")
def face(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    folder = tmp_path_factory.mktemp("faces")
    profiles = {"face-test": {"code_bits": 512, "threshold": 120, "encoder_id": FACE_CODES}}
    encoder = BinaryCodeEncoder(512, encoder_id=FACE_CODES)
    with (
        thread_server(folder, profiles=profiles) as server,
        enrolled_device(server, folder, Person(1), profile="face-test", encoder=encoder) as device,
    ):
        yield device


@pytest.fixture
def site(face: Device) -> Iterator[Site]:
    with TandemCtapDevice(face, Finger(Person(1))) as authenticator:
        yield Site(authenticator)


def test_it_is_told_in_registrations_and_logins(site: Site) -> None:
    info = site.ctap().info
    assert info.extensions == ["credProtect", "uvm"] and info.uv_modality == 0x10

    made = site.raw_make(None, extensions={"uvm": True, "credProtect": 2}, options={"rk": True})
    assert made.auth_data.extensions == {**FACEPRINT, "credProtect": 2}
    signed = site.raw_get(None, extensions={"uvm": True})
    assert signed.auth_data.extensions == FACEPRINT
    signed.verify(b"h" * 32, made.auth_data.credential_data.public_key)
    assert site.raw_get(None).auth_data.extensions is None
    silent = site.raw_get(None, extensions={"uvm": True}, options={"up": False}, allow_list=[_descriptor(made)])
    assert silent.auth_data.flags == 0


def _descriptor(made: object) -> dict[str, object]:
    return {"id": made.auth_data.credential_data.credential_id, "type": "public-key"}  # type: ignore[attr-defined]


def test_the_json_face_tells_it_too(face: Device) -> None:
    shop = RelyingParty("shop.example")
    options = shop.creation_options(extensions={"uvm": True})
    made = face.create(options, shop.origin, Person(1).capture())
    shop.register(options, made)
    options = shop.request_options(extensions={"uvm": True})
    signed = face.get(options, shop.origin, Person(1).capture())
    shop.authenticate(options, signed)

    for answer in (made, signed):
        assert answer["clientExtensionResults"] == FACEPRINT
        assert AuthenticatorData(websafe_decode(answer["response"]["authenticatorData"])).extensions == FACEPRINT


@pytest.mark.parametrize("asked", ["make", "get"])
def test_a_device_that_claims_another_method_gets_no_signature(
    face: Device, site: Site, monkeypatch: pytest.MonkeyPatch, asked: str
) -> None:
    site.raw_make(None, options={"rk": True})
    claimed = VerificationMethod(Method.EYEPRINT_INTERNAL)
    monkeypatch.setattr("device_sdk.ceremony.verification_method", lambda _: claimed)

    with pytest.raises(CtapError):
        {"make": site.raw_make, "get": site.raw_get}[asked](None, extensions={"uvm": True})
    assert isinstance(site.authenticator.last_fault, ServerRefused | DeviceRestored)
    assert "bad_authenticator_data" in str(site.authenticator.last_fault)


def test_no_word_for_codes_that_were_made_elsewhere(shop: Site) -> None:
    info = shop.ctap().info
    assert info.extensions == ["credProtect"] and info.uv_modality == 0
    assert shop.raw_make(None, extensions={"uvm": True}).auth_data.extensions is None


def test_the_published_profiles() -> None:
    assert {name: verification_method(profile) for name, profile in PUBLISHED.items()} == {
        "face-2048": VerificationMethod(Method.FACEPRINT_INTERNAL, 1, 1),
        "iris-2048": VerificationMethod(Method.EYEPRINT_INTERNAL, 1, 1),
        "iris-4096": VerificationMethod(Method.EYEPRINT_INTERNAL, 1, 1),
    }


@pytest.mark.parametrize("method", [None, *map(VerificationMethod, Method)])
def test_what_the_server_lets_pass(method: VerificationMethod | None) -> None:
    """Each possible output has another encoding, the first is none, and the bound on sizes holds."""
    for registration, number in ((True, 4), (False, 1)):
        encoded = [outputs.encode() for outputs in possible_outputs(method, registration=registration)]
        assert encoded[0] == b""
        assert len(encoded) == len(set(encoded)) == number * (1 if method is None else 2)
        assert max(map(len, encoded)) <= MAX_OUTPUTS_BYTES
