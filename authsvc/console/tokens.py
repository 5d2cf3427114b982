"""Who has a token. Issuing and revoking belong to the server's own machine."""

from __future__ import annotations

from starlette.responses import Response

from ..services.api_tokens import every_token
from .rendering import page
from .visits import Visit


def show(visit: Visit) -> Response:
    """All tokens, the ended ones too; the newest first."""
    return page(visit, "tokens.html", rows=every_token(visit.ctx)[::-1])
