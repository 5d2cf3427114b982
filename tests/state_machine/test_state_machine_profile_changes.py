"""The operator changes the threshold while a phone holds the old profile."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from state_machine_harness import LOGINS, PROFILE, Clock, Phone, Server, at_distance, policy

from device_sdk.errors import NoMatch, NotActive, ProfileChanged
from mpc.login.profile import Profile

TIGHTER = replace(PROFILE, threshold=PROFILE.threshold - 20)
LOOSER = replace(PROFILE, threshold=PROFILE.threshold + 20)


def moved_to(phone: Phone, folder: Path, clock: Clock, profile: object) -> Server:
    """The server restarted with another profile of the same name."""
    worker = Server(folder, clock, policy(profile))  # type: ignore[arg-type]
    phone.network.serve, phone.network.profile_document = worker.serve, worker.profile_document
    return worker


def test_a_tightened_threshold_is_adopted_and_the_same_call_succeeds(
    phone: Phone, folder: Path, clock: Clock, server: Server
) -> None:
    """The user notices nothing: 409, one fetch, one more message. Nothing was counted for the refused one."""
    worker = moved_to(phone, folder, clock, TIGHTER)

    assert phone.get() > 0

    codes = [answer.code for request, answer in phone.network.answers if request.path == LOGINS]
    assert codes == ["profile_changed", "ok"]
    assert phone.state.profile == TIGHTER
    assert len(worker.logins(phone.id)) == 2
    assert worker.enrolment(phone.id).template_attempts == 2
    assert phone.confirm()
    worker.close()


def test_the_tightened_threshold_decides_from_then_on(phone: Phone, folder: Path, clock: Clock) -> None:
    """A probe between the two thresholds matched before and does not match now; the adoption is durable."""
    between = at_distance(PROFILE.threshold - 10)
    assert phone.get(between) > 0
    assert phone.confirm()
    worker = moved_to(phone, folder, clock, TIGHTER)

    with pytest.raises(NoMatch):
        phone.get(between)
    phone.restart()

    assert phone.state.profile == TIGHTER
    assert phone.get(at_distance(TIGHTER.threshold)) > 0
    with pytest.raises(NoMatch):
        phone.get(at_distance(TIGHTER.threshold + 1))
    worker.close()


def test_a_confirmation_outstanding_during_the_change_is_not_lost(phone: Phone, folder: Path, clock: Clock) -> None:
    """It is settled by the refused message already; the second one must not stumble over that."""
    phone.get()
    epoch = phone.state.epoch
    worker = moved_to(phone, folder, clock, TIGHTER)

    assert phone.get() > 0
    assert phone.confirm()

    assert phone.state.epoch == worker.enrolment(phone.id).epoch == epoch + 2
    worker.close()


@pytest.mark.parametrize(
    "offered",
    [
        LOOSER,
        replace(PROFILE, encoder_id="another encoder"),
        replace(LOOSER, thresholds=(140, 120)),
        Profile(name="sim-512", code_bits=512, threshold=0, encoder_id=PROFILE.encoder_id, masked=True, min_valid=384,
                ratio_numerator=1, ratio_shift=8),
    ],
)  # fmt: skip
def test_a_loosened_or_different_profile_is_refused_by_the_device(
    phone: Phone, folder: Path, clock: Clock, offered: object
) -> None:
    """Otherwise a server could widen the acceptance of a device that pinned something stricter."""
    worker = moved_to(phone, folder, clock, offered)

    for _ in range(2):
        with pytest.raises(ProfileChanged):
            phone.get()

    assert phone.state.profile == PROFILE
    assert worker.states(phone.id) == ["confirmed"]
    worker.close()


def test_a_profile_for_another_number_of_templates_serves_nobody_who_has_one(
    phone: Phone, folder: Path, clock: Clock
) -> None:
    """It has no threshold for one: the server knows how many there are, and does not guess which rule was meant."""
    worker = moved_to(phone, folder, clock, replace(TIGHTER, templates=2))

    with pytest.raises(NotActive):
        phone.get()

    assert phone.state.profile == PROFILE and worker.states(phone.id) == ["confirmed"]
    worker.close()


def test_thresholds_for_more_templates_are_adopted_where_there_were_none(
    phone: Phone, folder: Path, clock: Clock, server: Server
) -> None:
    """For the template there is nothing changes, and whether there will be more is for the device to say."""
    offered = replace(PROFILE, thresholds=(120, 110, 105))
    worker = moved_to(phone, folder, clock, offered)

    assert phone.get(at_distance(120)) > 0 and phone.confirm()

    assert phone.state.profile == offered
    worker.close()


@pytest.mark.parametrize(("thresholds", "accepted"), [((120, 109), True), ((120, 111, 105), False)])
def test_thresholds_that_were_adopted_are_a_ratchet_too(
    phone: Phone, folder: Path, clock: Clock, thresholds: tuple[int, ...], accepted: bool
) -> None:
    """A server that could raise them later would get the looser match with the second template."""
    worker = moved_to(phone, folder, clock, replace(PROFILE, thresholds=(120, 110, 105)))
    assert phone.get() > 0 and phone.confirm()
    worker.close()
    worker = moved_to(phone, folder, clock, replace(PROFILE, thresholds=thresholds))

    if accepted:
        assert phone.get() > 0 and phone.state.profile.thresholds == thresholds
    else:
        with pytest.raises(ProfileChanged):
            phone.get()
    worker.close()


def test_going_back_to_the_old_threshold_is_a_loosening(phone: Phone, folder: Path, clock: Clock) -> None:
    """Tightening is a ratchet: what the device has adopted it holds the server to."""
    worker = moved_to(phone, folder, clock, TIGHTER)
    phone.get()
    worker.close()
    worker = moved_to(phone, folder, clock, PROFILE)

    with pytest.raises(ProfileChanged):
        phone.get()
    worker.close()
