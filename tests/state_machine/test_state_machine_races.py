"""Many requests at once, two workers, and a verdict held back between computation and commit."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from state_machine_harness import (
    CONFIRMATIONS,
    LOGINS,
    Clock,
    HeldLogin,
    Phone,
    Server,
    lose_answer,
    opened_message,
)
from state_machine_thief import as_request, crafted_login, started_login

from authsvc.services.secrets_at_rest import open_key_share, open_refresh, open_template
from device_sdk.errors import TransportError
from mpc.login.device_side import Match
from mpc.login.messages import Message3
from mpc.login.server_side import Answer as GoodVerdict
from mpc.login.server_side import OtProofFailed
from mpc.login.template import xor


@pytest.fixture
def second_worker(folder: Path, clock: Clock, server: Server) -> Server:
    return Server(folder, clock)


def test_a_worker_that_dies_between_computation_and_commit_leaves_no_trace(phone: Phone, server: Server) -> None:
    """Neither a passed nor a failed proof may show anywhere before its verdict is durable."""
    before = server.dump()

    good = HeldLogin(server, crafted_login(phone, ot_index=2, sign_count=2))
    bad = HeldLogin(server, crafted_login(phone, ot_index=3, sign_count=3, bent_column=0))

    assert isinstance(good.computed, GoodVerdict)
    assert isinstance(bad.computed, OtProofFailed)
    assert server.dump() == before
    assert phone.get() > 0  # the same index, since nobody consumed it


def test_a_verdict_on_rows_that_moved_is_computed_again_before_it_is_told(phone: Phone, server: Server) -> None:
    """A worker that read its rows before a refresh must not seal under them: it starts over on those of now."""
    held = HeldLogin(server, crafted_login(phone, ot_index=9, sign_count=9))
    of_old_rows = held.computed
    phone.get()
    assert phone.confirm()
    fresh = started_login(phone.state, ot_index=10, sign_count=10)
    request = as_request(phone, fresh.message_1)
    held.now_for(request)

    answer = held.release()

    assert isinstance(of_old_rows, GoodVerdict)
    assert held.computed is not of_old_rows
    assert answer.code == "ok"
    assert isinstance(fresh.finish(answer.body), Match)


def test_a_login_of_an_ended_epoch_is_refused_however_good_its_verdict_was(phone: Phone, server: Server) -> None:
    """No circuit for shares that predate a confirmed login, even if the computation began before it."""
    held = HeldLogin(server, crafted_login(phone, ot_index=9, sign_count=9))
    phone.get()
    assert phone.confirm()

    assert isinstance(held.computed, GoodVerdict)
    assert held.release().code == "quarantined"


def test_a_quarantine_between_computation_and_commit_holds_the_answer_back(
    phone: Phone, server: Server, second_worker: Server
) -> None:
    """Status is judged at the commit too; the circuit in the second worker's memory never leaves it."""
    held = HeldLogin(second_worker, crafted_login(phone, ot_index=3, sign_count=3))
    assert server.serve(crafted_login(phone, ot_index=2, sign_count=2, bent_column=0)).code == "quarantined"

    assert isinstance(held.computed, GoodVerdict)
    assert held.release().code == "not_active"
    assert server.states(phone.id) == ["confirmed", "failed"]
    second_worker.close()


def test_answer_by_one_worker_and_message_3_at_another(phone: Phone, server: Server, second_worker: Server) -> None:
    """Workers share nothing but the database; a load balancer need not know who answered whom."""
    for _ in range(3):
        phone.network.serve = server.serve
        phone.get()
        phone.network.serve = second_worker.serve
        assert phone.confirm()

    assert server.enrolment(phone.id).epoch == phone.state.epoch
    second_worker.close()


