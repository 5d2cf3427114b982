"""Somebody wants his own face let in beside the owner's: what he may hold, and what he still lacks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import update
from state_machine_harness import (
    ADD,
    BEARD,
    CONFIRMATIONS,
    FACE,
    GLASSES,
    GROWING,
    LOGINS,
    PROFILE,
    REMOVE,
    STRANGER,
    Answer,
    Clock,
    HeldLogin,
    Phone,
    Server,
    copy_vault,
    lose_request,
    policy,
    signed,
    to_base64,
)
from state_machine_processes import enrol
from state_machine_thief import as_request, crafted_login, started_login

from authsvc.services import administration
from authsvc.store.tables import enrolments
from device_sdk.errors import NoMatch, Quarantined, ServerRefused, TandemError
from mpc.login.device_side import DeviceLogin, Match
from mpc.login.messages import Confirmation, Message3
from mpc.login.profile import Profile
from mpc.login.template import TemplateShare, xor
from mpc.login.template_messages import AddTemplate, RemoveTemplate

TWO, THREE = GROWING.with_templates(2), GROWING.with_templates(3)
HIS_SHARE = TemplateShare(bytes(64), b"")


@dataclass
class Thief:
    """Whoever holds the vault and sends what he likes."""

    phone: Phone
    server: Server

    def message(self, **changes: object) -> AddTemplate:
        epoch = self.server.enrolment(self.phone.id).epoch
        return replace(AddTemplate(self.phone.id, epoch, TWO.digest, HIS_SHARE), **changes)  # type: ignore[arg-type]

    def announce(self, message: AddTemplate | RemoveTemplate) -> Answer:
        path = ADD if isinstance(message, AddTemplate) else REMOVE
        return self.server.serve(as_request(self.phone, message.encode(), path))

    def login(self, challenge: bytes, face: object, *, kind: str = "change") -> DeviceLogin:
        """Message 1 over a challenge, from the vault's shares; nothing is stored."""
        state = self.phone.state
        return started_login(
            state,
            ot_index=self.server.enrolment(self.phone.id).last_index + 1,
            sign_count=self.server.credentials(self.phone.id)[0].sign_count + 1,
            face=face,
            client_data_hash=challenge,
            kind=kind,
        )

    def sent(self, login: DeviceLogin) -> Answer:
        return self.server.serve(as_request(self.phone, login.message_1, LOGINS))

    def opened(self, login: DeviceLogin) -> Confirmation:
        match = login.finish(self.sent(login).body)
        assert isinstance(match, Match)
        return match.confirmation

    def confirm(self, confirmation: Confirmation) -> Answer:
        body = Message3(self.phone.id, confirmation).encode()
        return self.server.serve(as_request(self.phone, body, CONFIRMATIONS))


@pytest.fixture
def server(folder: Path, clock: Clock) -> Iterator[Server]:
    worker = Server(folder, clock, policy(GROWING))
    yield worker
    worker.close()


@pytest.fixture
def phone(enrolled_folder: Path, folder: Path, server: Server) -> Iterator[Phone]:
    held = Phone(copy_vault(enrolled_folder, folder / "phone"), server)
    held.store.change(lambda state: replace(state, profile=GROWING))
    yield held
    held.crash()


@pytest.fixture
def thief(phone: Phone, server: Server) -> Thief:
    return Thief(phone, server)


def nothing_added(server: Server, phone: Phone) -> None:
    assert server.enrolment(phone.id).templates in (None, 1)
    assert not {"template_added", "template_removed"} & set(server.events(phone.id))


def test_the_device_without_the_person(phone: Phone, server: Server) -> None:
    """Stolen and unlocked: his own face does not match the one that would have to let it in."""
    with pytest.raises(NoMatch):
        phone.grow(STRANGER, match=STRANGER)

    nothing_added(server, phone)


def test_announcing_alone_adds_nothing(thief: Thief, phone: Phone, server: Server) -> None:
    """Neither then, nor with the owner's next login, which is for a site and not for this."""
    assert thief.announce(thief.message()).code == "ok"
    assert phone.get() > 0 and phone.confirm()

    nothing_added(server, phone)
    assert server.enrolment(phone.id).sealed_change is None


