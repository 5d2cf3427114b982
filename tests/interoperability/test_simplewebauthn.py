"""@simplewebauthn/server in Node verifies what the SDK gives, in every form of attestation, and refuses what is bent.

Needs Node 20; `make test` installs the library where npm is.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attested import attested_object, flipped, statement_of, tampered
from fido2.utils import websafe_decode, websafe_encode
from people import Person, enrolled_device
from real_server import ThreadServer, thread_server
from relying_parties import RelyingParty

from authsvc.services import attestation
from device_sdk import Device
from mpc.login.authenticator_data import cose_rsa_key

HERE = Path(__file__).parent
NODE = shutil.which("node")
SHOP = RelyingParty("shop.example")
PERSON = Person(1)
AAGUID = "5c1f9d0a-7a3e-4b52-9a64-7ad3e0c2f1b8"
EXAMPLES = re.findall(
    r"```javascript\n(.*?)```", (HERE.parents[1] / "docs" / "relying-parties.md").read_text(encoding="utf-8"), re.S
)


def library_is_there() -> bool:
    """Whether Node can run it."""
    if NODE is None or not (HERE / "node_modules" / "@simplewebauthn").is_dir():
        return False
    version = subprocess.run([NODE, "--version"], capture_output=True, text=True, check=False).stdout
    return int(version.lstrip("v").split(".")[0] or 0) >= 20


pytestmark = pytest.mark.skipif(not library_is_there(), reason="Node 20 or @simplewebauthn/server not installed")


class Library:
    """The library in a Node process of its own, asked in lines."""

    def __init__(self) -> None:
        assert NODE is not None
        pipe = subprocess.PIPE
        self._process = subprocess.Popen([NODE, HERE / "verify.mjs"], stdin=pipe, stdout=pipe, text=True)

    def __call__(self, *cases: dict[str, Any], statement: Any = None) -> list[dict[str, Any]]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"cases": cases, "statement": statement}) + "\n")
        self._process.stdin.flush()
        found: list[dict[str, Any]] = json.loads(self._process.stdout.readline())
        assert len(found) == len(cases)
        return found

    def close(self) -> None:
        self._process.communicate(timeout=20)


@pytest.fixture(scope="module")
def library() -> Iterator[Library]:
    opened = Library()
    yield opened
    opened.close()


def case(kind: str, party: RelyingParty, options: Any, response: Any, **more: Any) -> dict[str, Any]:
    site = {"challenge": options["challenge"], "origin": party.origin, "rpId": party.rp_id}
    return {"kind": kind, "response": response, **site, **more}


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ThreadServer]]:
    """One with an attestation authority and one without."""
    with (
        thread_server(tmp_path_factory.mktemp("attesting")) as attesting,
        thread_server(tmp_path_factory.mktemp("plain")) as plain,
    ):
        attestation.create(attesting.context, country="DE", organization="Beispiel GmbH")
        yield {"attesting": attesting, "plain": plain}


@pytest.fixture(scope="module")
def devices(servers: dict[str, ThreadServer], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Device]]:
    folder = tmp_path_factory.mktemp
    with (
        enrolled_device(servers["attesting"], folder("a"), PERSON) as attesting,
        enrolled_device(servers["plain"], folder("b"), PERSON) as plain,
    ):
        yield {"attesting": attesting, "plain": plain}


def registered(device: Device, party: RelyingParty = SHOP, **wanted: Any) -> tuple[Any, Any]:
    options = party.creation_options(**wanted)
    return options, device.create(options, party.origin, PERSON.capture())


FORMS = {
    "none": ("plain", "none", {"fmt": "none", "x5c": False}),
    "self": ("plain", "direct", {"fmt": "packed", "x5c": False}),
    "certificate": ("attesting", "direct", {"fmt": "packed", "x5c": True}),
}


@pytest.mark.parametrize("algorithm", [-257, -37], ids=["RS256", "PS256"])
@pytest.mark.parametrize("form", FORMS)
def test_registration_and_login(library: Library, devices: dict[str, Device], form: str, algorithm: int) -> None:
    where, preference, expected = FORMS[form]
    device, user = devices[where], f"{form} {algorithm}".encode()
    options, made = registered(device, user=user, attestation=preference, algorithms=(algorithm,))
    [found] = library(case("create", SHOP, options, made))
    assert {name: found.get(name) for name in ("fmt", "x5c")} == expected, found
    assert found["aaguid"] == AAGUID

    wanted = SHOP.request_options(allow=(websafe_decode(made["rawId"]),))
    signed = device.get(wanted, SHOP.origin, PERSON.capture())
    bent = json.loads(json.dumps(signed))
    signature = websafe_decode(signed["response"]["signature"])
    bent["response"]["signature"] = websafe_encode(flipped(signature, 100))
    other = SHOP.request_options()
    good, tampered_with, replayed, old_counter = library(
        case("get", SHOP, wanted, signed, credential=found["credential"]),
        case("get", SHOP, wanted, bent, credential=found["credential"]),
        case("get", SHOP, other, signed, credential=found["credential"]),
        case("get", SHOP, wanted, signed, credential={**found["credential"], "counter": 50}),
    )
    assert good == {"counter": found["credential"]["counter"] + 1}
    assert all("refused" in each for each in (tampered_with, replayed, old_counter))


def test_against_the_metadata_statement(
    library: Library, servers: dict[str, ThreadServer], devices: dict[str, Device]
) -> None:
    """One call in the mode `strict`: the genuine one is taken, and nothing that was changed."""
    options, made = registered(devices["attesting"], user=b"genuine")

    def with_own_key(told: dict[str, Any]) -> None:
        own = cose_rsa_key(-257, (1 << 2047) + 12_345, 65537)
        told["authData"] = told["authData"][: -len(own)] + own

    def with_other_aaguid(told: dict[str, Any]) -> None:
        told["authData"] = told["authData"][:37] + bytes(range(16)) + told["authData"][53:]

    changes: list[Any] = [
        lambda told: told["attStmt"].update(sig=flipped(told["attStmt"]["sig"], -1)),
        lambda told: told.update(authData=flipped(told["authData"], 36)),
        lambda told: told["attStmt"].update(x5c=[flipped(told["attStmt"]["x5c"][0], -1)]),
        with_own_key,
        with_other_aaguid,
    ]
    bent = [tampered(made, change) for change in changes]
    genuine, *others = library(
        *(case("create", SHOP, options, each) for each in (made, *bent)), statement=statement_of(servers["attesting"])
    )
    assert (genuine.get("fmt"), genuine.get("x5c")) == ("packed", True), genuine
    assert all("refused" in each for each in others), others


def test_against_the_statement_of_another_operator(
    library: Library, servers: dict[str, ThreadServer], devices: dict[str, Device], tmp_path: Path
) -> None:
    options, made = registered(devices["attesting"], user=b"elsewhere")
    with thread_server(tmp_path) as other:
        attestation.create(other.context, country="DE", organization="Beispiel GmbH")
        [found] = library(case("create", SHOP, options, made), statement=statement_of(other))
    assert "refused" in found


@pytest.fixture
def site(tmp_path: Path, servers: dict[str, ThreadServer]) -> Path:
    """A folder with the modules of docs/relying-parties.md as its reader has them."""
    assert len(EXAMPLES) == 2
    (tmp_path / "node_modules").symlink_to(HERE / "node_modules")
    (tmp_path / "statement.json").write_text(json.dumps(statement_of(servers["attesting"])))
    for name, example in zip(("plain.mjs", "attested.mjs"), EXAMPLES, strict=True):
        (tmp_path / name).write_text(example)
    (tmp_path / "run.mjs").write_text(
        """
        import { readFileSync } from 'node:fs';
        import { register, signIn } from './plain.mjs';
        const { made, signed, own, attested } = JSON.parse(readFileSync(0, 'utf8'));
        const credential = await register(made.response, made.challenge);
        await signIn(signed.response, signed.challenge, credential);
        const { registerAttested } = await import('./attested.mjs');
        await registerAttested(attested.response, attested.challenge);
        const refused = await registerAttested(own.response, own.challenge).then(() => null, (error) => error.message);
        process.stdout.write(JSON.stringify({ counter: credential.counter, refused }));
        """
    )
    return tmp_path


def test_the_examples_of_the_document(devices: dict[str, Device], site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run as they stand there; self attestation is refused where the reader insists on a certificate."""
    monkeypatch.chdir(site)
    party = RelyingParty("localhost")
    origin, device = "http://localhost:8080", devices["plain"]

    def made_by(which: str, user: bytes) -> dict[str, Any]:
        options = party.creation_options(user=user)
        answer = devices[which].create(options, origin, PERSON.capture())
        return {"response": answer, "challenge": options["challenge"]}

    own, attested = made_by("plain", b"own"), made_by("attesting", b"attested")
    assert "x5c" not in attested_object(own["response"])["attStmt"]
    wanted = party.request_options(allow=(websafe_decode(own["response"]["rawId"]),))
    signed = {"response": device.get(wanted, origin, PERSON.capture()), "challenge": wanted["challenge"]}
    assert NODE is not None
    given = json.dumps({"made": own, "signed": signed, "own": own, "attested": attested})
    run = subprocess.run([NODE, "run.mjs"], input=given, capture_output=True, text=True, timeout=60, check=False)

    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == {"counter": 2, "refused": "made with another authenticator"}
