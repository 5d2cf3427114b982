"""How requests end: cancelled, declined, timed out, abandoned, replaced; what is signed too late is dropped."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from agent_harness import KEY, SITE, AgentUnderTest, play, sensor_reached
from agent_options import creation_options, request_options

from device_sdk import Device
from device_sdk.agent.jobs import ABANDONED_AFTER_S, KEPT_S, MAX_OPEN, UNWANTED_PER_MINUTE

NOT_ALLOWED = {"name": "NotAllowedError", "message": "The operation either timed out or was not allowed."}


async def cancelled(agent: AgentUnderTest, job: dict[str, Any]) -> None:
    await agent.post(f"/v1/jobs/{job['job']}/cancel", {})


async def past_its_deadline(agent: AgentUnderTest, job: dict[str, Any]) -> None:
    agent.clock.now += 300.0


async def abandoned(agent: AgentUnderTest, job: dict[str, Any]) -> None:
    agent.clock.now += ABANDONED_AFTER_S + 0.1


@pytest.mark.parametrize("end", [cancelled, past_its_deadline, abandoned])
def test_what_is_over_takes_no_consent(device: Device, end: Any) -> None:
    async def scenario(agent: AgentUnderTest) -> None:
        job = await agent.ask("get", request_options(timeout=300_000))
        window = await agent.window(job)
        await end(agent, job)
        assert (await window.consent())["succeeded"] is False
        assert (await agent.over(job))["error"] == NOT_ALLOWED

    assert play(device, scenario).sensor.captures == 0


@pytest.mark.parametrize("end", [cancelled, past_its_deadline])
def test_a_signature_that_comes_too_late_is_dropped(device: Device, end: Any) -> None:
    """The page gave up while the SDK was signing: the response is thrown away, and so is a passkey just made."""
    held = len(device.credentials())

    async def scenario(agent: AgentUnderTest) -> None:
        for kind, options in (("get", request_options()), ("create", creation_options("gone"))):
            job = await agent.ask(kind, {**options, "timeout": 300_000})
            window = await agent.window(job)
            agent.sensor.held.clear()
            agent.sensor.entered.clear()
            consent = asyncio.create_task(window.consent())
            await sensor_reached(agent)
            await end(agent, job)
            agent.sensor.held.set()
            assert (await consent)["succeeded"] is False
            over = await agent.over(job)
            assert over["error"] == NOT_ALLOWED and "response" not in over

    agent = play(device, scenario)
    assert agent.sensor.captures == 2 and not agent.timings
    assert len(device.credentials()) == held


def test_a_cancel_that_comes_too_late_takes_nothing_back(device: Device) -> None:
    """The extension cancels when the window closes, and it closes after success as well."""

    async def scenario(agent: AgentUnderTest) -> None:
        job = await agent.ask("get", request_options())
        window = await agent.window(job)
        await window.consent()
        await cancelled(agent, job)
        await window.post("decline")
        assert "response" in await agent.over(job)

    play(device, scenario)


def test_declining_needs_no_capture_and_ends_it(device: Device) -> None:
    async def scenario(agent: AgentUnderTest) -> None:
        job = await agent.ask("create", creation_options("hugo"))
        window = await agent.window(job)
        assert (await window.post("decline")).json()["state"] == "over"
        assert (await agent.over(job))["error"] == NOT_ALLOWED
        assert (await window.consent())["succeeded"] is False

    assert play(device, scenario).sensor.captures == 0


@pytest.mark.parametrize(
    ("asked_ms", "longest_s", "lasts_s"),
    [(60_000, 600.0, 60.0), (1, 600.0, 15.0), (9_000_000, 600.0, 600.0), (None, 600.0, 300.0), (300_000, 20.0, 20.0)],
)
def test_the_agent_keeps_the_pages_time_within_bounds(
    device: Device, asked_ms: int | None, longest_s: float, lasts_s: float
) -> None:
    """Chromium enforces no timeout for requests that an extension answers."""

    async def scenario(agent: AgentUnderTest) -> None:
        job = await agent.ask("get", request_options(timeout=asked_ms))
        found = agent.book.find(job["job"])
        found.listeners = 1  # the extension listens all the time
        agent.clock.now += lasts_s - 0.01
        assert (await agent.post(f"/v1/jobs/{job['job']}/wait", {"seen": -1}))["state"] == "waiting"
        agent.clock.now += 0.02
        assert (await agent.over(job))["error"] == NOT_ALLOWED

    play(device, scenario, longest_s=longest_s)


def test_listening_wakes_with_the_answer(device: Device) -> None:
    """The extension hears of the end when it comes, not after the listening time."""

    async def scenario(agent: AgentUnderTest) -> None:
        job = await agent.ask("get", request_options())
        window = await agent.window(job)
        listening = asyncio.create_task(agent.post(f"/v1/jobs/{job['job']}/wait", {"seen": job["version"]}))
        following = asyncio.create_task(window.post("wait", str(job["version"])))
        await asyncio.sleep(0.02)
        assert not listening.done() and not following.done()
        await window.post("decline")
        assert (await asyncio.wait_for(listening, 1))["state"] == "over"
        assert (await asyncio.wait_for(following, 1)).json()["state"] == "over"

    play(device, scenario)


def test_one_ceremony_a_page(device: Device) -> None:
    """A page that asks anew has given up what it asked before; another page's request is left alone."""

    async def scenario(agent: AgentUnderTest) -> None:
        first = await agent.ask("get", request_options(), page="tab")
        window = await agent.window(first)
        other = await agent.ask("get", request_options(), page="another tab")
        elsewhere = await agent.ask("get", request_options(rpId=None), page="tab", origin="http://sub.localhost:1")
        second = await agent.ask("get", request_options(), page="tab")
        assert (await agent.over(first))["error"] == NOT_ALLOWED
        assert (await window.consent())["succeeded"] is False
        for job in (other, elsewhere, second):
            assert (await agent.post(f"/v1/jobs/{job['job']}/wait", {"seen": -1}))["state"] == "waiting"

    assert play(device, scenario).sensor.captures == 0


