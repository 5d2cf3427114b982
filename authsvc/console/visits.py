"""One request to the console as the pages see it: parsed, bounded, and with whoever sent it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl, urlencode

from starlette.requests import Request

from mpc.primitives import base64url

from ..errors import Refused
from ..services.console_sessions import ConsoleSession
from ..services.context import ServiceContext
from ..tokens import Scope

PREFIX: Final = "/console"
MAX_BODY_BYTES: Final = 4 * 1024
_MAX_FIELDS: Final = 20
_BODY_TIMEOUT_S: Final = 30.0
_FORM: Final = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True)
class Visit:
    """A request that was let through."""

    ctx: ServiceContext
    path: str
    secure: bool
    """Over TLS."""
    params: Mapping[str, str]
    """The variable parts of the path."""
    query: Mapping[str, str]
    form: Mapping[str, str] = field(repr=False)
    session: ConsoleSession | None = field(repr=False)
    cookie: str | None = field(repr=False)

    @property
    def who(self) -> ConsoleSession:
        """The session; only pages that need none may be without."""
        assert self.session is not None
        return self.session

    @property
    def by(self) -> str:
        """How events name the visitor."""
        return self.who.principal.by

    def may(self, scope: Scope) -> bool:
        """Whether the visitor's token has a scope."""
        return self.session is not None and scope in self.session.principal.scopes

    def id_param(self, name: str) -> bytes:
        """A 16-byte id in the path. Refused("not_found")."""
        value = id_or_none(self.params[name])
        if value is None:
            raise Refused("not_found")
        return value

    def credential_param(self, name: str) -> bytes:
        """A credential id in the path, base64url. Refused("not_found")."""
        try:
            return base64url.decode(self.params[name])
        except ValueError:
            raise Refused("not_found") from None


def id_or_none(text: str) -> bytes | None:
    """The 16 bytes of an id in its one spelling, 32 small hexadecimal digits; None if it is something else."""
    if len(text) != 32 or set(text) - set("0123456789abcdef"):
        return None
    return bytes.fromhex(text)


def parse_fields(data: bytes) -> dict[str, str]:
    """The fields of a query or form body. Refused("malformed"): too many, twice the same name, not UTF-8."""
    try:
        pairs = parse_qsl(data.decode("ascii"), keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict")
    except ValueError:
        raise Refused("malformed", field="body") from None
    fields = dict(pairs)
    # What cannot be shown cannot be meant, and no database column takes a zero byte.
    if len(fields) != len(pairs) or not all(value.isprintable() for value in fields.values()):
        raise Refused("malformed", field="body")
    return {name: value.strip() for name, value in fields.items()}


async def read_form(request: Request) -> dict[str, str]:
    """The body of a POST, of which no more than `MAX_BODY_BYTES` are ever held.

    Refused: "unsupported_media_type", "too_large", "too_slow", "malformed".
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        raise Refused("unsupported_media_type", expected=_FORM)
    body = bytearray()
    try:
        async with asyncio.timeout(_BODY_TIMEOUT_S):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise Refused("too_large", max_bytes=MAX_BODY_BYTES)
    except TimeoutError:
        raise Refused("too_slow") from None
    return parse_fields(bytes(body))


def address(path: str, **query: str | int | None) -> str:
    """A console address; parts of the query that are empty are left out."""
    given = {name: value for name, value in query.items() if value not in (None, "")}
    return PREFIX + path + ("?" + urlencode(given) if given else "")
