"""Rows D1–D7: what the device writes, and when, for each thing that can happen to its login."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from state_machine_databases import snapshot
from state_machine_harness import (
    CONFIRMATIONS,
    LOGINS,
    STRANGER,
    Answer,
    Fate,
    Network,
    Phone,
    Server,
    lose_answer,
    lose_request,
    opened_message,
)

from authsvc.services.context import SignedRequest
from device_sdk.device import Device
from device_sdk.errors import DeviceRestored, NoMatch, ServerMisbehaved, TransportError
from device_sdk.state_store import StateStore
from device_sdk.vault.file import VaultFile
from device_sdk.vault.keys import KeyFile


def on_disk(phone: Phone, folder: Path, name: str) -> StateStore:
    """What another process would read if the phone died now."""
    copy = folder / name
    copy.mkdir()
    (copy / "vault").write_bytes((phone.folder / "vault").read_bytes())
    with VaultFile.open(copy / "vault", KeyFile(phone.folder / "vault.key")) as vault:
        return StateStore.load(vault)


def test_d1_index_and_counter_are_on_disk_before_message_1_leaves(phone: Phone, folder: Path) -> None:
    """An index that is only in memory would be used again after a crash, and two messages of one index leak."""
    before = phone.state
    seen: list[tuple[int, int]] = []

    def look(network: Network, request: SignedRequest) -> Answer:
        stored = on_disk(phone, folder, "while-in-flight").state
        seen.append((stored.ot_index, stored.credentials[0].sign_count))
        assert opened_message(request).statement.ot_index == stored.ot_index
        return network.serve(request)

    phone.network.plan(LOGINS, look)
    phone.get()

    assert seen == [(before.ot_index + 1, before.credentials[0].sign_count + 1)]


def test_d1_without_next_names_the_old_epoch_and_with_next_the_new_one_and_its_token(phone: Phone) -> None:
    """The confirmation travels ahead of the login that needs it, so a lost message 3 costs no round trip."""
    epoch = phone.state.epoch

    phone.get()
    outstanding = phone.state.next
    phone.get()

    first, second = (opened_message(request).statement for request in phone.network.sent(LOGINS)[-2:])
    assert (first.epoch, first.confirmation) == (epoch, None)
    assert outstanding is not None
    assert (second.epoch, second.confirmation) == (epoch + 1, outstanding.confirmation)


def test_d1_two_logins_at_once_take_turns(phone: Phone, server: Server) -> None:
    """One login in flight a vault: both succeed, under different indices, and no message is made twice."""
    with ThreadPoolExecutor(2) as pool:
        counters = sorted(pool.map(lambda _: phone.get(), range(2)))

    assert counters == [2, 3]
    assert [opened_message(request).statement.ot_index for request in phone.network.sent(LOGINS)] == [2, 3]
    assert server.enrolment(phone.id).status == "active"


def test_d2_no_match_after_a_carried_confirmation_settles_it(phone: Phone) -> None:
    """tag0 proves that the server processed the whole request, so the token is delivered and must not be kept."""
    phone.get()
    before = phone.state

    with pytest.raises(NoMatch):
        phone.get(STRANGER)

    assert phone.state.next is None
    assert phone.state.epoch == before.epoch + 1
    assert before.next is not None and phone.state.template == before.next.template
    assert phone.get() > 0


def test_d2_no_match_without_a_confirmation_changes_nothing_but_the_index(phone: Phone) -> None:
    """A wrong face must not move the shares: the server has not moved its own."""
    before = phone.state

    with pytest.raises(NoMatch):
        phone.get(STRANGER)

    assert (phone.state.epoch, phone.state.template, phone.state.next) == (before.epoch, before.template, None)
    assert phone.state.ot_index == before.ot_index + 1


def test_d3_next_shares_and_token_are_on_disk_before_the_assertion_is_released(phone: Phone, folder: Path) -> None:
    """An app that dies with the assertion in hand must still be able to confirm the login it used."""
    phone.get()  # the assertion is out now, and message 3 has not been sent

    stored = on_disk(phone, folder, "after").state

    assert stored.next is not None and stored.next == phone.state.next
    assert not phone.network.sent(CONFIRMATIONS)


def test_d3_an_assertion_is_not_released_if_the_vault_cannot_be_written(
    phone: Phone, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Write first, release second: with the order reversed, a full disk would lose an accepted login."""
    write = VaultFile.write

    def full_after_the_index(self: VaultFile, payload: bytes) -> None:
        if server.states(phone.id)[-1] == "pending":
            raise OSError("no space left")
        write(self, payload)

    monkeypatch.setattr(VaultFile, "write", full_after_the_index)
    with pytest.raises(OSError, match="no space"):
        phone.get()
    monkeypatch.undo()

    assert phone.state.next is None
    assert phone.get() > 0


