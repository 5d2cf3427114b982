"""The `authsvc` command as an operator runs it: real processes, sockets and files."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from typer.testing import CliRunner, Result

from authsvc.app import create_context, prepare_database
from authsvc.cli import app
from authsvc.settings import load_settings
from authsvc.store.credentials import CredentialRow, insert_credential, load_credential
from authsvc.store.enrolments import EnrolmentRow, insert_enrolment, load_enrolment

ALICE, CREDENTIAL = b"a" * 16, b"c" * 32

Run = Callable[..., Result]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}
    return {**kept, "TANDEM_DATA_DIR": str(tmp_path / "data"), "COLUMNS": "200", "NO_COLOR": "1"}


@pytest.fixture
def run(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in this process: the same code, without a new interpreter each time."""

    def run(*arguments: str, **extra: str) -> Result:
        for name in [name for name in os.environ if name not in environment]:
            monkeypatch.delenv(name)
        return CliRunner().invoke(app, arguments, env={**environment, **extra}, prog_name="authsvc")

    return run


@pytest.fixture
def serve(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., str]]:
    processes: list[subprocess.Popen[str]] = []

    def serve(*arguments: str) -> str:
        ready = tmp_path / f"ready-{len(processes)}"
        process = subprocess.Popen(
            [sys.executable, "-m", "authsvc", "serve", "--port", "0", "--ready-file", str(ready), *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        deadline = time.monotonic() + 60
        while not ready.exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return ready.read_text().strip()

    yield serve
    for process in processes:
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=60)
        assert "listening on" in output
        assert "Traceback" not in errors


@pytest.fixture
def with_alice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], EnrolmentRow]]:
    for name in [name for name in os.environ if name.startswith("TANDEM_")]:
        monkeypatch.delenv(name)
    ctx = create_context(load_settings(data_dir=tmp_path / "data"))
    prepare_database(ctx)
    row = EnrolmentRow(
        id=ALICE,
        status="quarantined",
        status_reason="clone_suspected",
        label="Alice [bold]",
        profile_name="sim-2048",
        code_hash=bytes(32),
        signing_key=b"\x04" + bytes(64),
        next_signing_key=None,
        epoch=3,
        base_ot_id=None,
        sealed_base_ot=None,
        sealed_pending_base_ot=None,
        pending_base_ot_id=None,
        sealed_template=b"sealed",
        last_index=9,
        confirmed_index=None,
        confirmed_token_hash=None,
        consecutive_failures=2,
        last_attempt_at=1_700_000_000.0,
        template_attempts=9,
        created_at=1.0,
        updated_at=1.0,
    )
    with ctx.store.write() as conn:
        insert_enrolment(conn, row)
        insert_credential(
            conn,
            CredentialRow(CREDENTIAL, ALICE, "localhost", -257, b"\xff" * 256, 65537, b"sealed", "active", 0, 1.0),
        )

    def stored() -> EnrolmentRow:
        with ctx.store.read() as conn:
            found = load_enrolment(conn, ALICE)
            credential = load_credential(conn, CREDENTIAL)
        assert found is not None and credential is not None
        assert (credential.sealed_share is None) == (credential.status == "revoked")
        return found

    yield stored
    ctx.store.close()