def test_of_fifty_parallel_requests_with_one_index_exactly_one_is_consumed(
    phone: Phone, server: Server, second_worker: Server
) -> None:
    """Two answers under one index would be two circuits over one OT stream."""
    requests = [crafted_login(phone, ot_index=2, sign_count=2) for _ in range(50)]
    workers = [server, second_worker]

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda at: workers[at % 2].serve(requests[at]), range(50)))

    assert Counter(answer.code for answer in answers) == {"ok": 1, "stale_index": 49}
    assert [row.ot_index for row in server.logins(phone.id)] == [1, 2]
    row = server.enrolment(phone.id)
    assert (row.status, row.template_attempts, row.consecutive_failures) == ("active", 2, 1)
    second_worker.close()


def test_all_fifty_held_with_good_verdicts_still_give_one_answer(phone: Phone, server: Server) -> None:
    """The worst timing on purpose: every request computed a good verdict before the first one commits."""
    held = [HeldLogin(server, crafted_login(phone, ot_index=2, sign_count=2)) for _ in range(50)]

    answers = [each.release() for each in reversed(held)]

    assert Counter(answer.code for answer in answers) == {"ok": 1, "stale_index": 49}


def test_127_held_proofs_with_one_bent_column_each_show_one_failed_verdict_at_most(
    phone: Phone, server: Server
) -> None:
    """Each verdict is one bit of Δ, and 127 of them are Δ. All are computed; the first failure ends the telling."""
    held = [
        HeldLogin(server, crafted_login(phone, ot_index=1 + column, sign_count=1 + column, bent_column=column))
        for column in range(1, 128)
    ]
    would_fail = [isinstance(each.computed, OtProofFailed) for each in held]
    assert 20 < sum(would_fail) < 107  # the bits of Δ: the attack is real up to here

    answers = [each.release() for each in held]

    first_failure = would_fail.index(True)
    codes = [answer.code for answer in answers]
    assert codes[: first_failure + 1] == ["ok"] * first_failure + ["quarantined"]
    assert set(codes[first_failure + 1 :]) == {"not_active"}
    assert server.enrolment(phone.id).sealed_base_ot is None


def test_127_parallel_requests_with_one_bent_column_each_show_one_failed_verdict_at_most(
    phone: Phone, server: Server, second_worker: Server
) -> None:
    """The same through the front door of two workers, whatever the threads do."""
    requests = [
        crafted_login(phone, ot_index=1 + column, sign_count=1 + column, bent_column=column) for column in range(1, 128)
    ]
    workers = [server, second_worker]

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda at: workers[at % 2].serve(requests[at]), range(127)))

    seen = Counter(answer.code for answer in answers)
    rows = server.logins(phone.id)
    assert seen["quarantined"] == 1
    assert set(seen) <= {"ok", "quarantined", "not_active", "stale_index"}
    # Indices only rise, so the order of the rows is the order of the commits: after the failure came none.
    # The failed one has a row of its own unless a higher index was consumed before it was written.
    answered = ["pending"] * seen["ok"]
    assert [row.state for row in rows[1:]] in (answered, [*answered, "failed"])
    row = server.enrolment(phone.id)
    assert (row.status, row.status_reason, row.sealed_base_ot) == ("quarantined", "ot_proof_failed", None)
    second_worker.close()


def test_two_passkeys_of_one_enrolment_interleaved(phone: Phone, server: Server) -> None:
    """Key shares move with the passkey that was used, template shares with every login; neither gets lost."""
    first = phone.state.credentials[0].credential_id
    second = phone.create("bob")

    for credential_id in (first, second, second, first, second, first):
        assert phone.get(credential_id=credential_id) > 0
    assert phone.confirm()

    assert phone.state.epoch == server.enrolment(phone.id).epoch
    assert set(server.states(phone.id)) == {"confirmed"}
    assert phone.get(credential_id=first) > 0 and phone.get(credential_id=second) > 0


