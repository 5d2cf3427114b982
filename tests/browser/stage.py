"""What all scenarios play on: both sites, a hostile one, the agent of one vault, and one browser."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Page, Playwright, sync_playwright
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from relying_party_demo.app import create_app
from relying_party_demo.local_stack import AuthServer, RelyingPartyServer, free_port
from relying_party_demo.settings import RelyingPartySettings
from tests.browser.parts import PERSON, Agent, Browser, Vault, chromium, enrolled
from tests.browser.second_site import SecondSite

ANSWER_LIMIT_MS = 15_000
Scenario = Callable[["Stage"], None]


@dataclass
class Stage:
    """`demo`, `second`, `hostile`: origins."""

    folder: Path
    auth: AuthServer
    vault: Vault
    agent: Agent
    browser: Browser
    second_site: SecondSite
    demo: str
    second: str
    hostile: str
    playwright: Playwright
    screens: Path | None = None
    camera_video: Path | None = None

    def screen(self, page: Page, name: str) -> None:
        """A picture of the page, for people to look at."""
        if self.screens is not None:
            page.screenshot(path=self.screens / f"{name}.png")

    def page(self, url: str) -> Page:
        return self.browser.page(url)

    def ask(self, page: Page, start: Callable[[], object]) -> Page:
        """The consent window that opens after `start` made the page ask."""
        before = set(self.browser.context.pages)
        start()
        return self.browser.consent_window(self.agent, before)

    def register(self, name: str) -> Page:
        """A new account at the demo with a passkey. The account's page."""
        page = self.page(f"{self.demo}/register")
        page.fill("#username", name)
        window = self.ask(page, lambda: page.click("form[data-passkey] button"))
        consent(window)
        page.wait_for_url("**/account", timeout=ANSWER_LIMIT_MS)
        return page

    def asking_to_sign_in(self, name: str = "") -> tuple[Page, Page]:
        """(the demo's page, the consent window of its sign-in)."""
        page = self.page(self.demo)
        page.fill("#username", name)
        return page, self.ask(page, lambda: page.click("form[data-passkey] button"))

    def asking_at_second(self, button: str) -> tuple[Page, Page]:
        page = self.page(self.second)
        return page, self.ask(page, lambda: page.click(f"#{button}"))

    def attempts(self) -> int:
        """Logins that ever reached the authentication server; without one more, nothing more can have been signed."""
        database = self.folder / "authsvc" / "authsvc.db"
        connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True)
        try:
            return int(connection.execute("SELECT count(*) FROM logins").fetchone()[0])
        finally:
            connection.close()

    def clear(self) -> None:
        """Close what a scenario has left behind."""
        for page in self.browser.context.pages[1:]:
            page.close()
        self.browser.context.clear_cookies()


def consent(window: Page, *, finger: str = "enrolled", account: str | None = None) -> None:
    """What a person does in the consent window."""
    if account is not None:
        window.get_by_label(account).check()
    window.check(f'input[name="finger"][value="{finger}"]')
    window.wait_for_selector("#allow:enabled", timeout=ANSWER_LIMIT_MS)
    window.click("#allow")


def told(page: Page, selector: str, text: str) -> None:
    """Wait until the page says so. AssertionError with what it says instead."""
    try:
        page.wait_for_function(
            "([selector, text]) => document.querySelector(selector)?.textContent.includes(text)",
            arg=[selector, text],
            timeout=ANSWER_LIMIT_MS,
        )
    except Exception:
        raise AssertionError(f"wanted {text!r}, got {page.text_content(selector)!r}") from None


def window_closes(window: Page) -> None:
    if not window.is_closed():
        window.wait_for_event("close", timeout=ANSWER_LIMIT_MS)


@contextmanager
def open_stage(folder: Path, *, screens: Path | None = None, camera_video: Path | None = None) -> Iterator[Stage]:
    """Everything started, the person enrolled, the browser not paired yet."""
    with ExitStack() as stack:
        demo_listener, second_listener, hostile_listener = free_port(), free_port(), free_port()
        demo = f"http://localhost:{demo_listener.getsockname()[1]}"
        second_site = SecondSite("second.localhost")
        settings = RelyingPartySettings(database=folder / "relying_party.sqlite", origin=demo, attestation="direct")
        auth = stack.enter_context(AuthServer(folder, rp_id="localhost", other_rp_ids=[second_site.rp_id]))
        stack.enter_context(RelyingPartyServer(demo_listener, create_app(settings)))
        stack.enter_context(RelyingPartyServer(second_listener, second_site.application()))
        stack.enter_context(RelyingPartyServer(hostile_listener, _blank_pages()))
        vault = simulated_vault(auth, folder, "ann")
        agent = stack.enter_context(Agent(vault, timings=folder / "timings.jsonl"))
        playwright = stack.enter_context(sync_playwright())
        flags = [] if camera_video is None else [f"--use-file-for-fake-video-capture={camera_video}"]
        browser = stack.enter_context(chromium(playwright, folder / "profile", *flags))
        yield Stage(
            folder=folder,
            auth=auth,
            vault=vault,
            agent=agent,
            browser=browser,
            second_site=second_site,
            demo=demo,
            second=f"http://second.localhost:{second_listener.getsockname()[1]}",
            hostile=f"http://evil.localhost:{hostile_listener.getsockname()[1]}",
            playwright=playwright,
            screens=screens,
            camera_video=camera_video,
        )


def simulated_vault(auth: AuthServer, folder: Path, name: str) -> Vault:
    """A vault of the simulated person."""
    person = ["--simulated-person", str(PERSON)]
    code = auth.operator("code", "--label", name)
    return enrolled(auth.url, code, folder, name, *person, "--profile", "sim-2048", agent_options=person)


def _blank_pages() -> Starlette:
    async def blank(request: Request) -> Response:
        return HTMLResponse("<!doctype html><html lang=en><title>Page</title><h1>Some page</h1>")

    return Starlette(routes=[Route("/{rest:path}", blank)])
