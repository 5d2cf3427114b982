"""navigator.credentials, called in a page, and what becomes of it."""

from __future__ import annotations

import json
from typing import Any

from playwright.sync_api import Page
from webauthn.helpers import base64url_to_bytes, parse_attestation_object

from tests.browser.stage import ANSWER_LIMIT_MS

CREATE = """async (changes) => {
  const bytes = (n) => crypto.getRandomValues(new Uint8Array(n));
  const made = await navigator.credentials.create({publicKey: {
    challenge: bytes(32), rp: {name: "Page"}, user: {id: bytes(16), name: "carla", displayName: "Carla"},
    pubKeyCredParams: [{type: "public-key", alg: -257}], ...changes,
  }});
  return made.toJSON();
}"""
GET = """async (changes) => {
  const used = await navigator.credentials.get({publicKey: {
    challenge: crypto.getRandomValues(new Uint8Array(32)), ...changes,
  }});
  return used.toJSON();
}"""


def begin(page: Any, function: str, changes: dict[str, Any] | None = None) -> None:
    """Call it without waiting. `page` may be a frame."""
    page.evaluate(
        f"""() => {{
          window.ended = null;
          ({function})({json.dumps(changes or {})}).then(
            (value) => {{ window.ended = value; }},
            (error) => {{ window.ended = {{failed: error.name, message: error.message}}; }});
        }}"""
    )


def ended(page: Any) -> dict[str, Any]:
    """The JSON form, or {"failed", "message"}."""
    page.wait_for_function("() => window.ended !== null", timeout=ANSWER_LIMIT_MS)
    outcome: dict[str, Any] = page.evaluate("window.ended")
    return outcome


def still_waits(page: Page) -> bool:
    return page.evaluate("window.ended") is None


NOT_ALLOWED = {"failed": "NotAllowedError", "message": "The operation either timed out or was not allowed."}
"""The one text for all that is not allowed."""


def flags(response: dict[str, Any]) -> int:
    """Of authenticatorData."""
    return base64url_to_bytes(response["response"]["authenticatorData"])[32]


def attestation_format(made: dict[str, Any]) -> str:
    return str(parse_attestation_object(base64url_to_bytes(made["response"]["attestationObject"])).fmt)
