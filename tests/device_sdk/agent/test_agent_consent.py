"""No signature without a person's consent and a match of that very request."""

from __future__ import annotations

import asyncio

import pytest
import webauthn
from agent_harness import SITE, AgentUnderTest, play, sensor_reached
from agent_options import CHALLENGE, creation_options, credential_id, passkey_of, registered, request_options, spelt
from people import Person
from real_server import ThreadServer

from device_sdk import Device

NOT_ALLOWED = {"name": "NotAllowedError", "message": "The operation either timed out or was not allowed."}


def attempts(server: ThreadServer) -> int:
    """Logins that reached the authentication server."""
    return int(server.database.one("SELECT count(*) AS n FROM logins")["n"])


def test_a_passkey_is_made_and_used_with_consent(device: Device) -> None:
    """The honest way, judged by py_webauthn."""

    async def scenario(agent: AgentUnderTest) -> None:
        job = await agent.ask("create", creation_options("carla", attestation="direct"))
        told = await (await agent.window(job)).consent()
        assert (told["state"], told["succeeded"]) == ("over", True)
        made = registered((await agent.over(job))["response"], SITE)
        assert made.fmt == "packed" and made.user_verified

        job = await agent.ask("get", request_options(made.credential_id))
        await (await agent.window(job)).consent()
        used = webauthn.verify_authentication_response(
            credential=(await agent.over(job))["response"],
            expected_challenge=CHALLENGE,
            expected_rp_id="localhost",
            expected_origin=SITE,
            credential_public_key=made.credential_public_key,
            credential_current_sign_count=made.sign_count,
            require_user_verification=True,
        )
        assert used.new_sign_count == made.sign_count + 1
        device.delete(made.credential_id)

    agent = play(device, scenario)
    assert [(timing.kind, timing.ended) for timing in agent.timings] == [("create", "ok"), ("get", "ok")]


def test_nothing_is_captured_or_sent_before_consent(device: Device, agent_server: ThreadServer) -> None:
    """Asking, opening the window and waiting cost neither a capture nor an attempt, and the extension hears nothing."""
    before = attempts(agent_server)

    async def scenario(agent: AgentUnderTest) -> None:
        job = await agent.ask("get", request_options())
        window = await agent.window(job)
        await window.post("wait", "-1")
        told = await agent.post(f"/v1/jobs/{job['job']}/wait", {"seen": -1})
        assert told["state"] == "waiting" and "response" not in told and "error" not in told
        assert agent.sensor.captures == 0

    play(device, scenario)
    assert attempts(agent_server) == before


def test_a_stranger_gets_no_signature_however_often_he_tries(device: Device, agent_server: ThreadServer) -> None:
    """Three tries a request, each one attempt at the server; the page hears that it was not allowed, the person why."""
    before = attempts(agent_server)

    async def scenario(agent: AgentUnderTest) -> None:
        job = await agent.ask("get", request_options())
        window = await agent.window(job)
        messages = [await window.consent("stranger") for _ in range(3)]
        assert [told["state"] for told in messages] == ["waiting", "waiting", "over"]
        assert all("did not match" in told["message"] for told in messages)
        over = await agent.over(job)
        assert over["error"] == NOT_ALLOWED and "response" not in over
        assert (await window.consent("enrolled"))["succeeded"] is False

    agent = play(device, scenario)
    assert attempts(agent_server) == before + 3
    assert agent.sensor.captures == 3


def test_after_a_failed_try_the_right_person_signs(device: Device) -> None:
    async def scenario(agent: AgentUnderTest) -> None:
        job = await agent.ask("get", request_options())
        window = await agent.window(job)
        assert (await window.consent("stranger"))["state"] == "waiting"
        assert (await window.consent("enrolled"))["succeeded"] is True
        assert "response" in await agent.over(job)

    play(device, scenario)


def test_a_capture_that_cannot_be_used_costs_no_try(device: Device, agent_server: ThreadServer) -> None:
    before = attempts(agent_server)

    async def scenario(agent: AgentUnderTest) -> None:
        window = await agent.window(await agent.ask("get", request_options()))
        for _ in range(5):
            told = await window.consent("dirt")
            assert told["state"] == "waiting" and "Nothing was sent" in told["message"]

    play(device, scenario)
    assert attempts(agent_server) == before


