"""`make browser`: a real Chromium with the extension against two relying parties, everything that must work or fail.

Exit code 0 only if every scenario came out as told.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import Error as PlaywrightError
from rich.console import Console

from tests.browser import agent_scenarios as agent
from tests.browser import camera_scenarios
from tests.browser import person_scenarios as person
from tests.browser import site_scenarios as site
from tests.browser.parts import CHROMIUM
from tests.browser.stage import Scenario, Stage, open_stage

_FACES = Path("../shared/data/orl_faces_s01_s20.npz")

SHORT: list[Scenario] = [
    site.pair_the_browser,
    site.demo_register,
    site.demo_sign_in_with_name,
    site.demo_sign_in_without_name,
    site.demo_excluded_credential,
    site.second_register,
    site.second_sign_in_with_name,
    site.second_sign_in_without_name,
    site.second_excluded_credential,
    site.no_passkey_for_the_site,
    site.options_of_a_registration,
    site.available_to_pages,
    person.declined,
    person.window_closed,
    person.uncovered,
    person.switched_off,
    person.cancelled_by_the_page,
    person.given_up_while_signing,
    person.wrong_finger,
    person.two_tabs_at_once,
    person.twice_from_one_page,
    person.reloaded,
    person.reload_of_another_tab,
    person.looks,
    agent.agent_down,
    agent.agent_restarted,
    agent.browser_restarted,
    agent.worker_stopped,
    agent.another_program_on_the_port,
    agent.another_local_program,
    agent.hostile_page,
    agent.hostile_options,
    agent.frame_of_another_site,
    agent.prompting_again_and_again,
]
LONG: list[Scenario] = [person.timed_out, person.slow_person, camera_scenarios.camera, person.locked]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit code."""
    options = _options(arguments)
    console = Console(highlight=False)
    if not Path(CHROMIUM).exists():
        console.print(f"{CHROMIUM} is missing: apt-get install chromium")
        return 2
    for name in [name for name in os.environ if name.startswith("TANDEM_")]:
        del os.environ[name]
    if options.screens is not None:
        options.screens.mkdir(parents=True, exist_ok=True)
    chosen = [scenario for scenario in SHORT + ([] if options.short else LONG) if _wanted(scenario, options.only)]
    with tempfile.TemporaryDirectory(prefix="browser-") as name:
        folder = Path(name)
        video = None
        if camera_scenarios.camera in chosen:
            if options.faces.exists():
                video = camera_scenarios.write_pictures(options.faces, folder)
            else:
                console.print(f"{options.faces} is missing: the camera is not tried")
                chosen.remove(camera_scenarios.camera)
        with open_stage(folder, screens=options.screens, camera_video=video) as stage:
            results = [_run(console, stage, scenario) for scenario in chosen]
    document = {"scenarios": results, "ok": all(result["ok"] for result in results)}
    if options.json is not None:
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 0 if document["ok"] else 1


def _run(console: Console, stage: Stage, scenario: Scenario) -> dict[str, object]:
    name = scenario.__name__.replace("_", " ")
    started = time.perf_counter()
    failure = None
    try:
        scenario(stage)
    except Exception:
        failure = traceback.format_exc()
        for number, page in enumerate(stage.browser.context.pages):
            with contextlib.suppress(PlaywrightError):  # a window may close just now
                stage.screen(page, f"FAILED-{scenario.__name__}-{number}")
    ms = round((time.perf_counter() - started) * 1000)
    console.print(f"{'ok    ' if failure is None else 'FAILED'}  {ms:>7} ms  {name}", markup=False)
    if failure is not None:
        print(failure)
    stage.clear()
    return {"name": name, "ok": failure is None, "ms": ms}


def _wanted(scenario: Scenario, only: Sequence[str]) -> bool:
    """What the others build on runs in any case."""
    needed = (site.pair_the_browser, site.demo_register, site.demo_sign_in_without_name, site.second_register)
    return not only or scenario in needed or any(word in scenario.__name__ for word in only)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make browser ARGS=…", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the outcomes")
    parser.add_argument("--screens", type=Path, metavar="DIR", help="pictures of every page")
    parser.add_argument("--faces", type=Path, default=_FACES, help=f"photographs for the camera (default {_FACES})")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="WORD", help="scenarios with one of these in their names"
    )
    parser.add_argument("--short", action="store_true", help="without those that wait or need photographs")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
