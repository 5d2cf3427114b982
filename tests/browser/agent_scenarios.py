"""The agent away, the agent started anew, and pages that try to reach or to deceive it."""

from __future__ import annotations

import contextlib
import json
import urllib.error
import urllib.request

from playwright.sync_api import Error as PlaywrightError

from device_sdk.agent.extension_identity import extension_origin
from tests.browser.page_calls import GET, NOT_ALLOWED, begin, ended
from tests.browser.parts import Squatter, chromium
from tests.browser.stage import Stage, consent, told, window_closes

_HOSTILE = """async ([agent, path]) => {
  const tried = {};
  const attempt = async (name, work) => {
    try { tried[name] = await work(); } catch (error) { tried[name] = "refused: " + error.name; }
  };
  const seen = (answer) => answer.type === "opaque" ? "opaque" : answer.status;
  const job = JSON.stringify({kind: "get", page: "x", options: {challenge: "AAAAAAAAAAAAAAAAAAAAAA",
    extensions: {remoteDesktopClientOverride: {origin: "https://bank.example", sameOriginWithAncestors: true}}}});
  await attempt("cors", async () => seen(await fetch(agent + "/v1/jobs", {method: "POST", body: job})));
  await attempt("no-cors", async () => seen(await fetch(agent + "/v1/jobs", {
    method: "POST", mode: "no-cors", body: job})));
  await attempt("read the page", async () => seen(await fetch(agent + path, {credentials: "include"})));
  await attempt("consent", async () => seen(await fetch(agent + path + "/consent", {
    method: "POST", mode: "no-cors", credentials: "include", body: JSON.stringify({finger: "enrolled"})})));
  await attempt("beacon", async () => { navigator.sendBeacon(agent + path + "/consent", "{}"); return "sent"; });
  await attempt("websocket", () => new Promise((resolve, reject) => {
    const socket = new WebSocket(agent.replace("http", "ws") + path);
    socket.onopen = () => resolve("open");
    socket.onerror = () => reject(new Error("closed"));
  }));
  await attempt("script", () => new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = agent + "/static/consent.js";
    script.onload = () => resolve("loaded");
    script.onerror = () => reject(new Error("not loaded"));
    document.head.append(script);
  }));
  const frame = document.createElement("iframe");
  frame.src = agent + path;
  const form = document.createElement("form");
  form.method = "post";
  form.action = agent + path + "/consent";
  form.target = "into";
  frame.name = "into";
  document.body.append(frame, form);
  await new Promise((resolve) => { frame.onload = resolve; setTimeout(resolve, 2000); });
  form.submit();
  await new Promise((resolve) => setTimeout(resolve, 500));
  return tried;
}"""


def agent_down(stage: Stage) -> None:
    """The page hears "not allowed", the person why, in one window however often the page asks."""
    stage.agent.stop()
    try:
        page = stage.page(stage.demo)
        for _ in range(3):
            begin(page, GET)
            assert ended(page) == NOT_ALLOWED
        page.wait_for_timeout(500)
        problems = [other for other in stage.browser.context.pages if "problem.html" in other.url]
        assert len(problems) == 1
        told(problems[0], "section:not([hidden]) h1", "not running")
        stage.screen(problems[0], "problem-agent-down")
        assert page.evaluate("PublicKeyCredential.isUserVerifyingPlatformAuthenticatorAvailable()") is False
    finally:
        stage.agent.start()


def agent_restarted(stage: Stage) -> None:
    """Stopped or killed: what was under way ends, and the next request is served without a new pairing."""
    for stop, why in ((stage.agent.stop, "The agent was stopped."), (stage.agent.kill, "no longer answers")):
        page, window = stage.asking_at_second("login")
        window.wait_for_selector("#allow:enabled")
        stop()
        stage.agent.start()
        told(page, "#result", NOT_ALLOWED["message"])
        told(window, "#message", why)
    stage.screen(window, "consent-agent-killed")
    page, window = stage.asking_at_second("login")
    consent(window)
    told(page, "#result", "signed in ben")


def browser_restarted(stage: Stage) -> None:
    """Another browser, paired with the same agent; after its restart sites get their passkeys from Tandem at once."""
    profile = stage.folder / "other-profile"
    with chromium(stage.playwright, profile) as other:
        other.pair(stage.agent.pairing_code)
    with chromium(stage.playwright, profile) as other:
        page = other.page(stage.second)
        before = set(other.context.pages)
        page.click("#login")
        consent(other.consent_window(stage.agent, before))
        told(page, "#result", "signed in ben")


def worker_stopped(stage: Stage) -> None:
    """Chromium may stop the extension's worker at any time; the next event brings it back, and the page gets an end."""
    page, window = stage.asking_at_second("login")
    window.wait_for_selector("#allow:enabled")
    session = stage.browser.context.new_cdp_session(page)
    session.send("ServiceWorker.enable")
    session.send("ServiceWorker.stopAllWorkers")
    page.wait_for_timeout(500)
    assert page.text_content("#result") == "Waiting …"
    consent(window)
    told(window, "#question", "Done")
    with contextlib.suppress(PlaywrightError):  # something else woke the worker, which closed the window first
        window.click("#close")  # this wakes the worker
    told(page, "#result", "signed in ben")


