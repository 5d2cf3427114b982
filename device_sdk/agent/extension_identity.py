"""Which extension the agent answers: the one whose manifest ships with it. Its `key` fixes its id."""

from __future__ import annotations

import base64
import hashlib
import json
from importlib import resources
from pathlib import Path


def extension_folder() -> Path:
    """The unpacked extension, for the browser's "Load unpacked"."""
    return Path(str(resources.files("device_sdk"))) / "browser_extension"


def extension_origin() -> str:
    """The Origin header of the extension's requests.

    Chromium derives an extension's id from the public key in its manifest: the first 16 bytes of the SHA-256 of the
    DER, each half byte written as a letter from a to p.
    """
    manifest = json.loads((extension_folder() / "manifest.json").read_text(encoding="utf-8"))
    digest = hashlib.sha256(base64.b64decode(manifest["key"], validate=True)).hexdigest()[:32]
    return "chrome-extension://" + "".join(chr(ord("a") + int(digit, 16)) for digit in digest)
