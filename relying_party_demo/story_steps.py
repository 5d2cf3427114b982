"""What the stories are told with: steps that say how they came out, and the visits that every story has."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from relying_party_demo.local_stack import StackError
from relying_party_demo.phone import SimulatedPhone
from relying_party_demo.phone_port import PhoneOutcome, Who
from relying_party_demo.visitor_client import SiteRefused, VisitorClient

RP_ID = "localhost"
USER = "ada"


@dataclass(frozen=True, slots=True)
class StepResult:
    """One line of the story. `ms`: wall time of the step; bytes: bodies between phone and auth server."""

    name: str
    ok: bool
    ms: float
    bytes_up: int
    bytes_down: int
    result: str
    parts: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Happened:
    """What a step reports back."""

    ok: bool
    result: str
    outcome: PhoneOutcome | None = None


class Story:
    """Runs steps, prints a line for each, keeps the results and the dumped ceremonies."""

    def __init__(self, console: Console, dump: Path | None) -> None:
        self._console = console
        self._dump = dump
        self._ceremonies = 0
        self.steps: list[StepResult] = []

    def step(self, name: str, run: Callable[[], Happened]) -> None:
        start = time.perf_counter()
        try:
            happened = run()
        except (SiteRefused, StackError) as error:
            happened = Happened(False, str(error))
        ms = (time.perf_counter() - start) * 1000
        seen = happened.outcome.seen if happened.outcome else None
        result = StepResult(
            name=name,
            ok=happened.ok,
            ms=round(ms, 2),
            bytes_up=seen.bytes_up if seen else 0,
            bytes_down=seen.bytes_down if seen else 0,
            result=happened.result,
            parts={part.name: round(part.ms, 2) for part in seen.steps} if seen else {},
        )
        self.steps.append(result)
        mark = "[green]✓[/]" if result.ok else "[bold red]✗[/]"
        sizes = f"{result.bytes_up:>7,} up {result.bytes_down:>7,} down" if seen else ""
        line = f"{mark} {name:<36} {ms:>7.1f} ms {sizes:<23} {result.result}"
        self._console.print(line, highlight=False, soft_wrap=True)

    def dump(self, kind: Literal["create", "get"], site: VisitorClient, options: Any, response: Any) -> None:
        """Write one ceremony for inspection by other tools, if asked for."""
        if self._dump is None:
            return
        self._ceremonies += 1
        document = {"kind": kind, "origin": site.origin, "rp_id": RP_ID, "options": options, "response": response}
        path = self._dump / f"{self._ceremonies:02}-{kind}.json"
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")

    @property
    def ok(self) -> bool:
        return bool(self.steps) and all(step.ok for step in self.steps)

    def table(self) -> Table:
        table = Table(title="The story, step by step", title_justify="left")
        for heading in ("", "step", "result"):
            table.add_column(heading, overflow="fold")
        for heading in ("ms", "bytes up", "bytes down"):
            table.add_column(heading, justify="right")
        for step in self.steps:
            table.add_row(
                "✓" if step.ok else "✗",
                step.name,
                step.result,
                f"{step.ms:,.1f}",
                f"{step.bytes_up:,}",
                f"{step.bytes_down:,}",
            )
        return table


def register(story: Story, site: VisitorClient, phone: SimulatedPhone, user: str = USER) -> Happened:
    """A registration that the relying party accepts."""

    def once() -> tuple[Any, PhoneOutcome]:
        options = site.post("/register/options", {"username": user, "display_name": user.title()})
        return options, phone.register(options, site.origin)

    options, outcome = _with_another_capture(once)
    if outcome.response is None:
        return Happened(False, outcome.refusal or "", outcome)
    story.dump("create", site, options, outcome.response)
    verdict = site.post("/register/verify", outcome.response)["verdict"]
    return Happened(True, _verdict(verdict), outcome)


def log_in(story: Story, site: VisitorClient, phone: SimulatedPhone, user: str = USER) -> Happened:
    """A login that the relying party accepts."""

    def once() -> tuple[Any, PhoneOutcome]:
        options = site.post("/login/options", {"username": user})
        return options, phone.sign_in(options, site.origin, "owner")

    options, outcome = _with_another_capture(once)
    if outcome.response is None:
        return Happened(False, outcome.refusal or "", outcome)
    story.dump("get", site, options, outcome.response)
    answer = site.post("/login/verify", outcome.response)
    return Happened(site.signed_in_as() == user, _verdict(answer["verdict"]), outcome)


def refused(
    site: VisitorClient, phone: SimulatedPhone, expected: str, who: Who = "owner", user: str = USER
) -> Happened:
    """A login that must not succeed, for the reason expected."""
    outcome = phone.sign_in(site.post("/login/options", {"username": user}), site.origin, who)
    if outcome.response is not None:
        return Happened(False, "a signature came out", outcome)
    return Happened(outcome.refusal_code == expected, f"refused: {outcome.refusal_code}", outcome)


def _with_another_capture(once: Callable[[], tuple[Any, PhoneOutcome]]) -> tuple[Any, PhoneOutcome]:
    """A sensor may miss its owner; then an app asks again, as this does, twice."""
    options, outcome = once()
    for _ in range(2):
        if outcome.refusal_code != "no_match":
            break
        options, outcome = once()
    return options, outcome


def _verdict(verdict: dict[str, Any]) -> str:
    made = f", of the make: {verdict['make']}" if verdict["make"] else ""
    return f"verified by {verdict['library']}{made}"