class TestServe:
    def test_it_listens_on_a_free_port_and_writes_where(self, serve: Callable[..., str]) -> None:
        url = serve()

        assert url.startswith("http://127.0.0.1:")
        answer = httpx.get(f"{url}/readyz")
        assert answer.status_code == 200
        assert "server" not in answer.headers

    def test_a_code_issued_beside_a_running_server_is_in_its_database(
        self, serve: Callable[..., str], run: Run, tmp_path: Path
    ) -> None:
        url = serve()
        token = run("token", "issue", "--name", "ops", "--scope", "operator").stdout.strip()

        issued = run("code", "--label", "Bob")

        assert issued.exit_code == 0, issued.stderr
        assert len(issued.stdout.strip().replace("-", "")) == 20
        answer = httpx.get(f"{url}/v1/admin/enrolments", headers={"authorization": f"Bearer {token}"})
        assert answer.json()["enrolments"] == []

    def test_two_servers_can_share_one_database(self, serve: Callable[..., str]) -> None:
        assert {httpx.get(f"{url}/readyz").status_code for url in (serve(), serve())} == {200}

    def test_it_serves_tls_with_the_given_certificate(self, serve: Callable[..., str], tmp_path: Path) -> None:
        certificate, key = self_signed(tmp_path)

        url = serve("--tls-cert", str(certificate), "--tls-key", str(key))

        assert url.startswith("https://127.0.0.1:")
        trusting = ssl.create_default_context(cafile=str(certificate))
        assert httpx.get(f"{url}/healthz", verify=trusting).status_code == 200
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/healthz")

    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "auth.example"])
    def test_plain_http_elsewhere_than_on_loopback_is_refused(self, host: str, run: Run) -> None:
        done = run("serve", "--host", host, "--port", "0")

        assert done.exit_code == 1
        assert "plain http" in done.stderr
        assert "Traceback" not in done.stderr

    def test_a_malformed_request_line_gets_no_500(self, serve: Callable[..., str]) -> None:
        host, port = serve().removeprefix("http://").split(":")
        for sent in (b"POST /v1/logins\r\n\r\n", b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\n\r\n\x00"):
            with socket.create_connection((host, int(port)), timeout=10) as connection:
                connection.sendall(sent)
                connection.shutdown(socket.SHUT_WR)
                received = b"".join(iter(lambda connection=connection: connection.recv(4096), b""))  # type: ignore[misc]
            assert b" 500 " not in received.split(b"\r\n")[0]


class TestMistakes:
    """One sentence and exit code 1; never a traceback."""

    def test_the_module_is_the_command(self, environment: dict[str, str]) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "authsvc", "serve", "--host", "0.0.0.0"],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("authsvc: host: plain http")

    @pytest.mark.parametrize(
        ("arguments", "extra", "told"),
        [
            (("serve", "--port", "0"), {"TANDEM_LIMITS__FRESHNESS_S": "soon"}, "limits.freshness_s"),
            (("serve", "--port", "0"), {"TANDEM_PROFILES": "{"}, "profiles"),
            (("serve", "--port", "0"), {"TANDEM_POLICY_FILE": "/nowhere/policy.toml"}, "TANDEM_POLICY_FILE"),
            (("serve", "--port", "0", "--tls-cert", "/nowhere"), {}, "tls_key_file"),
            (("serve", "--port", "0", "--tls-cert", "/nowhere", "--tls-key", "/nowhere"), {}, "tls_cert_file"),
            (("config",), {"TANDEM_PORT": "70000"}, "port"),
            (("code", "--label", "x" * 101), {}, "label"),
            (("lift", "zz"), {}, "enrolment_id"),
            (("lift", "00" * 16), {}, "Not found"),
            (("revoke-credential", "+"), {}, "credential_id"),
            (("enrolments",), {"TANDEM_DATABASE_PATH": "/dev/null/x.db"}, "database"),
            (("enrolments",), {"TANDEM_DATA_DIR": "/dev/null/x"}, "data_dir"),
            (("migrate", "--to", "no-such-revision"), {}, "revision"),
        ],
    )
    def test_a_mistake_is_explained(
        self, arguments: tuple[str, ...], extra: dict[str, str], told: str, run: Run
    ) -> None:
        done = run(*arguments, **extra)

        assert done.exit_code == 1
        assert told in done.stderr
        assert "Traceback" not in done.stderr

    def test_a_port_in_use_is_explained(self, run: Run) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()

            done = run("serve", "--port", str(taken.getsockname()[1]))

        assert done.exit_code == 1
        assert "cannot listen" in done.stderr
        assert "Traceback" not in done.stderr

    def test_another_key_file_is_explained(self, run: Run, tmp_path: Path) -> None:
        run("migrate")
        run("code", "--label", "Bob")
        (tmp_path / "data" / "kek").write_bytes(os.urandom(32))

        done = run("serve", "--port", "0")

        assert done.exit_code == 1
        assert "key-encryption key" in done.stderr


class TestOperations:
    def test_migrating_up_down_and_up(self, run: Run) -> None:
        outputs = [run(*arguments).stdout for arguments in (("migrate",), ("migrate", "--down", "base"), ("migrate",))]

        assert outputs[0] == outputs[2] != outputs[1]
        assert "none" in outputs[1]

    def test_the_configuration_hides_secrets(self, run: Run) -> None:
        kek = base64.b64encode(bytes(range(32))).decode()

        done = run("config", TANDEM_KEK=kek)

        assert kek not in done.stdout
        assert json.loads(done.stdout)["kek"] == "(hidden)"

    def test_listing_lifting_and_revoking(self, run: Run, with_alice: Callable[[], EnrolmentRow]) -> None:
        listed = json.loads(run("enrolments", "--json").stdout)["enrolments"]
        table = run("enrolments").stdout
        lifted = run("lift", ALICE.hex())

        assert [(item["id"], item["status"]) for item in listed] == [(ALICE.hex(), "quarantined")]
        assert "Alice [bold]" in table
        assert ALICE.hex() in table
        assert len(lifted.stdout.strip().replace("-", "")) == 20
        assert with_alice().status == "recovering"

        assert run("revoke-credential", "Y2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2NjY2M").exit_code == 0
        assert with_alice().status == "recovering"

        assert run("revoke", ALICE.hex()).exit_code == 0
        assert with_alice().sealed_template is None

        refused = run("lift", ALICE.hex())
        assert refused.exit_code == 1
        assert "state" in refused.stderr


def self_signed(directory: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, SHA256())
    )
    certificate_path, key_path = directory / "cert.pem", directory / "key.pem"
    certificate_path.write_bytes(certificate.public_bytes(Encoding.PEM))
    key_path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return certificate_path, key_path
