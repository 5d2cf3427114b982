"""GET /metrics, for Prometheus. `AdminGate` asks for the token: numbers of logins are nobody else's business."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from ..metrics import exposition
from .admin_access import METRICS_PATH

_TEXT = "text/plain; version=0.0.4; charset=utf-8"


def router() -> APIRouter:
    """The address `/metrics`."""
    metrics = APIRouter(tags=["metrics"])

    @metrics.get(METRICS_PATH, response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    def scrape() -> Response:
        """The metrics of all workers of this server, in Prometheus' text format."""
        return Response(exposition(), headers={"Cache-Control": "no-store"}, media_type=_TEXT)

    return metrics
