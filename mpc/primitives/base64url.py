"""Unpadded base64url, the only spelling of bytes in WebAuthn's JSON forms (RFC 4648 section 5)."""

from __future__ import annotations

import base64
import re

_ALPHABET = re.compile(r"[A-Za-z0-9_-]*", re.ASCII)


def encode(data: bytes) -> str:
    """Bytes as base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def decode(text: str) -> bytes:
    """The bytes of `text`. Raises ValueError, which does not repeat it, for anything but their one spelling.

    Python's own decoder skips foreign characters and ignores unused bits, so it accepts many spellings.
    """
    if not _ALPHABET.fullmatch(text) or len(text) % 4 == 1:
        raise ValueError("is not unpadded base64url")
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if encode(data) != text:
        raise ValueError("is not unpadded base64url")
    return data
