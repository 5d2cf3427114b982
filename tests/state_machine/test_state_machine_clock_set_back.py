"""The server's clock is set back by two hours: nobody waits for the time in which he has already been."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from state_machine_harness import STRANGER, Clock, Phone, Server, copy_vault, policy

from authsvc.policy import Limits
from device_sdk.errors import LockedOut, NoMatch

LIMITS = Limits()
BACK_S = 2 * 3600


@pytest.fixture
def limited(enrolled_folder: Path, folder: Path, clock: Clock) -> Iterator[tuple[Phone, Server]]:
    server = Server(folder, clock, policy(limits=LIMITS))
    phone = Phone(copy_vault(enrolled_folder, folder / "phone-limited"), server)
    yield phone, server
    phone.crash()
    server.close()


def fail(phone: Phone, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(NoMatch):
            phone.get(STRANGER)


def test_without_failures_the_next_login_comes_at_once(limited: tuple[Phone, Server], clock: Clock) -> None:
    phone, server = limited
    phone.get()
    assert phone.confirm()
    assert server.enrolment(phone.id).consecutive_failures == 0
    clock.advance(-BACK_S)

    assert phone.get() > 0
    assert phone.confirm()


@pytest.mark.parametrize("failures", [1, 4])
def test_failures_below_the_limit_do_not_wait_either(
    limited: tuple[Phone, Server], clock: Clock, failures: int
) -> None:
    phone, _ = limited
    fail(phone, failures)
    clock.advance(-BACK_S)

    assert phone.get() > 0


def test_after_five_failures_the_delay_counts_from_then(limited: tuple[Phone, Server], clock: Clock) -> None:
    """The delay once more is fair; until the clock has caught up with itself is not."""
    phone, server = limited
    fail(phone, LIMITS.consecutive_before_delay)
    clock.advance(-BACK_S)
    try:
        phone.get()
    except LockedOut as told:
        assert 0 < told.retry_after_s <= LIMITS.first_delay_s
        clock.advance(LIMITS.first_delay_s)
        assert phone.get() > 0

    assert phone.confirm()
    assert server.enrolment(phone.id).consecutive_failures == 0


def test_the_delay_is_in_force_again_after_the_next_failure(limited: tuple[Phone, Server], clock: Clock) -> None:
    """Setting the clock back is not a way around the delays: the next attempt is dated anew."""
    phone, _ = limited
    fail(phone, LIMITS.consecutive_before_delay)
    clock.advance(-BACK_S)
    try:
        fail(phone)
    except LockedOut:
        clock.advance(LIMITS.first_delay_s)
        fail(phone)

    with pytest.raises(LockedOut) as caught:
        phone.get()

    assert caught.value.retry_after_s == 2 * LIMITS.first_delay_s
