"""The JavaScript of docs/relying-parties.md takes attested registrations of one operator, and nothing else."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attested import attesting_server, flipped, statement_of, tampered
from people import Person, enrolled_device
from real_server import ThreadServer
from relying_parties import RelyingParty

from device_sdk import Device
from mpc.login.authenticator_data import cose_rsa_key

TEXT = (Path(__file__).parents[2] / "docs" / "relying-parties.md").read_text(encoding="utf-8")
[EXAMPLE] = re.findall(r"```javascript\n(.*?)```", TEXT.partition("## Attestation")[2], re.S)
RUN = """
import { readFileSync } from 'node:fs';
import { register } from './example.mjs';
const answers = [];
for (const { response, challenge } of JSON.parse(readFileSync(0, 'utf8'))) {
  answers.push(await register(response, challenge).then(() => 'taken', (error) => error.message));
}
process.stdout.write(JSON.stringify(answers));
"""
SITE = RelyingParty("localhost")
ORIGIN = "http://localhost:8080"
PERSON = Person(1)


@pytest.fixture(scope="module")
def attesting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadServer]:
    with attesting_server(tmp_path_factory.mktemp("attesting")) as running:
        yield running


@pytest.fixture(scope="module")
def device(attesting: ThreadServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Device]:
    with enrolled_device(attesting, tmp_path_factory.mktemp("device"), PERSON) as enrolled:
        yield enrolled


def registered(device: Device, **wanted: Any) -> dict[str, Any]:
    options = SITE.creation_options(**wanted)
    return {"response": device.create(options, ORIGIN, PERSON.capture()), "challenge": options["challenge"]}


def bent(made: dict[str, Any], change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    return {**made, "response": tampered(made["response"], change)}


def with_a_key_of_its_own(told: dict[str, Any]) -> None:
    own = cose_rsa_key(-257, (1 << 2047) + 12_345, 65537)
    told["authData"] = told["authData"][: -len(own)] + own


def with_another_aaguid(told: dict[str, Any]) -> None:
    told["authData"] = told["authData"][:37] + bytes(range(16)) + told["authData"][53:]


def asked(folder: Path, node_folder: Path, statement: Any, cases: list[dict[str, Any]]) -> list[str]:
    """What the example says of each registration, in a folder as its reader has it."""
    (folder / "node_modules").symlink_to(node_folder / "node_modules")
    for name, content in (("statement.json", json.dumps(statement)), ("example.mjs", EXAMPLE), ("run.mjs", RUN)):
        (folder / name).write_text(content, encoding="utf-8")
    given = json.dumps(cases)
    run = subprocess.run(
        ["node", "run.mjs"], cwd=folder, input=given, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    answers: list[str] = json.loads(run.stdout)
    return answers


def test_the_example_takes_what_the_statement_describes(
    attesting: ThreadServer, server: ThreadServer, device: Device, node_folder: Path, tmp_path: Path
) -> None:
    """`server` has no attestation authority, so its devices sign for themselves, under the same AAGUID."""
    made = registered(device, user=b"one")
    with enrolled_device(server, tmp_path, PERSON) as plain:
        own = registered(plain)
    good = [made, registered(device, user=b"two", algorithms=(-37,))]
    bad = [
        bent(made, lambda told: told["attStmt"].update(sig=flipped(told["attStmt"]["sig"], -1))),
        bent(made, lambda told: told["attStmt"].update(x5c=[flipped(told["attStmt"]["x5c"][0], -1)])),
        bent(made, lambda told: told.update(authData=flipped(told["authData"], 36))),
        bent(made, with_a_key_of_its_own),
        bent(made, with_another_aaguid),
        {**made, "challenge": registered(device, user=b"three")["challenge"]},
        registered(device, user=b"four", attestation="none"),
        own,
    ]
    answers = asked(tmp_path, node_folder, statement_of(attesting), good + bad)

    assert answers[: len(good)] == ["taken"] * len(good)
    assert "taken" not in answers[len(good) :], answers
    assert answers[-2:] == ["made with another authenticator"] * 2


def test_it_refuses_another_operators(device: Device, node_folder: Path, tmp_path: Path) -> None:
    with attesting_server(tmp_path / "other") as other:
        [answer] = asked(tmp_path, node_folder, statement_of(other), [registered(device, user=b"five")])
    assert answer != "taken"