def test_the_number_of_open_requests_is_bounded(device: Device) -> None:
    async def scenario(agent: AgentUnderTest) -> None:
        async def of(port: int) -> dict[str, Any]:
            return await agent.ask("get", request_options(), origin=f"http://localhost:{port}")

        jobs = [await of(port) for port in range(1, MAX_OPEN + 1)]
        assert all("consent" in job for job in jobs)
        refused = await of(99)
        assert refused == {"state": "over", "error": NOT_ALLOWED}
        await cancelled(agent, jobs[0])
        assert "consent" in await of(99)

    play(device, scenario)


def test_a_site_that_prompts_in_vain_is_refused_for_a_while(device: Device) -> None:
    """Or a page could open windows until somebody consents to have it over with. Other sites go on."""

    async def scenario(agent: AgentUnderTest) -> None:
        for _ in range(UNWANTED_PER_MINUTE):
            await cancelled(agent, await agent.ask("get", request_options()))
        assert (await agent.ask("get", request_options()))["error"] == NOT_ALLOWED
        elsewhere = await agent.ask("get", request_options(rpId=None), origin="http://sub.localhost:1")
        assert "consent" in elsewhere
        agent.clock.now += 61
        assert "consent" in await agent.ask("get", request_options())

    play(device, scenario)


def test_all_names_of_a_site_count_together(device: Device) -> None:
    """A page has as many names under its domain as it likes, and sends its visitor from one to the next."""

    async def scenario(agent: AgentUnderTest) -> None:
        async def of(host: str) -> dict[str, Any]:
            return await agent.ask("get", request_options(rpId=None), origin=f"https://{host}")

        for number in range(UNWANTED_PER_MINUTE):
            await cancelled(agent, await of(f"n{number}.evil.example"))
        assert (await of("another.evil.example:8443"))["error"] == NOT_ALLOWED
        assert "consent" in await of("good.example")

    play(device, scenario)


def test_windows_that_are_still_open_count_as_well(device: Device) -> None:
    """A page of many frames asks in each of them at once."""

    async def scenario(agent: AgentUnderTest) -> None:
        opened = [await agent.ask("get", request_options()) for _ in range(MAX_OPEN)]
        assert sum("consent" in job for job in opened) == UNWANTED_PER_MINUTE

    play(device, scenario)


def test_outcomes_are_forgotten(device: Device) -> None:
    """A response stays only as long as the extension may still fetch it; afterwards the job is unknown."""

    async def scenario(agent: AgentUnderTest) -> None:
        job = await agent.ask("get", request_options())
        await (await agent.window(job)).consent()
        assert "response" in await agent.over(job)
        agent.clock.now += KEPT_S + 1
        path, body = f"/v1/jobs/{job['job']}/wait", b'{"seen": 0}'
        assert (await agent.raw("POST", path, agent.signed(path, body), body)).status_code == 404

    play(device, scenario)


def test_a_fault_of_the_agents_own_ends_the_request(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever breaks, the page does not wait for ever, and the extension still knows whom it speaks to."""

    def broken(*_: object) -> None:
        raise RuntimeError("a secret")

    async def scenario(agent: AgentUnderTest) -> None:
        job = await agent.ask("get", request_options())
        window = await agent.window(job)
        monkeypatch.setattr(agent.sensor, "sample", broken)
        told = await window.consent()
        assert told["state"] == "over" and "secret" not in told["message"]
        assert (await agent.over(job))["error"]["name"] == "UnknownError"

        monkeypatch.setattr(agent.book, "open", broken)
        body = json.dumps({"kind": "get", "page": "x", "options": _stated(request_options())}).encode()
        headers = agent.signed("/v1/jobs", body)
        answer = await agent.raw("POST", "/v1/jobs", headers, body)
        assert (answer.status_code, answer.content) == (500, b"{}")
        assert answer.headers["x-tandem-mac"] == KEY.answer_mac(headers["X-Tandem-Nonce"], 500, b"{}")

    play(device, scenario)


def _stated(options: dict[str, Any]) -> dict[str, Any]:
    return {**options, "extensions": {"remoteDesktopClientOverride": {"origin": SITE, "sameOriginWithAncestors": True}}}


def test_a_stopped_agent_leaves_nobody_waiting(device: Device) -> None:
    async def scenario(agent: AgentUnderTest) -> None:
        job = await agent.ask("get", request_options())
        listening = asyncio.create_task(agent.post(f"/v1/jobs/{job['job']}/wait", {"seen": job["version"]}))
        await asyncio.sleep(0.02)
        agent.book.close()
        assert (await asyncio.wait_for(listening, 1))["error"] == NOT_ALLOWED

    play(device, scenario)


def test_a_server_that_is_away_may_be_tried_again(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """The window stays open, and the same request succeeds once the server is back."""
    from device_sdk.errors import TransportError

    async def scenario(agent: AgentUnderTest) -> None:
        job = await agent.ask("get", request_options())
        window = await agent.window(job)
        with monkeypatch.context() as patched:
            patched.setattr(device._transport, "post_cbor", _away)
            told = await window.consent()
        assert told["state"] == "waiting" and "could not be reached" in told["message"]
        assert (await window.consent())["succeeded"] is True

    def _away(*_: object, **__: object) -> None:
        raise TransportError

    play(device, scenario)
