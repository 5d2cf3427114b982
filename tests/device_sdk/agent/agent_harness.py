"""The agent's application over a real device and a real server; the extension and the window speak HTTP to it."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

_TESTS = Path(__file__).parent.parent.parent
for _folder in ("state_machine", "end_to_end"):
    if str(_TESTS / _folder) not in sys.path:
        sys.path.append(str(_TESTS / _folder))

from people import Person  # noqa: E402

from device_sdk import Device  # noqa: E402
from device_sdk.agent.application import create_application  # noqa: E402
from device_sdk.agent.ceremonies import Ceremonies, Timing  # noqa: E402
from device_sdk.agent.extension_identity import extension_origin  # noqa: E402
from device_sdk.agent.jobs import JobBook  # noqa: E402
from device_sdk.agent.pairing import PairingKey  # noqa: E402
from device_sdk.biometrics import BinaryCodeEncoder, Encoder  # noqa: E402
from device_sdk.errors import EncodingError  # noqa: E402

PORT = 8653
HOST = f"127.0.0.1:{PORT}"
ADDRESS = f"http://{HOST}"
SITE = "http://localhost:8080"
KEY = PairingKey(bytes(range(32)))


class Clock:
    """Seconds, as the test says."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Fingers:
    """A sensor with the enrolled person and a stranger before it. `held`: captures wait until it is set."""

    kind = "simulated"
    same_bytes_same_capture = False

    def __init__(self) -> None:
        self.encoder: Encoder = BinaryCodeEncoder(512)
        self._people = {"enrolled": Person(1), "stranger": Person(2)}
        self.captures = 0
        self.entered, self.held = threading.Event(), threading.Event()
        self.held.set()

    def prepare(self) -> None:
        pass

    def sample(self, submitted: bytes) -> Any:
        self.captures += 1
        self.entered.set()
        assert self.held.wait(10)
        finger = submitted.decode()
        if finger not in self._people:
            raise EncodingError("the sensor is dirty")
        return self._people[finger].capture()


@dataclass
class Window:
    """A consent window: what its page holds."""

    client: httpx.AsyncClient = field(repr=False)
    address: str
    csrf: str
    html: str = field(repr=False)

    async def post(self, what: str, body: str = "", **changes: str) -> httpx.Response:
        headers = {"Origin": ADDRESS, "Sec-Fetch-Site": "same-origin", "X-Tandem-Csrf": self.csrf, **changes}
        return await self.client.post(f"{self.address}/{what}", content=body, headers=headers)

    async def consent(self, finger: str = "enrolled", account: str | None = None) -> dict[str, Any]:
        """What the page is told after the button."""
        chosen = account if account is not None else next(iter(self.accounts), "")
        answer = await self.post(f"consent?account={chosen}", finger)
        assert answer.status_code == 200
        told: dict[str, Any] = answer.json()
        return told

    @property
    def accounts(self) -> list[str]:
        """Ids of the passkeys offered, in their order."""
        return re.findall(r'name="account" value="([^"]*)"', self.html)


class AgentUnderTest:
    """One run of the agent. `clock`: of deadlines; `wall_clock`: of the age of requests."""

    def __init__(self, device: Device, *, longest_s: float = 600.0) -> None:
        self.device = device
        self.sensor = Fingers()
        self.clock, self.wall_clock = Clock(1000.0), Clock(1_800_000_000.0)
        self.book = JobBook(self.clock, longest_s=longest_s)
        self.timings: list[Timing] = []
        self.ceremonies = Ceremonies(
            device, self.sensor, self.book, clock=self.clock, wall_clock=time.time, timed=self.timings.append
        )
        self.app = create_application(
            self.ceremonies,
            KEY,
            port=PORT,
            listening_since=self.wall_clock() - 3600.0,
            server="auth.example",
            profile="sim-512",
            wall_clock=self.wall_clock,
        )
        self._transport = httpx.ASGITransport(self.app)
        self._client = httpx.AsyncClient(transport=self._transport, base_url=ADDRESS)

    def signed(self, path: str, body: bytes, key: PairingKey = KEY, host: str = HOST) -> dict[str, str]:
        """The headers of the extension's request; `host`: whom it believes to ask."""
        time_ms, nonce = str(int(self.wall_clock() * 1000)), secrets.token_urlsafe(16)
        return {
            "Origin": extension_origin(),
            "Sec-Fetch-Site": "none",
            "X-Tandem-Time": time_ms,
            "X-Tandem-Nonce": nonce,
            "X-Tandem-Mac": key.request_mac("POST", host, path, time_ms, nonce, body),
        }

    async def raw(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> httpx.Response:
        """Any request of anybody's."""
        return await self._client.request(method, path, content=body, headers=headers)

    async def post(self, path: str, document: Any) -> dict[str, Any]:
        """The extension's request; the answer must prove the key."""
        body = json.dumps(document).encode()
        headers = self.signed(path, body)
        answer = await self.raw("POST", path, headers, body)
        assert answer.status_code == 200, answer.status_code
        proof = KEY.answer_mac(headers["X-Tandem-Nonce"], 200, answer.content)
        assert answer.headers["x-tandem-mac"] == proof
        told: dict[str, Any] = answer.json()
        return told

    async def ask(self, kind: str, options: dict[str, Any], *, page: str = "", origin: str = SITE) -> dict[str, Any]:
        """A page's request, as Chromium hands it to the extension."""
        stated = {"remoteDesktopClientOverride": {"origin": origin, "sameOriginWithAncestors": True}}
        options = {**options, "extensions": {**options.get("extensions", {}), **stated}}
        return await self.post("/v1/jobs", {"kind": kind, "page": page or secrets.token_hex(8), "options": options})

    async def window(self, job: dict[str, Any]) -> Window:
        """Opens the consent window of a job, once."""
        client = httpx.AsyncClient(transport=self._transport, base_url=ADDRESS)
        page = await client.get(job["consent"], headers={"Sec-Fetch-Site": "none"})
        assert page.status_code == 200
        found = {name: re.search(rf'name="{name}" content="([^"]*)"', page.text) for name in ("csrf-token", "address")}
        assert found["csrf-token"] and found["address"]
        return Window(client, found["address"][1], found["csrf-token"][1], page.text)

    async def over(self, job: dict[str, Any]) -> dict[str, Any]:
        """The job once it is over; fails if it is not."""
        told = await self.post(f"/v1/jobs/{job['job']}/wait", {"seen": -1})
        assert told["state"] == "over", told
        return told


def play(device: Device, scenario: Callable[[AgentUnderTest], Awaitable[None]], **settings: Any) -> AgentUnderTest:
    """Run `scenario` with a fresh agent over the device."""

    async def run() -> AgentUnderTest:
        agent = AgentUnderTest(device, **settings)
        try:
            await scenario(agent)
        finally:
            agent.sensor.held.set()
        return agent

    return asyncio.run(run())


async def sensor_reached(agent: AgentUnderTest) -> None:
    """Until a capture has begun, in its thread."""
    while not agent.sensor.entered.is_set():
        await asyncio.sleep(0.001)
