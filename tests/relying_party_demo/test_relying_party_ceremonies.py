"""Registration and login: what is accepted, and everything that must not be."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import pytest
import webauthn
from fastapi import FastAPI
from relying_party_authenticator import UP, SoftwareAuthenticator
from relying_party_harness import ORIGIN, Browser, Clock, code_of, decoded, encoded

from relying_party_demo import RelyingPartySettings, create_app

NewBrowser = Callable[[], Browser]


@pytest.mark.parametrize(("algorithm", "name"), [(-257, "RS256"), (-37, "PS256"), (-7, "ES256")])
def test_a_passkey_of_each_kind_registers_and_signs_in(browser: Browser, algorithm: int, name: str) -> None:
    authenticator = SoftwareAuthenticator(algorithm=algorithm)

    made = browser.register(authenticator, "ada")
    browser.post_form("/sign-out")
    answer = browser.log_in(authenticator, "ada")

    assert made["verdict"]["algorithm"] == name
    assert made["verdict"]["attestation"] == "none"
    assert answer.json()["verdict"] == {
        "algorithm": name,
        "sign_count": 2,
        "user_verified": True,
        "attestation": None,
        "make": None,
        "library": "py_webauthn",
        "version": webauthn.__version__,
    }
    assert browser.user == "ada"


def test_a_login_without_a_name_finds_the_account(
    browser: Browser, new_browser: NewBrowser, authenticator: SoftwareAuthenticator
) -> None:
    browser.register(authenticator, "ada")
    other = new_browser()

    answer = other.log_in(authenticator)

    assert answer.json()["user"] == "ada"
    assert other.user == "ada"


def test_options_name_the_site_and_what_it_accepts(browser: Browser) -> None:
    options = browser.post_json("/register/options", {"username": " Ada ", "display_name": "Ada L."}).json()

    assert options["rp"] == {"id": "localhost", "name": "Tandem demo"}
    assert options["user"]["name"] == "ada" and options["user"]["displayName"] == "Ada L."
    assert [entry["alg"] for entry in options["pubKeyCredParams"]] == [-8, -7, -257, -37]
    assert options["authenticatorSelection"]["userVerification"] == "required"
    assert len(options["challenge"]) == 43


def test_packed_self_attestation_is_verified_where_the_site_asks_for_it(
    tmp_path: Path, authenticator: SoftwareAuthenticator
) -> None:
    settings = RelyingPartySettings(database=tmp_path / "direct.sqlite", origin=ORIGIN, attestation="direct")
    with Browser(create_app(settings), base_url=ORIGIN) as browser:
        assert browser.register(authenticator, "ada")["verdict"]["attestation"] == "packed"

        options = browser.post_json("/register/options", {"username": "eve"}).json()
        response = authenticator.create(options, ORIGIN)
        attested = bytearray(decoded(response["response"]["attestationObject"]))
        signature = authenticator.credentials[-1].sign(b"something else")
        at = bytes(attested).index(b"csigY\x01\x00") + 7
        attested[at : at + 256] = signature
        response["response"]["attestationObject"] = encoded(bytes(attested))
        answer = browser.post_json("/register/verify", response)

        assert code_of(answer) == (400, "registration_refused")


def test_a_replayed_login_is_refused(browser: Browser, authenticator: SoftwareAuthenticator) -> None:
    """The whole answer again, as somebody who recorded it would send it."""
    browser.register(authenticator, "ada")
    options = browser.post_json("/login/options", {"username": "ada"}).json()
    response = authenticator.get(options, ORIGIN)

    first = browser.post_json("/login/verify", response)
    second = browser.post_json("/login/verify", response)

    assert first.status_code == 200
    assert code_of(second) == (400, "challenge_not_open")


def test_a_replayed_registration_is_refused(browser: Browser, authenticator: SoftwareAuthenticator) -> None:
    options = browser.post_json("/register/options", {"username": "ada"}).json()
    response = authenticator.create(options, ORIGIN)

    first = browser.post_json("/register/verify", response)
    second = browser.post_json("/register/verify", response)

    assert first.status_code == 200
    assert code_of(second) == (400, "challenge_not_open")


def test_of_two_simultaneous_answers_one_takes_the_challenge(
    site: FastAPI, browser: Browser, authenticator: SoftwareAuthenticator
) -> None:
    """Reading and deleting in two steps would let both through."""
    browser.register(authenticator, "ada")
    browser.post_form("/sign-out")
    options = browser.post_json("/login/options", {"username": "ada"}).json()
    response = authenticator.get(options, ORIGIN)
    headers = {"X-CSRF-Token": browser.get("/session").json()["csrf"]}
    barrier = Barrier(4)
    statuses: list[int] = []

    def answer() -> None:
        with Browser(site, base_url=ORIGIN, cookies=dict(browser.cookies)) as copy:
            barrier.wait()
            statuses.append(copy.post("/login/verify", json=response, headers=headers).status_code)

    threads = [Thread(target=answer) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(statuses) == [200, 400, 400, 400]


def test_a_failed_answer_uses_the_challenge_up(browser: Browser, authenticator: SoftwareAuthenticator) -> None:
    browser.register(authenticator, "ada")
    options = browser.post_json("/login/options", {"username": "ada"}).json()
    good = authenticator.get(options, ORIGIN)
    bad = json.loads(json.dumps(good))
    bad["response"]["signature"] = encoded(bytes(256))

    assert code_of(browser.post_json("/login/verify", bad)) == (401, "login_refused")
    assert code_of(browser.post_json("/login/verify", good)) == (400, "challenge_not_open")


def test_the_challenge_of_another_browser_is_not_open_here(
    browser: Browser, new_browser: NewBrowser, authenticator: SoftwareAuthenticator
) -> None:
    """Else a victim could be signed in with an answer made for the attacker. The victim's stays usable."""
    browser.register(authenticator, "ada")
    options = browser.post_json("/login/options", {"username": "ada"}).json()
    response = authenticator.get(options, ORIGIN)
    other = new_browser()

    stolen = other.post_json("/login/verify", response)
    own = browser.post_json("/login/verify", response)

    assert code_of(stolen) == (400, "challenge_not_open")
    assert other.user is None
    assert own.status_code == 200


