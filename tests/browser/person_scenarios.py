"""What people do, and do not do: decline, close, go away, show the wrong finger, open two tabs."""

from __future__ import annotations

import time

from playwright.sync_api import Page

from tests.browser.page_calls import CREATE, GET, NOT_ALLOWED, begin, ended, still_waits
from tests.browser.stage import Stage, consent, told, window_closes

_SLOW_S = 65
"""Longer than Chromium lets a service worker idle, and than one request may be held open."""


def declined(stage: Stage) -> None:
    before = stage.attempts()
    page, window = stage.asking_to_sign_in("ann")
    window.click("#decline")
    told(page, "#login-message", "No passkey was used")
    window_closes(window)
    stage.screen(page, "demo-declined")
    assert stage.attempts() == before


def window_closed(stage: Stage) -> None:
    """Closing the window is declining."""
    page, window = stage.asking_at_second("login")
    window.wait_for_selector("#allow:enabled")
    window.close()
    told(page, "#result", "NotAllowedError")


def switched_off(stage: Stage) -> None:
    """Whoever switches Tandem off in the middle of a request is asked nothing more, and nothing is signed."""
    before = stage.attempts()
    page, window = stage.asking_at_second("login")
    window.wait_for_selector("#allow:enabled")
    settings = stage.page(stage.browser.options_address)
    settings.uncheck("#enabled")
    try:
        window_closes(window)
        assert stage.attempts() == before
    finally:
        settings.check("#enabled")
    told(page, "#result", "Error")


def uncovered(stage: Stage) -> None:
    """A page lays a window of its own over this one and closes it within a double click: the second does nothing."""
    _, window = stage.asking_to_sign_in("ann")
    window.wait_for_selector("#allow:enabled")
    for event in ("blur", "focus"):
        window.evaluate("(event) => { window.dispatchEvent(new Event(event)); }", event)
        assert window.is_disabled("#allow"), event
    window.evaluate("() => { document.getElementById('allow').click(); }")
    window.evaluate("() => { document.getElementById('consent').requestSubmit(); }")
    assert window.text_content("#question") == "Sign in?"
    window.wait_for_selector("#allow:enabled")
    window.click("#decline")
    window_closes(window)


def cancelled_by_the_page(stage: Stage) -> None:
    """AbortController: the window closes, and nothing is signed any more."""
    before = stage.attempts()
    page = stage.page(stage.second)
    window = stage.ask(
        page,
        lambda: page.evaluate(
            "() => { window.stop_it = new AbortController(); run(() => signIn('ben', {signal: stop_it.signal})); }"
        ),
    )
    window.wait_for_selector("#allow:enabled")
    page.evaluate("stop_it.abort()")
    told(page, "#result", "AbortError")
    window_closes(window)
    assert stage.attempts() == before


def timed_out(stage: Stage) -> None:
    """The agent ends it, since Chromium does not. Here the agent was told 15 seconds; Chromium makes pages wait 180."""
    stage.agent.stop()
    stage.agent.longest_s = 15.0
    stage.agent.start()
    try:
        before = stage.attempts()
        page, window = stage.asking_at_second("login")
        window.wait_for_selector("#allow:enabled")
        page.wait_for_timeout(13_000)
        assert page.text_content("#result") == "Waiting …"
        told(page, "#result", NOT_ALLOWED["message"])
        told(window, "#message", "The time for this request is up")
        assert not window.is_visible("#allow")
        stage.screen(window, "consent-timed-out")
        assert stage.attempts() == before
    finally:
        stage.agent.stop()
        stage.agent.longest_s = 600.0
        stage.agent.start()


def slow_person(stage: Stage) -> None:
    """Over a minute later the service worker is still there to carry the answer."""
    page, window = stage.asking_at_second("login")
    window.wait_for_selector("#allow:enabled")
    page.wait_for_timeout(_SLOW_S * 1000)
    consent(window)
    told(page, "#result", "signed in ben")


def wrong_finger(stage: Stage) -> None:
    """A stranger is told so and may try again; three times, then the page hears that it was not allowed."""
    page, window = stage.asking_to_sign_in("ann")
    consent(window, finger="stranger")
    told(window, "#message", "did not match")
    stage.screen(window, "consent-no-match")
    consent(window, finger="enrolled")
    page.wait_for_url("**/account")

    page, window = stage.asking_at_second("login")
    for left in ("2 tries are left", "one try is left", "This did not match the enrolled person."):
        consent(window, finger="stranger")
        told(window, "#message", left)
    told(page, "#result", NOT_ALLOWED["message"])
    stage.screen(window, "consent-tries-used-up")
    page, window = stage.asking_at_second("login")
    consent(window)  # and a match sets the server's count back
    told(page, "#result", "signed in ben")


def locked(stage: Stage) -> None:
    """Five failures in a row lock the enrolment for 30 seconds; the page hears no more than before."""
    page, window = stage.asking_at_second("login")
    for _ in range(3):
        consent(window, finger="stranger")
        told(window, "#message", "did not match")
        window.wait_for_function("() => state.state !== 'signing'")
    page, window = stage.asking_to_sign_in("ann")
    for _ in range(2):
        consent(window, finger="stranger")
        told(window, "#message", "did not match")
        window.wait_for_function("() => state.state !== 'signing'")
    consent(window, finger="enrolled")
    told(window, "#message", "Too many failures in a row. Wait")
    told(page, "#login-message", "No passkey was used")
    stage.screen(window, "consent-locked")
    page.wait_for_timeout(31_000)
    page, window = stage.asking_to_sign_in("ann")
    consent(window)
    page.wait_for_url("**/account")


