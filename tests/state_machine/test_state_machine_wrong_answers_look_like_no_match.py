"""What the device does after a wrong answer tells the server no more than after "no match".

Otherwise a server could bend single tables and read from the next request whether that wire was in use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from state_machine_databases import copy_database
from state_machine_harness import (
    FACE,
    LOGINS,
    STRANGER,
    Answer,
    Clock,
    Network,
    Phone,
    Server,
    copy_vault,
    opened_message,
)

from authsvc.services.context import SignedRequest
from device_sdk.errors import NoMatch, ServerMisbehaved
from device_sdk.vault.state import DeviceState
from mpc.garbling.hashing import tables_bytes
from mpc.login.messages import LoginStatement, Message2
from mpc.login.session import sealed_bytes

Bend = Callable[[Message2], Message2]


def _wrong_tables(answer: Message2) -> Message2:
    return replace(answer, tables=bytes(byte ^ 0xFF for byte in answer.tables))


def _wrong_seal(answer: Message2) -> Message2:
    return replace(answer, sealed=answer.sealed[:-1] + bytes([answer.sealed[-1] ^ 1]))


def _wrong_tags(answer: Message2) -> Message2:
    return replace(answer, accept_tag=bytes(len(answer.accept_tag)))


def _observed(
    root: Path, name: str, start: Path, act: Callable[[Phone], None]
) -> tuple[DeviceState, bytes, LoginStatement]:
    """Durable state as value and bytes, and the statement of the next message 1, of a copy of both sides."""
    folder = root / name
    folder.mkdir()
    copy_database(start, folder)
    server = Server(folder, Clock())
    phone = Phone(copy_vault(start / "phone", folder / "phone"), server)
    act(phone)
    phone.restart()  # only what is durable counts
    state = phone.state
    assert phone.get() > 0 and phone.confirm()
    assert server.enrolment(phone.id).status == "active"
    statement = opened_message(phone.network.sent(LOGINS)[-1]).statement
    phone.crash()
    server.close()
    return state, state.encode(), statement


@pytest.mark.parametrize("carried", [True, False], ids=["confirmation carried", "nothing carried"])
@pytest.mark.parametrize("bend", [_wrong_tables, _wrong_seal, _wrong_tags])
def test_state_and_next_message_are_alike(
    phone: Phone, server: Server, folder: Path, tmp_path: Path, bend: Bend, carried: bool
) -> None:
    """From one and the same start: same vault bytes, and a next message without a confirmation."""
    if carried:
        phone.get()
    outstanding = phone.state.next
    assert (outstanding is not None) == carried
    epoch = phone.state.promoted().epoch
    phone.crash()
    server.close()

    def no_match(copy: Phone) -> None:
        with pytest.raises(NoMatch):
            copy.get(STRANGER)
        assert (opened_message(copy.network.sent(LOGINS)[-1]).statement.confirmation is not None) == carried

    def misbehaved(copy: Phone) -> None:
        def bent(network: Network, request: SignedRequest) -> Answer:
            answer = network.serve(request)
            key = copy.state.credentials[0].key_share.key
            right = Message2.decode(
                answer.body, tables_bytes=tables_bytes(copy.state.profile.circuit), sealed_bytes=sealed_bytes(key)
            )
            return Answer(200, bend(right).encode())

        copy.network.plan(LOGINS, bent)
        with pytest.raises(ServerMisbehaved):
            copy.get(FACE)

    def refused_to_parse(copy: Phone) -> None:
        copy.network.plan(LOGINS, lambda network, request: Answer(200, network.serve(request).body[:-1]))
        with pytest.raises(ServerMisbehaved):
            copy.get(FACE)

    seen = [_observed(tmp_path, f"as-{act.__name__}", folder, act) for act in (no_match, misbehaved, refused_to_parse)]
    phone.open()

    assert len({encoded for _, encoded, _ in seen}) == 1
    for state, _, statement in seen:
        assert state.next is None and state.epoch == epoch
        if outstanding is not None:
            assert state.template == outstanding.template
            assert state.credentials[0].key_share == outstanding.key_share
        assert statement.confirmation is None
        assert statement.epoch == epoch
    assert len({statement.ot_index for _, _, statement in seen}) == 1
    assert len({statement.authenticator_data for _, _, statement in seen}) == 1