def test_a_challenge_serves_its_own_purpose_only(browser: Browser, authenticator: SoftwareAuthenticator) -> None:
    browser.register(authenticator, "ada")
    login = browser.post_json("/login/options", {}).json()
    creation = browser.post_json("/passkeys/options", {}).json()
    addition = authenticator.create({**creation, "challenge": login["challenge"]}, ORIGIN)
    registration = authenticator.create(creation, ORIGIN)

    assert code_of(browser.post_json("/passkeys/verify", addition)) == (400, "challenge_not_open")
    assert code_of(browser.post_json("/register/verify", registration)) == (400, "challenge_not_open")


def test_a_challenge_expires(browser: Browser, authenticator: SoftwareAuthenticator, clock: Clock) -> None:
    browser.register(authenticator, "ada")
    options = browser.post_json("/login/options", {"username": "ada"}).json()

    clock.now += 300
    answer = browser.post_json("/login/verify", authenticator.get(options, ORIGIN))

    assert code_of(answer) == (400, "challenge_not_open")


@pytest.mark.parametrize("origin", ["https://localhost:8123", "http://localhost:8124", "http://evil.localhost:8123"])
def test_another_origin_is_refused(browser: Browser, authenticator: SoftwareAuthenticator, origin: str) -> None:
    registration = browser.post_json("/register/options", {"username": "eve"}).json()
    refused = browser.post_json("/register/verify", authenticator.create(registration, origin))
    browser.register(authenticator, "ada")
    browser.post_form("/sign-out")
    options = browser.post_json("/login/options", {"username": "ada"}).json()
    answer = browser.post_json("/login/verify", authenticator.get(options, origin))

    assert code_of(refused) == (400, "wrong_origin")
    assert code_of(answer) == (400, "wrong_origin")
    assert browser.user is None


def test_another_relying_party_id_is_refused(browser: Browser, authenticator: SoftwareAuthenticator) -> None:
    browser.register(authenticator, "ada")
    options = browser.post_json("/login/options", {"username": "ada"}).json()

    answer = browser.post_json("/login/verify", authenticator.get({**options, "rpId": "evil.example"}, ORIGIN))

    assert code_of(answer) == (401, "login_refused")


def test_an_unverified_user_is_refused(browser: Browser, authenticator: SoftwareAuthenticator) -> None:
    browser.register(authenticator, "ada")
    browser.post_form("/sign-out")
    authenticator.flags = UP

    assert code_of(browser.log_in(authenticator, "ada")) == (401, "login_refused")
    options = browser.post_json("/register/options", {"username": "bob"}).json()
    answer = browser.post_json("/register/verify", authenticator.create(options, ORIGIN))
    assert code_of(answer) == (400, "registration_refused")
    assert browser.user is None


@pytest.mark.parametrize("step", [0, -1])
def test_a_counter_that_does_not_go_up_is_refused_and_noted(
    browser: Browser, authenticator: SoftwareAuthenticator, step: int
) -> None:
    """A copied key counts on its own, so sooner or later one of the two is behind."""
    browser.register(authenticator, "ada")
    browser.log_in(authenticator, "ada")
    browser.log_in(authenticator, "ada")
    authenticator.counter_step = step

    answer = browser.log_in(authenticator, "ada")

    assert code_of(answer) == (403, "sign_count_regression")
    assert "did not go up" in browser.get("/account").text
    authenticator.counter_step = 5
    assert browser.log_in(authenticator, "ada").status_code == 200


