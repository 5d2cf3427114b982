"""What ordinary sites do with an ordinary authenticator: both relying parties, in every way they ask."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page

from tests.browser.page_calls import CREATE, GET, NOT_ALLOWED, attestation_format, begin, ended, flags, still_waits
from tests.browser.stage import Stage, consent, told, window_closes


def pair_the_browser(stage: Stage) -> None:
    """The options page refuses what is no code and what is another agent's, and takes the right one."""
    options = stage.page(stage.browser.options_address)
    stage.screen(options, "options-before")
    options.fill("#code", "12345")
    options.click("#pair-form button")
    told(options, "#message", "This is no pairing code")
    options.fill("#code", f"tandem-{stage.agent.port}-{'A' * 43}")
    options.click("#pair-form button")
    told(options, "#message", "does not know this code")
    stage.screen(options, "options-wrong-code")
    options.fill("#code", stage.agent.pairing_code)
    options.click("#pair-form button")
    told(options, "#message", "Paired")
    stage.screen(options, "options-paired")


def demo_register(stage: Stage) -> None:
    page = stage.page(f"{stage.demo}/register")
    page.fill("#username", "ann")
    page.fill("#display_name", "Ann Example")
    window = stage.ask(page, lambda: page.click("form[data-passkey] button"))
    window.wait_for_selector("#allow:enabled")
    stage.screen(window, "consent-create")
    window.click("summary")
    stage.screen(window, "consent-create-details")
    consent(window)
    page.wait_for_url("**/account")
    assert "packed" in (page.text_content(".passkeys") or "")
    stage.screen(page, "demo-account")
    window_closes(window)


def demo_sign_in_with_name(stage: Stage) -> None:
    page, window = stage.asking_to_sign_in("ann")
    window.wait_for_selector("#allow:enabled")
    stage.screen(window, "consent-get")
    stage.screen(page, "demo-waiting")
    consent(window)
    page.wait_for_url("**/account")
    window_closes(window)


def demo_sign_in_without_name(stage: Stage) -> None:
    """Two accounts, and the person takes the older one."""
    stage.register("bob")
    stage.browser.context.clear_cookies()
    page, window = stage.asking_to_sign_in()
    assert window.locator("label.account").count() == 2
    stage.screen(window, "consent-chooser")
    consent(window, account="ann")
    page.wait_for_url("**/account")
    stage.browser.context.clear_cookies()
    page, window = stage.asking_to_sign_in()
    consent(window)  # the newest, which is chosen already
    page.wait_for_url("**/account")


def demo_excluded_credential(stage: Stage) -> None:
    """Told only after a match; the account keeps its one passkey."""
    page, window = stage.asking_to_sign_in("ann")
    consent(window)
    page.wait_for_url("**/account")
    window = stage.ask(page, lambda: page.click('form[data-passkey="add"] button'))
    consent(window)
    told(page, "#add-message", "This device already holds a passkey")
    told(window, "#message", "already has a passkey for this account")
    stage.screen(window, "consent-excluded")
    assert page.locator(".passkeys li").count() == 1


def second_register(stage: Stage) -> None:
    page, window = stage.asking_at_second("register")
    consent(window)
    told(page, "#result", "registered ben")
    stage.screen(page, "second-registered")
    assert stage.second_site.attestation_formats == ["packed"]


def second_sign_in_with_name(stage: Stage) -> None:
    page, window = stage.asking_at_second("login")
    consent(window)
    told(page, "#result", "signed in ben")


def second_sign_in_without_name(stage: Stage) -> None:
    page, window = stage.asking_at_second("discover")
    consent(window)
    told(page, "#result", "signed in ben")


def second_excluded_credential(stage: Stage) -> None:
    page, window = stage.asking_at_second("register")
    consent(window)
    told(page, "#result", "InvalidStateError")


def no_passkey_for_the_site(stage: Stage) -> None:
    """The person is told, the page is not: to it this looks like a refusal, and comes when the person closes it."""
    page = stage.page(stage.hostile)
    window = stage.ask(page, lambda: begin(page, GET))
    assert "No passkey for this site" in (window.text_content("#question") or "")
    stage.screen(window, "consent-nothing-fits")
    assert still_waits(page)
    window.click("#decline")
    assert ended(page) == NOT_ALLOWED


def options_of_a_registration(stage: Stage) -> None:
    """Algorithms, attestation, user verification, discoverability, as the page asked."""
    page = stage.page(stage.second)
    begin(page, CREATE, {"pubKeyCredParams": [{"type": "public-key", "alg": -7}]})
    no_rsa = ended(page)
    assert no_rsa["failed"] == "NotSupportedError" and "-257" in no_rsa["message"], no_rsa
    assert not stage.browser.consent_windows(stage.agent)

    both = [{"type": "public-key", "alg": alg} for alg in (-8, -37, -257)]
    made = _made(stage, page, {"pubKeyCredParams": both, "attestation": "none", "extensions": {"credProps": True}})
    assert made["response"]["publicKeyAlgorithm"] == -37
    assert made["clientExtensionResults"] == {"credProps": {"rk": False}}
    assert attestation_format(made) == "none"
    assert flags(made) & 0x04, "the user is verified, whatever is asked"

    selection = {"userVerification": "discouraged", "residentKey": "required"}
    made = _made(stage, page, {"attestation": "direct", "authenticatorSelection": selection})
    assert made["response"]["publicKeyAlgorithm"] == -257
    assert attestation_format(made) == "packed"
    assert flags(made) & 0x04


def available_to_pages(stage: Stage) -> None:
    """isUserVerifyingPlatformAuthenticatorAvailable is true while paired and on, and follows the switch."""
    page = stage.page(stage.demo)
    asked = "PublicKeyCredential.isUserVerifyingPlatformAuthenticatorAvailable()"
    assert page.evaluate(asked) is True
    options = stage.page(stage.browser.options_address)
    options.click("#enabled")
    told(options, "#message", "Switched off")
    stage.screen(options, "options-off")
    assert page.evaluate(asked) is False  # this Chromium has no authenticator of its own
    options.click("#enabled")
    told(options, "#message", "Sites get their passkeys from Tandem")
    assert page.evaluate(asked) is True


def _made(stage: Stage, page: Page, changes: dict[str, Any]) -> dict[str, Any]:
    consent(stage.ask(page, lambda: begin(page, CREATE, changes)))
    made = ended(page)
    assert "response" in made, made
    return made
