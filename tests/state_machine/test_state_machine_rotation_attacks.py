"""Somebody wants his own template in place of the owner's: what he may hold, and what he still lacks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from state_machine_harness import (
    AGED,
    CONFIRMATIONS,
    FACE,
    LATER,
    LOGINS,
    PROFILE,
    ROTATIONS,
    ROTATIONS_FINISH,
    ROTATIONS_SETTLE,
    STRANGER,
    Answer,
    Network,
    Phone,
    Server,
    signed,
    to_base64,
)
from state_machine_processes import enrol
from state_machine_thief import as_request, started_login

from authsvc.services import administration
from device_sdk.errors import EnrolmentRefused, NoMatch, ServerRefused, TandemError, TransportError
from mpc.login.device_side import DeviceLogin, Match
from mpc.login.messages import Message3
from mpc.login.rotation_messages import (
    RotationFinish,
    RotationOffer,
    RotationSettle,
    RotationStart,
    rotation_challenge,
)
from mpc.login.template import TemplateShare
from mpc.ot.base_ot import BaseOtContext, sender_round_1
from mpc.primitives.rng import SystemRng

HIS_SHARE = TemplateShare(bytes(PROFILE.template_bytes), b"")


@dataclass
class Thief:
    """Whoever holds the vault and sends what he likes; he remembers nothing between messages but the offer."""

    phone: Phone
    server: Server

    def start(self, code: str, **changes: object) -> Answer:
        message = RotationStart(self.phone.id, code, self.server.enrolment(self.phone.id).epoch)
        body = replace(message, **changes).encode()  # type: ignore[arg-type]
        return self.server.serve(as_request(self.phone, body, ROTATIONS))

    def offer(self, code: str) -> RotationOffer:
        answer = self.start(code)
        assert answer.code == "ok"
        return RotationOffer.decode(answer.body)

    def finish(self, offer: RotationOffer, code: str, **changes: object) -> Answer:
        context = BaseOtContext(offer.enrolment_id, offer.base_ot_id)
        _, sent = sender_round_1(SystemRng(), context, offer.receiver_message)
        epoch = self.server.enrolment(self.phone.id).epoch
        index = self.server.enrolment(self.phone.id).last_index
        message = RotationFinish(self.phone.id, offer.base_ot_id, code, epoch, index, sent, HIS_SHARE)
        body = replace(message, **changes).encode()  # type: ignore[arg-type]
        return self.server.serve(as_request(self.phone, body, ROTATIONS_FINISH))


@pytest.fixture
def thief(phone: Phone, server: Server) -> Thief:
    return Thief(phone, server)


def untouched(server: Server, phone: Phone, before: object) -> None:
    row = server.enrolment(phone.id)
    assert (row.sealed_template, row.sealed_base_ot) == before
    assert "template_rotated" not in server.events(phone.id)


def kept(server: Server, phone: Phone) -> object:
    row = server.enrolment(phone.id)
    return row.sealed_template, row.sealed_base_ot


def test_device_and_code_without_the_person(phone: Phone, server: Server) -> None:
    """The stolen phone and an intercepted code: his own captures do not match the template that they would replace."""
    before = kept(server, phone)

    with pytest.raises(NoMatch):
        phone.device.rotate_template(server.rotation_code(phone.id), [STRANGER] * 3)

    untouched(server, phone, before)


def test_leaving_out_the_login_that_shows_the_match(thief: Thief, phone: Phone, server: Server) -> None:
    """The device is told to show it; whether it did is the server's to see."""
    before, code = kept(server, phone), server.rotation_code(phone.id)

    offer = thief.offer(code)

    assert offer.match
    assert thief.finish(offer, code).code == "match_missing"
    untouched(server, phone, before)


def test_an_ordinary_login_of_the_owner_shows_no_match_for_a_rotation(
    thief: Thief, phone: Phone, server: Server
) -> None:
    """The owner signs in, and then the phone is stolen: that login was for a site, and for nothing else."""
    before, code = kept(server, phone), server.rotation_code(phone.id)
    offer = thief.offer(code)
    assert phone.get() > 0 and phone.confirm()

    assert thief.finish(offer, code).code == "match_missing"
    assert server.events(phone.id).count("template_rotated") == 0
    assert before != kept(server, phone)  # the login refreshed it