def test_by_hand_with_the_person_it_is_added(thief: Thief, phone: Phone, server: Server) -> None:
    """What the tests below lack is nothing but what they leave out."""
    message = thief.message()
    assert thief.announce(message).code == "ok"

    assert thief.confirm(thief.opened(thief.login(message.challenge, FACE))).code == "ok"

    assert server.enrolment(phone.id).templates == 2


def test_an_answer_that_was_not_opened_adds_nothing(thief: Thief, phone: Phone, server: Server) -> None:
    """The server does not know whether it was a match; only the token tells, and a guessed one does not."""
    message = thief.message()
    thief.announce(message)
    login = thief.login(message.challenge, STRANGER)
    assert thief.sent(login).code == "ok"

    index = server.enrolment(phone.id).last_index
    assert thief.confirm(Confirmation(index, bytes(32))).code == "unknown_login"
    nothing_added(server, phone)


def test_another_share_put_in_the_place_of_the_one_that_was_matched(thief: Thief, phone: Phone, server: Server) -> None:
    """Between the owner's match and its confirmation: the match is over his share, and is none for another."""
    mine, his = thief.message(share=TemplateShare(b"\x01" * 64, b"")), thief.message()
    thief.announce(mine)
    confirmation = thief.opened(thief.login(mine.challenge, FACE))

    assert thief.announce(his).code == "ok"

    answer = thief.confirm(confirmation)
    assert (answer.code, answer.problem["epoch"]) == ("unknown_login", phone.state.epoch)
    nothing_added(server, phone)
    assert phone.get() > 0 and phone.confirm()


@pytest.mark.parametrize("challenge", ["none announced", "another share", "another epoch", "another number"])
def test_a_login_over_something_that_was_not_announced(
    thief: Thief, phone: Phone, server: Server, challenge: str
) -> None:
    """Refused before anything is counted: an answer to it would say that it is for a change."""
    message = thief.message()
    if challenge != "none announced":
        thief.announce(message)
    other = {
        "none announced": message,
        "another share": replace(message, share=TemplateShare(b"\x01" * 64, b"")),
        "another epoch": replace(message, epoch=message.epoch + 1),
        "another number": replace(message, profile_digest=THREE.digest),
    }[challenge]
    before = server.dump()

    assert thief.sent(thief.login(other.challenge, FACE)).code == "wrong_state"

    assert server.dump() == before


def test_a_login_for_a_site_over_the_announced_hash_is_one_for_a_site(
    thief: Thief, phone: Phone, server: Server
) -> None:
    """Who sends kind "get" has a vault that will not have the new template either."""
    message = thief.message()
    thief.announce(message)

    assert thief.confirm(thief.opened(thief.login(message.challenge, FACE, kind="get"))).code == "ok"

    nothing_added(server, phone)


def test_a_rotation_is_not_shown_a_match_by_a_change_nor_the_other_way_round(
    thief: Thief, phone: Phone, server: Server
) -> None:
    """Two logins that sign for nobody, over two hashes that are made differently."""
    message = thief.message()
    thief.announce(message)
    assert [row.kind for row in server.logins(phone.id)] == ["create"]
    assert thief.sent(thief.login(message.challenge, FACE)).code == "ok"
    assert [row.kind for row in server.logins(phone.id)] == ["create", "change"]
    row = server.enrolment(phone.id)
    assert row.pending_base_ot_id is None and row.rotated_base_ot_id is None


LOOSE = replace(GROWING, thresholds=(120, 119, 118)).with_templates(2)


@pytest.mark.parametrize(
    "digest",
    [GROWING.digest, THREE.digest, LOOSE.digest, replace(PROFILE, templates=2).digest, bytes(32)],
    ids=["for one", "for three", "looser", "the threshold of one", "none"],
)
def test_another_threshold_than_that_for_so_many(thief: Thief, phone: Phone, server: Server, digest: bytes) -> None:
    """Which one holds follows from the server's own count; the device only says that it means the same."""
    before = server.dump()

    assert thief.announce(thief.message(profile_digest=digest)).code == "profile_changed"

    assert server.dump() == before


