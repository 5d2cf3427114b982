"""What a browser does for a visitor, without the browser: cookies, the CSRF token, JSON in and out."""

from __future__ import annotations

import http.cookiejar
import json
import urllib.error
import urllib.request
from typing import Any

_TIMEOUT_S = 30.0


class SiteRefused(Exception):
    """The relying party said no; `problem` is its problem document."""

    def __init__(self, status: int, problem: dict[str, Any]) -> None:
        super().__init__(f"the relying party refused: {problem.get('detail', status)}")
        self.status = status
        self.problem = problem


class VisitorClient:
    """One visitor with a cookie jar. `origin` is the site's address as a browser shows it."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        jar = http.cookiejar.CookieJar()
        # No proxies: the site is on this machine.
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(jar)
        )

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST JSON as the site's own script does. Raises SiteRefused."""
        token = self._send("/session", None, "")["csrf"]
        return self._send(path, json.dumps(body).encode("utf-8"), token)

    def signed_in_as(self) -> str | None:
        user: str | None = self._send("/session", None, "")["user"]
        return user

    def _send(self, path: str, body: bytes | None, csrf: str) -> dict[str, Any]:
        request = urllib.request.Request(self.origin + path, data=body)  # noqa: S310 - the origin is ours
        request.add_header("Accept", "application/json")
        if body is not None:
            request.add_header("Content-Type", "application/json")
            request.add_header("Origin", self.origin)
            request.add_header("X-CSRF-Token", csrf)
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as answer:
                document: dict[str, Any] = json.load(answer)
                return document
        except urllib.error.HTTPError as error:
            raise SiteRefused(error.code, json.loads(error.read())) from None
