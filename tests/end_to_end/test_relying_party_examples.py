"""The relying parties of docs/examples believe every honest ceremony, in each format, and none that was tampered with.

The ceremonies come from the SDK and a running server. All of an example's checks are one run over one folder.
"""

from __future__ import annotations

import copy
import hashlib
import importlib.util
import json
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from fido2 import cbor
from fido2.utils import websafe_decode, websafe_encode
from people import Person, enrolled_device
from real_server import ThreadServer

from device_sdk import Device

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
RP_ID, ORIGIN = "localhost", "http://localhost:8080"

Ceremony = dict[str, Any]
Change = Callable[[Ceremony], None]


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def person() -> Person:
    return Person(1)


@pytest.fixture(scope="module")
def device(server: ThreadServer, tmp_path_factory: pytest.TempPathFactory, person: Person) -> Iterator[Device]:
    with enrolled_device(server, tmp_path_factory.mktemp("device"), person) as enrolled:
        yield enrolled


@dataclass(frozen=True)
class Folder:
    """Ceremonies as `make demo` writes them, and what a relying party must say to each."""

    path: Path
    expected: dict[str, bool]

    @classmethod
    def filled(cls, path: Path, ceremonies: list[tuple[str, Ceremony, bool]]) -> Folder:
        names = [f"{number:03} {about}.json" for number, (about, _, _) in enumerate(ceremonies)]
        for name, (_, ceremony, _) in zip(names, ceremonies, strict=True):
            (path / name).write_text(json.dumps(ceremony), encoding="utf-8")
        return cls(path, {name: good for name, (_, _, good) in zip(names, ceremonies, strict=True)})


@pytest.fixture(scope="module")
def lives(device: Device, person: Person) -> list[list[Ceremony]]:
    """Four passkeys: a registration and two logins each."""
    kinds = [(algorithm, attestation) for algorithm in (-257, -37) for attestation in ("none", "direct")]
    return [life_of_a_passkey(device, person, *kind) for kind in kinds]