@pytest.mark.parametrize("claimed", [GROWING, LOOSE, THREE], ids=["one template", "looser", "three"])
def test_with_two_templates_a_login_by_another_threshold_is_refused(
    phone: Phone, server: Server, claimed: Profile
) -> None:
    """A malicious device that keeps counting one, or tells other numbers, gets no circuit with that threshold."""
    phone.grow()
    before = server.dump()
    counted = server.enrolment(phone.id).template_attempts
    held = phone.state.template.codes * 2
    share = TemplateShare(held[: claimed.template_bytes], b"")
    phone.store.change(lambda state: replace(state, profile=claimed, template=share))

    answer = server.serve(crafted_login(phone, ot_index=50, sign_count=50))

    assert answer.code == "profile_changed"
    assert server.dump() == before and server.enrolment(phone.id).template_attempts == counted
    assert server.profile_document(PROFILE.name)


@pytest.mark.parametrize(
    "share",
    [
        TemplateShare(bytes(63), b""),
        TemplateShare(bytes(65), b""),
        TemplateShare(bytes(128), b""),
        TemplateShare(b"", b""),
        TemplateShare(bytes(64), bytes(64)),
    ],
    ids=["short", "long", "two", "none", "masked"],
)
def test_a_share_of_another_profile(thief: Thief, phone: Phone, server: Server, share: TemplateShare) -> None:
    before = server.dump()

    assert thief.announce(thief.message(share=share)).code == "malformed"

    assert server.dump() == before


def test_a_backup_of_the_announcement_and_a_vault_of_the_next_epoch(phone: Phone, server: Server) -> None:
    """Shares of two epochs do not fit each other, that of a template which came in between included."""
    phone.grow()
    announced = AddTemplate.decode(phone.network.sent(ADD)[-1].body)  # what a backup of that epoch holds, opened

    own = phone.state.template.codes[64:]

    assert xor(announced.share.codes, own) != np.packbits(GLASSES, bitorder="little").tobytes()
    assert phone.get(GLASSES) > 0 and phone.confirm()


def test_more_than_the_maximum(thief: Thief, phone: Phone, server: Server) -> None:
    """Whatever number he says it is."""
    phone.grow()
    phone.grow(BEARD)
    before = server.dump()

    for digest in (TWO.digest, THREE.digest, bytes(32)):
        assert thief.announce(thief.message(profile_digest=digest)).code == "too_many_templates"

    assert server.dump() == before


@pytest.mark.parametrize("position", [0, 1, 4])
def test_the_only_template_is_not_removed(thief: Thief, phone: Phone, server: Server, position: int) -> None:
    """An enrolment without a template would be one that nobody can use, or everybody."""
    message = RemoveTemplate(phone.id, server.enrolment(phone.id).epoch, GROWING.digest, position)

    assert thief.announce(message).code == "no_such_template"


def test_removing_takes_the_person_too(phone: Phone, server: Server) -> None:
    """The thief would get the threshold for one again, and the owner would lose a look."""
    phone.grow()

    with pytest.raises(NoMatch):
        phone.device.remove_template(0, STRANGER)

    assert server.enrolment(phone.id).templates == 2


def test_replays(phone: Phone, server: Server) -> None:
    """Every request of an addition that is done, said again: nothing is written."""
    phone.grow()
    before = server.dump()

    codes = [server.serve(phone.network.sent(path)[0]).code for path in (ADD, LOGINS, CONFIRMATIONS)]

    assert codes == ["ok", "stale_index", "ok"]
    assert server.dump() == before
    assert phone.get(GLASSES) > 0


