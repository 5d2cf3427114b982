"""The pairing key at rest, and the extension that ships with the agent."""

from __future__ import annotations

import json
import os
import pickle
import re
import stat
from pathlib import Path

import pytest

from device_sdk.agent.extension_identity import extension_folder, extension_origin
from device_sdk.agent.pairing import PairingError, PairingKey, pairing_file
from device_sdk.agent.sensors import SensorMissing, sensor_for
from device_sdk.biometrics.face import FaceEncoder
from mpc.login.profile import Profile
from mpc.login.published_profiles import PUBLISHED


def test_a_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    file = pairing_file(tmp_path / "ann.vault")
    os.umask(0)
    try:
        made = PairingKey.load_or_make(file)
    finally:
        os.umask(0o022)

    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert PairingKey.load_or_make(file) == made == PairingKey.load(file)
    assert PairingKey.load_or_make(tmp_path / "bob.pairing") != made
    assert re.fullmatch(r"tandem-8653-[A-Za-z0-9_-]{43}", made.code(8653))


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "ann.pairing"
    PairingKey.load_or_make(file)
    file.chmod(mode)

    with pytest.raises(PairingError, match="open to other users"):
        PairingKey.load(file)


@pytest.mark.parametrize("content", [b"", b"AAAA\n", b"\xff" * 43, b"A" * 42 + b"B\n", b"A" * 100])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "ann.pairing"
    file.write_bytes(content)
    file.chmod(0o600)

    with pytest.raises(PairingError, match="damaged"):
        PairingKey.load(file)


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    PairingKey.load_or_make(tmp_path / "other.pairing")
    (tmp_path / "ann.pairing").symlink_to(tmp_path / "other.pairing")

    with pytest.raises(OSError):
        PairingKey.load(tmp_path / "ann.pairing")


def test_the_key_shows_nowhere() -> None:
    key = PairingKey(bytes(range(32)))

    assert "0001" not in repr(key).replace("\\x", "") and "AAEC" not in repr(key)
    with pytest.raises(TypeError):
        pickle.dumps(key)


def test_macs_are_those_of_the_published_text() -> None:
    """Known answer, computed with openssl dgst -sha256 -mac hmac, so that another extension can be written."""
    key = PairingKey(bytes(range(32)))

    assert key.request_mac("POST", "127.0.0.1:8653", "/v1/status", "1800000000000", "A" * 22, b"{}") == (
        "xi629f7E5a48Cl0ZxfbFus5iB39Se0u3msF04Hc0i6A"
    )
    assert key.answer_mac("A" * 22, 200, b"{}") == "D2DkJsQl_0NWM3WivDLpKnyCIOsd-DI4EawfmmJcVRU"


def test_the_extension_is_pinned_and_asks_for_no_more_than_it_needs() -> None:
    manifest = json.loads((extension_folder() / "manifest.json").read_text(encoding="utf-8"))

    assert extension_origin() == "chrome-extension://laopohnpjngcchcdpaopdebjmjkblkhh"
    assert manifest["permissions"] == ["webAuthenticationProxy", "storage", "webNavigation"]
    assert manifest["host_permissions"] == ["http://127.0.0.1/*"]
    assert not {"content_scripts", "web_accessible_resources", "externally_connectable"} & manifest.keys()
    policy = manifest["content_security_policy"]["extension_pages"]
    assert "default-src 'none'" in policy and "unsafe" not in policy


def test_every_file_of_the_extension_is_there_and_plain() -> None:
    """What pages and scripts name exists, and nothing turns text into markup or code."""
    folder = extension_folder()
    scripts = {file.name: file.read_text(encoding="utf-8") for file in folder.glob("*.js")}
    pages = {file.name: file.read_text(encoding="utf-8") for file in folder.glob("*.html")}
    named = {name for text in scripts.values() for name in re.findall(r'from "\./([^"]+)"', text)}
    named |= {name for text in pages.values() for name in re.findall(r'(?:src|href)="([^":]+)"', text)}
    static = (folder.parent / "agent" / "static" / "consent.js").read_text(encoding="utf-8")

    assert named and all((folder / name).is_file() for name in named)
    for text in (*scripts.values(), static):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\(|new Function", text)
    for text in pages.values():
        assert "<script>" not in text and not re.search(r"\son[a-z]+=", text)


def test_the_sensor_is_the_one_of_the_profile() -> None:
    simulated = Profile(name="sim-512", code_bits=512, threshold=120, encoder_id="binary-code-v1")
    face = PUBLISHED["face-2048"]

    assert sensor_for(simulated, 7).kind == "simulated"
    assert sensor_for(face, None).encoder.encoder_id == FaceEncoder().encoder_id
    for profile, person in ((simulated, None), (face, 7), (PUBLISHED["iris-2048"], None)):
        with pytest.raises(SensorMissing):
            sensor_for(profile, person)
