"""Health, profiles, and what the HTTP layer refuses before any use case runs."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from authsvc.api import protocol
from authsvc.app import create_app
from authsvc.logs import keep_allowed_fields, where
from authsvc.services import readiness
from authsvc.services.context import ServiceContext, SignedRequest
from authsvc.services.kek_adoption import WrongKek
from authsvc.settings import Settings
from authsvc.store import migrate
from mpc.errors import Blame, DecodeError, ProtocolAbort
from mpc.login.measurement import Measurement
from mpc.login.messages import message_1_max_bytes
from mpc.login.profile import Profile
from mpc.login.published_profiles import PUBLISHED

POSTS = (
    "/v1/enrolments",
    "/v1/enrolments/finish",
    "/v1/credentials",
    "/v1/credentials/revoke",
    "/v1/credentials/pair",
    "/v1/credentials/adopt",
    "/v1/logins",
    "/v1/confirmations",
    "/v1/recoveries",
    "/v1/recoveries/finish",
    "/v1/rotations",
    "/v1/rotations/finish",
    "/v1/rotations/settle",
    "/v1/templates/add",
    "/v1/templates/remove",
    "/v1/history",
)
CBOR = {"content-type": "application/cbor"}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, server_id="auth.example")


@pytest.fixture
def client(settings: Settings) -> Iterator[TestClient]:
    with TestClient(create_app(settings)) as client:
        yield client


class TestHealth:
    def test_a_fresh_server_is_alive_and_ready(self, client: TestClient) -> None:
        assert client.get("/healthz").json() == {"status": "alive"}
        assert client.get("/readyz").status_code == 200
        assert client.get("/readyz").json()["checks"] == {"database": True, "migrations": True, "key_port": True}

    def test_a_database_at_another_revision_is_not_ready(self, client: TestClient, settings: Settings) -> None:
        with sqlite3.connect(settings.data_dir / "authsvc.db") as raw:
            raw.execute("UPDATE alembic_version SET version_num = '0000'")
        raw.close()

        answer = client.get("/readyz")

        assert answer.status_code == 503
        assert answer.json()["checks"] == {"database": True, "migrations": False, "key_port": False}
        assert client.get("/healthz").status_code == 200

    def test_a_crowd_of_probes_costs_one_look_at_the_database(
        self, client: TestClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Strangers may ask, and the threads that look are few."""
        looks: list[int] = []

        def looking(ctx: ServiceContext, head: str | None) -> dict[str, bool]:
            looks.append(1)
            time.sleep(0.05)  # long enough for the others to come
            return real(ctx, head)

        real = readiness.readiness
        monkeypatch.setattr(readiness, "readiness", looking)
        monkeypatch.setattr(readiness, "KEPT_S", 600.0)
        asked = readiness.Readiness(client.app.state.context, migrate.head_revision())  # type: ignore[attr-defined]
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda _: asked.check(), range(64)))

        assert all(all(answer.values()) for answer in answers) and len(looks) == 1
        assert {client.get("/readyz").status_code for _ in range(5)} == {200} and len(looks) == 2

        monkeypatch.setattr(readiness, "KEPT_S", 0.0)
        asked.check()
        assert len(looks) == 3

    def test_a_server_started_with_another_key_refuses_to_run(self, settings: Settings) -> None:
        """Every login would fail, and new shares would be sealed under the wrong key."""
        with TestClient(create_app(settings)):
            pass
        (settings.data_dir / "kek").write_bytes(os.urandom(32))

        with pytest.raises(WrongKek), TestClient(create_app(settings)):
            pass

    def test_a_server_started_again_with_its_key_runs(self, settings: Settings) -> None:
        for _ in range(2):
            with TestClient(create_app(settings)) as client:
                assert client.get("/readyz").status_code == 200


