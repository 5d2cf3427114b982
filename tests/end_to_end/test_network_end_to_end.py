"""What goes over the wire, when, and what happens when the wire fails."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from certificates import make_ca
from people import Person, enrolled_device
from real_server import ThreadServer, process_server, thread_server, wait_until
from relying_parties import RelyingParty

from device_sdk import Device, KeyFile
from device_sdk.confirmer import Confirmer
from device_sdk.errors import InsecureTransport, NoMatch, TransportError
from device_sdk.transport import HttpTransport


@pytest.fixture
def shop() -> RelyingParty:
    return RelyingParty()


def registered(server: ThreadServer, folder: Path, shop: RelyingParty, person: Person, profile: str) -> Device:
    device = enrolled_device(server, folder, person, profile)
    options = shop.creation_options()
    shop.register(options, device.create(options, shop.origin, person.capture()))
    assert device.confirm_now()
    return device


class TestOneRequestDecides:
    @pytest.fixture
    def quiet(self, server: ThreadServer, tmp_path: Path, shop: RelyingParty) -> Iterator[Device]:
        with registered(server, tmp_path, shop, Person(1, 2048), "sim-2048") as device:
            server.traffic.clear()
            yield device
        server.hold.clear()

    def test_one_post_of_the_promised_size(self, server: ThreadServer, quiet: Device, shop: RelyingParty) -> None:
        server.hold["/v1/confirmations"] = threading.Event()
        options = shop.request_options()
        answer = quiet.get(options, shop.origin, Person(1, 2048).capture())

        # The signature is out although no confirmation has been answered yet.
        finished = [(method, path, status) for method, path, _, _, status in server.traffic.seen]
        assert finished == [("POST", "/v1/logins", 200)]
        _, _, up, down, _ = server.traffic.seen[0]
        assert up <= 40_000 and down <= 70_000
        report = quiet.last_ceremony
        assert report is not None
        assert (report.requests, report.bytes_up, report.bytes_down) == (1, up, down)
        shop.authenticate(options, answer)
        server.hold["/v1/confirmations"].set()
        wait_until(lambda: len(server.traffic.seen) == 2)
        assert server.traffic.paths() == ["/v1/logins", "/v1/confirmations"]
        epochs = "SELECT epoch, consecutive_failures FROM enrolments WHERE id = ?"
        assert server.database.one(epochs, quiet.enrolment_id) == {"epoch": 2, "consecutive_failures": 0}

    def test_silence_after_no_match(self, server: ThreadServer, quiet: Device, shop: RelyingParty) -> None:
        with pytest.raises(NoMatch):
            quiet.get(shop.request_options(), shop.origin, Person(2, 2048).capture())
        quiet.close()
        assert server.traffic.paths() == ["/v1/logins"]

    def test_a_confirmation_that_was_lost_goes_along_with_the_next_login(
        self, server: ThreadServer, quiet: Device, shop: RelyingParty, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Confirmer, "start", lambda self: None)
        for _ in range(3):
            options = shop.request_options()
            shop.authenticate(options, quiet.get(options, shop.origin, Person(1, 2048).capture()))
        assert server.traffic.paths() == ["/v1/logins"] * 3
        states = "SELECT state FROM logins WHERE enrolment_id = ? ORDER BY ot_index"
        rows = [row["state"] for row in server.database.rows(states, quiet.enrolment_id)]
        assert rows == ["confirmed", "confirmed", "confirmed", "pending"]


def test_a_server_that_went_away_and_came_back(tmp_path: Path, shop: RelyingParty) -> None:
    person = Person()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with thread_server(tmp_path, port=port) as server:
        device = registered(server, tmp_path, shop, person, "sim-512")
    for _ in range(2):
        with pytest.raises(TransportError):
            device.get(shop.request_options(), shop.origin, person.capture())
    with thread_server(tmp_path, port=port) as server:
        options = shop.request_options()
        shop.authenticate(options, device.get(options, shop.origin, person.capture()))
        device.close()
        row = server.database.one("SELECT status, last_index FROM enrolments")
        assert row == {"status": "active", "last_index": 4}


def test_an_answer_that_was_lost_strands_nobody(server: ThreadServer, tmp_path: Path, shop: RelyingParty) -> None:
    """The server has answered and counted; the device never saw it."""
    person = Person()
    with registered(server, tmp_path, shop, person, "sim-512") as device:
        lossy = _LosesAnswers(server.url)
        device.close()
        key = KeyFile(tmp_path / "vault.key")
        with Device.open(tmp_path / "vault", vault_key=key, transport=lossy) as cut_off:
            for _ in range(3):
                with pytest.raises(TransportError):
                    cut_off.get(shop.request_options(), shop.origin, person.capture())
    with Device.open(tmp_path / "vault", vault_key=key) as again:
        options = shop.request_options()
        shop.authenticate(options, again.get(options, shop.origin, person.capture()))
        assert again.confirm_now()
    query = "SELECT state, COUNT(*) AS n FROM logins WHERE enrolment_id = ? GROUP BY state"
    counted = {row["state"]: row["n"] for row in server.database.rows(query, device.enrolment_id)}
    assert counted == {"confirmed": 2, "void": 3}


class _LosesAnswers(HttpTransport):
    def post_cbor(self, *arguments: object, **more: object) -> object:  # type: ignore[override]
        super().post_cbor(*arguments, **more)  # type: ignore[arg-type]
        raise TransportError


class TestTls:
    def test_a_private_ca_and_only_that(self, tmp_path: Path, shop: RelyingParty) -> None:
        ca, certificate, key = make_ca(tmp_path, "ours")
        other_ca, _, _ = make_ca(tmp_path, "theirs")
        _, wrong_host, wrong_key = make_ca(tmp_path, "host", "elsewhere.example")
        person = Person()
        arguments = ("--host", "localhost", "--tls-cert", str(certificate), "--tls-key", str(key))
        with process_server(tmp_path, *arguments) as server:
            url = f"https://localhost:{server.url.rpartition(':')[2]}"
            context = ssl.create_default_context(cafile=str(ca))
            code = httpx.post(
                f"{url}/v1/admin/enrolment-codes",
                json={"label": "ann"},
                headers={"authorization": f"Bearer {server.admin_token}"},
                verify=context,
            ).json()["code"]
            folder = {"vault": tmp_path / "vault", "vault_key": KeyFile(tmp_path / "vault.key")}
            for wrong_ca in (str(other_ca), None):
                with pytest.raises(TransportError, match="certificate"):
                    enrolled_device(server, tmp_path, person, server=url, ca_file=wrong_ca, enrolment_code=code)
            with pytest.raises(TransportError):  # plain http to a TLS port
                enrolled_device(server, tmp_path, person, server=url.replace("https", "http"), enrolment_code=code)
            device = enrolled_device(server, tmp_path, person, server=url, ca_file=str(ca), enrolment_code=code)
            with device:
                options = shop.creation_options()
                shop.register(options, device.create(options, shop.origin, person.capture()))
            with Device.open(**folder, ca_file=str(ca)) as device:
                options = shop.request_options()
                shop.authenticate(options, device.get(options, shop.origin, person.capture()))
            with Device.open(**folder, ca_file=str(other_ca)) as device, pytest.raises(TransportError):
                device.get(shop.request_options(), shop.origin, person.capture())
        arguments = ("--host", "localhost", "--tls-cert", str(wrong_host), "--tls-key", str(wrong_key))
        (tmp_path / "second").mkdir()
        with process_server(tmp_path / "second", *arguments) as server:
            url = f"https://localhost:{server.url.rpartition(':')[2]}"
            with pytest.raises(TransportError, match="certificate"):
                HttpTransport(url, ca_file=str(tmp_path / "host-ca.pem")).get_json("/v1/profiles/sim-512")

    @pytest.mark.parametrize("address", ["http://auth.example", "http://10.0.0.1:80", "http://[2001:db8::1]:8443"])
    def test_plain_http_stays_on_this_machine(self, address: str) -> None:
        with pytest.raises(InsecureTransport):
            HttpTransport(address)
