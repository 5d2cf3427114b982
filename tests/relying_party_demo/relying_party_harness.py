"""A clock that a test can turn, and browsers with cookies and the CSRF token of their own."""

from __future__ import annotations

import base64
from typing import Any

import httpx
from fastapi.testclient import TestClient
from relying_party_authenticator import SoftwareAuthenticator

ORIGIN = "http://localhost:8123"


class Clock:
    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Browser(TestClient):
    """A browser with cookies of its own, that sends the CSRF token as the pages' script does."""

    def post_json(self, path: str, body: object) -> httpx.Response:
        token = self.get("/session").json()["csrf"]
        answer: httpx.Response = self.post(path, json=body, headers={"X-CSRF-Token": token})
        return answer

    def post_form(self, path: str, **fields: str) -> httpx.Response:
        token = self.get("/session").json()["csrf"]
        answer: httpx.Response = self.post(path, data={"csrf": token, **fields}, headers={"Accept": "text/html"})
        return answer

    def post_pictures(self, path: str, *pictures: bytes, accept: str = "text/html", **fields: str) -> httpx.Response:
        """As the browser sends the form with files; httpx encodes it."""
        token = self.get("/session").json()["csrf"]
        files = [("pictures", ("me.jpg", picture, "image/jpeg")) for picture in pictures]
        # Without files httpx would send another kind of form, so one without content stands for "none chosen".
        files = files or [("pictures", ("", b"", "application/octet-stream"))]
        answer: httpx.Response = self.post(
            path, data={"csrf": token, **fields}, files=files, headers={"Accept": accept}
        )
        return answer

    @property
    def user(self) -> str | None:
        name: str | None = self.get("/session").json()["user"]
        return name

    def register(self, authenticator: SoftwareAuthenticator, name: str) -> dict[str, Any]:
        options = self.post_json("/register/options", {"username": name}).json()
        answer = self.post_json("/register/verify", authenticator.create(options, ORIGIN))
        assert answer.status_code == 200, answer.text
        outcome: dict[str, Any] = answer.json()
        return outcome

    def log_in(self, authenticator: SoftwareAuthenticator, name: str | None = None) -> httpx.Response:
        options = self.post_json("/login/options", {"username": name}).json()
        return self.post_json("/login/verify", authenticator.get(options, ORIGIN))


def code_of(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    problem = answer.json()
    assert problem["status"] == answer.status_code
    return answer.status_code, problem["code"]


def encoded(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
