"""The processes and the browser of the run: auth server, two sites, the agent, Chromium with the extension."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, Page, Playwright, Worker

from device_sdk.agent.extension_identity import extension_folder, extension_origin
from relying_party_demo.local_stack import run_command

CHROMIUM = "/usr/bin/chromium"
PERSON = 7
LIMIT_S = 20.0
WINDOW_LIMIT_MS = 10_000

_FLAGS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
]


@dataclass
class Vault:
    """An enrolled person on this machine."""

    file: Path
    arguments: list[str]

    def command(self, *arguments: str) -> str:
        return run_command("device_sdk", *arguments)

    def pairing_code(self, port: int) -> str:
        return self.command("pairing-code", str(self.file), "--port", str(port))


class Agent:
    """`tandem-device agent` as its user runs it. `port` 0 means a free one, kept over restarts."""

    def __init__(self, vault: Vault, *, longest_s: float = 600.0, timings: Path | None = None) -> None:
        self.vault = vault
        self.port = 0
        self.longest_s = longest_s
        self._timings = timings
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "device_sdk", "agent", str(self.vault.file), "--port", str(self.port)]
        command += [*self.vault.arguments, "--longest-s", str(self.longest_s)]
        if self._timings is not None:
            command += ["--timings", str(self._timings)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith("listening on "), line
        self.port = int(line.split()[2].rsplit(":", 1)[1])

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(LIMIT_S)
            self._process = None

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self.stop()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pairing_code(self) -> str:
        return self.vault.pairing_code(self.port)

    def __enter__(self) -> Agent:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Squatter(ThreadingHTTPServer):
    """Another program on the agent's port: it answers with a job of its own, and keeps what it hears."""

    def __init__(self, port: int) -> None:
        self.heard: list[str] = []
        heard = self.heard

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                heard.append(f"{self.requestline}\n{self.headers}\n{body!r}")
                answer = json.dumps({"job": "x", "version": 0, "state": "waiting", "consent": "/page/x"}).encode()
                self.send_response(200)
                self.send_header("X-Tandem-Mac", "A" * 43)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        super().__init__(("127.0.0.1", port), Handler)

    def __enter__(self) -> Squatter:
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


@dataclass
class Browser:
    """Chromium with the extension."""

    context: BrowserContext
    extension: Worker

    def page(self, url: str) -> Page:
        page = self.context.new_page()
        page.goto(url)
        return page

    @property
    def options_address(self) -> str:
        return f"{extension_origin()}/options.html"

    def pair(self, code: str) -> Page:
        """Through the options page, as a person does it. The page."""
        page = self.page(self.options_address)
        if page.locator("#forget").is_visible():
            page.click("#forget")
        page.fill("#code", code)
        page.click("#pair-form button")
        page.wait_for_selector("#message.good")
        return page

    def consent_window(self, agent: Agent, known: set[Page] | None = None) -> Page:
        """The consent window that opens; `known`: those that were there before."""
        until = time.monotonic() + WINDOW_LIMIT_MS / 1000
        while time.monotonic() < until:
            for page in self.context.pages:
                if page not in (known or set()) and page.url.startswith(f"{agent.address}/page/"):
                    page.wait_for_selector("#question")
                    return page
            self.context.pages[0].wait_for_timeout(10)
        raise AssertionError("no consent window opened")

    def consent_windows(self, agent: Agent) -> list[Page]:
        """Those that are open."""
        return [page for page in self.context.pages if page.url.startswith(agent.address)]


@contextmanager
def chromium(playwright: Playwright, folder: Path, *flags: str) -> Iterator[Browser]:
    """A fresh profile in `folder`."""
    extension = str(extension_folder())
    arguments = [*_FLAGS, f"--load-extension={extension}", f"--disable-extensions-except={extension}", *flags]
    context = playwright.chromium.launch_persistent_context(
        folder,
        executable_path=CHROMIUM,
        headless=False,
        no_viewport=True,
        args=arguments,
        ignore_default_args=["--disable-extensions", "--enable-automation"],
    )
    try:
        workers = context.service_workers
        yield Browser(context, workers[0] if workers else context.wait_for_event("serviceworker"))
    finally:
        context.close()


def enrolled(server: str, code: str, folder: Path, name: str, *options: Any, agent_options: list[str]) -> Vault:
    """A new vault through `tandem-device enrol`."""
    vault = folder / f"{name}.vault"
    arguments = [*map(str, options), "--server", server, "--code", code, "--key-file", str(folder / f"{name}.key")]
    run_command("device_sdk", "enrol", str(vault), *arguments)
    return Vault(vault, agent_options)