def two_tabs_at_once(stage: Stage) -> None:
    """Each tab has a window of its own and gets its own answer, in whatever order; so do two tabs of one site."""
    demo, demo_window = stage.asking_to_sign_in("ann")
    second, second_window = stage.asking_at_second("login")
    assert stage.demo in (demo_window.text_content(".facts") or "")
    assert stage.second in (second_window.text_content(".facts") or "")
    consent(second_window)
    told(second, "#result", "signed in ben")
    consent(demo_window)
    demo.wait_for_url("**/account")

    stage.browser.context.clear_cookies()
    one, one_window = stage.asking_to_sign_in("ann")
    other, other_window = stage.asking_to_sign_in("bob")
    consent(other_window)
    other.wait_for_url("**/account")
    assert "bob" in (other.text_content("body") or "")
    assert not one_window.is_closed()
    one_window.click("#decline")
    told(one, "#login-message", "No passkey was used")


def twice_from_one_page(stage: Stage) -> None:
    """Chromium lets a page have one request at a time; the first is not disturbed."""
    page = stage.page(stage.demo)
    window = stage.ask(page, lambda: begin(page, GET))
    refused = page.evaluate(f"({GET})({{}}).catch((error) => error.name)")
    assert refused == "OperationError"
    assert len(stage.browser.consent_windows(stage.agent)) == 1
    consent(window, account="ann")
    assert "response" in ended(page)


def reloaded(stage: Stage) -> None:
    """Reload, another address, a closed tab: the window closes, nothing is signed. Moving within the page is none."""
    before = stage.attempts()
    page, window = stage.asking_to_sign_in("ann")
    window.wait_for_selector("#allow:enabled")
    page.reload()
    window_closes(window)
    page.fill("#username", "ann")
    window = stage.ask(page, lambda: page.click("form[data-passkey] button"))
    page.goto(stage.second)
    window_closes(window)
    window = stage.ask(page, lambda: page.click("#login"))
    page.close()
    window_closes(window)
    assert stage.attempts() == before

    page = stage.page(stage.demo)
    window = stage.ask(page, lambda: begin(page, GET))
    page.evaluate("history.pushState({}, '', '/?moved'); location.hash = 'there'")
    page.wait_for_timeout(500)
    consent(window, account="ann")
    assert "response" in ended(page)


def reload_of_another_tab(stage: Stage) -> None:
    """A tab of the same site that asked for nothing is none of the request's business."""
    idle = stage.page(stage.demo)
    page, window = stage.asking_to_sign_in("ann")
    idle.reload()
    idle.close()
    consent(window)
    page.wait_for_url("**/account")


def given_up_while_signing(stage: Stage) -> None:
    """The page aborts when the person has consented: no passkey of that request is left in the vault."""
    page = stage.page(stage.demo)
    function = CREATE.replace(
        "navigator.credentials.create({", "navigator.credentials.create({signal: stop_it.signal, "
    )
    page.evaluate("() => { window.stop_it = new AbortController(); }")
    selection = {"authenticatorSelection": {"residentKey": "required"}}
    window = stage.ask(page, lambda: begin(page, function, {**selection, "rp": {"name": "Page", "id": "localhost"}}))
    window.wait_for_selector("#allow:enabled")
    window.evaluate("() => { document.getElementById('allow').click(); }")
    page.evaluate("stop_it.abort()")
    assert ended(page)["failed"] == "AbortError"
    until = time.monotonic() + 10
    while "carla" in _names_offered(stage):
        assert time.monotonic() < until, "the passkey of a cancelled request stayed"


def _names_offered(stage: Stage) -> str:
    page = stage.page(stage.demo)
    window = stage.ask(page, lambda: begin(page, GET))
    names = window.text_content("main") or ""
    assert still_waits(page)
    window.click("#decline")
    ended(page)
    page.close()
    return names


def looks(stage: Stage) -> None:
    """Dark, phone width, large print; everything by keyboard; every control has a name."""
    page, window = stage.asking_to_sign_in()
    window.wait_for_selector("#allow:enabled")
    for scheme in ("light", "dark"):
        window.emulate_media(color_scheme=scheme)
        window.set_viewport_size({"width": 360, "height": 740})
        stage.screen(window, f"consent-phone-{scheme}")
        assert window.evaluate("document.documentElement.scrollWidth <= innerWidth"), "scrolls sideways"
        window.set_viewport_size({"width": 480, "height": 690})
        stage.screen(window, f"consent-{scheme}")
    assert window.evaluate("document.activeElement.id") == "question", "no button may have the focus"
    _every_control_has_a_name(window)
    _by_keyboard(window)
    page.wait_for_url("**/account")

    for name in ("options.html", "problem.html?reason=agent_down", "problem.html?reason=not_paired"):
        own = stage.page(stage.browser.options_address.replace("options.html", name))
        own.wait_for_timeout(300)
        _every_control_has_a_name(own)
        for scheme in ("light", "dark"):
            own.emulate_media(color_scheme=scheme)
            own.set_viewport_size({"width": 360, "height": 740})
            stage.screen(own, f"{name.split('=')[-1].removesuffix('.html')}-phone-{scheme}")
            assert own.evaluate("document.documentElement.scrollWidth <= innerWidth"), "scrolls sideways"


def _by_keyboard(window: Page) -> None:
    """Tab to the accounts, the finger, the button; Space presses it."""
    for _ in range(12):
        window.keyboard.press("Tab")
        if window.evaluate("document.activeElement.id") == "allow":
            window.keyboard.press("Space")
            return
    raise AssertionError("the button cannot be reached by keyboard")


def _every_control_has_a_name(page: Page) -> None:
    for control in page.locator("button:visible, input:visible, summary:visible").all():
        named = control.evaluate(
            "(e) => e.textContent.trim() || [...(e.labels ?? [])].map((label) => label.textContent).join('').trim()"
        )
        assert named, control.evaluate("(e) => e.outerHTML")
