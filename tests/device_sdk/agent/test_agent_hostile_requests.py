"""Pages, other extensions, other programs and other names: nobody but the extension and the window is answered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from agent_harness import ADDRESS, HOST, AgentUnderTest, Window, play
from agent_options import creation_options, request_options

from device_sdk import Device
from device_sdk.agent.extension_identity import extension_origin
from device_sdk.agent.pairing import PairingKey

EVIL = "http://evil.localhost:9000"
OTHER_EXTENSION = "chrome-extension://" + "a" * 32


def assert_nothing(answer: httpx.Response, status: int = 403) -> None:
    """Refused without a word, and unreadable for pages."""
    assert (answer.status_code, answer.content) == (status, b"")
    assert not [name for name in answer.headers if name.startswith("access-control")]


def job_body() -> bytes:
    stated = {"remoteDesktopClientOverride": {"origin": "https://bank.example", "sameOriginWithAncestors": True}}
    return json.dumps({"kind": "get", "page": "x", "options": {**request_options(), "extensions": stated}}).encode()


@pytest.mark.parametrize(
    "origin", [None, "null", EVIL, ADDRESS, OTHER_EXTENSION, extension_origin() + "/", "https://x"]
)
def test_only_the_pinned_extension_is_answered(device: Device, origin: str | None) -> None:
    """Even with the pairing key in hand: an origin is exactly the extension's or it is none."""

    async def scenario(agent: AgentUnderTest) -> None:
        body = job_body()
        headers = {**agent.signed("/v1/jobs", body), "Origin": origin or ""}
        if origin is None:
            del headers["Origin"]
        assert_nothing(await agent.raw("POST", "/v1/jobs", headers, body))
        assert not agent.book._jobs

    play(device, scenario)


@pytest.mark.parametrize(
    "host", ["localhost:8653", "evil.example", "127.0.0.1", "127.0.0.1:80", "[::1]:8653", HOST + "."]
)
def test_no_other_name_leads_to_the_agent(device: Device, host: str) -> None:
    """DNS rebinding: a page whose name points to this machine is of the same origin as what answers there."""

    async def scenario(agent: AgentUnderTest) -> None:
        window = await agent.window(await agent.ask("get", request_options()))
        body = job_body()
        assert_nothing(await agent.raw("POST", "/v1/jobs", {**agent.signed("/v1/jobs", body), "Host": host}, body))
        page = {"Host": host, "Sec-Fetch-Site": "same-origin", "Cookie": _cookie(window)}
        assert_nothing(await agent.raw("GET", window.address, page))
        assert_nothing(await agent.raw("GET", "/static/consent.js", page))
        consent = {**page, "Origin": f"http://{host}", "X-Tandem-Csrf": window.csrf}
        assert_nothing(await agent.raw("POST", f"{window.address}/consent", consent, b"enrolled"))

    assert play(device, scenario).sensor.captures == 0


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
def test_the_extensions_addresses_take_nothing_but_post(device: Device, method: str) -> None:
    """A preflight above all: its refusal keeps other pages' scripts from sending anything but plain requests."""

    async def scenario(agent: AgentUnderTest) -> None:
        headers = {"Origin": extension_origin(), "Access-Control-Request-Method": "POST"}
        assert_nothing(await agent.raw(method, "/v1/jobs", headers))

    play(device, scenario)


def tampered() -> Iterator[tuple[str, dict[str, str], bytes | None, str | None]]:
    """(what, headers changed, another body, another path)."""
    yield "no MAC", {"X-Tandem-Mac": ""}, None, None
    yield "a wrong MAC", {"X-Tandem-Mac": "A" * 43}, None, None
    yield "a MAC that is no ASCII", {"X-Tandem-Mac": "é"}, None, None
    yield "another body", {}, b'{"kind": "create"}', None
    yield "another path", {}, None, "/v1/status"
    yield "another time", {"X-Tandem-Time": "1"}, None, None
    yield "no time", {"X-Tandem-Time": "now"}, None, None
    yield "another nonce", {"X-Tandem-Nonce": "A" * 22}, None, None
    yield "a nonce with a line feed's place", {"X-Tandem-Nonce": "A" * 23}, None, None
    yield (
        "a token instead",
        {"Authorization": "Bearer AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8", "X-Tandem-Mac": ""},
        None,
        None,
    )


@pytest.mark.parametrize(("changes", "body", "path"), [t[1:] for t in tampered()], ids=[t[0] for t in tampered()])
def test_without_proof_of_the_pairing_key_there_is_no_job(
    device: Device, changes: dict[str, str], body: bytes | None, path: str | None
) -> None:
    """Another program on this machine can send any Origin it likes."""

    async def scenario(agent: AgentUnderTest) -> None:
        honest = job_body()
        headers: dict[str, Any] = {**agent.signed("/v1/jobs", honest), **changes}
        encoded = {name: value.encode("latin-1") for name, value in headers.items()}
        answer = await agent.raw("POST", path or "/v1/jobs", encoded, honest if body is None else body)  # type: ignore[arg-type]
        assert_nothing(answer, 401)
        assert "x-tandem-mac" not in answer.headers
        assert not agent.book._jobs

    play(device, scenario)