@pytest.fixture(scope="module")
def ceremonies(lives: list[list[Ceremony]], tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Each life, with changed copies before what they are copies of: nothing but the change can be why they fail."""
    told: list[tuple[str, Ceremony, bool]] = []
    for created, first, second in lives:
        told += [(*entry, False) for entry in changed(created, CREATION)]
        told += [(one["about"], one, True) for one in (created, first)]
        told += [(*entry, False) for entry in changed(second, LOGIN)]
        told.append((second["about"], second, True))
        told += [(f"again {one['about']}", one, False) for one in (created, first, second)]
    return Folder.filled(tmp_path_factory.mktemp("ceremonies"), told)


@pytest.fixture(scope="module")
def lenient(lives: list[list[Ceremony]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What some libraries take although a strict reading of the standards says no."""
    return Folder.filled(
        tmp_path_factory.mktemp("lenient"),
        [
            ("other algorithm in the statement", *changed(lives[1][0], OTHER_ALGORITHM)[0][1:], False),
            *((about, ceremony, False) for about, ceremony in salted(20)),
        ],
    ).path


def changed(ceremony: Ceremony, changes: dict[str, Change]) -> list[tuple[str, Ceremony]]:
    """A copy for each change. Without a statement nothing vouches for the key: that is what `none` means."""
    made = []
    for about, change in changes.items():
        if not about.startswith("packed") or "direct" in ceremony["about"]:
            copied = copy.deepcopy(ceremony)
            change(copied)
            made.append((f"{about}, {ceremony['about']}", copied))
    return made


def life_of_a_passkey(device: Device, person: Person, algorithm: int, attestation: str) -> list[Ceremony]:
    options = {
        "rp": {"id": RP_ID, "name": "Shop"},
        "user": {"id": websafe_encode(secrets.token_bytes(16)), "name": "ann", "displayName": "Ann"},
        "challenge": websafe_encode(secrets.token_bytes(32)),
        "pubKeyCredParams": [{"type": "public-key", "alg": algorithm}],
        "attestation": attestation,
    }
    about = f"{ {-257: 'RS256', -37: 'PS256'}[algorithm] } {attestation}"
    made = device.create(options, ORIGIN, person.capture())
    life = [written("create", options, made, f"{about} create")]
    for number in (1, 2):
        wanted = {
            "rpId": RP_ID,
            "challenge": websafe_encode(secrets.token_bytes(32)),
            "allowCredentials": [{"type": "public-key", "id": made["id"]}],
        }
        life.append(written("get", wanted, device.get(wanted, ORIGIN, person.capture()), f"{about} get {number}"))
    return life


def written(kind: str, options: dict[str, Any], response: dict[str, Any], about: str) -> Ceremony:
    return {"kind": kind, "origin": ORIGIN, "rp_id": RP_ID, "options": options, "response": response, "about": about}


# --- what an attacker changes -----------------------------------------------------------------------------------


def client_data(**members: Any) -> Change:
    def change(ceremony: Ceremony) -> None:
        response = ceremony["response"]["response"]
        said = json.loads(websafe_decode(response["clientDataJSON"])) | members
        response["clientDataJSON"] = websafe_encode(json.dumps(said).encode())

    return change


def authenticator_data(edit: Callable[[bytes], bytes]) -> Change:
    """In a registration the copy inside the attestation object is the one that counts."""

    def change(ceremony: Ceremony) -> None:
        response = ceremony["response"]["response"]
        data = edit(websafe_decode(response["authenticatorData"]))
        response["authenticatorData"] = websafe_encode(data)
        if "attestationObject" in response:
            attestation = dict(cbor.decode(websafe_decode(response["attestationObject"])))
            response["attestationObject"] = websafe_encode(cbor.encode({**attestation, "authData": data}))

    return change


def statement(edit: Callable[[dict[str, Any]], dict[str, Any]]) -> Change:
    def change(ceremony: Ceremony) -> None:
        response = ceremony["response"]["response"]
        attestation = dict(cbor.decode(websafe_decode(response["attestationObject"])))
        attestation["attStmt"] = edit(dict(attestation["attStmt"]))
        response["attestationObject"] = websafe_encode(cbor.encode(attestation))

    return change


def signature(edit: Callable[[bytes], bytes]) -> Change:
    def change(ceremony: Ceremony) -> None:
        response = ceremony["response"]["response"]
        response["signature"] = websafe_encode(edit(websafe_decode(response["signature"])))

    return change


def another_challenge(ceremony: Ceremony) -> None:
    ceremony["options"]["challenge"] = websafe_encode(secrets.token_bytes(32))


def flipped(at: int, bit: int = 1) -> Callable[[bytes], bytes]:
    def edit(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[at] ^= bit
        return bytes(changed)

    return edit


ANY_CEREMONY: dict[str, Change] = {
    "another challenge": another_challenge,
    "another origin": client_data(origin="https://evil.example"),
    "another rp id": authenticator_data(lambda data: hashlib.sha256(b"evil.example").digest() + data[32:]),
    "no user verification": authenticator_data(flipped(32, 0x04)),
    "no user presence": authenticator_data(flipped(32, 0x01)),
}
CREATION: dict[str, Change] = {
    **ANY_CEREMONY,
    "client data of a login": client_data(type="webauthn.get"),
    "packed: another counter": authenticator_data(flipped(36)),
    "packed: another key": authenticator_data(flipped(-20)),
    "packed: another signature": statement(lambda said: {**said, "sig": flipped(100)(said["sig"])}),
}
OTHER_ALGORITHM: dict[str, Change] = {
    "packed: the other algorithm": statement(lambda said: {**said, "alg": -257 - 37 - said["alg"]}),
}
LOGIN: dict[str, Change] = {
    **ANY_CEREMONY,
    "client data of a registration": client_data(type="webauthn.create"),
    "a counter that was raised": authenticator_data(lambda data: data[:33] + b"\x7f\xff\xff\xff"),
    "a bit of the signature": signature(flipped(50)),
    "a signature cut short": signature(lambda data: data[:-1]),
    "a signature with a zero in front": signature(lambda data: b"\0" + data),
    "an unknown passkey": lambda ceremony: ceremony["response"].update(id="AAAA" * 11, rawId="AAAA" * 11),
}


def salted(length: int) -> list[tuple[str, Ceremony]]:
    """A PS256 passkey of a key in software, whose salt has another length than the digest."""
    key = rsa.generate_private_key(65537, 2048)
    public = key.public_key().public_numbers()
    cose = cbor.encode({1: 3, 3: -37, -1: public.n.to_bytes(256, "big"), -2: b"\1\0\1"})
    credential_id = secrets.token_bytes(32)
    about = hashlib.sha256(RP_ID.encode()).digest()
    made = about + b"\x45" + bytes(3) + b"\1" + bytes(16) + b"\0\x20" + credential_id + cose
    signed = about + b"\x05" + bytes(3) + b"\2"
    challenges = [websafe_encode(secrets.token_bytes(32)) for _ in range(2)]
    said = [
        json.dumps(
            {"type": f"webauthn.{kind}", "challenge": challenge, "origin": ORIGIN, "crossOrigin": False}
        ).encode()
        for kind, challenge in zip(("create", "get"), challenges, strict=True)
    ]
    message = signed + hashlib.sha256(said[1]).digest()
    signature = key.sign(message, padding.PSS(padding.MGF1(SHA256()), salt_length=length), SHA256())
    attestation = cbor.encode({"fmt": "none", "attStmt": {}, "authData": made})
    answers = [
        {"attestationObject": websafe_encode(attestation), "authenticatorData": websafe_encode(made)},
        {"authenticatorData": websafe_encode(signed), "signature": websafe_encode(signature)},
    ]
    spelt = websafe_encode(credential_id)
    common = {"id": spelt, "rawId": spelt, "type": "public-key", "clientExtensionResults": {}}
    return [
        (
            f"a salt of {length} bytes, {kind}",
            written(kind, {"challenge": challenge}, {**common, "response": answer | client}, "salted"),
        )
        for kind, challenge, answer, client in zip(
            ("create", "get"),
            challenges,
            answers,
            [{"clientDataJSON": websafe_encode(one)} for one in said],
            strict=True,
        )
    ]


# --- the relying parties ----------------------------------------------------------------------------------------


LENIENT = {
    "verify_py_webauthn": {"other algorithm in the statement": False, "a salt of 20 bytes": True},
    "verify_fido2": {"other algorithm in the statement": False, "a salt of 20 bytes": True},
    "verify_cryptography": {"other algorithm in the statement": False, "a salt of 20 bytes": False},
    "verify_simplewebauthn": {"other algorithm in the statement": True, "a salt of 20 bytes": False},
}
"""What docs/relying-parties.md says of them. A library that changes its mind is found out here."""


def judged(lines: Iterable[tuple[str, str]]) -> dict[str, bool]:
    return {name: verdict.startswith("counter ") for name, verdict in lines}


def leniency(verdicts: dict[str, bool]) -> dict[str, bool]:
    """What is believed of the folder `lenient`; of the salted passkey its login, the last."""
    statement, _, salted_login = verdicts.values()
    return {"other algorithm in the statement": statement, "a salt of 20 bytes": salted_login}


@pytest.mark.parametrize("name", ["verify_py_webauthn", "verify_fido2", "verify_cryptography"])
def test_a_python_relying_party_believes_what_is_honest_and_nothing_else(
    ceremonies: Folder, lenient: Path, name: str
) -> None:
    party = example(name)
    verdicts = judged(party.main(ceremonies.path))

    assert verdicts == ceremonies.expected
    assert sum(verdicts.values()) == 12 and len(verdicts) > 90
    assert leniency(judged(party.main(lenient))) == LENIENT[name]


def test_simplewebauthn_believes_what_is_honest_and_nothing_else(
    ceremonies: Folder, lenient: Path, simplewebauthn: Path, device: Device, person: Person, tmp_path: Path
) -> None:
    """One run of node for all of them. It asks for a salt of exactly 32 bytes."""
    wanted = json.loads(node(simplewebauthn))
    own = written("create", wanted, device.create(wanted, ORIGIN, person.capture()), "options of the example")
    (tmp_path / "own.json").write_text(json.dumps(own), encoding="utf-8")

    lines = node(simplewebauthn, ceremonies.path, lenient, tmp_path).splitlines()
    verdicts = judged((f"{name}.json", verdict) for name, verdict in (line.split(".json: ", 1) for line in lines))

    assert verdicts.pop("own.json")
    assert (
        leniency({name: verdicts.pop(name) for name in sorted(path.name for path in lenient.iterdir())})
        == (LENIENT["verify_simplewebauthn"])
    )
    assert verdicts == ceremonies.expected


@pytest.fixture(scope="module")
def simplewebauthn(node_folder: Path) -> Path:
    """A folder with the example and its package."""
    shutil.copy(EXAMPLES / "verify_simplewebauthn.mjs", node_folder)
    return node_folder


def node(folder: Path, *arguments: Path) -> str:
    command = ["node", "verify_simplewebauthn.mjs", *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=True).stdout


# --- the options that the examples make -------------------------------------------------------------------------


def test_options_of_py_webauthn_lead_to_a_passkey_and_a_login(device: Device, person: Person) -> None:
    site = example("verify_py_webauthn").Site(RP_ID, ORIGIN)
    wanted, challenge = site.registration_options("bob")
    counter = site.register(challenge, device.create(wanted, ORIGIN, person.capture()))
    wanted, challenge = site.login_options()

    assert site.sign_in(challenge, device.get(wanted, ORIGIN, person.capture())) > counter


def test_options_of_fido2_lead_to_a_passkey_and_a_login(device: Device, person: Person) -> None:
    site = example("verify_fido2").Site(RP_ID, ORIGIN)
    wanted, state = site.registration_options(b"user-2", "bob")
    counter = site.register(state, device.create(wanted, ORIGIN, person.capture()))
    wanted, state = site.login_options()

    assert site.sign_in(state, device.get(wanted, ORIGIN, person.capture())) > counter
