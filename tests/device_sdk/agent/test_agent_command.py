"""`tandem-device agent` as a person starts it."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest
from real_server import ThreadServer
from typer.testing import CliRunner

from device_sdk import Device, KeyFile
from device_sdk.agent.extension_identity import extension_folder, extension_origin
from device_sdk.agent.pairing import PairingKey, pairing_file
from device_sdk.cli import app

PERSON = "7"


def run(*arguments: str | Path) -> str:
    """What the command prints, in this process."""
    done = CliRunner().invoke(app, list(map(str, arguments)))
    return done.stdout if done.exit_code == 0 else f"exit {done.exit_code}: {done.output}"


@pytest.fixture(scope="module")
def vault(agent_server: ThreadServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made by `tandem-device enrol`."""
    folder = tmp_path_factory.mktemp("person")
    vault = folder / "ann.vault"
    told = run(
        "enrol", vault, "--server", agent_server.url, "--code", agent_server.code(), "--profile", "sim-2048",
        "--simulated-person", PERSON, "--key-file", folder / "ann.key",
    )  # fmt: skip
    assert f"enrolled: {vault}\n" in told
    return vault


def test_the_agent_listens_on_this_machine_only_and_leaves_the_vault_free(vault: Path) -> None:
    """Started, asked with the pairing code's key, stopped as a service manager stops it."""
    command = [sys.executable, "-m", "device_sdk", "agent", str(vault), "--port", "0", "--simulated-person", PERSON]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.fullmatch(r"listening on http://127\.0\.0\.1:(\d+) with profile sim-2048; Ctrl-C ends it\n", line)
        assert found, line
        port = int(found[1])

        assert listening_addresses(port) == {"0100007F"}  # 127.0.0.1, and nothing for IPv6
        key = PairingKey.load(pairing_file(vault))
        assert run("pairing-code", vault, "--port", port) == key.code(port) + "\n"
        assert status(port, key) == {"profile": "sim-2048", "sensor": "simulated", "passkeys": 0}
        assert header_bytes_taken(port) < 1 << 20
        assert "taken; choose another" in run("agent", vault, "--port", port, "--simulated-person", PERSON)
        assert "open in another process" in run("agent", vault, "--port", "0", "--simulated-person", PERSON)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    Device.open(vault, vault_key=KeyFile(vault.with_suffix(".key"))).close()


def test_without_its_sensor_the_agent_does_not_start(vault: Path) -> None:
    """A simulated person takes an option of its own: nobody has one by accident."""
    assert "--simulated-person" in run("agent", vault, "--port", "0")
    assert "15 to 600 seconds" in run("agent", vault, "--longest-s", "5", "--simulated-person", PERSON)


def test_a_pairing_code_can_be_renewed(vault: Path) -> None:
    before = run("pairing-code", vault)

    assert run("pairing-code", vault) == before
    assert run("pairing-code", vault, "--renew") != before
    assert "no vault at this path" in run("pairing-code", vault.with_name("other.vault"))


def test_the_extension_is_found(vault: Path) -> None:
    assert run("extension-folder") == f"{extension_folder()}\n"
    assert (extension_folder() / "manifest.json").is_file()


def listening_addresses(port: int) -> set[str]:
    """Local addresses in /proc's spelling of all sockets that listen on the port."""
    found = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for row in Path(table).read_text().splitlines()[1:]:
            address, state = row.split()[1], row.split()[3]
            if state == "0A" and int(address.split(":")[1], 16) == port:
                found.add(address.split(":")[0])
    return found


def header_bytes_taken(port: int) -> int:
    """How much of an endless request head any program on this machine can have the agent hold."""
    sent = 0
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        with suppress(OSError):
            while sent < 16 << 20:
                connection.sendall(b"a%d: " % sent + b"x" * 8192 + b"\r\n")
                sent += 8192
                time.sleep(0.001)
    return sent


def status(port: int, key: PairingKey) -> object:
    time_ms, nonce, body = str(int(time.time() * 1000)), "A" * 22, b"{}"
    headers = {
        "Origin": extension_origin(),
        "X-Tandem-Time": time_ms,
        "X-Tandem-Nonce": nonce,
        "X-Tandem-Mac": key.request_mac("POST", f"127.0.0.1:{port}", "/v1/status", time_ms, nonce, body),
    }
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/status", body, headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.headers["server"] is None
        return json.loads(answer.read())