class TestProfiles:
    def test_a_device_can_rebuild_the_profile_and_its_digest(self, client: TestClient) -> None:
        for name in ("sim-512", "sim-2048", "sim-2048-masked"):
            document = client.get(f"/v1/profiles/{name}").json()
            digest, server_id = document.pop("digest"), document.pop("server_id")

            assert Profile.from_dict(document).digest.hex() == digest
            assert server_id == "auth.example"

    def test_a_published_profile_brings_what_was_measured_of_it(self, client: TestClient) -> None:
        """A device can hold the error rates against the digest that its enrolment is bound to."""
        document = client.get("/v1/profiles/face-2048").json()

        assert Measurement.from_dict(document["measurement"]).digest == document["measured"]
        assert PUBLISHED["face-2048"].digest.hex() == document["digest"]

    def test_an_unknown_profile_is_not_found(self, client: TestClient) -> None:
        answer = client.get("/v1/profiles/other")

        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


class TestFrame:
    def assert_problem(self, answer: object, status: int, code: str) -> None:
        assert answer.status_code == status  # type: ignore[attr-defined]
        assert answer.headers["content-type"] == "application/problem+json"  # type: ignore[attr-defined]
        document = answer.json()  # type: ignore[attr-defined]
        assert (document["status"], document["code"]) == (status, code)
        assert document["type"] == f"urn:tandem:problem:{code}"

    @pytest.mark.parametrize("path", POSTS)
    @pytest.mark.parametrize(
        "content_type", [None, "", "application/json", "application/cbor; charset=utf-8", "text/plain"]
    )
    def test_another_content_type_is_refused(self, path: str, content_type: str | None, client: TestClient) -> None:
        headers = {} if content_type is None else {"content-type": content_type}

        self.assert_problem(client.post(path, content=b"\xa0", headers=headers), 415, "unsupported_media_type")

    def test_a_compressed_body_is_refused(self, client: TestClient) -> None:
        answer = client.post("/v1/logins", content=b"\xa0", headers={**CBOR, "content-encoding": "gzip"})

        self.assert_problem(answer, 415, "unsupported_media_type")

    @pytest.mark.parametrize("path", POSTS)
    def test_an_announced_length_over_the_bound_is_refused_unread(self, path: str, client: TestClient) -> None:
        answer = client.post(path, content=b"", headers={**CBOR, "content-length": str(10**9)})

        self.assert_problem(answer, 413, "too_large")

    @pytest.mark.parametrize("path", POSTS)
    def test_a_body_without_a_length_is_cut_off_at_the_bound(self, path: str, client: TestClient) -> None:
        sent = 0

        def endless() -> Iterator[bytes]:
            nonlocal sent
            for _ in range(64):
                sent += 65_536
                yield bytes(65_536)

        self.assert_problem(client.post(path, content=endless(), headers=CBOR), 413, "too_large")

    def test_the_bound_of_a_login_is_that_of_the_largest_profile(self, client: TestClient) -> None:
        ctx: ServiceContext = client.app.state.context  # type: ignore[attr-defined]
        bounds = {endpoint.path: endpoint.max_body_bytes for endpoint in protocol.protocol_endpoints(ctx)}

        assert set(bounds) == set(POSTS)
        largest = [p.with_templates(p.max_templates) for p in ctx.policy.profiles.values()]
        assert bounds["/v1/logins"] == max(map(message_1_max_bytes, largest))

    @pytest.mark.parametrize("path", POSTS)
    def test_another_method_is_refused(self, path: str, client: TestClient) -> None:
        answer = client.get(path)

        self.assert_problem(answer, 405, "method_not_allowed")
        assert answer.headers["allow"] == "POST"

    @pytest.mark.parametrize("path", ["/", "/v1", "/v1/logins/", "/v1/login", "/docs", "/redoc", "/v1/logins/x"])
    def test_an_unknown_address_is_not_found_and_never_redirected(self, path: str, client: TestClient) -> None:
        self.assert_problem(client.post(path, content=b"", follow_redirects=False), 404, "not_found")