def test_a_match_for_an_earlier_offer_is_good_for_no_later_one(phone: Phone, server: Server, thief: Thief) -> None:
    """The owner began a rotation and gave up; whoever has the phone later cannot go on from his match."""
    phone.network.plan(ROTATIONS_FINISH, *[lost] * 3)
    with pytest.raises(TransportError):
        phone.device.rotate_template(server.rotation_code(phone.id), AGED)
    assert [row.kind for row in server.logins(phone.id)][-1] == "rotate"
    code = server.rotation_code(phone.id)

    answer = thief.finish(thief.offer(code), code)

    assert answer.code == "match_missing"
    assert server.events(phone.id).count("template_rotated") == 0


def lost(network: Network, request: object) -> Answer:
    raise TransportError


def test_an_answer_that_was_not_opened_shows_no_match(thief: Thief, phone: Phone, server: Server) -> None:
    """The server does not know whether it was a match; only the confirmation tells."""
    code = server.rotation_code(phone.id)
    offer = thief.offer(code)
    login = rotation_login(phone, offer, STRANGER)
    assert server.serve(as_request(phone, login.message_1, LOGINS)).code == "ok"
    assert [row.kind for row in server.logins(phone.id)][-1] == "rotate"

    assert thief.finish(offer, code).code == "match_missing"


def test_the_login_that_was_opened_does(thief: Thief, phone: Phone, server: Server) -> None:
    """The same by hand with the right person: what the tests above lack is nothing but the match."""
    code = server.rotation_code(phone.id)
    offer = thief.offer(code)
    login = rotation_login(phone, offer, FACE)
    match = login.finish(server.serve(as_request(phone, login.message_1, LOGINS)).body)
    assert isinstance(match, Match)
    confirmed = as_request(phone, Message3(phone.id, match.confirmation).encode(), CONFIRMATIONS)
    assert server.serve(confirmed).code == "ok"

    assert thief.finish(offer, code).code == "ok"


def rotation_login(phone: Phone, offer: RotationOffer, face: object) -> DeviceLogin:
    """Message 1 over the challenge of an offer, from the vault's shares; nothing is stored."""
    challenge = rotation_challenge(offer.enrolment_id, offer.base_ot_id)
    index, sign_count = phone.state.ot_index + 1, phone.state.credentials[0].sign_count + 1
    return started_login(phone.state, ot_index=index, sign_count=sign_count, face=face, client_data_hash=challenge)


@pytest.mark.parametrize("code", ["00000-00000-00000-00000", "no code", "x" * 64])
def test_without_a_code(thief: Thief, phone: Phone, server: Server, code: str) -> None:
    """The device alone rotates nothing, and guessing at a hundred bits writes nothing."""
    before = server.dump()

    assert thief.start(code).code == "bad_enrolment_code"
    assert server.dump() == before


def test_codes_for_something_else(thief: Thief, phone: Phone, server: Server) -> None:
    """An enrolment code is easily had; and one that was withdrawn by a later one is none."""
    enrolling = administration.issue_code(server.ctx, label="Eve").code
    withdrawn = server.rotation_code(phone.id)
    current = server.rotation_code(phone.id)

    assert thief.start(enrolling).code == thief.start(withdrawn).code == "bad_enrolment_code"
    offer = thief.offer(current)
    for other in (enrolling, withdrawn):
        assert thief.finish(offer, other).code == "bad_enrolment_code"


def test_a_code_for_another_enrolment(phone: Phone, server: Server, folder: Path) -> None:
    """Somebody's own code, rightly given to him, is good for his own enrolment only; and he keeps it."""
    (folder / "eve").mkdir()
    enrol(folder / "eve", server, administration.issue_code(server.ctx, label="Eve").code, STRANGER)
    (folder / "eve" / "accounts.json").write_text("{}")
    eve = Phone(folder / "eve", server)
    code = server.rotation_code(eve.id, without_match=True)
    before = kept(server, phone)

    with pytest.raises(EnrolmentRefused):
        phone.device.rotate_template(code, AGED)
    # Nor with Eve's signature on a message about the phone's enrolment.
    body = RotationStart(phone.id, code, server.enrolment(phone.id).epoch).encode()
    foreign = signed(ROTATIONS, body, eve.request_key, to_base64(eve.id), server.clock())
    assert server.serve(foreign).code == "malformed"

    untouched(server, phone, before)
    eve.device.rotate_template(code, AGED)
    eve.crash()


