"""What the extension asks for. Every request proves the pairing key, every answer does too.

| POST | body | answer |
|---|---|---|
| /v1/status | {} | {"profile", "sensor", "passkeys"} |
| /v1/jobs | {"kind", "page", "options"} | the job |
| /v1/jobs/ID/wait | {"seen"} | the job, once it changes or after four seconds |
| /v1/jobs/ID/cancel | {} | the job |

A job: {"job", "version", "state"}, with "consent" (a path) while it waits for a person who has not seen it, and with
"response" or "error" {"name", "message"} once it is over. A request that makes no job is answered like a job that is
over. A job that the agent does not know is a 404; the agent has forgotten it, or was started anew.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from device_sdk.agent.ceremonies import Ceremonies
from device_sdk.agent.ceremony_request import Malformed, parse_ceremony_request
from device_sdk.agent.http_bodies import BodyTooLarge, NotAnObject, json_object, read_body
from device_sdk.agent.jobs import Job, NoSuchJob, Refused, State
from device_sdk.agent.outcomes import Outcome, failed
from device_sdk.agent.pairing import (
    MAC_HEADER,
    NONCE_HEADER,
    TIME_HEADER,
    NotProven,
    PairingKey,
    ProvenRequests,
)
from device_sdk.authenticator.options import MAX_OPTIONS_BYTES
from device_sdk.errors import WebAuthnError

_log = logging.getLogger(__name__)

LISTEN_S = 4.0
"""Much longer, and Chromium ends the extension's service worker in the middle."""
_BODY_BYTES_MAX = MAX_OPTIONS_BYTES + 1024

Endpoint = Callable[[Request, dict[str, Any]], Awaitable[dict[str, Any]]]


class ExtensionApi:
    """The routes under /v1, for whoever passes `HttpGuard` and proves the key."""

    def __init__(self, ceremonies: Ceremonies, key: PairingKey, proven: ProvenRequests, *, profile: str) -> None:
        self._ceremonies = ceremonies
        self._book = ceremonies.book
        self._key = key
        self._proven = proven
        self._profile = profile

    def routes(self) -> list[Route]:
        table: list[tuple[str, Endpoint]] = [
            ("/v1/status", self._status),
            ("/v1/jobs", self._open),
            ("/v1/jobs/{job}/wait", self._wait),
            ("/v1/jobs/{job}/cancel", self._cancel),
        ]
        return [Route(path, self._guarded(endpoint), methods=["POST"]) for path, endpoint in table]

    def _guarded(self, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            try:
                body = await read_body(request, _BODY_BYTES_MAX)
                self._proven.check(
                    method=request.method,
                    path=request.url.path,
                    time_ms=request.headers.get(TIME_HEADER, ""),
                    nonce=request.headers.get(NONCE_HEADER, ""),
                    mac=request.headers.get(MAC_HEADER, ""),
                    body=body,
                )
            except BodyTooLarge:
                return Response(status_code=413)
            except NotProven:
                return Response(status_code=401)
            status, document = 200, {}
            try:
                document = await endpoint(request, json_object(body))
            except (NotAnObject, Malformed):
                status = 400
            except NoSuchJob:
                status = 404
            except Exception as error:  # proven all the same, or the extension would take the agent for another program
                _log.error("a request failed: %s", type(error).__name__)
                status = 500
            made = JSONResponse(document, status_code=status)
            made.headers[MAC_HEADER] = self._key.answer_mac(request.headers[NONCE_HEADER], status, bytes(made.body))
            return made

        return answer

    async def _status(self, request: Request, document: dict[str, Any]) -> dict[str, Any]:
        return {
            "profile": self._profile,
            "sensor": self._ceremonies.sensor.kind,
            "passkeys": self._ceremonies.passkeys,
        }

    async def _open(self, request: Request, document: dict[str, Any]) -> dict[str, Any]:
        try:
            return _as_json(self._book.open(parse_ceremony_request(document)))
        except WebAuthnError as fault:
            return _ended(failed(fault))
        except Refused as refused:
            return _ended(refused.outcome)

    async def _wait(self, request: Request, document: dict[str, Any]) -> dict[str, Any]:
        job = self._book.find(request.path_params["job"])
        seen = document.get("seen")
        if not isinstance(seen, int) or isinstance(seen, bool):
            raise Malformed("seen")
        with self._book.listening(job):
            await job.wait_for_change(seen, min(LISTEN_S, self._book.left_s(job)))
        self._book.expire()
        return _as_json(job)

    async def _cancel(self, request: Request, document: dict[str, Any]) -> dict[str, Any]:
        job = self._book.find(request.path_params["job"])
        self._ceremonies.cancel(job)
        return _as_json(job)


def _as_json(job: Job) -> dict[str, Any]:
    told: dict[str, Any] = {"job": job.id, "version": job.version, "state": job.state.value}
    if job.outcome is not None:
        return {**told, **_ended(job.outcome)}
    if job.state is State.WAITING and not job.ticket_is_spent:
        told["consent"] = f"/consent/{job.page.ticket}"
    return told


def _ended(outcome: Outcome) -> dict[str, Any]:
    if outcome.error is not None:
        return {"state": "over", "error": {"name": outcome.error.name, "message": outcome.error.message}}
    return {"state": "over", "response": outcome.response}