def test_another_key_proves_nothing(device: Device) -> None:
    async def scenario(agent: AgentUnderTest) -> None:
        body = job_body()
        assert_nothing(
            await agent.raw("POST", "/v1/jobs", agent.signed("/v1/jobs", body, PairingKey(bytes(32))), body), 401
        )

    play(device, scenario)


def test_a_request_counts_once_and_for_a_minute(device: Device) -> None:
    """Whoever took the agent's port for a while has heard requests; repeating them later must do nothing."""

    async def scenario(agent: AgentUnderTest) -> None:
        body = b"{}"
        headers = agent.signed("/v1/status", body)
        assert (await agent.raw("POST", "/v1/status", headers, body)).status_code == 200
        assert_nothing(await agent.raw("POST", "/v1/status", headers, body), 401)
        agent.wall_clock.now += 30.0
        await agent.post("/v1/status", {})
        assert_nothing(await agent.raw("POST", "/v1/status", headers, body), 401)
        for later in (31.0, 59.0, 121.0, 500.0):
            agent.wall_clock.now += later
            assert_nothing(await agent.raw("POST", "/v1/status", headers, body), 401)
        unheard = agent.signed("/v1/status", body)
        agent.wall_clock.now += 61.0
        assert_nothing(await agent.raw("POST", "/v1/status", unheard, body), 401)
        ahead = agent.signed("/v1/status", body)
        agent.wall_clock.now -= 61.0
        assert_nothing(await agent.raw("POST", "/v1/status", ahead, body), 401)

    play(device, scenario)


def test_a_request_to_another_port_is_not_served_here(device: Device) -> None:
    """Another user's program took the paired port, and the agent was started on another.

    Passed on, requests would be answered through that program: it would see the window's address and the signature.
    """

    async def scenario(agent: AgentUnderTest) -> None:
        body = job_body()
        for host in ("127.0.0.1:8654", "127.0.0.1", ""):
            assert_nothing(await agent.raw("POST", "/v1/jobs", agent.signed("/v1/jobs", body, host=host), body), 401)
        assert not agent.book._jobs

    play(device, scenario)


def test_a_request_from_before_the_agent_took_its_port_is_refused(device: Device) -> None:
    """Whoever listened there before may have kept it; new to this agent and fresh, it would open a window to them."""

    async def scenario(agent: AgentUnderTest) -> None:
        agent.wall_clock.now -= 3600.001
        kept, body = agent.signed("/v1/jobs", job_body()), job_body()
        agent.wall_clock.now += 10.0
        assert_nothing(await agent.raw("POST", "/v1/jobs", kept, body), 401)
        assert not agent.book._jobs
        await agent.post("/v1/status", {})

    play(device, scenario)


def test_an_answer_proves_the_key_for_its_own_request_only(device: Device) -> None:
    """Or a program in the agent's place could answer with what it heard the agent say."""

    async def scenario(agent: AgentUnderTest) -> None:
        body = b"{}"
        one, other = agent.signed("/v1/status", body), agent.signed("/v1/status", body)
        answers = [await agent.raw("POST", "/v1/status", headers, body) for headers in (one, other)]
        assert answers[0].content == answers[1].content
        assert answers[0].headers["x-tandem-mac"] != answers[1].headers["x-tandem-mac"]

    play(device, scenario)


@pytest.mark.parametrize(
    "changes",
    [
        {"Origin": EVIL},
        {"Origin": "null"},
        {"Origin": extension_origin()},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"X-Tandem-Csrf": ""},
        {"X-Tandem-Csrf": "A" * 43},
        {"Host": "localhost:8653"},
    ],
)
def test_a_window_is_driven_by_its_own_page_only(device: Device, changes: dict[str, str]) -> None:
    """With the address and the cookie: forms, beacons and fetches of other pages neither consent nor decline."""

    async def scenario(agent: AgentUnderTest) -> None:
        job = await agent.ask("get", request_options())
        window = await agent.window(job)
        for what in ("consent", "decline", "wait"):
            assert (await window.post(what, "enrolled", **changes)).status_code == 403
        assert (await agent.post(f"/v1/jobs/{job['job']}/wait", {"seen": -1}))["state"] == "waiting"

    assert play(device, scenario).sensor.captures == 0


@pytest.mark.parametrize("site", ["cross-site", "same-site", None])
def test_no_page_frames_opens_or_loads_anything(device: Device, site: str | None) -> None:
    """Not the window, not its script: another page does not even learn that it is there."""

    async def scenario(agent: AgentUnderTest) -> None:
        job = await agent.ask("get", request_options())
        headers = {} if site is None else {"Sec-Fetch-Site": site}
        for path in (job["consent"], "/static/consent.js", "/static/nothing", "/"):
            assert_nothing(await agent.raw("GET", path, headers))
        await agent.window(job)  # the ticket is not spent by it

    play(device, scenario)