class TestFaultsOfUseCases:
    """What a use case raises, told to a client. The routes are the real ones; the use case is the test's."""

    def post(self, settings: Settings, error: Exception) -> object:
        app = create_app(settings)
        ctx: ServiceContext = app.state.context

        def use_case(_ctx: ServiceContext, request: SignedRequest) -> bytes:
            raise error

        from concurrent.futures import ThreadPoolExecutor

        workers = ThreadPoolExecutor(1)
        endpoint = protocol.Endpoint("/v1/test", use_case, 100)
        app.add_middleware(
            protocol.ProtocolRoutes, ctx=ctx, endpoints=[endpoint], workers=workers, max_queued=1, body_timeout_s=5
        )
        with TestClient(app) as client:
            answer = client.post("/v1/test", content=b"\xa0", headers=CBOR)
        workers.shutdown()
        return answer

    def test_a_decode_error_names_the_field(self, settings: Settings) -> None:
        answer = self.post(settings, DecodeError("message 1.u", "must be 32 bytes"))

        assert answer.status_code == 400  # type: ignore[attr-defined]
        assert answer.json()["field"] == "message 1.u"  # type: ignore[attr-defined]

    def test_a_failed_check_is_no_error_of_the_server(self, settings: Settings) -> None:
        answer = self.post(settings, ProtocolAbort("bad_point", Blame.DEVICE))

        assert answer.status_code == 400  # type: ignore[attr-defined]

    def test_a_bug_says_nothing_and_logs_no_message(
        self, settings: Settings, capfd: pytest.CaptureFixture[str]
    ) -> None:
        """A library may put what it was given into its error text, and what it was given may be a share."""
        answer = self.post(settings, RuntimeError("very secret share"))

        document = answer.json()  # type: ignore[attr-defined]
        logged = capfd.readouterr().err
        assert (answer.status_code, document["code"]) == (500, "internal")  # type: ignore[attr-defined]
        assert document["request_id"] in logged
        assert "RuntimeError" in logged
        assert "very secret share" not in logged + answer.text  # type: ignore[attr-defined]


def test_the_signed_parts_reach_the_use_case_as_the_client_sent_them(settings: Settings) -> None:
    seen: list[SignedRequest] = []
    app = create_app(settings)

    def use_case(_ctx: ServiceContext, request: SignedRequest) -> bytes:
        seen.append(request)
        return b"\xa1\x01\x02"

    from concurrent.futures import ThreadPoolExecutor

    workers = ThreadPoolExecutor(1)
    endpoints = [protocol.Endpoint("/v1/test", use_case, 10)]
    app.add_middleware(
        protocol.ProtocolRoutes,
        ctx=app.state.context,
        endpoints=endpoints,
        workers=workers,
        max_queued=1,
        body_timeout_s=5,
    )
    with TestClient(app) as client:
        answer = client.post(
            "http://Example.COM:80/v1/test?x=1",
            content=b"0123456789",
            headers=[("Content-Type", "application/cbor"), ("Signature", "a=:AA==:"), ("signature", "b=:AA==:")],
        )
        client.post("http://example.com:8080/v1/test", content=b"", headers=CBOR)
    workers.shutdown()

    assert (answer.status_code, answer.content) == (200, b"\xa1\x01\x02")
    assert answer.headers["content-type"] == "application/cbor"
    assert answer.headers["cache-control"] == "no-store"
    assert (seen[0].method, seen[0].authority, seen[0].path) == ("POST", "example.com", "/v1/test")
    assert seen[0].headers["signature"] == "a=:AA==:, b=:AA==:"
    assert seen[0].body == b"0123456789"
    assert seen[1].authority == "example.com:8080"
    assert "0123456789" not in repr(seen[0])


def test_logs_keep_allowed_fields_only() -> None:
    fields = {"event": "x", "request_id": "r", "body": b"secret", "share": 5}

    assert keep_allowed_fields(None, "info", fields) == {"event": "x", "request_id": "r"}


def test_the_place_of_an_error_is_told_without_its_text() -> None:
    try:
        json.loads("very secret share")
    except ValueError as error:
        told = " ".join(where(error))

    assert "test_the_place_of_an_error" in told
    assert "secret" not in told
