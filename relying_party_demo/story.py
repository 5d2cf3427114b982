"""`make demo`: the whole story on this machine, with real servers, real messages and a simulated finger.

Each step says what should happen; the story is told as it should be only if every step came out so.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from relying_party_demo.app import create_app
from relying_party_demo.local_stack import AuthServer, RelyingPartyServer, StackError, free_port
from relying_party_demo.phone import SimulatedPhone
from relying_party_demo.phone_port import PhoneOutcome, Who
from relying_party_demo.settings import RelyingPartySettings
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


def tell(console: Console, folder: Path, dump: Path | None) -> Story:
    """Start both servers in `folder` and run every step. Raises StackError if a server does not start."""
    story = Story(console, dump)
    listener = free_port()
    settings = RelyingPartySettings(
        database=folder / "relying_party.sqlite",
        origin=f"http://localhost:{listener.getsockname()[1]}",
        rp_id=RP_ID,
        attestation="direct",
    )
    with AuthServer(folder, rp_id=RP_ID) as auth, RelyingPartyServer(listener, create_app(settings)):
        console.print(f"auth server {auth.url}, relying party {settings.origin}", highlight=False)
        console.print("The finger is simulated; everything else is real. Bytes: phone to auth server and back.\n")
        site = VisitorClient(settings.origin)
        holder: list[SimulatedPhone] = []

        def enrol() -> Happened:
            phone = SimulatedPhone.enrolled(auth.url, auth.operator("code", "--label", USER), folder / "phone")
            holder.append(phone)
            return Happened(True, "two halves, each noise", phone.enrolment())

        story.step("enrol with three captures", enrol)
        phone = holder[0]
        try:
            _life(story, site, phone)
            _clone(story, site, phone, auth, folder)
            _revocation(story, site, phone, auth)
        finally:
            phone.close()
    return story


def _life(story: Story, site: VisitorClient, phone: SimulatedPhone) -> None:
    story.step("register a passkey (RS256, packed)", lambda: _register(story, site, phone))
    for count in (1, 2, 3):
        story.step(f"log in, noisy capture {count}", lambda: _log_in(story, site, phone))
    story.step("impostor's finger on the right phone", lambda: _refused(site, phone, "no_match", who="impostor"))


def _clone(story: Story, site: VisitorClient, phone: SimulatedPhone, auth: AuthServer, folder: Path) -> None:
    copy: list[SimulatedPhone] = []

    def copied() -> Happened:
        copy.append(phone.copied_to(folder / "copy"))
        return Happened(True, "vault file and its key copied")

    story.step("a thief copies the phone's files", copied)
    story.step("the original logs in and moves on", lambda: _log_in(story, site, phone))
    story.step("genuine finger on the copy", lambda: _refused(site, copy[0], "quarantined"))

    def status() -> Happened:
        row = next(
            item
            for item in json.loads(auth.operator("enrolments", "--json"))["enrolments"]
            if item["id"] == phone.enrolment_id.hex()
        )
        return Happened(row["status"] == "quarantined", f"{row['status']}: {row['status_reason']}")

    story.step("the operator looks", status)
    story.step("the original is stopped too", lambda: _refused(site, phone, "not_active"))

    def lift() -> Happened:
        refusal = phone.recover(auth.operator("lift", phone.enrolment_id.hex()))
        return Happened(refusal is None, refusal or "new request key, new base OT")

    story.step("operator lifts it, original recovers", lift)
    story.step("the original logs in again", lambda: _log_in(story, site, phone))
    story.step("the copy tries once more", lambda: _refused(site, copy[0], "unauthenticated"))
    copy[0].close()


def _revocation(story: Story, site: VisitorClient, phone: SimulatedPhone, auth: AuthServer) -> None:
    def revoke() -> Happened:
        auth.operator("revoke-credential", "--", phone.newest_credential_id)
        return Happened(True, "the server's half of the key is erased")

    story.step("the operator revokes the key", revoke)
    story.step("genuine finger, revoked key", lambda: _refused(site, phone, "credential_not_usable"))


def _register(story: Story, site: VisitorClient, phone: SimulatedPhone) -> Happened:
    options = site.post("/register/options", {"username": USER, "display_name": "Ada"})
    outcome = phone.register(options, site.origin)
    if outcome.response is None:
        return Happened(False, outcome.refusal or "", outcome)
    story.dump("create", site, options, outcome.response)
    verdict = site.post("/register/verify", outcome.response)["verdict"]
    return Happened(True, _verdict(verdict), outcome)


def _log_in(story: Story, site: VisitorClient, phone: SimulatedPhone) -> Happened:
    options = site.post("/login/options", {"username": USER})
    outcome = phone.sign_in(options, site.origin, "owner")
    if outcome.response is None:
        return Happened(False, outcome.refusal or "", outcome)
    story.dump("get", site, options, outcome.response)
    answer = site.post("/login/verify", outcome.response)
    return Happened(site.signed_in_as() == USER, _verdict(answer["verdict"]), outcome)


def _refused(site: VisitorClient, phone: SimulatedPhone, expected: str, who: Who = "owner") -> Happened:
    """A login that must not succeed, for the reason expected."""
    outcome = phone.sign_in(site.post("/login/options", {"username": USER}), site.origin, who)
    if outcome.response is not None:
        return Happened(False, "a signature came out", outcome)
    return Happened(outcome.refusal_code == expected, f"refused: {outcome.refusal_code}", outcome)


def _verdict(verdict: dict[str, Any]) -> str:
    return f"verified by {verdict['library']}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="make demo ARGS=…", description="The whole story on this machine.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the steps as JSON")
    parser.add_argument("--dump", type=Path, metavar="DIR", help="write every ceremony as NN-create.json, NN-get.json")
    chosen = parser.parse_args()
    console = Console()
    if chosen.dump is not None:
        chosen.dump.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tandem-demo-") as folder:
        try:
            story = tell(console, Path(folder), chosen.dump)
        except StackError as error:
            console.print(f"[bold red]{error}[/]")
            return 2
    console.print()
    console.print(story.table())
    if chosen.json is not None:
        document = {"steps": [asdict(step) for step in story.steps], "ok": story.ok}
        chosen.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    console.print("all as told" if story.ok else "[bold red]not as told: see the steps marked ✗[/]")
    return 0 if story.ok else 1


if __name__ == "__main__":
    sys.exit(main())