def test_a_window_opens_once_and_with_its_cookie(device: Device) -> None:
    """The address that opened it is of no use afterwards, in a history say; nor is one window's cookie in another."""

    async def scenario(agent: AgentUnderTest) -> None:
        jobs = [await agent.ask("get", request_options()) for _ in range(2)]
        one, other = [await agent.window(job) for job in jobs]
        site = {"Sec-Fetch-Site": "none"}
        assert (await agent.raw("GET", jobs[0]["consent"], site)).status_code == 404
        for cookie in ("", _cookie(one).split("=")[0] + "=x", _cookie(other)):
            assert (await agent.raw("GET", one.address, {**site, "Cookie": cookie})).status_code == 404
        crossed = {"Origin": ADDRESS, "Sec-Fetch-Site": "same-origin", "X-Tandem-Csrf": other.csrf}
        answer = await agent.raw("POST", f"{one.address}/consent", {**crossed, "Cookie": _cookie(one)}, b"enrolled")
        assert answer.status_code == 403
        assert (await agent.raw("GET", one.address, {**site, "Cookie": _cookie(one)})).status_code == 200  # a reload

    assert play(device, scenario).sensor.captures == 0


def test_another_server_of_this_machine_puts_no_cookie_in_the_windows_place(device: Device) -> None:
    """Browsers tell cookies apart by path and not by port: one for / comes with every request, after the window's."""

    async def scenario(agent: AgentUnderTest) -> None:
        windows = [await agent.window(await agent.ask("get", request_options())) for _ in range(2)]
        tossed = "; ".join(f"{_cookie(known).split('=')[0]}=x" for known in windows[:1])
        cookies = f"{_cookie(windows[1])}; {tossed}; tandem_consent=x"
        assert (await windows[1].post("wait", "-1", Cookie=cookies)).status_code == 200

    play(device, scenario)


def test_the_window_is_narrowed(device: Device) -> None:
    """No framing, no foreign script, no camera where none is needed; the cookie is strict and for that page alone."""

    async def scenario(agent: AgentUnderTest) -> None:
        job = await agent.ask("get", request_options())
        answer = await agent.raw("GET", job["consent"], {"Sec-Fetch-Site": "none"})
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy and "unsafe" not in policy
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["permissions-policy"].startswith("camera=()")
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["referrer-policy"] == "no-referrer"
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie and "path=/page/" in cookie
        secret = answer.headers["set-cookie"].split("=", 1)[1].split(";")[0]
        assert secret not in answer.text and job["job"] not in answer.text
        assert "<script>" not in answer.text and "onclick" not in answer.text

    play(device, scenario)


def test_names_of_sites_and_people_are_shown_as_text(device: Device) -> None:
    """A name neither brings markup nor turns what follows it."""
    name = '<img src=x onerror="alert(1)">' + "‮" + "\n" + "x" * 200

    async def scenario(agent: AgentUnderTest) -> None:
        options = request_options()
        options = {
            "challenge": options["challenge"],
            "rp": {"id": "localhost", "name": name},
            "user": {"id": "AAAA", "name": name, "displayName": name},
            "pubKeyCredParams": [{"type": "public-key", "alg": -257}],
        }
        html = (await agent.window(await agent.ask("create", options))).html
        assert "<img src=x" not in html and "&lt;img src=x" in html
        assert "‮" not in html and "x" * 65 not in html

    play(device, scenario)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a" + "\u0301" * 60, "a" + "\u0301" * 3),
        ("Nguye\u0302\u0303n \u0928\u093f", "Nguye\u0302\u0303n \u0928\u093f"),
        ("\u3164\u2800\uffa0", "an account without a name"),
        ("\u2066ann\u2069\u200b\u2028bob", "ann bob"),
    ],
)
def test_a_name_covers_nothing_and_does_not_pass_for_none(device: Device, name: str, shown: str) -> None:
    """Dozens of accents on one letter are drawn over the lines around it; blank letters look like no name at all."""

    async def scenario(agent: AgentUnderTest) -> None:
        options = creation_options("ann")
        options["user"] = {"id": "AAAA", "name": name, "displayName": ""}
        html = (await agent.window(await agent.ask("create", options))).html
        assert f"<bdi>{shown}</bdi>" in html

    play(device, scenario)


def test_bodies_are_bounded(device: Device) -> None:
    async def scenario(agent: AgentUnderTest) -> None:
        body = b"[" + b" " * 70_000 + b"]"
        assert_nothing(await agent.raw("POST", "/v1/jobs", agent.signed("/v1/jobs", body), body), 413)
        window = await agent.window(await agent.ask("get", request_options()))
        assert (await window.post("consent", "x" * (17 << 20))).status_code == 413
        assert (await window.post("wait", "x" * 2000)).status_code == 413

    assert play(device, scenario).sensor.captures == 0


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{", b"\xff", b"[" * 30_000, b"{}"])
def test_what_the_extension_never_sends_is_an_error_of_its_own(device: Device, body: bytes) -> None:
    async def scenario(agent: AgentUnderTest) -> None:
        answer = await agent.raw("POST", "/v1/jobs", agent.signed("/v1/jobs", body), body)
        assert answer.status_code == 400

    play(device, scenario)


def _cookie(window: Window) -> str:
    return "; ".join(f"{cookie.name}={cookie.value}" for cookie in window.client.cookies.jar)