def test_a_picture_is_compared_once_in_a_request(device: Device, agent_server: ThreadServer) -> None:
    """A malicious server may learn one bit about a capture at each login; it is not asked twice about the same one."""
    before = attempts(agent_server)

    async def scenario(agent: AgentUnderTest) -> None:
        agent.sensor.same_bytes_same_capture = True
        window = await agent.window(await agent.ask("get", request_options()))
        assert (await window.consent("stranger"))["state"] == "waiting"
        told = await window.consent("stranger")
        assert told["state"] == "waiting" and "compared already" in told["message"]
        assert (await window.consent("enrolled"))["succeeded"] is True

    play(device, scenario)
    assert attempts(agent_server) == before + 2


def test_the_signature_is_of_the_account_that_was_shown(device: Device) -> None:
    """The chooser offers what may answer, newest first; the choice binds, and what was not offered cannot be chosen."""
    ann, bob = passkey_of(device, "ann"), passkey_of(device, "bob")

    async def scenario(agent: AgentUnderTest) -> None:
        window = await agent.window(job := await agent.ask("get", request_options()))
        assert window.accounts == [spelt(bob), spelt(ann)]
        told = await window.consent(account=spelt(bytes(32)))
        assert told["state"] == "waiting" and "Choose" in told["message"]
        assert agent.sensor.captures == 0
        await window.consent(account=spelt(ann))
        assert credential_id((await agent.over(job))["response"]) == ann

        window = await agent.window(job := await agent.ask("get", request_options(bob)))
        assert window.accounts == [spelt(bob)]
        told = await window.consent(account=spelt(ann))
        assert told["state"] == "waiting", "an account that the site did not name"

    play(device, scenario)


def test_consent_for_one_passkey_is_none_for_another_that_came_meanwhile(device: Device) -> None:
    """The passkey shown is deleted while the window is open, and another fits by then: nothing is signed with that."""
    person = Person(1)
    origin = "https://shop.example"
    wanted = {**creation_options("dora"), "rp": {"id": "shop.example", "name": "Shop"}}
    old = credential_id(device.create(wanted, origin, person.capture))

    async def scenario(agent: AgentUnderTest) -> None:
        asked = {**request_options(), "rpId": "shop.example"}
        job = await agent.ask("get", asked, origin=origin)
        window = await agent.window(job)
        assert window.accounts == [spelt(old)]
        device.delete(old)
        new = credential_id(
            device.create({**wanted, "user": {**wanted["user"], "id": spelt(b"eve")}}, origin, person.capture)
        )
        told = await window.consent(account=spelt(old))
        assert told["state"] == "waiting"
        assert (await agent.post(f"/v1/jobs/{job['job']}/wait", {"seen": -1}))["state"] == "waiting"
        device.delete(new)

    play(device, scenario)


def test_where_nothing_fits_the_page_learns_it_from_the_person_only(device: Device) -> None:
    """An answer at once would tell a page whose passkeys are here."""

    async def scenario(agent: AgentUnderTest) -> None:
        job = await agent.ask("get", request_options(bytes(32)))
        assert job["state"] == "waiting"
        window = await agent.window(job)
        assert "No passkey for this site" in window.html and not window.accounts
        assert (await window.consent(account=spelt(passkey_of(device, "ann"))))["state"] == "waiting"
        await window.post("decline")
        assert (await agent.over(job))["error"] == NOT_ALLOWED

    assert play(device, scenario).sensor.captures == 0


def test_an_excluded_passkey_is_told_only_after_a_match(device: Device, agent_server: ThreadServer) -> None:
    async def scenario(agent: AgentUnderTest) -> None:
        options = creation_options("ann", excluded=[passkey_of(device, "ann")])
        job = await agent.ask("create", options)
        window = await agent.window(job)
        before = attempts(agent_server)
        assert (await window.consent("stranger"))["state"] == "waiting"
        await window.consent("enrolled")
        assert (await agent.over(job))["error"]["name"] == "InvalidStateError"
        assert attempts(agent_server) == before + 2

    play(device, scenario)


@pytest.mark.parametrize("kind", ["create", "get"])
def test_two_consents_at_once_are_one(device: Device, agent_server: ThreadServer, kind: str) -> None:
    """A double click, or a second copy of the window's request: one capture, one attempt."""
    before = attempts(agent_server)

    async def scenario(agent: AgentUnderTest) -> None:
        options = creation_options("finn") if kind == "create" else request_options()
        job = await agent.ask(kind, options)
        window = await agent.window(job)
        agent.sensor.held.clear()
        one = asyncio.create_task(window.consent())
        await sensor_reached(agent)
        other = await window.consent()
        assert other["state"] == "signing"
        agent.sensor.held.set()
        assert (await one)["succeeded"] is True
        response = (await agent.over(job))["response"]
        if kind == "create":
            device.delete(credential_id(response))

    assert play(device, scenario).sensor.captures == 1
    assert attempts(agent_server) == before + 1
