"""`make demo` as a user runs it, and what it dumps in the eyes of two libraries that are not ours."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webauthn
from fido2 import cbor
from fido2.server import Fido2Server
from fido2.webauthn import AttestedCredentialData, PublicKeyCredentialRpEntity
from webauthn.helpers.exceptions import InvalidAuthenticationResponse

PHOTOGRAPHS = Path(__file__).parents[3] / "shared/data/orl_faces_s01_s20.npz"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one run of the story, with out.json and the dumped ceremonies."""
    return _told(tmp_path_factory.mktemp("story"))


@pytest.fixture(scope="module")
def dealt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same for the story with keys from a dealer."""
    return _told(tmp_path_factory.mktemp("dealt"), "--provisioned")


def _told(folder: Path, *arguments: str) -> Path:
    story = [sys.executable, "-m", "relying_party_demo.story", *arguments]
    done = subprocess.run(
        [*story, "--json", folder / "out.json", "--dump", folder / "dump"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_every_step_comes_out_as_told(told: Path) -> None:
    document = json.loads((told / "out.json").read_text())

    assert document["ok"] is True
    assert len(document["steps"]) == 17
    for step in document["steps"]:
        assert step["ok"] is True, step
        assert {"name", "ok", "ms", "bytes_up", "bytes_down"} <= set(step)
    logins = [step for step in document["steps"] if step["name"].startswith("log in")]
    assert len(logins) == 3
    assert all(0 < step["bytes_up"] <= 40_000 and 0 < step["bytes_down"] <= 70_000 for step in logins)


def test_the_dumped_ceremonies_satisfy_py_webauthn(told: Path) -> None:
    create, *gets = _ceremonies(told)

    made = webauthn.verify_registration_response(
        credential=create["response"],
        expected_challenge=_bytes(create["options"]["challenge"]),
        expected_rp_id=create["rp_id"],
        expected_origin=create["origin"],
        require_user_verification=True,
    )
    count = made.sign_count
    assert made.fmt == "packed"
    assert len(gets) == 5
    for get in gets:
        verified = _verify(get, made.credential_public_key, count)
        assert verified.new_sign_count > count
        count = verified.new_sign_count


def test_a_dumped_login_answers_its_own_challenge_only(told: Path) -> None:
    create, first, second, *_ = _ceremonies(told)
    made = webauthn.verify_registration_response(
        credential=create["response"],
        expected_challenge=_bytes(create["options"]["challenge"]),
        expected_rp_id=create["rp_id"],
        expected_origin=create["origin"],
    )

    with pytest.raises(InvalidAuthenticationResponse):
        _verify({**first, "options": second["options"]}, made.credential_public_key, 0)


def test_the_dumped_ceremonies_satisfy_python_fido2(told: Path) -> None:
    create, *gets = _ceremonies(told)
    server = Fido2Server(PublicKeyCredentialRpEntity(id=create["rp_id"], name="Judge"), verify_origin=_same(create))
    _, state = server.register_begin(
        {"id": _bytes(create["options"]["user"]["id"]), "name": "ada", "displayName": "Ada"},
        user_verification="required",
    )

    data = server.register_complete({**state, "challenge": create["options"]["challenge"]}, create["response"])

    credential = data.credential_data
    assert isinstance(credential, AttestedCredentialData)
    for get in gets:
        _, state = server.authenticate_begin([credential], user_verification="required")
        state = {**state, "challenge": get["options"]["challenge"]}
        assert server.authenticate_complete(state, [credential], get["response"]) == credential


@pytest.mark.skipif(not PHOTOGRAPHS.exists(), reason="the photographs are not beside this checkout")
def test_the_story_is_told_on_photographs(tmp_path: Path) -> None:
    """Mirrored pictures are other people to the program, so the published profile itself is used."""
    with np.load(PHOTOGRAPHS) as archive:
        np.savez(tmp_path / "faces.npz", images=archive["images"][[8, 4, 10], :, :, ::-1])

    document = json.loads((_told(tmp_path, "--faces", str(tmp_path / "faces.npz")) / "out.json").read_text())

    assert document["ok"] is True and len(document["steps"]) == 17
    assert sum("face" in step["name"] for step in document["steps"]) == 3


@pytest.mark.parametrize("content", [None, b"nothing"], ids=["missing", "garbage"])
def test_a_wrong_file_of_faces_is_named(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "faces.npz"
    if content is not None:
        path.write_bytes(content)

    command = [sys.executable, "-m", "relying_party_demo.story", "--faces", path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2
    assert "faces.npz" in done.stdout and "Traceback" not in done.stdout + done.stderr


def test_dealt_keys_carry_registrations_and_logins(dealt: Path) -> None:
    """One generated, one from a PEM file, one from PKCS#12: each in the eyes of py_webauthn, three logins and more."""
    document = json.loads((dealt / "out.json").read_text())
    assert document["ok"] is True and len(document["steps"]) == 44
    by_key: dict[bytes, list[dict[str, Any]]] = {}

    for ceremony in _documents(dealt):
        by_key.setdefault(_bytes(ceremony["response"]["rawId"]), []).append(ceremony)

    assert [len(ceremonies) - 1 for ceremonies in by_key.values()] == [5, 3, 3]
    for key_id, (create, *gets) in by_key.items():
        made = webauthn.verify_registration_response(
            credential=create["response"],
            expected_challenge=_bytes(create["options"]["challenge"]),
            expected_rp_id=create["rp_id"],
            expected_origin=create["origin"],
            require_user_verification=True,
        )
        assert _thumbprint(made.credential_public_key) == key_id
        count = made.sign_count
        for get in gets:
            count = _verify(get, made.credential_public_key, count).new_sign_count


def _thumbprint(cose_key: bytes) -> bytes:
    """RFC 7638 over the key that the relying party stored."""
    numbers = cbor.decode(cose_key)
    members = {"e": _text(numbers[-2]), "kty": "RSA", "n": _text(numbers[-1])}
    return hashlib.sha256(json.dumps(members, separators=(",", ":")).encode()).digest()


def _text(number: bytes) -> str:
    return base64.urlsafe_b64encode(number).rstrip(b"=").decode()


def _verify(get: dict[str, Any], public_key: bytes, sign_count: int) -> Any:
    return webauthn.verify_authentication_response(
        credential=get["response"],
        expected_challenge=_bytes(get["options"]["challenge"]),
        expected_rp_id=get["rp_id"],
        expected_origin=get["origin"],
        credential_public_key=public_key,
        credential_current_sign_count=sign_count,
        require_user_verification=True,
    )


def _same(ceremony: dict[str, Any]) -> Any:
    return lambda origin: origin == ceremony["origin"]


def _documents(told: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((told / "dump").iterdir())]


def _ceremonies(told: Path) -> list[dict[str, Any]]:
    documents = _documents(told)
    assert [document["kind"] for document in documents] == ["create", *["get"] * (len(documents) - 1)]
    for document in documents:
        assert set(document) == {"kind", "origin", "rp_id", "options", "response"}
    return documents


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