def test_replays_after_the_template_was_removed_again(phone: Phone, server: Server) -> None:
    """A share of an epoch that is over does not come back."""
    phone.grow()
    phone.device.remove_template(1, FACE)
    before = server.dump()

    codes = [server.serve(phone.network.sent(path)[0]).code for path in (ADD, LOGINS, CONFIRMATIONS)]

    assert codes == ["ok", "stale_index", "unknown_login"]
    assert server.dump() == before


def test_a_copy_from_before_is_caught_at_its_next_login(phone: Phone, folder: Path, server: Server) -> None:
    """Its message names the profile for fewer templates. Refused for that, it would stay in service unnoticed."""
    clone = phone.clone(folder / "clone", server)
    phone.grow()

    assert server.serve(crafted_login(clone, ot_index=50, sign_count=50)).code == "quarantined"

    row = server.enrolment(phone.id)
    assert (row.status, row.status_reason) == ("quarantined", "clone_suspected")
    phone.device.recover(server.lift(phone.id))
    assert phone.get(GLASSES) > 0 and phone.confirm()
    clone.crash()


def test_a_copy_with_a_template_that_was_removed_is_caught_too(phone: Phone, folder: Path, server: Server) -> None:
    """Its message is longer than any that the enrolment may send now."""
    phone.grow()
    clone = phone.clone(folder / "clone", server)
    phone.device.remove_template(1, FACE)

    assert server.serve(crafted_login(clone, ot_index=50, sign_count=50)).code == "quarantined"

    assert server.enrolment(phone.id).status_reason == "clone_suspected"
    clone.crash()


def test_a_copy_and_the_phone_both_show_a_match_and_one_change_is_made(
    phone: Phone, folder: Path, server: Server
) -> None:
    """The later announcement stands; the earlier match is never taken for it, and proves that there are two devices."""
    clone = phone.clone(folder / "clone", server)
    clone.store.change(lambda state: replace(state, profile=GROWING))
    phone.network.plan(CONFIRMATIONS, lose_request)
    assert phone.grow() is False
    assert clone.grow(BEARD) is True

    with pytest.raises(TandemError):
        phone.get()  # the copy was confirmed: the phone's token is of a login that lost against it

    row = server.enrolment(phone.id)
    assert (row.status, row.status_reason) == ("quarantined", "clone_proved")
    assert server.events(phone.id).count("template_added") == 1
    with pytest.raises(TandemError):
        clone.get(BEARD)
    clone.crash()


def test_a_dropped_match_that_its_device_asked_about_proves_nothing(phone: Phone, server: Server) -> None:
    """The device takes the login back when it is told; what arrives again later must not turn against it."""
    with pytest.raises(NoMatch):
        phone.grow(BEARD, match=STRANGER)
    phone.network.plan(CONFIRMATIONS, lose_request)
    assert phone.grow() is False
    assert server.serve(phone.network.sent(ADD)[0]).code == "ok"  # the earlier announcement, late
    assert phone.get() > 0 and phone.confirm()

    assert server.serve(phone.network.sent(CONFIRMATIONS)[-2]).code == "unknown_login"
    assert phone.grow() is True
    assert server.serve(phone.network.sent(CONFIRMATIONS)[-3]).code == "unknown_login"
    assert server.enrolment(phone.id).status == "active"


@pytest.mark.parametrize("first", ["change", "get"])
def test_two_logins_of_one_epoch_are_opened_and_one_of_them_is_for_a_change(
    thief: Thief, phone: Phone, server: Server, first: str
) -> None:
    """Whichever is confirmed decides whether there is another template; the other token proves two devices."""
    message = thief.message()
    thief.announce(message)
    tokens = {
        "change": thief.opened(thief.login(message.challenge, FACE)),
        "get": thief.opened(thief.login(bytes(32), FACE, kind="get")),
    }

    assert thief.confirm(tokens.pop(first)).code == "ok"

    assert server.enrolment(phone.id).templates == (2 if first == "change" else 1)
    (other,) = tokens.values()
    assert thief.confirm(other).code == "quarantined"
    row = server.enrolment(phone.id)
    assert (row.status_reason, row.templates) == ("clone_proved", 2 if first == "change" else 1)


