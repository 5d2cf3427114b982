"""Reading a body, counted while it arrives: Content-Length may be absent or wrong."""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request


class BodyTooLarge(Exception):
    """More than the address takes."""


class NotAnObject(ValueError):
    """Not a JSON object."""


async def read_body(request: Request, at_most: int) -> bytes:
    """Raises BodyTooLarge."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > at_most:
            raise BodyTooLarge
    return bytes(content)


def json_object(body: bytes) -> dict[str, Any]:
    """Raises NotAnObject."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise NotAnObject from None
    if not isinstance(document, dict):
        raise NotAnObject
    return document
