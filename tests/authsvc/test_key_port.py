"""Places for a key-encryption key: a file, a command that asks a key service, a PKCS#11 token. One law for all."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from key_tokens import Token, new_token
from transit_service import TOKEN, TransitService

from authsvc.key_port.command import MAX_ANSWER_BYTES, CommandKeyWrapper
from authsvc.key_port.health import ASKED_EVERY_S, KeyHealth
from authsvc.key_port.pkcs11_token import Pkcs11KeyWrapper, make_key
from authsvc.key_port.port import KeyUnavailable, KeyWrapper, WrappedKeyRefused, check_usable, owner_context
from authsvc.key_port.raw_key import RawKeyWrapper

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "vault_transit.py"
ALICE, BOB = owner_context(b"a" * 16), owner_context(b"b" * 16)
KINDS = ["file", "command", pytest.param("pkcs11", marks=pytest.mark.softhsm2)]


@pytest.fixture
def transit(tmp_path: Path) -> Iterator[TransitService]:
    (tmp_path / "token").write_text(TOKEN + "\n")
    service = TransitService()
    yield service
    service.close()


def by_example(transit: TransitService, folder: Path, version: int = 1) -> CommandKeyWrapper:
    argv = [sys.executable, str(EXAMPLE), transit.url, "tandem", str(version), str(folder / "token")]
    return CommandKeyWrapper(argv, 4)


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Token:
    return new_token(tmp_path_factory.mktemp("token"))


def in_token(token: Token, label: str) -> Pkcs11KeyWrapper:
    return Pkcs11KeyWrapper(token.module, token.label, label, token.pin)


@pytest.fixture
def two(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[KeyWrapper, KeyWrapper]]:
    """Two different KEKs of one kind."""
    if request.param == "file":
        yield RawKeyWrapper(b"1" * 32), RawKeyWrapper(b"2" * 32)
    elif request.param == "command":
        transit = request.getfixturevalue("transit")
        yield by_example(transit, tmp_path, 1), by_example(transit, tmp_path, 2)
    else:
        token = request.getfixturevalue("token")
        labels = [os.urandom(4).hex() for _ in range(2)]
        for label in labels:
            make_key(token.module, token.label, label, token.pin)
        keks = in_token(token, labels[0]), in_token(token, labels[1])
        yield keks
        for kek in keks:
            kek.close()


@pytest.mark.parametrize("two", KINDS, indirect=True)
def test_a_wrapped_key_opens_for_its_owner_alone_and_under_its_kek_alone(two: tuple[KeyWrapper, KeyWrapper]) -> None:
    """Swapped wrapped keys would give one person's shares to whoever may read the other's."""
    kek, other = two
    key = os.urandom(32)
    wrapped = kek.wrap(key, ALICE)

    assert kek.unwrap(wrapped, ALICE) == key
    assert key not in wrapped and kek.wrap(key, ALICE) != wrapped
    altered = bytes([*wrapped[:-1], wrapped[-1] ^ 1]) if kek.kind != "command" else wrapped[:-4] + b"AAAA"
    for opener, what, context in (
        (kek, wrapped, BOB),
        (other, wrapped, ALICE),
        (kek, altered, ALICE),
        (kek, wrapped[:20], ALICE),
        (kek, b"", ALICE),
    ):
        with pytest.raises(WrappedKeyRefused):
            opener.unwrap(what, context)
    assert kek.unwrap(wrapped, ALICE) == key, "a refusal breaks nothing"


@pytest.mark.parametrize("two", KINDS, indirect=True)
def test_a_kek_has_a_name_of_its_own_that_says_nothing_of_it(two: tuple[KeyWrapper, KeyWrapper]) -> None:
    kek, other = two
    assert len(kek.key_id) == 16 and kek.key_id != other.key_id
    for each in two:
        check_usable(each)
    assert kek.key_id != b"1" * 16 and "111" not in repr(kek)


class TestCommand:
    def script(self, folder: Path, text: str) -> list[str]:
        path = folder / "command.py"
        path.write_text("import json, os, sys, time\nasked = json.load(sys.stdin)\n" + text)
        return [sys.executable, str(path)]

    def honest(self, folder: Path, more: str = "") -> list[str]:
        """Turns the bits over: enough to be told apart from what it was given."""
        return self.script(
            folder,
            "import base64\n"
            "data = base64.b64encode(bytes(b ^ 255 for b in base64.b64decode(asked['data']))).decode()\n"
            "answer = {'key_id': 'k1', 'data': data}\n" + more + "\nprint(json.dumps(answer))\n",
        )

    def test_the_services_own_log_never_sees_a_key_in_an_address(self, transit: TransitService, tmp_path: Path) -> None:
        """What goes into arguments and addresses is written down everywhere."""
        key = os.urandom(32)
        by_example(transit, tmp_path).wrap(key, ALICE)
        path, body = transit.seen[-1]
        assert path == "/v1/transit/encrypt/tandem" and base64.b64decode(str(body["plaintext"])) == key

    def test_nothing_of_the_servers_settings_is_in_its_environment(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TANDEM_ADMIN_TOKEN", "secret token of the server")
        monkeypatch.setenv("VAULT_ADDR", "kept")
        seen = tmp_path / "seen"
        CommandKeyWrapper(
            self.honest(tmp_path, f"open({str(seen)!r}, 'w').write(json.dumps([sys.argv, dict(os.environ)]))"), 4
        )
        assert "secret token" not in seen.read_text() and '"VAULT_ADDR": "kept"' in seen.read_text()

    @pytest.mark.parametrize(
        "text",
        [
            "print('no json')",
            "print('[]')",
            "print('{}')",
            "print('[' * 100000)",
            "print(json.dumps({'key_id': 'k1'}))",
            "print(json.dumps({'key_id': 'k1', 'data': '***'}))",
            "print(json.dumps({'key_id': 'k1', 'data': 7}))",
            "print(json.dumps({'key_id': 'k1', 'data': ''}))",
            "print(json.dumps({'key_id': '', 'data': 'AAAA'}))",
            "print(json.dumps({'key_id': 'x' * 201, 'data': 'AAAA'}))",
            "print(json.dumps({'key_id': 1, 'data': 'AAAA'}))",
            "print(json.dumps({'key_id': 'k1', 'data': asked['data']}))",
            f"print(json.dumps({{'key_id': 'k1', 'data': 'A' * {MAX_ANSWER_BYTES}}}))",
            "print(json.dumps({'error': 'refused'}))",
        ],
    )
    def test_an_answer_that_is_none_is_a_fault_of_the_key_service(self, tmp_path: Path, text: str) -> None:
        """A command that answers the key itself would otherwise have it stored in clear."""
        with pytest.raises(KeyUnavailable) as raised:
            CommandKeyWrapper(self.script(tmp_path, text), 4)
        assert raised.value.fault == "bad_answer"

    def test_other_faults_are_told_apart(self, tmp_path: Path) -> None:
        for text, fault in (("sys.exit(3)", "failed"), ("time.sleep(60)", "timeout")):
            with pytest.raises(KeyUnavailable) as raised:
                CommandKeyWrapper(self.script(tmp_path, text), 0.5 if fault == "timeout" else 4)
            assert raised.value.fault == fault
        with pytest.raises(KeyUnavailable) as raised:
            CommandKeyWrapper([str(tmp_path / "nothing")], 4)
        assert raised.value.fault == "not_started"

    def test_a_command_that_hangs_is_ended_with_its_children(self, tmp_path: Path) -> None:
        """They would hold the pipe, and the worker thread with it, for as long as they like."""
        child = tmp_path / "child"
        text = (
            "import subprocess\n"
            f"started = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
            f"open({str(child)!r}, 'w').write(str(started.pid))\ntime.sleep(600)"
        )
        with pytest.raises(KeyUnavailable):
            CommandKeyWrapper(self.script(tmp_path, text), 1.5)
        state = Path(f"/proc/{child.read_text()}/stat")
        assert not state.exists() or state.read_text().split()[2] == "Z"

    def test_a_child_that_left_the_session_does_not_hold_the_limit_up(self, tmp_path: Path) -> None:
        """It is not killed with the rest, and keeps the pipe open for as long as it lives."""
        child, over = tmp_path / "child", tmp_path / "over"
        os.mkfifo(over)
        lives_on = f"open({str(over)!r}).read()"
        text = (
            "import subprocess\n"
            f"started = subprocess.Popen([sys.executable, '-c', {lives_on!r}], start_new_session=True)\n"
            f"open({str(child)!r}, 'w').write(str(started.pid))\ntime.sleep(600)"
        )
        answers: list[BaseException] = []

        def ask() -> None:
            try:
                CommandKeyWrapper(self.script(tmp_path, text), 2)
            except KeyUnavailable as error:
                answers.append(error)

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(20)
        assert Path(f"/proc/{child.read_text()}").exists(), "it is alive, and the answer came all the same"
        os.kill(int(child.read_text()), signal.SIGKILL)
        assert [each.fault for each in answers if isinstance(each, KeyUnavailable)] == ["timeout"]

    def test_a_key_that_changes_behind_our_back_is_noticed(self, tmp_path: Path) -> None:
        """Rows would be under a key that the database does not know of."""
        changed = tmp_path / "changed"
        kek = CommandKeyWrapper(self.honest(tmp_path, f"answer['key_id'] += 'x' * os.path.exists({str(changed)!r})"), 4)
        check_usable(kek)
        changed.touch()
        with pytest.raises(KeyUnavailable) as raised:
            kek.wrap(bytes(32), ALICE)
        assert raised.value.fault == "other_key"

    def test_a_service_that_is_down_does_not_look_like_a_wrong_key(
        self, transit: TransitService, tmp_path: Path
    ) -> None:
        """Nobody should restore backups because a network was down."""
        kek = by_example(transit, tmp_path)
        wrapped = kek.wrap(bytes(32), ALICE)
        for transit.status in (403, 500, 503):
            with pytest.raises(KeyUnavailable):
                kek.unwrap(wrapped, ALICE)
        transit.status = None
        assert kek.unwrap(wrapped, ALICE) == bytes(32)

    def test_the_question_is_the_one_in_the_documentation(self, tmp_path: Path) -> None:
        seen = tmp_path / "seen"
        kek = CommandKeyWrapper(self.honest(tmp_path, f"open({str(seen)!r}, 'w').write(json.dumps(asked))"), 4)
        kek.wrap(b"k" * 32, ALICE)
        told = {"op": "wrap", "context": base64.b64encode(ALICE).decode(), "data": base64.b64encode(b"k" * 32).decode()}
        assert json.loads(seen.read_text()) == told


@pytest.mark.softhsm2
class TestToken:
    def test_the_key_is_made_so_that_it_cannot_be_read_out(self, token: Token) -> None:
        import pkcs11

        make_key(token.module, token.label, "not readable", token.pin)
        with pkcs11.lib(str(token.module)).get_token(token_label=token.label).open(user_pin=token.pin) as session:
            (key,) = session.get_objects({pkcs11.Attribute.LABEL: "not readable"})
            assert not key[pkcs11.Attribute.EXTRACTABLE] and key[pkcs11.Attribute.SENSITIVE]
            with pytest.raises(pkcs11.exceptions.PKCS11Error):
                key[pkcs11.Attribute.VALUE]

    def test_a_key_that_could_be_read_out_is_not_taken(self, token: Token) -> None:
        """It could be anywhere by now, and nobody would know."""
        import pkcs11

        flags = pkcs11.MechanismFlag.ENCRYPT | pkcs11.MechanismFlag.DECRYPT
        loose = {pkcs11.Attribute.EXTRACTABLE: True, pkcs11.Attribute.SENSITIVE: False}
        opened = pkcs11.lib(str(token.module)).get_token(token_label=token.label).open(rw=True, user_pin=token.pin)
        with opened as session:
            session.generate_key(pkcs11.KeyType.AES, 256, label="loose", store=True, capabilities=flags, template=loose)
        with pytest.raises(KeyUnavailable, match="read out"):
            in_token(token, "loose")

    def test_a_token_that_wraps_and_does_not_open_is_at_fault_and_not_the_row(
        self, token: Token, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Finding out by opening once more would never end."""
        import pkcs11

        make_key(token.module, token.label, "half broken", token.pin)
        kek = in_token(token, "half broken")

        class HalfBroken:
            def encrypt(self, data: bytes, **_: object) -> bytes:
                return data + bytes(16)

            def decrypt(self, data: bytes, **_: object) -> bytes:
                raise pkcs11.exceptions.FunctionFailed

        def opened(self: Pkcs11KeyWrapper) -> bytes:
            self._key, self._process = HalfBroken(), os.getpid()
            return self.key_id

        wrapped = kek.wrap(bytes(32), ALICE)
        kek.close()
        monkeypatch.setattr(Pkcs11KeyWrapper, "_opened", opened)
        for ask in (lambda: kek.unwrap(wrapped, ALICE), lambda: check_usable(kek)):
            with pytest.raises(KeyUnavailable) as raised:
                ask()
            assert raised.value.fault == "bad_answer"
        monkeypatch.setattr(HalfBroken, "decrypt", lambda self, data, **_: b"x" * 32)
        assert kek.unwrap(wrapped, ALICE) == b"x" * 32, "only who knows the key can tell"
        with pytest.raises(KeyUnavailable):
            kek._probe()

    def test_a_key_that_may_wrap_and_may_not_open_is_not_taken(self, token: Token) -> None:
        """Such a key is made by one wrong flag, and what it wraps is lost."""
        import pkcs11

        label = "wraps only"
        kept = {pkcs11.Attribute.EXTRACTABLE: False, pkcs11.Attribute.SENSITIVE: True}
        opened = pkcs11.lib(str(token.module)).get_token(token_label=token.label).open(rw=True, user_pin=token.pin)
        with opened as session:
            flags = pkcs11.MechanismFlag.ENCRYPT
            session.generate_key(pkcs11.KeyType.AES, 256, label=label, store=True, capabilities=flags, template=kept)
        with pytest.raises(KeyUnavailable, match="may not both"):
            in_token(token, label)

    def test_two_keys_of_one_module_are_never_used_at_once(self, token: Token, tmp_path: Path) -> None:
        """The module was not told that there are threads: two inside it may crash the server, or swap answers."""
        make_key(token.module, token.label, "alone", token.pin)
        same = tmp_path / "same.so"
        same.symlink_to(token.module)
        keks = in_token(token, "alone"), Pkcs11KeyWrapper(same, token.label, "alone", token.pin)
        both_inside, met = threading.Barrier(2), []

        class Watched:
            def encrypt(self, data: bytes, **_: object) -> bytes:
                with contextlib.suppress(threading.BrokenBarrierError):
                    both_inside.wait(0.5)
                    met.append(data)
                return data

        for kek in keks:
            kek._key = Watched()
        threads = [threading.Thread(target=kek.wrap, args=(bytes(32), ALICE)) for kek in keks]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert both_inside.broken and not met
        for kek in keks:
            kek.close()

    @pytest.mark.parametrize("error", ["DeviceError", "KeyUnavailable"])
    def test_a_session_in_which_the_key_is_not_found_is_closed(
        self, token: Token, monkeypatch: pytest.MonkeyPatch, error: str
    ) -> None:
        """Each health check would leave one open, until the token has none left for anybody."""
        import pkcs11

        sessions: list[pkcs11.Session] = []

        def fails(session: pkcs11.Session, label: str) -> None:
            sessions.append(session)
            if error == "DeviceError":
                raise pkcs11.exceptions.DeviceError

        monkeypatch.setattr("authsvc.key_port.pkcs11_token._find", fails)
        with pytest.raises(KeyUnavailable):
            in_token(token, "whatever")
        with pytest.raises(pkcs11.exceptions.SessionHandleInvalid):
            sessions[0].generate_random(64)

    def test_two_keys_of_one_token_work_side_by_side(self, token: Token) -> None:
        """A rotation inside one token needs both, and closing one session logs the whole process out."""
        labels = ["one of two", "other of two"]
        for label in labels:
            make_key(token.module, token.label, label, token.pin)
        one, other = (in_token(token, label) for label in labels)
        wrapped = other.wrap(bytes(32), ALICE)
        one.close()
        assert other.unwrap(wrapped, ALICE) == bytes(32)
        assert one.key_id != other.key_id
        one.close()
        other.close()

    def test_a_worker_that_was_forked_opens_a_session_of_its_own(self, token: Token) -> None:
        """A session that two processes share answers one with what the other asked."""
        make_key(token.module, token.label, "forked", token.pin)
        kek = in_token(token, "forked")
        wrapped = kek.wrap(bytes(32), ALICE)
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if kek.unwrap(wrapped, ALICE) == bytes(32) else 1)
            except BaseException:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert kek.unwrap(wrapped, ALICE) == bytes(32)
        kek.close()

    def test_wrong_names_and_pins_are_sentences(self, token: Token) -> None:
        make_key(token.module, token.label, "there", token.pin)
        with pytest.raises(KeyUnavailable, match="exists already"):
            make_key(token.module, token.label, "there", token.pin)
        for module, label, key, pin, told in (
            (token.module, token.label, "nothing", token.pin, "no such AES key"),
            (token.module, "no token", "there", token.pin, "NoSuchToken"),
            (Path("/nowhere.so"), token.label, "there", token.pin, "PKCS11Error"),
            (token.module, token.label, "there", "wrong-pin", "PinIncorrect"),
        ):
            with pytest.raises(KeyUnavailable, match=told) as raised:
                Pkcs11KeyWrapper(module, label, key, pin)
            assert raised.value.fault == "token" and token.pin not in str(raised.value)

    def test_a_session_that_broke_is_opened_again(self, token: Token) -> None:
        """A token that was pulled and put back must not need a restart of every server."""
        make_key(token.module, token.label, "again", token.pin)
        kek = in_token(token, "again")
        wrapped = kek.wrap(bytes(32), ALICE)
        assert kek._session is not None
        kek._session.close()
        assert kek.unwrap(wrapped, ALICE) == bytes(32)
        assert token.pin not in repr(kek)
        with pytest.raises(TypeError):
            pickle.dumps(kek)
        kek.close()


class TestHealth:
    def test_the_key_service_is_asked_every_few_seconds_at_most(self, transit: TransitService, tmp_path: Path) -> None:
        """A load balancer that asks every second must not become a load on the key service."""
        kek, now = by_example(transit, tmp_path), [100.0]
        health = KeyHealth(lambda: now[0])
        transit.seen.clear()
        assert all(health.usable(kek) for _ in range(20))
        assert len(transit.seen) == 2
        transit.status = 503
        assert health.usable(kek)
        now[0] += ASKED_EVERY_S
        assert not any(health.usable(kek) for _ in range(20))
        assert len(transit.seen) == 3
        transit.status = None
        now[0] += ASKED_EVERY_S
        assert health.usable(kek)