def test_a_forged_answer_with_a_low_counter_does_not_accuse_the_passkey(
    browser: Browser, authenticator: SoftwareAuthenticator
) -> None:
    """The counter means something only under a good signature; else anybody could raise the alarm."""
    browser.register(authenticator, "ada")
    browser.log_in(authenticator, "ada")
    authenticator.counter_step = -1
    options = browser.post_json("/login/options", {"username": "ada"}).json()
    response = authenticator.get(options, ORIGIN)
    response["response"]["signature"] = encoded(bytes(256))

    assert code_of(browser.post_json("/login/verify", response)) == (401, "login_refused")
    assert "did not go up" not in browser.get("/account").text


def test_a_passkey_without_a_counter_keeps_working(browser: Browser) -> None:
    """Synced passkeys send 0 for ever."""
    authenticator = SoftwareAuthenticator(counter_step=0)
    browser.register(authenticator, "ada")

    assert browser.log_in(authenticator, "ada").status_code == 200
    assert browser.log_in(authenticator, "ada").json()["verdict"]["sign_count"] == 0


def test_a_passkey_of_another_account_does_not_open_the_named_one(
    browser: Browser, new_browser: NewBrowser, authenticator: SoftwareAuthenticator
) -> None:
    browser.register(authenticator, "ada")
    mallory_browser, mallory = new_browser(), SoftwareAuthenticator()
    mallory_browser.register(mallory, "mallory")
    attacker = new_browser()

    options = attacker.post_json("/login/options", {"username": "ada"}).json()
    named = mallory.get(options, ORIGIN, credential=mallory.credentials[0])
    assert code_of(attacker.post_json("/login/verify", named)) == (401, "login_refused")

    options = attacker.post_json("/login/options", {}).json()
    handle = authenticator.credentials[0].user_handle
    claimed = mallory.get(options, ORIGIN, user_handle=handle)
    assert code_of(attacker.post_json("/login/verify", claimed)) == (401, "login_refused")
    assert attacker.user is None


def test_an_unknown_name_looks_like_a_known_one(
    browser: Browser, new_browser: NewBrowser, authenticator: SoftwareAuthenticator
) -> None:
    """Shape and length alike, and the same each time, also to another browser."""
    browser.register(authenticator, "ada")
    visitor = new_browser()

    def ask(name: str) -> dict[str, Any]:
        options: dict[str, Any] = visitor.post_json("/login/options", {"username": name}).json()
        return options

    known, unknown, again, other = ask("ada"), ask("nobody"), ask("nobody"), ask("somebody")
    assert known.keys() == unknown.keys()
    assert [entry.keys() for entry in known["allowCredentials"]] == [
        entry.keys() for entry in unknown["allowCredentials"]
    ]
    assert len(known["allowCredentials"][0]["id"]) == len(unknown["allowCredentials"][0]["id"])
    assert unknown["allowCredentials"] == again["allowCredentials"]
    assert unknown["challenge"] != again["challenge"]
    assert unknown["allowCredentials"] != other["allowCredentials"]

    stranger = authenticator.get(unknown, ORIGIN, credential=authenticator.credentials[0])
    bad_signature = authenticator.get(known, ORIGIN)
    bad_signature["response"]["signature"] = encoded(bytes(256))
    answers = [visitor.post_json("/login/verify", response) for response in (stranger, bad_signature)]
    assert answers[0].status_code == answers[1].status_code == 401
    assert answers[0].json() == answers[1].json()


def test_a_taken_name_is_refused_even_if_it_was_free_when_asked(
    browser: Browser, new_browser: NewBrowser, authenticator: SoftwareAuthenticator
) -> None:
    rival = new_browser()
    options = rival.post_json("/register/options", {"username": "ada"}).json()
    browser.register(authenticator, "ada")

    late = rival.post_json("/register/verify", SoftwareAuthenticator().create(options, ORIGIN))

    assert code_of(late) == (409, "name_taken")
    assert code_of(rival.post_json("/register/options", {"username": "ADA"})) == (409, "name_taken")
    assert rival.user is None


def test_a_credential_id_belongs_to_one_account(
    browser: Browser, new_browser: NewBrowser, authenticator: SoftwareAuthenticator
) -> None:
    """Else an attacker could attach a victim's credential id to a key of their own."""
    browser.register(authenticator, "ada")
    rival, thief = new_browser(), SoftwareAuthenticator()
    options = rival.post_json("/register/options", {"username": "eve"}).json()
    response = thief.create(options, ORIGIN)
    swapped = json.dumps(response).replace(encoded(thief.credentials[0].id), encoded(authenticator.credentials[0].id))
    attested = decoded(response["response"]["attestationObject"]).replace(
        thief.credentials[0].id, authenticator.credentials[0].id
    )
    both = json.loads(swapped)
    both["response"]["attestationObject"] = encoded(attested)

    assert code_of(rival.post_json("/register/verify", both)) == (400, "registration_refused")
    options = rival.post_json("/register/options", {"username": "eve"}).json()  # nothing was half-written
    mismatched = thief.create(options, ORIGIN)
    mismatched["id"] = mismatched["rawId"] = encoded(authenticator.credentials[0].id)
    assert code_of(rival.post_json("/register/verify", mismatched)) == (400, "registration_refused")