def test_two_passkeys_at_the_same_time_with_the_background_on(phone: Phone, server: Server) -> None:
    """Two pages ask at once, while message 3 of one runs beside message 1 of the other."""
    first = phone.state.credentials[0].credential_id
    second = phone.create("bob")
    phone.network.background = True

    def sign_in(credential_id: bytes) -> list[int]:
        return [phone.get(credential_id=credential_id) for _ in range(4)]

    with ThreadPoolExecutor(2) as pool:
        counters = list(pool.map(sign_in, (first, second)))

    assert all(seen == sorted(set(seen)) for seen in counters)
    phone.network.background = False
    assert phone.confirm()
    assert server.enrolment(phone.id).status == "active"
    assert "void" not in server.states(phone.id)
    assert phone.get(credential_id=first) > 0 and phone.get(credential_id=second) > 0


def test_two_passkeys_pending_at_once_on_the_server(phone: Phone, server: Server) -> None:
    """Two accepted logins of one epoch under two passkeys: one confirmation wins, and the other is evidence."""
    first = phone.state.credentials[0].credential_id
    second = phone.create("bob")
    assert phone.confirm()
    one = started_login(phone.state, ot_index=5, sign_count=5, credential_id=first)
    two = started_login(phone.state, ot_index=6, sign_count=6, credential_id=second)
    held = [HeldLogin(server, as_request(phone, login.message_1)) for login in (one, two)]
    share_of_second = [row.sealed_share for row in server.credentials(phone.id) if row.id == second]

    results = [login.finish(each.release().body) for login, each in zip((one, two), held, strict=True)]
    codes = []
    for result in results:
        assert isinstance(result, Match)
        said = Message3(phone.id, result.confirmation).encode()
        codes.append(server.serve(as_request(phone, said, CONFIRMATIONS)).code)

    assert codes == ["ok", "quarantined"]
    assert [row.sealed_share for row in server.credentials(phone.id) if row.id == second] == share_of_second


def test_a_generator_that_repeats_rho_still_refreshes_differently(phone: Phone, server: Server) -> None:
    """A virtual machine restored from a snapshot draws the same ρ twice; the session id keeps the offsets apart."""
    rho = b"\x5c" * 32
    epochs: list[tuple[bytes, int]] = []

    def halves() -> tuple[bytes, int]:
        row = server.enrolment(phone.id)
        template = open_template(server.ctx.data_key(phone.id), row, server.ctx.policy.profiles[row.profile_name])
        return template.codes, open_key_share(server.ctx.data_key(phone.id), server.credentials(phone.id)[0]).value

    epochs.append(halves())
    for _ in range(2):
        start = server.rng.draws
        server.rng.change = lambda number, drawn, start=start: rho if number == start + 3 else drawn
        phone.get()
        _, used = open_refresh(server.ctx.data_key(phone.id), server.logins(phone.id)[-1], phone.state.epoch)
        assert used == rho
        assert phone.confirm()
        epochs.append(halves())

    (codes_0, key_0), (codes_1, key_1), (codes_2, key_2) = epochs
    assert xor(codes_0, codes_1) != xor(codes_1, codes_2)
    assert key_1 - key_0 != key_2 - key_1
    assert phone.get() > 0


def test_an_acknowledgement_lost_ten_times_and_then_a_login(phone: Phone, server: Server) -> None:
    """The confirmation may be said eleven times and by two ways; it counts once."""
    phone.get()
    epoch = phone.state.epoch
    phone.network.plan(CONFIRMATIONS, *[lose_answer] * 10)
    for _ in range(10):
        with pytest.raises(TransportError):
            phone.confirm()
    phone.get()
    assert phone.confirm()

    assert phone.state.epoch == server.enrolment(phone.id).epoch == epoch + 2
    assert opened_message(phone.network.sent(LOGINS)[-1]).statement.confirmation is not None


def test_messages_1_and_3_repeated_late_change_nothing(phone: Phone, server: Server) -> None:
    """Everything ever sent arrives again, in reverse, while the next login is pending."""
    for _ in range(3):
        phone.get()
        assert phone.confirm()
    phone.get()
    before = server.dump()

    for request in reversed(phone.network.requests):
        assert server.serve(request).code in ("stale_index", "unknown_login", "ok")

    assert server.dump() == before
    assert phone.confirm() and phone.get() > 0
