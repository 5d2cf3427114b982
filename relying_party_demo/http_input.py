"""Reading requests: length, content type, JSON and form fields, the right address, the CSRF token."""

from __future__ import annotations

import json
from typing import Annotated, Any
from urllib.parse import parse_qsl

from fastapi import Depends
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from relying_party_demo.errors import Malformed, MissingCsrfToken, NotSignedIn, TooLarge, UnsupportedMediaType
from relying_party_demo.site import Site
from relying_party_demo.visitors import Session, Visitor

BODY_BYTES_MAX = 64 * 1024
"""An attestation with a certificate chain takes some 10 KB."""


def site_of(request: Request) -> Site:
    site: Site = request.app.state.site
    return site


def visitor_of(request: Request, site: SiteOf) -> Visitor:
    return site.visitors.recognise(request, site.clock())


def session_of(visitor: VisitorOf) -> Session:
    """Raises NotSignedIn."""
    if visitor.session is None:
        raise NotSignedIn()
    return visitor.session


async def json_body(request: Request, site: SiteOf, visitor: VisitorOf) -> dict[str, Any]:
    """The JSON object of a script on our own page; the CSRF token is in the header X-CSRF-Token."""
    _require_type(request, "application/json")
    content = await limited_body(request)
    await require_own_page(request, site, visitor, request.headers.get("x-csrf-token", ""))
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Malformed("The body is not JSON.") from error
    if not isinstance(body, dict):
        raise Malformed("The body is not a JSON object.")
    return body


async def form_body(request: Request, site: SiteOf, visitor: VisitorOf) -> dict[str, str]:
    """The fields of a form on our own page; the CSRF token is the field csrf."""
    _require_type(request, "application/x-www-form-urlencoded")
    content = await limited_body(request)
    try:
        pairs = parse_qsl(content.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=16)
    except ValueError as error:
        raise Malformed("The form cannot be read.") from error
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise Malformed("A field of the form is given twice.")
    await require_own_page(request, site, visitor, fields.pop("csrf", ""))
    return fields


SiteOf = Annotated[Site, Depends(site_of)]
VisitorOf = Annotated[Visitor, Depends(visitor_of)]
SessionOf = Annotated[Session, Depends(session_of)]
JsonBody = Annotated[dict[str, Any], Depends(json_body)]
FormBody = Annotated[dict[str, str], Depends(form_body)]


def _require_type(request: Request, expected: str) -> None:
    if request.headers.get("content-type", "").split(";")[0].strip().lower() != expected:
        raise UnsupportedMediaType(f"This address takes {expected}.")


def wants_page(request: Request) -> bool:
    """Whether a person loads a page, rather than a script or program a document."""
    return "text/html" in request.headers.get("accept", "")


async def limited_body(request: Request, bytes_max: int = BODY_BYTES_MAX, detail: str | None = None) -> bytes:
    """Raises TooLarge with `detail`."""
    # Counted while it arrives: Content-Length may be absent or wrong.
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > bytes_max:
            raise TooLarge(detail)
    return bytes(content)


def require_same_origin(request: Request, site: Site) -> None:
    """Origin, where a browser sends it, must be ours: browsers do so with every POST. Raises MissingCsrfToken."""
    if request.headers.get("origin") not in (None, site.settings.origin):
        raise MissingCsrfToken()


async def require_own_page(request: Request, site: Site, visitor: Visitor, token: str) -> None:
    """Raises MissingCsrfToken."""
    # The token decides. Origin is a second lock on the same door.
    require_same_origin(request, site)
    if not await run_in_threadpool(site.visitors.csrf_token_fits, visitor, token):
        raise MissingCsrfToken()