def another_program_on_the_port(stage: Stage) -> None:
    """Whoever listens there while the agent is away is not believed, and hears no key."""
    key = stage.agent.pairing_code[-43:]
    stage.agent.stop()
    try:
        with Squatter(stage.agent.port) as squatter:
            page = stage.page(stage.demo)
            begin(page, GET)
            assert ended(page) == NOT_ALLOWED
            page.wait_for_timeout(500)
            problems = [other for other in stage.browser.context.pages if "reason=not_paired" in other.url]
            assert len(problems) == 1
            stage.screen(problems[0], "problem-not-paired")
            assert not stage.browser.consent_windows(stage.agent)
        assert squatter.heard and all(key not in text for text in squatter.heard)
    finally:
        stage.agent.start()


def hostile_page(stage: Stage) -> None:
    """With the address of an open consent window in its hands, a page gets nothing and decides nothing."""
    before = stage.attempts()
    page, window = stage.asking_to_sign_in("ann")
    window.wait_for_selector("#allow:enabled")
    leaked = window.url.removeprefix(stage.agent.address)
    evil = stage.page(stage.hostile)
    tried = evil.evaluate(_HOSTILE, [stage.agent.address, leaked])
    assert tried.pop("no-cors") in ("opaque", "refused: TypeError"), tried
    assert tried.pop("consent") in ("opaque", "refused: TypeError"), tried
    assert tried.pop("beacon") == "sent"
    assert all(outcome.startswith("refused") for outcome in tried.values()), tried

    with stage.browser.context.expect_page() as opened:
        evil.evaluate("(address) => { window.open(address); }", stage.agent.address + leaked)
    opened.value.wait_for_load_state()
    assert opened.value.locator("#allow").count() == 0
    # DNS rebinding: another name for this machine, so that to the browser the agent is of the page's own origin.
    try:
        evil.goto(f"http://rebound.localhost:{stage.agent.port}{leaked}")
        raise AssertionError("the agent answers under another name")
    except PlaywrightError as refusal:
        assert "ERR_HTTP_RESPONSE_CODE_FAILURE" in refusal.message, refusal  # the empty 403

    assert stage.attempts() == before
    consent(window)  # the request itself is unharmed
    page.wait_for_url("**/account")
    window_closes(window)


def hostile_options(stage: Stage) -> None:
    """A page cannot speak for another: neither by a forged origin nor by another's relying party id."""
    evil = stage.page(stage.hostile)
    forged = {"remoteDesktopClientOverride": {"origin": stage.demo, "sameOriginWithAncestors": True}}
    window = stage.ask(evil, lambda: begin(evil, GET, {"extensions": forged}))
    assert stage.hostile in (window.text_content(".facts") or "")
    assert "No passkey" in (window.text_content("#question") or "")
    window.click("#decline")
    assert ended(evil) == NOT_ALLOWED
    begin(evil, GET, {"rpId": "second.localhost"})
    assert ended(evil)["failed"] == "SecurityError"


def frame_of_another_site(stage: Stage) -> None:
    """A frame within another site's page gets nothing, even where that page allows it passkeys."""
    evil = stage.page(stage.hostile)
    evil.evaluate(
        """(address) => new Promise((loaded) => {
          const frame = document.createElement("iframe");
          frame.allow = "publickey-credentials-get *; publickey-credentials-create *";
          frame.onload = loaded;
          frame.src = address;
          document.body.append(frame);
        })""",
        stage.second,
    )
    frame = evil.frames[-1]
    begin(frame, GET)
    assert ended(frame) == NOT_ALLOWED
    assert not stage.browser.consent_windows(stage.agent)


def prompting_again_and_again(stage: Stage) -> None:
    """A page that opens windows in vain is refused without one for the rest of the minute; other sites are not."""
    evil = stage.page(stage.hostile)
    windows = 0
    for _ in range(9):
        known = set(stage.browser.context.pages)
        evil.evaluate(
            """() => { const stop = new AbortController();
            window.ended = null; window.stop_it = stop;
            navigator.credentials.get({signal: stop.signal, publicKey: {challenge: new Uint8Array(32)}})
              .catch((error) => { window.ended = error.name; }); }"""
        )
        evil.wait_for_timeout(700)
        opened = [page for page in stage.browser.context.pages if page not in known]
        if opened:
            windows += 1
            evil.evaluate("stop_it.abort()")
            window_closes(opened[0])
    assert 1 <= windows <= 6, windows
    page, window = stage.asking_at_second("login")
    consent(window)
    told(page, "#result", "signed in ben")


def another_local_program(stage: Stage) -> None:
    """A program that forges the extension's Origin but does not know the pairing key makes no job."""
    before = set(stage.browser.context.pages)
    options = {"extensions": {"remoteDesktopClientOverride": {"origin": stage.demo, "sameOriginWithAncestors": True}}}
    body = json.dumps({"kind": "get", "page": "x", "options": {"challenge": "A" * 22, **options}}).encode()
    headers = {"Origin": extension_origin(), "Content-Type": "application/json", "X-Tandem-Mac": "A" * 43}
    request = urllib.request.Request(f"{stage.agent.address}/v1/jobs", body, headers)
    try:
        urllib.request.urlopen(request, timeout=5)
        raise AssertionError("answered")
    except urllib.error.HTTPError as refusal:
        assert (refusal.code, refusal.read()) == (401, b"")
    assert set(stage.browser.context.pages) == before
