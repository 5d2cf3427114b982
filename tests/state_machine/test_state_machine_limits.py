"""Attempt limits and query budgets, against the real database and a clock that the test moves."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from state_machine_harness import (
    ENCODER,
    FACE,
    LOGINS,
    NO_LIMITS,
    PROFILE,
    SERVER_URL,
    STRANGER,
    Clock,
    Network,
    Phone,
    Server,
    copy_vault,
    lose_answer,
    opened_message,
    policy,
    with_body,
)
from state_machine_thief import crafted_login

from authsvc.policy import DAY_S, Limits
from authsvc.services import administration, login
from device_sdk import Device
from device_sdk.errors import BudgetSpent, LockedOut, NoMatch, NotActive, TransportError
from device_sdk.vault.keys import KeyFile

Make = Callable[[Limits], tuple[Phone, Server]]
DEFAULTS = Limits()


@pytest.fixture
def limited(enrolled_folder: Path, folder: Path, clock: Clock) -> Iterator[Make]:
    """A phone and a server under these limits."""
    made: list[tuple[Phone, Server]] = []

    def make(limits: Limits) -> tuple[Phone, Server]:
        server = Server(folder, clock, policy(limits=limits))
        made.append((Phone(copy_vault(enrolled_folder, folder / f"phone-{len(made)}"), server), server))
        return made[-1]

    yield make
    for phone, server in made:
        phone.crash()
        server.close()


def fail(phone: Phone, times: int = 1) -> None:
    for _ in range(times):
        with pytest.raises(NoMatch):
            phone.get(STRANGER)


def locked_out_for(phone: Phone) -> float:
    with pytest.raises(LockedOut) as caught:
        phone.get(STRANGER)
    return caught.value.retry_after_s


def test_five_wrong_attempts_then_thirty_seconds_doubling_to_the_cap(limited: Make, clock: Clock) -> None:
    """NIST SP 800-63B-4, 3.2.3. A refused attempt is not counted, so waiting is enough."""
    phone, server = limited(DEFAULTS)
    fail(phone, 5)

    waits = []
    for _ in range(10):
        waits.append(locked_out_for(phone))
        clock.advance(waits[-1] - 0.5)
        assert locked_out_for(phone) == 1  # not a moment earlier
        clock.advance(1)
        fail(phone)

    assert waits == [30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600]
    assert server.enrolment(phone.id).consecutive_failures == 15


def test_a_confirmed_login_resets_the_consecutive_counter(limited: Make, clock: Clock) -> None:
    """Only the token shows a match; until it comes, the login counts as a failure."""
    phone, server = limited(DEFAULTS)
    fail(phone, 4)
    phone.get()
    assert server.enrolment(phone.id).consecutive_failures == 5
    assert phone.confirm()
    assert server.enrolment(phone.id).consecutive_failures == 0

    fail(phone, 5)
    assert locked_out_for(phone) == 30


def test_a_carried_confirmation_counts_before_the_login_that_carries_it_is_throttled(limited: Make) -> None:
    """Message 3 is never throttled, neither alone nor on the way: else an honest user locks himself out."""
    phone, server = limited(DEFAULTS)
    fail(phone, 4)
    phone.get()  # the fifth unconfirmed attempt: without its token the next one would have to wait

    assert phone.get() > 0
    assert server.enrolment(phone.id).consecutive_failures == 1


def test_fifty_in_a_row_disable_until_an_operator_lifts(limited: Make, clock: Clock) -> None:
    """Waiting does not help any more; and the refusal does not say why."""
    phone, server = limited(DEFAULTS)
    for _ in range(50):
        fail(phone)
        clock.advance(3600)
    clock.advance(90 * DAY_S)

    with pytest.raises(NotActive):
        phone.get()
    assert server.enrolment(phone.id).status == "active"
    phone.device.recover(server.lift(phone.id))

    assert phone.get() > 0
    assert phone.confirm()


def test_a_hundred_unconfirmed_attempts_in_thirty_days_whatever_succeeds_between(limited: Make, clock: Clock) -> None:
    """A centre search mixes its questions with genuine logins; this budget is not restored by them."""
    phone, server = limited(replace(DEFAULTS, unconfirmed_per_30_days=13, consecutive_before_delay=20))
    for _ in range(3):
        fail(phone, 4)
        phone.get()
        assert phone.confirm()  # ends the streak, not the budget
        clock.advance(DAY_S)
    fail(phone)
    assert sum(state != "confirmed" for state in server.states(phone.id)) == 13
    before = server.dump()["logins"]

    with pytest.raises(BudgetSpent):
        phone.get()
    clock.advance(27 * DAY_S)  # the first four are exactly thirty days old
    with pytest.raises(BudgetSpent):
        phone.get()
    assert server.dump()["logins"] == before
    clock.advance(1)
    fail(phone, 4)
    with pytest.raises(BudgetSpent):
        phone.get()


def test_the_daily_budget_counts_good_attempts_too(limited: Make, clock: Clock) -> None:
    """An attacker whose probes all match still learns something each time."""
    phone, _ = limited(replace(DEFAULTS, attempts_per_day=6))  # the registration was the first
    for _ in range(5):
        phone.get()
        assert phone.confirm()

    with pytest.raises(BudgetSpent):
        phone.get()
    clock.advance(DAY_S - 1)
    with pytest.raises(BudgetSpent):
        phone.get()
    clock.advance(1)
    assert phone.get() > 0


def test_the_budget_of_a_template_never_comes_back(limited: Make, clock: Clock) -> None:
    """So many answers about one template, then a new one: no time and no success restores it."""
    phone, _ = limited(replace(DEFAULTS, attempts_per_template=4))
    for _ in range(3):
        phone.get()
        assert phone.confirm()

    clock.advance(1000 * DAY_S)
    with pytest.raises(BudgetSpent):
        phone.get()


def test_the_limits_that_nobody_changed_are_those_of_the_design() -> None:
    """The tests above use smaller budgets to be quick; these are the numbers that hold in service."""
    assert (DEFAULTS.consecutive_before_delay, DEFAULTS.first_delay_s, DEFAULTS.consecutive_before_disabled) == (
        5,
        30,
        50,
    )
    assert DEFAULTS.unconfirmed_per_30_days == 100
    assert DEFAULTS.attempts_per_day == 200
    assert DEFAULTS.attempts_per_template == 5000


def test_with_three_templates_an_attempt_costs_three(tmp_path: Path, clock: Clock) -> None:
    """Each template is another chance to match, so each is another question."""
    profile = replace(PROFILE, name="sim-512x3", templates=3)
    # The registration costs 3, and 6 are left of the budget that only unconfirmed attempts use up.
    server = Server(tmp_path, clock, policy(profile, replace(NO_LIMITS, unconfirmed_per_30_days=8)))
    network = Network(server.serve, clock, server.profile_document)
    code = administration.issue_code(server.ctx, label="Ada").code
    Device.enrol(
        server=SERVER_URL,
        enrolment_code=code,
        captures=[[FACE] * 3] * 3,
        vault=tmp_path / "vault",
        profile=profile.name,
        encoder=ENCODER,
        vault_key=KeyFile(tmp_path / "vault.key"),
        transport=network,
    ).close()
    (tmp_path / "accounts.json").write_text("{}")
    phone = Phone(tmp_path, server)
    phone.create()
    assert phone.confirm()

    fail(phone, 2)
    with pytest.raises(BudgetSpent):
        phone.get()

    row = server.enrolment(phone.id)
    assert row.template_attempts == 9
    assert [login.cost for login in server.logins(phone.id)] == [3, 3, 3]
    phone.crash()
    server.close()


@pytest.mark.parametrize(
    ("limits", "refusal"),
    [
        (DEFAULTS, "throttled"),
        (replace(NO_LIMITS, consecutive_before_disabled=5), "not_active"),
        (replace(NO_LIMITS, unconfirmed_per_30_days=5), "budget_spent"),
        (replace(NO_LIMITS, attempts_per_day=6), "budget_spent"),
        (replace(NO_LIMITS, attempts_per_template=6), "budget_spent"),
    ],
)
def test_parallel_attempts_over_two_workers_never_exceed_a_limit(
    limited: Make, folder: Path, clock: Clock, limits: Limits, refusal: str
) -> None:
    """Limits are judged in the transaction that counts; asking forty times at once gives five answers, not forty."""
    phone, server = limited(limits)
    second = Server(folder, clock, policy(limits=limits))
    requests = [crafted_login(phone, ot_index=2 + at, sign_count=2 + at, face=STRANGER) for at in range(40)]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda at: (server, second)[at % 2].serve(requests[at]), range(40)))

    seen = Counter(answer.code for answer in answers)
    rows = server.logins(phone.id)[1:]
    assert seen["ok"] == len(rows) <= 5
    assert set(seen) <= {"ok", refusal, "stale_index"}
    assert server.enrolment(phone.id).consecutive_failures == len(rows)
    # What lost its index to a faster one may be asked again: still no more than five in all.
    for at in range(50, 60):
        server.serve(crafted_login(phone, ot_index=at, sign_count=at, face=STRANGER))
    assert len(server.logins(phone.id)) == 6
    second.close()


def test_an_attempt_whose_answer_was_lost_or_never_read_counts(limited: Make) -> None:
    """The server cannot tell a crash from an attacker who has seen enough."""
    phone, server = limited(DEFAULTS)
    phone.network.plan(LOGINS, *[lose_answer] * 5)
    for _ in range(5):
        with pytest.raises(TransportError):
            phone.get()

    assert server.enrolment(phone.id).consecutive_failures == 5
    assert locked_out_for(phone) == 30


def test_a_computation_that_crashes_is_counted_and_told_as_an_error_of_the_server(
    limited: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An uncounted failure would be a free answer to whatever made it fail."""
    phone, server = limited(DEFAULTS)

    def out_of_memory(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(login, "decide", out_of_memory)
    answers = [server.serve(crafted_login(phone, ot_index=at, sign_count=at)) for at in (2, 3)]
    monkeypatch.undo()

    assert [(answer.status, answer.code) for answer in answers] == [(500, "internal")] * 2
    row = server.enrolment(phone.id)
    assert (row.status, row.consecutive_failures, row.last_index) == ("active", 2, 3)
    assert server.states(phone.id)[-2:] == ["failed", "failed"]


def test_an_ephemeral_point_of_small_order_is_counted(limited: Make) -> None:
    """A message that can be refused only during the computation is an attempt like any other."""
    phone, server = limited(DEFAULTS)
    honest = crafted_login(phone, ot_index=2, sign_count=2)
    message = opened_message(honest)
    bad = replace(message, statement=replace(message.statement, ephemeral=bytes(32)))

    assert server.serve(with_body(honest, bad.encode(), phone)).code == "malformed"

    row = server.enrolment(phone.id)
    assert (row.status, row.consecutive_failures, row.last_index) == ("active", 1, 2)


def test_two_enrolments_do_not_share_a_counter(
    limited: Make, enrolled_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Otherwise anybody could lock everybody out."""
    phone, server = limited(DEFAULTS)
    other_folder = tmp_path_factory.mktemp("other")
    shutil.copy(enrolled_folder / "accounts.json", other_folder / "accounts.json")
    code = administration.issue_code(server.ctx, label="Bob").code
    Device.enrol(
        server=SERVER_URL,
        enrolment_code=code,
        captures=[FACE] * 3,
        vault=other_folder / "vault",
        profile=PROFILE.name,
        encoder=ENCODER,
        vault_key=KeyFile(other_folder / "vault.key"),
        transport=Network(server.serve, server.clock, server.profile_document),
    ).close()
    other = Phone(other_folder, server)
    other.create("bob")
    assert other.confirm()

    fail(phone, 5)
    assert locked_out_for(phone) == 30

    assert other.get() > 0
    other.crash()
