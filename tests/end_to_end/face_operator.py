"""The operator of the demonstration's authentication server, where that runs in a thread of the test."""

from __future__ import annotations

from dataclasses import dataclass

from real_server import ThreadServer

from authsvc.services.personal_data import erase_user


@dataclass(frozen=True)
class OperatorInTheTest:
    server: ThreadServer

    def enrolment_code(self) -> str:
        return self.server.code("a visitor's phone")

    def erase(self, enrolment_id: bytes) -> None:
        erase_user(self.server.context, enrolment_id, confirmation=enrolment_id.hex())
