"""Every error as a problem document (RFC 9457), and nothing in it that a client sent."""

from __future__ import annotations

import json
import math
import secrets
from collections.abc import Awaitable, Callable

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mpc.errors import DecodeError, ProtocolAbort

from ..errors import PROBLEMS, Extension, Refused, problem_document
from ..key_port.port import KeyUnavailable
from ..logs import where
from ..observation import current, database_failed, told
from ..store.engine import StoreUnavailable

PROBLEM_TYPE = "application/problem+json"
_BY_STATUS = {404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "unsupported_media_type"}
_log = structlog.get_logger()


def problem_response(
    code: str, extension: dict[str, Extension] | None = None, headers: dict[str, str] | None = None
) -> Response:
    """The answer for a code of `authsvc.errors.PROBLEMS`."""
    told(code)
    extra = {"Cache-Control": "no-store", **(headers or {})}
    wait = (extension or {}).get("retry_after_s")
    if isinstance(wait, int | float):
        extra["Retry-After"] = str(math.ceil(wait))
    elif code == "unavailable":
        extra["Retry-After"] = "1"
    content = json.dumps(problem_document(code, extension), separators=(",", ":"))
    return Response(content, PROBLEMS[code].status, extra, PROBLEM_TYPE)


def response_to(error: Exception) -> Response | None:
    """The answer to an error that has a meaning for the client, or None."""
    match error:
        case Refused():
            return problem_response(error.code, error.extension)
        case DecodeError():
            return problem_response("malformed", {"field": error.field})
        case ProtocolAbort():
            return problem_response("malformed", {"reason": error.reason})
        case StoreUnavailable():
            database_failed()
            _log.error("store_unavailable", exception=_cause(error), where=where(error))
            return problem_response("unavailable")
        case KeyUnavailable():
            _log.error("key_unavailable", code=error.fault, where=where(error))
            return problem_response("unavailable")
        case RequestValidationError():
            return problem_response("malformed", {"field": _first_field(error)})
        case HTTPException():
            code = _BY_STATUS.get(error.status_code, "malformed" if error.status_code < 500 else "unavailable")
            extension: dict[str, Extension] = {"field": "body"} if code == "malformed" else {}
            return problem_response(code, extension, headers=dict(error.headers or {}))
        case _:
            return None


def internal_error(error: Exception) -> Response:
    """The answer to an error that is this server's own; only the log says what it was."""
    exchange = current()
    request_id = secrets.token_hex(8) if exchange is None else exchange.request_id
    _log.error("internal_error", request_id=request_id, exception=type(error).__name__, where=where(error))
    return problem_response("internal", {"request_id": request_id})


def install_problem_handlers(app: FastAPI) -> None:
    """Have every error of the application answered by this module."""

    async def answer(_request: Request, error: Exception) -> Response:
        return response_to(error) or internal_error(error)

    handler: Callable[[Request, Exception], Awaitable[Response]] = answer
    for kind in (Refused, ProtocolAbort, StoreUnavailable, KeyUnavailable, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, handler)
    app.add_middleware(AnswerInternalErrors)


class AnswerInternalErrors:
    """Answers what nobody else caught. The framework's own last resort would raise the error again for the
    server to print, with whatever its message holds.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception as error:
            response = internal_error(error)
            if not started:
                await response(scope, receive, send)


def _first_field(error: RequestValidationError) -> str:
    # Only names that the route declared: an unknown key's name was chosen by the client.
    for item in error.errors():
        names = [part for part in item["loc"] if part != "body"]
        if item["type"] != "extra_forbidden" and names and all(isinstance(part, str) for part in names):
            return ".".join(names)
    return "body"


def _cause(error: StoreUnavailable) -> str:
    return type(error.__cause__).__name__
