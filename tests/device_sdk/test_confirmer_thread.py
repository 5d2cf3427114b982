"""The thread that confirms in the background: it may die, and it may hang; neither may hurt the app."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

_TESTS = Path(__file__).parent.parent
if str(_TESTS / "state_machine") not in sys.path:
    sys.path.append(str(_TESTS / "state_machine"))

from state_machine_harness import (  # noqa: E402
    CONFIRMATIONS,
    ENCODER,
    FACE,
    PROFILE,
    SERVER_URL,
    Answer,
    Clock,
    Network,
    Phone,
    Server,
    copy_vault,
    deliver,
)

from authsvc.services import administration  # noqa: E402
from authsvc.services.context import SignedRequest  # noqa: E402
from device_sdk import Device, HttpTransport  # noqa: E402
from device_sdk.errors import TransportError  # noqa: E402
from device_sdk.vault.keys import KeyFile  # noqa: E402

LIMIT_S = 30.0
"""How long a thread may take before the test says that it hangs."""


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Server]]:
    """A vault and its server, with one confirmed passkey."""
    folder = tmp_path_factory.mktemp("enrolled")
    server = Server(folder, Clock())
    Device.enrol(
        server=SERVER_URL,
        enrolment_code=administration.issue_code(server.ctx, label="Ada").code,
        captures=[FACE] * 3,
        vault=folder / "vault",
        profile=PROFILE.name,
        encoder=ENCODER,
        vault_key=KeyFile(folder / "vault.key"),
        transport=Network(server.serve, server.clock, server.profile_document),
    ).close()
    (folder / "accounts.json").write_text("{}")
    phone = Phone(folder, server)
    phone.create()
    assert phone.confirm()
    (folder / "accounts.json").write_text(json.dumps(phone.relying_party.accounts))
    phone.device.close()
    yield folder, server
    server.close()


@pytest.fixture
def server(enrolled: tuple[Path, Server], tmp_path: Path) -> Iterator[Server]:
    folder, original = enrolled
    original.close()  # folds the write-ahead log into the file
    (tmp_path / "server.db").write_bytes((folder / "server.db").read_bytes())
    copied = Server(tmp_path, Clock())
    yield copied
    copied.close()


@pytest.fixture
def phone(enrolled: tuple[Path, Server], server: Server, tmp_path: Path) -> Iterator[Phone]:
    held = Phone(copy_vault(enrolled[0], tmp_path / "phone"), server)
    held.network.background = True
    yield held
    held.device.close()  # waits for what is on its way in the background


@pytest.fixture
def died(monkeypatch: pytest.MonkeyPatch) -> list[type[BaseException]]:
    """What ended a thread, where a traceback would be printed."""
    seen: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda args: seen.append(args.exc_type))
    return seen


class Background:
    """A fate for confirmations that remembers the threads they came from."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []

    def delivers(self, network: Network, request: SignedRequest) -> Answer:
        self.threads.append(threading.current_thread())
        return deliver(network, request)

    def breaks(self, network: Network, request: SignedRequest) -> Answer:
        self.threads.append(threading.current_thread())
        raise RuntimeError("a bug of an app's own transport")


def ended(threads: list[threading.Thread], count: int) -> list[threading.Thread]:
    """The first `count` threads, once they have come and gone."""
    pause = threading.Event()
    for _ in range(int(LIMIT_S / 0.01)):
        if len(threads) >= count:
            break
        pause.wait(0.01)
    assert len(threads) == count
    for thread in threads:
        thread.join(LIMIT_S)
        assert not thread.is_alive()
    return threads


def close_bounded(device: Device) -> None:
    """`close` in a thread of its own, so that one that hangs fails the test instead of stopping all of them."""
    failed: list[BaseException] = []

    def close() -> None:
        try:
            device.close()
        except BaseException as error:
            failed.append(error)

    closing = threading.Thread(target=close, daemon=True)
    closing.start()
    closing.join(LIMIT_S)
    assert not closing.is_alive(), "close hangs"
    assert failed == []


@pytest.mark.parametrize("times", [1, 3])
def test_after_a_broken_transport_the_next_login_has_a_new_thread(
    phone: Phone, server: Server, died: list[type[BaseException]], times: int
) -> None:
    """One bug in the background must not end confirmations for as long as the app runs."""
    background = Background()
    phone.network.plan(CONFIRMATIONS, *[background.breaks] * times, background.delivers)

    for count in range(1, times + 1):
        assert phone.get() > 0
        ended(background.threads, count)
        assert phone.state.next is not None
        assert died == [RuntimeError] * count  # told to the app's own hook, not swallowed
    assert phone.get() > 0
    threads = ended(background.threads, times + 1)

    assert len(set(threads)) == times + 1 and threading.current_thread() not in threads
    assert phone.state.next is None
    assert set(server.states(phone.id)) == {"confirmed"}
    assert died == [RuntimeError] * times


@pytest.mark.parametrize("late", ["answer", "failure"])
def test_close_while_a_confirmation_hangs(
    phone: Phone, server: Server, died: list[type[BaseException]], late: str
) -> None:
    """The vault is released although the server keeps the thread waiting, which then ends quietly."""
    arrived, go_on = threading.Event(), threading.Event()
    background = Background()

    def hangs(network: Network, request: SignedRequest) -> Answer:
        background.threads.append(threading.current_thread())
        arrived.set()
        assert go_on.wait(2 * LIMIT_S)
        if late == "failure":
            raise TransportError
        return deliver(network, request)

    phone.network.plan(CONFIRMATIONS, hangs)
    assert phone.get() > 0
    assert arrived.wait(LIMIT_S)

    close_bounded(phone.device)
    phone.open()  # the vault's lock is free
    outstanding = phone.state.next
    assert outstanding is not None
    go_on.set()
    ended(background.threads, 1)

    assert died == []
    assert phone.state.next == outstanding
    phone.network.plan(CONFIRMATIONS, deliver)
    assert phone.get() > 0
    assert phone.device.confirm_now(timeout_s=LIMIT_S)
    assert phone.state.next is None and phone.state.epoch == server.enrolment(phone.id).epoch


def test_close_while_a_real_connection_hangs(
    phone: Phone, died: list[type[BaseException]], capfd: pytest.CaptureFixture[str]
) -> None:
    """A server that takes the request and says nothing: the connection is closed under the waiting thread."""
    phone.network.background = False
    assert phone.get() > 0
    phone.restart()
    assert phone.state.next is not None
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(LIMIT_S)
        device = Device(phone.store, HttpTransport(f"http://127.0.0.1:{silent.getsockname()[1]}"), ENCODER)
        device._confirmer.start()
        thread = device._confirmer._thread
        assert thread is not None
        connection, _ = silent.accept()
        with connection:
            connection.settimeout(LIMIT_S)
            assert connection.recv(65_536).startswith(b"POST " + CONFIRMATIONS.encode())

            close_bounded(device)
    thread.join(LIMIT_S)

    assert not thread.is_alive()
    assert died == []
    assert "Traceback" not in capfd.readouterr().err
    phone.open()
    phone.network.background = True
    assert phone.state.next is not None and phone.get() > 0
