"""What operators see of requests: ids, lines, metrics, traces; and who a request counts against."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from attacker import Attacker
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.parser import text_string_to_metric_families
from real_server import thread_server, wait_until

from authsvc import app as application
from authsvc.api.client_address import client_address
from authsvc.app import create_app
from authsvc.logs import ALLOWED_FIELDS
from authsvc.metrics import exposition, shared_by_workers
from authsvc.observation import STEPS
from authsvc.services.api_tokens import issue_token
from authsvc.settings import Settings, SettingsError, load_settings
from authsvc.tokens import Scope
from authsvc.tracing import Tracer

HERE, ELSEWHERE = ("203.0.113.7", 4711), ("203.0.113.8", 4711)
CBOR = {"content-type": "application/cbor"}


def settings(folder: Path, **changes: Any) -> Settings:
    return Settings(data_dir=folder, server_id="auth.example", **changes)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(create_app(settings(tmp_path)), client=HERE) as client:
        yield client


def samples(text: str) -> dict[tuple[str, ...], float]:
    """(name, label values…) → value."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def now() -> dict[tuple[str, ...], float]:
    return samples(exposition().decode())


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


class TestRequestIds:
    def test_each_request_has_its_own_in_its_answer_and_in_its_lines(
        self, client: TestClient, capfd: pytest.CaptureFixture[str]
    ) -> None:
        answers = [client.get("/v1/profiles/sim-512"), client.post("/v1/logins", content=b"", headers=CBOR)]
        told = [answer.headers["x-request-id"] for answer in answers]
        written = [line for line in lines(capfd.readouterr().err) if line["event"] == "request"]
        assert len(set(told)) == 2 and all(len(each) == 16 for each in told)
        assert [line["request_id"] for line in written] == told

    def test_a_clients_own_id_is_not_taken_over(self, client: TestClient, capfd: pytest.CaptureFixture[str]) -> None:
        """It would let a stranger write into the log, or hide among another's lines."""
        answer = client.get("/healthz", headers={"x-request-id": "0123456789abcdef", "traceparent": "00-" + "1" * 32})
        client.get("/v1/profiles/x", headers={"x-request-id": "0123456789abcdef"})
        assert answer.headers["x-request-id"] != "0123456789abcdef"
        assert "0123456789abcdef" not in capfd.readouterr().err

    def test_an_internal_error_is_found_under_the_id_of_its_request(
        self, client: TestClient, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("authsvc.services.inspection.search_enrolments", None)
        answer = client.get("/v1/admin/enrolments", headers=bearer(client))
        told = lines(capfd.readouterr().err)
        assert answer.status_code == 500
        assert answer.json()["request_id"] == answer.headers["x-request-id"]
        mine = [line for line in told if line["request_id"] == answer.json()["request_id"]]
        assert [line["event"] for line in mine] == ["internal_error", "request"]


def bearer(client: TestClient) -> dict[str, str]:
    context = client.app.state.context  # type: ignore[attr-defined]
    return {"authorization": f"Bearer {issue_token(context, name='test', scopes=[Scope.OPERATOR]).text}"}


class TestLines:
    def test_a_line_tells_the_template_and_nothing_that_the_client_chose(
        self, client: TestClient, capfd: pytest.CaptureFixture[str]
    ) -> None:
        client.get("/v1/profiles/an-unusual-name?and=query")
        client.request("BREW", "/coffee-pot", headers={"user-agent": "an-unusual-agent"})
        client.post("/v1/logins", content=b"an-unusual-body", headers=CBOR)
        text = capfd.readouterr().err
        written = [line for line in lines(text) if line["event"] == "request"]
        assert "unusual" not in text and "coffee" not in text and "BREW" not in text and HERE[0] not in text
        assert [(line["method"], line["route"], line["status"], line["code"]) for line in written] == [
            ("GET", "/v1/profiles/{name}", 404, "not_found"),
            ("other", "unmatched", 404, "not_found"),
            ("POST", "/v1/logins", 401, "unauthenticated"),
        ]
        assert written[2]["bytes_in"] == 15 and written[2]["bytes_out"] > 100
        assert all(set(line) <= ALLOWED_FIELDS for line in written)

    def test_addresses_are_told_where_a_setting_says_so(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with TestClient(create_app(settings(tmp_path, log_addresses=True)), client=HERE) as client:
            client.get("/v1/profiles/x")
        assert HERE[0] in capfd.readouterr().err

    @pytest.mark.parametrize(("level", "probes", "requests"), [("debug", 1, 1), ("info", 0, 1), ("warning", 0, 0)])
    def test_probes_are_told_at_debug_and_nothing_below_the_level(
        self, level: Any, probes: int, requests: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        with TestClient(create_app(settings(tmp_path, log_level=level))) as client:
            client.get("/healthz")
            client.get("/v1/profiles/sim-512")
        written = [line["route"] for line in lines(capfd.readouterr().err) if line["event"] == "request"]
        assert (written.count("/healthz"), written.count("/v1/profiles/{name}")) == (probes, requests)


class TestAddresses:
    TRUSTED = (ip_network("10.0.0.0/8"), ip_network("2001:db8:1::/48"))

    @pytest.mark.parametrize(
        ("peer", "forwarded", "counted"),
        [
            ("203.0.113.7", [], "203.0.113.7"),
            ("203.0.113.7", ["198.51.100.1"], "203.0.113.7"),  # a stranger's word
            ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", ["1.1.1.1, 198.51.100.1"], "198.51.100.1"),  # what stands before is the client's
            ("10.0.0.1", ["1.1.1.1", "198.51.100.1, 10.9.9.9"], "198.51.100.1"),
            ("10.0.0.1", ["198.51.100.1:5123"], "198.51.100.1"),
            ("10.0.0.1", ["[2001:db8::5]:5123"], "2001:db8::/64"),
            ("10.0.0.1", [], None),
            ("10.0.0.1", ["10.2.2.2"], None),
            ("10.0.0.1", ["198.51.100.1, unknown"], None),
            ("2001:db8:1::1", ["198.51.100.1"], "198.51.100.1"),
            ("2001:db8:2:3:4:5:6:7", [], "2001:db8:2:3::/64"),
            ("::ffff:203.0.113.7", [], "203.0.113.7"),
            ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
            ("127.0.0.1", ["198.51.100.1"], None),
            ("testclient", [], None),
        ],
    )
    def test_who_a_request_counts_against(self, peer: str, forwarded: list[str], counted: str | None) -> None:
        """A client that could choose it would have as many rates as it likes, or use up another's."""
        headers = [(b"x-forwarded-for", each.encode()) for each in forwarded]
        assert client_address({"client": (peer, 1), "headers": headers}, self.TRUSTED) == counted

    def test_a_peer_without_an_address_is_nobody(self) -> None:
        assert client_address({"client": None, "headers": []}, self.TRUSTED) is None

    @pytest.mark.parametrize("wrong", ["proxy.example", "10.0.0.1/8", "", "*"])
    def test_a_proxy_that_is_no_address_is_a_wrong_setting(self, wrong: str) -> None:
        with pytest.raises(SettingsError, match="trusted_proxies"):
            load_settings(trusted_proxies=[wrong])

    def test_proxies_in_front_of_tls_must_be_said_to_open_it(self, tmp_path: Path) -> None:
        """Through a balancer that passes TCP through a client's own X-Forwarded-For would come from a trusted peer."""
        tls = {"tls_cert_file": tmp_path / "cert", "tls_key_file": tmp_path / "key"}
        with pytest.raises(SettingsError, match="never name a balancer that passes TCP through"):
            load_settings(trusted_proxies=["10.0.0.1"], **tls)
        assert load_settings(trusted_proxies=["10.0.0.1"], proxies_reencrypt=True, **tls).proxies_reencrypt
        assert load_settings(**tls).trusted_proxies == []
        assert load_settings(trusted_proxies=["10.0.0.1"]).trusted_proxies == ["10.0.0.1"]

    def test_an_address_is_refused_before_token_and_body_and_others_are_not(self, tmp_path: Path) -> None:
        app = create_app(settings(tmp_path, limits={"address_burst": 5, "address_requests_per_s": 0.01}))
        with TestClient(app, client=HERE) as here:
            before = now().get(("tandem_rate_limited_total", "address"), 0)
            told = [here.post("/v1/logins", content=b"x", headers=CBOR).status_code for _ in range(8)]
            refused = here.get("/v1/admin/enrolments", headers={"authorization": "Bearer guess"})
            assert told == [401] * 5 + [429] * 3
            assert (refused.status_code, refused.json()["code"]) == (429, "throttled")
            assert 1 <= int(refused.headers["retry-after"]) <= 100
            assert here.get("/healthz").status_code == 200
            assert here.get("/readyz").status_code == here.get("/metrics").status_code == 429
            assert now()["tandem_rate_limited_total", "address"] == before + 6
            elsewhere = TestClient(app, client=ELSEWHERE)
            assert elsewhere.post("/v1/logins", content=b"x", headers=CBOR).status_code == 401
        with TestClient(create_app(settings(tmp_path, limits={"address_burst": 5, "address_requests_per_s": 0.01})),
                        client=HERE) as again:  # fmt: skip
            assert again.get("/v1/profiles/sim-512").status_code == 429, "a restart gave the rate back"

    def test_many_networks_of_one_ipv6_site_share_a_larger_rate(self, tmp_path: Path) -> None:
        """A /48 costs next to nothing, and has 65,536 networks, each of which would have a whole rate."""
        app = create_app(settings(tmp_path, limits={"address_burst": 5, "address_requests_per_s": 0.01}))
        before = now().get(("tandem_rate_limited_total", "site"), 0)

        def ask(address: str) -> int:
            client = TestClient(app, client=(address, 4711))
            return client.get("/v1/profiles/sim-512").status_code

        with TestClient(app):
            told = [ask(f"2001:db8:1:{number:x}::1") for number in range(46)]
            assert [ask("2001:db8:2::1"), ask("203.0.113.7")] == [200, 200]
            assert told == [200] * 40 + [429] * 6
        assert now()["tandem_rate_limited_total", "site"] == before + 6

    def test_a_limit_of_nought_is_off(self, tmp_path: Path) -> None:
        limits = {"address_burst": 1, "address_requests_per_s": 0}
        with TestClient(create_app(settings(tmp_path, limits=limits)), client=HERE) as client:
            assert {client.get("/v1/profiles/sim-512").status_code for _ in range(30)} == {200}


class TestMetrics:
    def test_only_operators_see_them(self, client: TestClient) -> None:
        assert client.get("/metrics").status_code == 401
        assert client.get("/metrics", headers={"authorization": "Bearer wrong"}).status_code == 401
        answer = client.get("/metrics", headers=bearer(client))
        assert answer.status_code == 200 and answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert samples(answer.text)["tandem_build_info", "0007", sys.version.split()[0], "0.1.0"] == 1

    def test_a_checkpoint_that_was_written_is_told(self, tmp_path: Path) -> None:
        """Nobody looks for signatures that do not come, until they are needed."""
        before = now()
        began = time.time()
        with TestClient(create_app(settings(tmp_path))) as client:
            bearer(client)  # an event; the last checkpoint is written as the server stops
        key, at = ("tandem_checkpoints_total",), ("tandem_last_checkpoint_timestamp_seconds",)
        assert now()[key] == before[key] + 1 and began - 1 <= now()[at] <= time.time()

    def test_a_request_without_a_place_is_told(self, tmp_path: Path) -> None:
        """503s alone do not say whether the database is gone or the load too high."""
        app = create_app(settings(tmp_path, max_queued=1))
        with TestClient(app, client=HERE) as client:
            (places,) = {each.kwargs["places"] for each in app.user_middleware if "places" in each.kwargs}
            before = now().get(("tandem_rate_limited_total", "queue"), 0)
            with places.one():
                told = [client.get(path) for path in ("/v1/profiles/sim-512", "/console", "/v1/admin/token")]
                told.append(client.get("/v1/admin/token", headers={"authorization": "Bearer guess"}))
                assert [each.status_code for each in told] == [503, 503, 401, 503]
                assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
            assert client.get("/v1/profiles/sim-512").status_code == 200
            assert now()["tandem_rate_limited_total", "queue"] == before + 3

    def test_a_login_is_told_by_row_and_step_and_a_refusal_by_its_code(self, tmp_path: Path) -> None:
        with thread_server(tmp_path) as server, Attacker.enrolled(server) as phone:
            phone.register()
            before = now()
            phone.succeed(phone.prepare())
            phone.try_login(phone.prepare(ot_index=1).message_1)
            phone.try_login(phone.prepare(base_ot_id=bytes(16)).message_1)
            after = now()

        def grown(*key: str) -> float:
            return after.get(key, 0) - before.get(key, 0)

        outcomes = ("answered", "confirmed", "stale_index", "base_ot_changed")
        assert [grown("tandem_logins_total", each) for each in outcomes] == [1, 1, 1, 1]
        assert grown("tandem_requests_total", "ok", "/v1/logins") == 1
        assert grown("tandem_requests_total", "stale_index", "/v1/logins") == 1
        assert grown("tandem_request_seconds_count", "/v1/logins") == 3
        counts = {step: grown("tandem_step_seconds_count", step) for step in STEPS}
        assert counts.pop("settle") == 0
        assert counts.pop("turn") == 3  # the two that are refused have waited for it
        assert counts.pop("queue") == counts.pop("authenticate") == 4
        assert counts == dict.fromkeys(counts, 1)
        assert after[("tandem_requests_queued",)] == 0

    def test_nothing_that_a_client_chooses_becomes_a_series(self, client: TestClient) -> None:
        """A stranger could otherwise fill the memory of the server and of Prometheus."""
        client.get("/v1/profiles/x")
        client.get("/nothing")
        before = set(now())
        for number in range(20):
            client.get(f"/v1/profiles/{number}")
            client.get(f"/{number}")
            client.request(f"M{number}", "/v1/logins")
            client.post("/v1/logins", content=b"", headers={"content-type": f"a/{number}"})
        assert len(set(now()) - before) <= 30
        labels = {label for key in set(now()) - before for label in key[1:]}
        assert not {f"/{number}" for number in range(20)} & labels

    def test_a_scrape_of_any_worker_tells_all_and_dead_ones_serve_nothing(self, tmp_path: Path) -> None:
        """Counters of a killed worker stay (a counter never falls); what it was serving is served no more."""
        program = (
            "import sys, time; from authsvc import metrics;"
            "metrics.LOGINS.labels('answered').inc(3); metrics.IN_PROGRESS.inc(7);"
            "print('ready', flush=True); sys.stdin.readline(); print(metrics.exposition().decode(), flush=True)"
        )
        with shared_by_workers(tmp_path) as folder:
            command, piped = [sys.executable, "-c", program], subprocess.PIPE
            workers = [subprocess.Popen(command, stdin=piped, stdout=piped, text=True) for _ in range(2)]
            for worker in workers:
                assert worker.stdout is not None and worker.stdout.readline() == "ready\n"
            workers[0].send_signal(signal.SIGKILL)
            workers[0].wait()
            told = samples(workers[1].communicate("\n")[0])
            assert list(folder.glob("*.db"))
        assert told["tandem_logins_total", "answered"] == 6
        assert told[("tandem_requests_in_progress",)] == 7
        assert not folder.exists() and "PROMETHEUS_MULTIPROC_DIR" not in os.environ

    def test_folders_of_killed_servers_are_removed_and_those_of_others_are_not(self, tmp_path: Path) -> None:
        killed = subprocess.Popen([sys.executable, "-c", ""])
        killed.wait()
        dead, alive = tmp_path / f"metrics-of-{killed.pid}-x", tmp_path / f"metrics-of-{os.getppid()}-x"
        dead.mkdir()
        alive.mkdir()
        with shared_by_workers(tmp_path):
            assert alive.exists() and not dead.exists()

    def test_a_database_that_does_not_serve_is_counted(self, client: TestClient) -> None:
        before = now().get(("tandem_database_errors_total",), 0)
        engine = client.app.state.context.store.engine  # type: ignore[attr-defined]
        folder = Path(engine.url.database).parent
        token = bearer(client)
        for path in folder.glob("authsvc.db*"):
            path.write_bytes(b"not a database, not a database, not a database " * 100)
        answer = client.get("/v1/admin/enrolments", headers=token)
        assert answer.status_code == 503
        assert now()[("tandem_database_errors_total",)] == before + 1


class TestTraces:
    def test_a_request_is_a_span_with_its_steps_below_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        exporter, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        monkeypatch.setattr(application, "otlp_tracer", lambda: Tracer(provider))

        def finished() -> list[str]:
            return [span.name for span in exporter.get_finished_spans()]

        with thread_server(tmp_path, tracing=True) as server, Attacker.enrolled(server) as phone:
            phone.register()
            wait_until(lambda: "POST /v1/confirmations" in finished())
            exporter.clear()
            began = time.time_ns()
            phone.try_login(phone.prepare().message_1)
            wait_until(lambda: "POST /v1/logins" in finished())
            spans = exporter.get_finished_spans()
        whole = next(span for span in spans if span.parent is None)
        steps = [span for span in spans if span.parent is not None]
        assert whole.name == "POST /v1/logins"
        assert whole.attributes is not None and whole.attributes["tandem.login"] == ("answered",)
        assert [span.name for span in steps] == [step for step in STEPS if step != "settle"]
        assert all(span.parent is not None and span.parent.span_id == whole.context.span_id for span in steps)
        of_steps = [each for span in steps for each in (span.start_time, span.end_time)]
        times = [whole.start_time, *of_steps, whole.end_time]
        assert times == sorted(times, key=lambda each: each or 0) and abs((whole.start_time or 0) - began) < 10**9

    def test_nothing_of_it_is_imported_when_it_is_off(self, tmp_path: Path) -> None:
        """FastAPI looks for the bare API by itself, if that is installed."""
        program = (
            "import sys; from pathlib import Path; from authsvc.app import create_app;"
            "from authsvc.settings import Settings; create_app(Settings(data_dir=Path(sys.argv[1])));"
            "sys.exit(any(name.startswith(('opentelemetry.sdk', 'opentelemetry.exporter')) for name in sys.modules))"
        )
        assert subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False).returncode == 0

    def test_without_its_library_the_operator_is_told_what_to_install(self, tmp_path: Path) -> None:
        """The exporter is an extra and not among what the tests install."""
        with pytest.raises(SettingsError, match=r"install tandem-auth\[otel\]"):
            create_app(settings(tmp_path, tracing=True))
