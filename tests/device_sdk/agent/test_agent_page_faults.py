"""What pages ask for wrongly: refused at once where that tells nothing of the person, under WebAuthn's names."""

from __future__ import annotations

from typing import Any

import pytest
from agent_harness import SITE, AgentUnderTest, play
from agent_options import creation_options, request_options

from device_sdk import Device
from device_sdk import errors as faults
from device_sdk.agent.outcomes import failed
from device_sdk.errors import TandemError

NAMES = {"NotAllowedError", "InvalidStateError", "NotSupportedError", "SecurityError", "UnknownError"}


def stated(origin: Any, same: Any = True) -> dict[str, Any]:
    return {"remoteDesktopClientOverride": {"origin": origin, "sameOriginWithAncestors": same}}


@pytest.mark.parametrize(
    ("extensions", "name"),
    [
        ({}, "SecurityError"),
        ({"remoteDesktopClientOverride": SITE}, "SecurityError"),
        (stated("http://evil.example"), "SecurityError"),
        (stated("https://127.0.0.1"), "SecurityError"),
        (stated("https://shop.example"), "SecurityError"),
        (stated(7), "UnknownError"),
        (stated(SITE, False), "NotAllowedError"),
        (stated(SITE, None), "NotAllowedError"),
        (stated(SITE, "true"), "NotAllowedError"),
    ],
)
@pytest.mark.parametrize("kind", ["create", "get"])
def test_an_origin_that_may_not_ask_gets_no_window(
    device: Device, kind: str, extensions: dict[str, Any], name: str
) -> None:
    """None stated, none that may use passkeys, not the one of the relying party, a frame in another site's page."""

    async def scenario(agent: AgentUnderTest) -> None:
        options = creation_options("ida") if kind == "create" else request_options()
        told = await agent.post(
            "/v1/jobs", {"kind": kind, "page": "x", "options": {**options, "extensions": extensions}}
        )
        assert told["state"] == "over" and told["error"]["name"] == name
        assert not agent.book._jobs

    play(device, scenario)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"pubKeyCredParams": [{"type": "public-key", "alg": -7}]}, "NotSupportedError"),
        ({"pubKeyCredParams": [{"type": "unknown", "alg": -257}]}, "NotSupportedError"),
        ({"authenticatorSelection": {"authenticatorAttachment": "cross-platform"}}, "NotAllowedError"),
        ({"challenge": "AAAA"}, "UnknownError"),
        ({"rp": {"id": "example", "name": "x"}}, "SecurityError"),
    ],
)
def test_options_that_cannot_be_met_are_told_by_name(device: Device, changes: dict[str, Any], name: str) -> None:
    async def scenario(agent: AgentUnderTest) -> None:
        told = await agent.ask("create", creation_options("ida", **changes))
        assert told["error"]["name"] == name

    play(device, scenario)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"kind": "delete", "page": "x", "options": {}},
        {"kind": ["get"], "page": "x", "options": {}},
        {"kind": "get", "page": "", "options": {}},
        {"kind": "get", "page": "x" * 65, "options": {}},
        {"kind": "get", "page": 1, "options": {}},
        {"kind": "get", "page": "x", "options": []},
    ],
)
def test_a_malformed_job_is_an_error_of_the_extension(device: Device, document: dict[str, Any]) -> None:
    import json

    async def scenario(agent: AgentUnderTest) -> None:
        body = json.dumps(document).encode()
        assert (await agent.raw("POST", "/v1/jobs", agent.signed("/v1/jobs", body), body)).status_code == 400

    play(device, scenario)


def every_fault() -> list[TandemError]:
    """One of each class that an app can meet."""
    made: list[TandemError] = []
    for item in vars(faults).values():
        if isinstance(item, type) and issubclass(item, TandemError):
            match item.__name__:
                case "LockedOut":
                    made.append(faults.LockedOut(30))
                case "ServerMisbehaved" | "HistoryAltered" | "ServerRefused" | "ShareRefused":
                    made.append(item("word"))
                case "InvalidOptions":
                    made.append(faults.InvalidOptions("challenge", "is missing"))
                case _:
                    made.append(item())
    return made


@pytest.mark.parametrize("fault", every_fault(), ids=lambda fault: type(fault).__name__)
def test_every_fault_has_a_name_for_the_page_and_a_sentence_for_the_person(fault: TandemError) -> None:
    """And pages cannot tell a lock, a stranger, a refusal and a missing passkey apart."""
    outcome = failed(fault)

    assert outcome.error is not None and outcome.response is None
    assert outcome.error.name in NAMES
    assert outcome.told[0].isupper() and outcome.told.endswith(".")
    if outcome.error.name == "NotAllowedError":
        assert outcome.error.message == "The operation either timed out or was not allowed."
    if isinstance(fault, faults.LockedOut | faults.NoMatch | faults.NotAllowed | faults.BudgetSpent):
        assert outcome.error.name == "NotAllowedError"
    if not isinstance(fault, faults.WebAuthnError):
        assert outcome.error.message != str(fault)
