"""The style sheet and the mark. Their addresses carry a hash of their content, so that they may be kept for good."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from starlette.responses import Response

from .visits import PREFIX, Visit

_FOLDER: Final = Path(__file__).parent / "static"
_STYLE: Final = (_FOLDER / "style.css").read_bytes()
_MARK: Final = (_FOLDER / "mark.svg").read_bytes()
_CACHING: Final = {"Cache-Control": "public, max-age=31536000, immutable"}
STYLE_ADDRESS: Final = f"{PREFIX}/style.css?v={hashlib.sha256(_STYLE).hexdigest()[:12]}"
MARK_ADDRESS: Final = f"{PREFIX}/mark.svg?v={hashlib.sha256(_MARK).hexdigest()[:12]}"


def style(_visit: Visit) -> Response:
    """The style sheet."""
    return Response(_STYLE, 200, _CACHING, "text/css")


def mark(_visit: Visit) -> Response:
    """The mark, also as the tab's icon."""
    return Response(_MARK, 200, _CACHING, "image/svg+xml")
