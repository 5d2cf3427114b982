"""Reading a body: so many bytes and so many seconds, whoever sends it."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from ..errors import Refused


async def bounded_body(request: Request, *, max_bytes: int, timeout_s: float) -> bytes:
    """The whole body. Raises Refused "too_large" as soon as it is, "too_slow"; starlette's ClientDisconnect."""
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                size += len(chunk)
                if size > max_bytes:
                    raise Refused("too_large", max_bytes=max_bytes)
                chunks.append(chunk)
    except TimeoutError:
        raise Refused("too_slow") from None
    return b"".join(chunks)