@pytest.mark.parametrize("fate", [lose_request, lose_answer])
def test_d4_a_timeout_writes_nothing_and_the_next_login_takes_a_fresh_index(phone: Phone, fate: Fate) -> None:
    """A device cannot know whether its message arrived; assuming either would be wrong half of the time."""
    phone.network.plan(LOGINS, fate)
    with pytest.raises(TransportError):
        phone.get()
    after_loss = phone.state

    phone.get()

    assert after_loss.next is None
    assert phone.state.ot_index == after_loss.ot_index + 1
    assert phone.confirm()


def test_d4_an_answer_to_an_earlier_request_is_discarded(phone: Phone, server: Server) -> None:
    """Answers belong to one request. A late one of an older request must neither sign nor move shares."""
    late: list[Answer] = []

    def hold(network: Network, request: SignedRequest) -> Answer:
        late.append(network.serve(request))
        raise TransportError

    phone.network.plan(LOGINS, hold, lambda network, request: (network.serve(request), late[0])[1])
    with pytest.raises(TransportError):
        phone.get()
    with pytest.raises(ServerMisbehaved):
        phone.get()

    assert phone.state.next is None
    assert phone.get() > 0 and phone.confirm()
    assert server.enrolment(phone.id).status == "active"


def test_d5_an_acknowledgement_promotes_the_next_shares_and_forgets_the_old(phone: Phone) -> None:
    """After a clean run each side holds one share."""
    phone.get()
    before = phone.state
    assert before.next is not None

    assert phone.confirm()

    assert phone.state.next is None
    assert phone.state.epoch == before.epoch + 1
    assert phone.state.template == before.next.template
    assert phone.state.credentials[0].key_share == before.next.key_share


def test_d5_a_second_acknowledgement_does_not_promote_a_later_login(phone: Phone) -> None:
    """Two deliveries of one token may be under way; the slower must not touch the shares of the next login."""
    phone.get()
    request_of_first: list[Answer] = []

    def slow(network: Network, request: SignedRequest) -> Answer:
        request_of_first.append(network.serve(request))
        phone.get()  # carries the same token, and is answered first
        return request_of_first[0]

    phone.network.plan(CONFIRMATIONS, slow)
    phone.confirm()

    assert phone.state.next is not None  # that of the second login, still to be confirmed
    assert phone.confirm() and phone.get() > 0


def test_d6_unknown_login_at_the_own_epoch_falls_back_to_the_old_shares(phone: Phone, server: Server) -> None:
    """A server restored to before the login never heard of it; both still hold the older shares, so go on."""
    server.close()  # folds the write-ahead log into the file
    restore = snapshot(server.path.parent)
    phone.get()
    server.close()
    restore()

    assert phone.state.next is not None
    phone.get()  # refused once with unknown_login, falls back, and succeeds in the same call

    codes = [answer.code for request, answer in phone.network.answers if request.path == LOGINS]
    assert codes == ["ok", "unknown_login", "ok"]
    assert phone.confirm()


def test_d6_holds_for_message_3_alone(phone: Phone, server: Server) -> None:
    """The background confirmation meets the same restored server first, and must come to the same conclusion."""
    server.close()
    restore = snapshot(server.path.parent)
    phone.get()
    server.close()
    restore()

    assert phone.confirm()

    assert phone.state.next is None
    assert phone.get() > 0


def test_d7_a_restored_vault_stops_and_says_so(phone: Phone, clone: Phone, server: Server) -> None:
    """A device whose index lies behind the server's was restored or copied: only an operator can tell which."""
    phone.get()
    phone.get()

    with pytest.raises(DeviceRestored):
        clone.get()
    clone.restart()
    with pytest.raises(DeviceRestored):
        clone.get()

    assert clone.state.overtaken
    assert len(clone.network.sent(LOGINS)) == 1  # the mark is durable: nothing more is sent
    assert server.enrolment(phone.id).status == "active"


def test_an_answer_lost_at_registration_leaves_no_passkey_and_blocks_no_second_try(
    phone: Phone, server: Server
) -> None:
    """A passkey without a signature must not exist on the device; the server forgets a provisional one itself."""
    phone.network.plan(LOGINS, lose_answer)
    with pytest.raises(TransportError):
        phone.create("bob")

    assert len(phone.device.credentials()) == 1
    credential_id = phone.create("bob")
    assert phone.get(credential_id=credential_id) > 0
    assert isinstance(phone.device, Device) and phone.confirm()
    assert server.enrolment(phone.id).status == "active"