def test_somebody_elses_enrolment(phone: Phone, folder: Path, server: Server) -> None:
    """Signed by the device of another enrolment, or by a copy whose request key was replaced."""
    (folder / "eve").mkdir()
    enrol(folder / "eve", server, administration.issue_code(server.ctx, label="Eve").code, STRANGER)
    (folder / "eve" / "accounts.json").write_text("{}")
    eve, clone = Phone(folder / "eve", server), phone.clone(folder / "clone", server)
    assert eve.state.profile == GROWING and server.enrolment(eve.id).templates == 1
    body = AddTemplate(phone.id, server.enrolment(phone.id).epoch, TWO.digest, HIS_SHARE).encode()
    assert server.serve(signed(ADD, body, eve.request_key, to_base64(eve.id), server.clock())).code == "malformed"
    phone.device.recover(administration.lift(server.ctx, phone.id, also_active=True).code)

    with pytest.raises(ServerRefused, match="unauthenticated"):
        clone.grow()

    nothing_added(server, phone)
    eve.crash()
    clone.crash()


def test_cheating_in_the_oblivious_transfer_of_such_a_login(phone: Phone, server: Server) -> None:
    """It is a login like any other: a wrong guess at Δ is the end of the base keys, and adds nothing."""
    bent = crafted_login(phone, ot_index=50, sign_count=50, bent_column=0)
    held = HeldLogin(server, bent)
    assert held.release().code == "quarantined"

    with pytest.raises((Quarantined, TandemError)):
        phone.grow()
    nothing_added(server, phone)


@pytest.mark.parametrize("count", [2, 3, 0, 7])
def test_a_count_written_into_the_database(phone: Phone, server: Server, count: int) -> None:
    """Whoever can write there without the key gains no threshold: share and number do not fit, and nobody logs in."""
    with server.store.write() as conn:
        conn.execute(update(enrolments).where(enrolments.c.id == phone.id).values(templates=count))

    with pytest.raises(TandemError):
        phone.get()

    share = replace(phone.state.template, codes=phone.state.template.codes * max(count, 1))
    if count in (2, 3):
        phone.store.change(lambda state: replace(state, profile=GROWING.with_templates(count), template=share))
        assert server.serve(crafted_login(phone, ot_index=60, sign_count=60)).status == 500


def test_a_sealed_change_of_another_row_or_challenge_does_not_open(thief: Thief, phone: Phone, server: Server) -> None:
    """Write access to the database must not let anyone put another share under the owner's match."""
    mine, his = thief.message(share=TemplateShare(b"\x01" * 64, b"")), thief.message()
    thief.announce(his)
    sealed = server.enrolment(phone.id).sealed_change
    thief.announce(mine)
    confirmation = thief.opened(thief.login(mine.challenge, FACE))
    with server.store.write() as conn:
        conn.execute(update(enrolments).where(enrolments.c.id == phone.id).values(sealed_change=sealed))

    assert thief.confirm(confirmation).status == 500

    nothing_added(server, phone)


def test_many_announcements_and_logins_at_once(thief: Thief, phone: Phone, server: Server) -> None:
    """Of all that is announced in parallel, what was confirmed is exactly what was matched."""
    messages = [thief.message(share=TemplateShare(bytes([at]) * 64, b"")) for at in range(8)]
    start = threading.Barrier(len(messages))

    def announce(message: AddTemplate) -> None:
        start.wait()
        assert thief.announce(message).code == "ok"

    threads = [threading.Thread(target=announce, args=[message]) for message in messages]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    stands = [message for message in messages if message.challenge == server.enrolment(phone.id).change_challenge]
    assert len(stands) == 1
    refused = next(message for message in messages if message is not stands[0])
    assert thief.sent(thief.login(refused.challenge, FACE)).code == "wrong_state"
    assert thief.confirm(thief.opened(thief.login(stands[0].challenge, FACE))).code == "ok"
    assert server.enrolment(phone.id).templates == 2 and server.events(phone.id).count("template_added") == 1