def test_the_code_and_a_request_key_that_was_replaced(phone: Phone, clone: Phone, server: Server) -> None:
    """A copy from before a recovery: with the code it cannot even ask."""
    phone.device.recover(administration.lift(server.ctx, phone.id, also_active=True).code)
    code = server.rotation_code(phone.id, without_match=True)

    with pytest.raises(ServerRefused) as caught:
        clone.device.rotate_template(code, [STRANGER] * 3)

    assert caught.value.code == "unauthenticated"
    phone.device.rotate_template(code, AGED)


def test_a_copied_device_and_the_code_race_and_one_of_them_rotates(phone: Phone, clone: Phone, server: Server) -> None:
    """A code is good once. The other one finds out that its shares fit no more, and never signs with them."""
    code = server.rotation_code(phone.id)
    phone.device.rotate_template(code, AGED)

    with pytest.raises(TandemError):
        clone.device.rotate_template(code, AGED)
    with pytest.raises(TandemError):
        clone.get()

    assert phone.get(LATER) > 0 and phone.confirm()


def test_replays(phone: Phone, server: Server) -> None:
    """Every request of a finished rotation, said again: nothing is written, and nothing comes out but the same."""
    phone.device.rotate_template(server.rotation_code(phone.id), AGED)
    before = server.dump()

    answers = {path: server.serve(phone.network.sent(path)[0]).code for path in (ROTATIONS, ROTATIONS_FINISH)}

    assert answers == {ROTATIONS: "bad_enrolment_code", ROTATIONS_FINISH: "ok"}
    assert server.dump() == before
    assert phone.get(LATER) > 0


def test_a_finish_of_an_earlier_rotation_does_not_bring_its_template_back(phone: Phone, server: Server) -> None:
    """Its base keys are somebody's whom a later rotation was meant to shut out."""
    phone.device.rotate_template(server.rotation_code(phone.id, without_match=True), AGED)
    earlier = phone.network.sent(ROTATIONS_FINISH)[0]
    phone.device.rotate_template(server.rotation_code(phone.id, without_match=True), [LATER] * 3)
    before = server.dump()

    assert server.serve(earlier).code == "wrong_state"
    assert server.dump() == before


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"share": TemplateShare(bytes(PROFILE.template_bytes - 1), b"")}, "malformed"),
        ({"share": TemplateShare(bytes(PROFILE.template_bytes + 1), b"")}, "malformed"),
        ({"share": TemplateShare(b"", b"")}, "malformed"),
        ({"share": TemplateShare(HIS_SHARE.codes, HIS_SHARE.codes)}, "malformed"),
        ({"sender_message": bytes(4096)}, "malformed"),
        ({"sender_message": bytes(4095)}, "malformed"),
        ({"base_ot_id": bytes(16)}, "wrong_state"),
        ({"epoch": 0}, "wrong_state"),
        ({"epoch": 99}, "wrong_state"),
        ({"ot_index": 2**20 + 9}, "index_ahead"),
        ({"ot_index": 2**62}, "index_ahead"),
    ],
)
def test_a_second_request_that_does_not_fit(
    thief: Thief, phone: Phone, server: Server, changes: dict[str, object], code: str
) -> None:
    """Wrong lengths, points of no use, another offer, another epoch: refused, and the code is not spent."""
    rotation = server.rotation_code(phone.id, without_match=True)
    offer = thief.offer(rotation)
    before = server.dump()

    assert thief.finish(offer, rotation, **changes).code == code
    assert server.dump() == before
    assert thief.finish(offer, rotation).code == "ok"


def test_giving_up_a_rotation_does_not_touch_a_recovery(phone: Phone, server: Server) -> None:
    """Both keep their base OT in the same place; an id that the thief knows must not end the owner's way back."""
    code = administration.lift(server.ctx, phone.id, also_active=True).code
    phone.network.plan("/v1/recoveries/finish", lost)
    with pytest.raises(TransportError):
        phone.device.recover(code)
    pending = server.enrolment(phone.id).pending_base_ot_id
    assert pending is not None

    answer = server.serve(as_request(phone, RotationSettle(phone.id, pending).encode(), ROTATIONS_SETTLE))

    assert answer.code == "ok" and server.enrolment(phone.id).pending_base_ot_id == pending
    phone.device.recover(code)
    assert phone.get() > 0
