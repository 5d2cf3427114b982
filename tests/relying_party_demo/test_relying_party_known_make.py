"""A site that takes one make of authenticator: who gets in, by its metadata statement, and who does not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fido2 import cbor
from fido2.utils import websafe_decode, websafe_encode
from relying_party_authenticator import SoftwareAuthenticator
from relying_party_harness import ORIGIN, Browser, Clock, code_of

from authsvc.attestation_certificates import AttestationAuthority
from authsvc.policy import Limits, Policy
from authsvc.services.metadata_statement import metadata_statement
from mpc.login.authenticator_data import AAGUID
from relying_party_demo import RelyingPartySettings, create_app

YEAR = 365 * 86_400.0


@dataclass
class AttestedAuthenticator(SoftwareAuthenticator):
    """A software authenticator whose registrations an attestation authority signs. `bend`: what it changes after."""

    authority: AttestationAuthority | None = None
    aaguid: bytes = AAGUID
    bend: Callable[[dict[str, Any]], None] = field(default=lambda told: None)

    def create(self, options: dict[str, Any], origin: str, *, attestation: str | None = None) -> dict[str, Any]:
        answer = super().create(options, origin, attestation="none")
        told = cbor.decode(websafe_decode(answer["response"]["attestationObject"]))
        assert isinstance(told, dict)
        data = told["authData"]
        told["authData"] = data[:37] + self.aaguid + data[53:]
        client_data = hashlib.sha256(websafe_decode(answer["response"]["clientDataJSON"])).digest()
        if self.authority is not None:
            given = self.authority.attests(told["authData"] + client_data)
            told["fmt"] = "packed"
            told["attStmt"] = {"alg": -7, "sig": given.signature, "x5c": [given.certificate]}
        self.bend(told)
        answer["response"]["attestationObject"] = websafe_encode(cbor.encode(told))
        return answer


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def authority(clock: Clock) -> AttestationAuthority:
    return AttestationAuthority.new("DE", "Beispiel GmbH", clock())


@pytest.fixture
def statement(tmp_path: Path, authority: AttestationAuthority) -> Path:
    policy = Policy(server_id="s", profiles={}, allowed_rp_ids=frozenset(), limits=Limits())
    path = tmp_path / "statement.json"
    path.write_text(json.dumps(metadata_statement(policy, authority, description="The one make")))
    return path


@pytest.fixture
def browser(tmp_path: Path, statement: Path, clock: Clock) -> Iterator[Browser]:
    settings = RelyingPartySettings(
        database=tmp_path / "site.sqlite", origin=ORIGIN, attestation="direct", metadata_statement=statement
    )
    with Browser(create_app(settings, clock=clock), base_url=ORIGIN) as opened:
        yield opened


def refused(browser: Browser, authenticator: SoftwareAuthenticator) -> tuple[int, str]:
    options = browser.post_json("/register/options", {"username": "eve"}).json()
    return code_of(browser.post_json("/register/verify", authenticator.create(options, ORIGIN)))


def test_a_passkey_of_the_make_is_taken_and_the_page_says_what_it_is(
    browser: Browser, authority: AttestationAuthority
) -> None:
    verdict = browser.register(AttestedAuthenticator(authority=authority), "ada")["verdict"]
    assert (verdict["attestation"], verdict["make"]) == ("packed", "The one make")


def test_self_attestation_under_its_aaguid_is_not(browser: Browser) -> None:
    """py_webauthn takes it; anybody can make it."""
    authenticator = AttestedAuthenticator()

    def sign_itself(told: dict[str, Any]) -> None:
        told["fmt"] = "packed"

    plain = SoftwareAuthenticator()
    assert refused(browser, plain) == (403, "not_attested")
    authenticator.bend = sign_itself
    assert refused(browser, authenticator)[1] in ("not_attested", "registration_refused")
    assert refused(browser, AttestedAuthenticator()) == (403, "not_attested")


def test_another_root_of_the_same_name_is_not(browser: Browser, clock: Clock) -> None:
    other = AttestationAuthority.new("DE", "Beispiel GmbH", clock())
    assert refused(browser, AttestedAuthenticator(authority=other)) == (403, "not_attested")


def test_another_aaguid_is_not(browser: Browser, authority: AttestationAuthority) -> None:
    assert refused(browser, AttestedAuthenticator(authority=authority, aaguid=bytes(range(16)))) == (
        403,
        "not_attested",
    )


BENT: dict[str, Callable[[dict[str, Any]], None]] = {
    "signature": lambda told: told["attStmt"].update(sig=told["attStmt"]["sig"][:-1] + b"\x00"),
    "another key": lambda told: told.update(authData=told["authData"][:-9] + bytes(4) + told["authData"][-5:]),
    "counter": lambda told: told.update(authData=told["authData"][:36] + b"\x09" + told["authData"][37:]),
    "no certificate": lambda told: told["attStmt"].update(x5c=[]),
    "a certificate that is none": lambda told: told["attStmt"].update(x5c=[b"\x30\x00"]),
    "another format": lambda told: told.update(fmt="fido-u2f"),
}


@pytest.mark.parametrize("name", BENT)
def test_a_tampered_one_is_not(browser: Browser, authority: AttestationAuthority, name: str) -> None:
    status, code = refused(browser, AttestedAuthenticator(authority=authority, bend=BENT[name]))
    assert (status, code) in ((403, "not_attested"), (400, "registration_refused"))


def test_a_certificate_that_has_expired_is_not(browser: Browser, authority: AttestationAuthority, clock: Clock) -> None:
    """python-fido2 does not look at dates."""
    clock.now += 2 * YEAR + 86_400 * 2
    assert refused(browser, AttestedAuthenticator(authority=authority)) == (403, "not_attested")


@pytest.mark.parametrize("content", ["", "[]", "{}", "no json", '{"description": "x"}'])
def test_a_statement_that_is_none_stops_the_start(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(content)
    settings = RelyingPartySettings(
        database=tmp_path / "site.sqlite", origin=ORIGIN, attestation="direct", metadata_statement=path
    )
    with pytest.raises(ValueError, match="metadata statement"):
        create_app(settings)


def test_it_needs_direct_attestation(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="direct"):
        RelyingPartySettings(database=tmp_path / "x", origin=ORIGIN, metadata_statement=tmp_path / "statement.json")
