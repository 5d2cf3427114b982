"""`make bench-browser`: what agent and extension add to the SDK's own call, in a real Chromium.

Measured in the page, from navigator.credentials.get to its result. Taken off: the SDK's call, and the wait for the
person, both by the agent's clock. What is left is agent and extension: handing the request over, the consent's way, and
the answer's.

The agent waits for the person from the moment it has the request, and the person cannot look before there is a window.
So that time stands in a row of its own, from the call to the consent page's first paint: extension, agent, and Chromium
making a window. The last row is all that the person did not spend on looking.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from playwright.sync_api import Page
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from tests.browser.parts import CHROMIUM
from tests.browser.stage import Stage, open_stage, told, window_closes

_WARM_UP = 3
_AIM_MS = 60.0
_GET = """async () => {
  const options = (await post("/login/begin", {name: "ben"})).publicKey;
  const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(options);
  const asked = performance.timeOrigin + performance.now();
  const used = await navigator.credentials.get({publicKey});
  const answered = performance.timeOrigin + performance.now();
  const {name} = await post("/login/complete", used.toJSON());
  return {asked, answered, name};
}"""


@dataclass(frozen=True, slots=True)
class SignIn:
    """Milliseconds of one sign-in. waited: the agent for consent. looked: from first paint to click."""

    total: float
    sdk: float
    waited: float
    opening: float
    looked: float

    @property
    def added(self) -> float:
        return self.total - self.sdk - self.waited

    @property
    def with_window(self) -> float:
        return self.total - self.sdk - self.looked


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    parser = argparse.ArgumentParser(prog="make bench-browser ARGS=…", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sign-in")
    parser.add_argument("--logins", type=int, default=40, help="default 40")
    options = parser.parse_args(arguments)
    console = Console(highlight=False)
    if not Path(CHROMIUM).exists():
        console.print(f"{CHROMIUM} is missing: apt-get install chromium")
        return 2
    with tempfile.TemporaryDirectory(prefix="bench-browser-") as name, open_stage(Path(name)) as stage:
        seen = _measure(stage, Path(name) / "timings.jsonl", options.logins)
    table = Table("", "median ms", "90 % ms", title=f"{len(seen)} sign-ins", title_justify="left")
    rows = {
        "agent and extension": [one.added for one in seen],
        "until the window is painted": [one.opening for one in seen],
        "both": [one.with_window for one in seen],
        "the SDK's call": [one.sdk for one in seen],
    }
    for label, values in rows.items():
        table.add_row(label, f"{statistics.median(values):.1f}", f"{statistics.quantiles(values, n=10)[-1]:.1f}")
    console.print(table)
    if options.json is not None:
        document = {
            "median_ms": {label: statistics.median(values) for label, values in rows.items()},
            "aim_ms": _AIM_MS,
            "sign_ins": [asdict(one) for one in seen],
            "machine": machine.description(),
        }
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0


def _measure(stage: Stage, timings: Path, count: int) -> list[SignIn]:
    stage.browser.pair(stage.agent.pairing_code).close()
    page = stage.page(stage.second)
    window = stage.ask(page, lambda: page.click("#register"))
    _click(window)
    told(page, "#result", "registered ben")
    window_closes(window)
    seen = [_sign_in(stage, page, timings) for _ in range(_WARM_UP + count)]
    return seen[_WARM_UP:]


def _sign_in(stage: Stage, page: Page, timings: Path) -> SignIn:
    page.evaluate(f"() => {{ window.done = null; ({_GET})().then((value) => {{ window.done = value; }}); }}")
    window = stage.browser.consent_window(stage.agent, {page})
    shown, clicked = _click(window)
    page.wait_for_function("() => window.done !== null")
    done: dict[str, Any] = page.evaluate("window.done")
    window_closes(window)
    sdk = json.loads(timings.read_text(encoding="utf-8").splitlines()[-1])
    assert (sdk["kind"], sdk["ended"], done["name"]) == ("get", "ok", "ben")
    return SignIn(
        total=done["answered"] - done["asked"],
        sdk=sdk["device_ms"],
        waited=sdk["until_shown_ms"] + sdk["person_ms"],
        opening=shown - done["asked"],
        looked=clicked - shown,
    )


def _click(window: Page) -> tuple[float, float]:
    """(first paint, click), by the window's own clock, in Unix milliseconds."""
    clicks: list[float] = []
    window.expose_function("noteClick", lambda at: clicks.append(at))
    window.wait_for_selector("#allow:enabled")
    window.wait_for_function("() => performance.getEntriesByName('first-contentful-paint').length > 0")
    shown = window.evaluate(
        """() => {
          document.getElementById("allow").addEventListener("click", (event) => {
            noteClick(performance.timeOrigin + event.timeStamp);
          });
          return performance.timeOrigin + performance.getEntriesByName("first-contentful-paint")[0].startTime;
        }"""
    )
    window.click("#allow")
    while not clicks:
        window.context.pages[0].wait_for_timeout(1)
    return float(shown), clicks[0]


if __name__ == "__main__":
    sys.exit(main())
