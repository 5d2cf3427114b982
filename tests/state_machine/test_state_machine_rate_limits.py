"""Rate limits on both databases: shared, lasting, and nobody else's to use up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from state_machine_harness import (
    CONFIRMATIONS,
    ENCODER,
    FACE,
    LOGINS,
    NO_LIMITS,
    PROFILE,
    SERVER_URL,
    Answer,
    Clock,
    Network,
    Phone,
    Server,
    copy_vault,
    policy,
    signed,
)

from authsvc.errors import Refused
from authsvc.policy import Limits
from authsvc.services import administration, request_authentication
from authsvc.services.context import ServiceContext, SignedRequest
from authsvc.services.leases import Leases
from authsvc.services.rate_limits import Rate, by_enrolment, give_back, spend
from authsvc.store import migrate
from authsvc.store.enrolments import insert_enrolment
from authsvc.store.prepared import Prepared
from authsvc.store.tables import codes, rate_limits
from device_sdk import Device
from device_sdk.transport import RequestKey, signing_key_id
from device_sdk.vault.keys import KeyFile
from mpc.login.enrolment_messages import EnrolmentStart
from mpc.login.messages import Confirmation, Message3
from mpc.primitives.rng import SystemRng

EXACT = Rate("test_exact", burst=10, interval_s=30.0, exact=True)
LEASED = Rate("test_leased", burst=320, interval_s=1.0)
NEW = "/v1/enrolments"


def granted(ctx: ServiceContext, rate: Rate, tries: int, subject: bytes = b"subject") -> int:
    """How many of that many requests get through."""
    through = 0
    for _ in range(tries):
        try:
            spend(ctx, rate, subject)
            through += 1
        except Refused as refused:
            assert refused.code == "throttled"
    return through


def restarted(server: Server) -> ServiceContext:
    """Another process, or the same after a restart: it shares the database and nothing else."""
    return replace(server.ctx, leases=Leases())


@pytest.fixture
def narrow(enrolled_folder: Path, folder: Path, clock: Clock) -> Iterator[tuple[Phone, Server]]:
    """A phone, and a server that lets an enrolment send fifteen requests at once and one more every ten seconds."""
    limits = replace(NO_LIMITS, enrolment_burst=15, enrolment_requests_per_s=0.1)
    server = Server(folder, clock, policy(limits=limits))
    phone = Phone(copy_vault(enrolled_folder, folder / "narrow"), server)
    yield phone, server
    phone.crash()
    server.close()


class TestBuckets:
    def test_an_exact_rate_holds_to_the_token_under_parallel_requests_of_several_workers(self, server: Server) -> None:
        """Read, then write, would let as many through at once as there are workers."""
        workers = [restarted(server) for _ in range(4)]
        with ThreadPoolExecutor(8) as pool:
            through = sum(pool.map(lambda n: granted(workers[n % 4], EXACT, 5), range(16)))
        assert through == EXACT.burst

    def test_a_restart_gives_nothing_back(self, server: Server) -> None:
        assert granted(server.ctx, EXACT, 20) == EXACT.burst
        assert granted(restarted(server), EXACT, 20) == 0

    def test_what_is_spent_comes_back_with_time_and_no_faster(self, server: Server, clock: Clock) -> None:
        granted(server.ctx, EXACT, 20)
        clock.advance(29.5)
        with pytest.raises(Refused) as refused:
            spend(server.ctx, EXACT, b"subject")
        assert refused.value.extension["retry_after_s"] == 1
        clock.advance(31)
        assert granted(server.ctx, EXACT, 20) == 2
        clock.advance(10**6)
        assert granted(server.ctx, EXACT, 20) == EXACT.burst

    def test_a_cleaning_forgets_what_a_flood_of_subjects_left(self, server: Server, clock: Clock) -> None:
        """A thousand rows in ten seconds is less than one sender can make; the table would grow for as long."""
        old = [{"key": number.to_bytes(32, "big"), "full_at": clock.now - 1000} for number in range(2500)]
        with server.store.write() as conn:
            conn.execute(rate_limits.insert(), old)
        granted(restarted(server), EXACT, 1)
        with server.store.read() as conn:
            assert len(conn.execute(rate_limits.select()).all()) == 1

    def test_subjects_and_limits_have_buckets_of_their_own(self, server: Server) -> None:
        granted(server.ctx, EXACT, 20)
        assert granted(server.ctx, EXACT, 1, b"another") == 1
        assert granted(server.ctx, replace(EXACT, name="other"), 1) == 1

    def test_what_is_given_back_can_be_spent_again(self, server: Server) -> None:
        granted(server.ctx, EXACT, 20)
        give_back(server.ctx, EXACT, b"subject")
        assert granted(server.ctx, EXACT, 20) == 1

    def test_a_clock_that_was_set_back_shuts_nobody_out_for_long(self, server: Server, clock: Clock) -> None:
        granted(server.ctx, EXACT, 20)
        clock.advance(-(10**6))
        assert granted(restarted(server), EXACT, 20) == EXACT.burst
        assert granted(restarted(server), EXACT, 20) == 0
        clock.advance(-30)  # two hosts whose clocks differ
        assert granted(restarted(server), EXACT, 20) == 0

    def test_leases_and_credit_exceed_a_rate_by_the_credit_alone(self, server: Server) -> None:
        """Tokens held by a process are taken from everybody else's; only credit is given twice."""
        workers = [restarted(server) for _ in range(3)]
        with ThreadPoolExecutor(6) as pool:
            through = sum(pool.map(lambda n: granted(workers[n % 3], LEASED, 300), range(6)))
        assert LEASED.burst - 3 * LEASED.lease <= through <= LEASED.burst + 3 * LEASED.credit

    def test_an_honest_device_costs_no_transaction(self, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
        before = server.dump()
        monkeypatch.setattr(server.store, "_transaction", None)
        assert granted(server.ctx, LEASED, LEASED.credit) == LEASED.credit
        monkeypatch.undo()
        assert server.dump() == before

    def test_a_flood_costs_a_transaction_in_many_and_its_refusals_none(
        self, server: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        taken = 0
        begun = server.store.write_counters

        def counted() -> Any:
            nonlocal taken
            taken += 1
            return begun()

        monkeypatch.setattr(server.store, "write_counters", counted)
        assert granted(server.ctx, LEASED, 2000) >= LEASED.burst - LEASED.lease
        assert taken <= LEASED.burst / LEASED.lease + LEASED.lease + 2

    def test_rows_of_full_buckets_go_away(self, server: Server, clock: Clock) -> None:
        """Else a flood from many addresses would stay in the database for ever."""
        for number in range(50):
            spend(server.ctx, EXACT, bytes([number]))
        clock.advance(3600)
        spend(server.ctx, EXACT, b"later")
        with server.store.read() as conn:
            assert len(conn.execute(rate_limits.select()).all()) == 1

    def test_no_address_stands_in_the_table(self, server: Server) -> None:
        spend(server.ctx, EXACT, b"203.0.113.77")
        assert "203.0.113.77" not in repr(server.dump()["rate_limits"])

    def test_what_a_process_remembers_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("authsvc.services.leases._KEPT", 3)
        leases = Leases()
        for number in range(10):
            leases.spend(bytes([number]), 1.0, credit=1)
        assert len(leases._held) == 3


class TestEnrolments:
    def confirm(self, phone: Phone, server: Server, key: RequestKey | None = None) -> str:
        """The code of the answer to a confirmation of nothing."""
        body = Message3(phone.id, Confirmation(1, bytes(32))).encode()
        key_id = signing_key_id(enrolment_id=phone.id)
        return server.serve(signed(CONFIRMATIONS, body, key or phone.request_key, key_id, server.clock())).code

    def test_a_flood_of_one_enrolment_waits_and_its_logins_are_not_among_it(
        self, narrow: tuple[Phone, Server], clock: Clock
    ) -> None:
        """Confirmations have a bucket of their own, so that neither keeps the other out."""
        phone, server = narrow
        told = Counter(self.confirm(phone, server) for _ in range(40))
        assert told == {"unknown_login": 15, "throttled": 25}
        assert phone.get() > 0
        clock.advance(10)
        assert phone.confirm()

    def test_a_stranger_cannot_use_an_enrolments_rate_up(self, narrow: tuple[Phone, Server]) -> None:
        """It is counted once the signature holds, and not before."""
        phone, server = narrow
        strangers = RequestKey.generate()
        before = server.dump()
        assert {self.confirm(phone, server, strangers) for _ in range(60)} == {"unauthenticated"}
        assert server.dump() == before
        assert phone.get() > 0
        assert phone.confirm()


class TestStrangers:
    """Somebody who knows ids and has no request key."""

    def ids(self, server: Server, phone: Phone) -> dict[str, bytes]:
        """An id in each state: the phone's enrolment, copied."""
        given = {"active": phone.id, "unknown": SystemRng().bytes(16)}
        row = server.enrolment(phone.id)
        changed: dict[str, dict[str, Any]] = {
            "locked": {"consecutive_failures": 10**6, "last_attempt_at": server.clock()},
            "quarantined": {"status": "quarantined", "status_reason": "clone_proved"},
            "recovering": {"status": "recovering", "next_signing_key": row.signing_key},
            "revoked": {"status": "revoked", "sealed_template": None, "sealed_base_ot": None},
        }
        with server.store.write() as conn:
            for state, values in changed.items():
                given[state] = SystemRng().bytes(16)
                insert_enrolment(conn, replace(row, id=given[state], **values))
        return given

    @pytest.mark.parametrize(
        "path",
        [LOGINS, CONFIRMATIONS, "/v1/recoveries", "/v1/recoveries/finish", "/v1/credentials", "/v1/credentials/revoke",
         "/v1/credentials/pair", "/v1/credentials/adopt", "/v1/enrolments/finish"],
    )  # fmt: skip
    def test_every_state_of_an_id_looks_alike_costs_alike_and_is_left_as_it_was(
        self, path: str, server: Server, phone: Phone, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Else ids, or who is locked out, could be found by asking; or a victim be locked out by it."""
        ids = self.ids(server, phone)
        work: list[str] = []
        run, verifies = Prepared._execute, request_authentication._verifies

        def watched(self: Prepared, *arguments: Any) -> Any:
            work.append("query")
            return run(self, *arguments)

        def checked(*arguments: Any) -> bool:
            work.append("signature")
            return verifies(*arguments)

        monkeypatch.setattr(Prepared, "_execute", watched)
        monkeypatch.setattr(request_authentication, "_verifies", checked)
        for name in ("write", "write_enrolment", "write_counters"):
            monkeypatch.setattr(server.store, name, None)  # no turn is taken and nothing written: it could not be
        before, seen = server.dump(), {}
        for state, enrolment_id in ids.items():
            work.clear()
            request = signed(
                path, b"\xa0", RequestKey.generate(), signing_key_id(enrolment_id=enrolment_id), server.clock()
            )
            answer = server.serve(request)
            seen[state] = (answer.status, answer.body, tuple(work))

        assert set(seen.values()) == {seen["unknown"]}
        assert seen["unknown"][0] == 401 and seen["unknown"][2] == ("query", "signature")
        assert server.dump() == before

    def test_a_thousand_requests_without_the_key_leave_the_owner_logged_in(self, server: Server, phone: Phone) -> None:
        told, key_id = set(), signing_key_id(enrolment_id=phone.id)
        for number in range(1000):
            body = number.to_bytes(4, "big")
            request = signed(LOGINS, body, RequestKey.generate(), key_id, server.clock())
            told.add(server.serve(request).code)
        assert told == {"unauthenticated"}
        assert server.enrolment(phone.id).consecutive_failures == 0
        assert phone.get() > 0


class TestCodes:
    def start(self, server: Server, code: str, address: str | None = None) -> Answer:
        """A first request of an enrolment with that code, by a new device."""
        key = RequestKey.generate()
        body = EnrolmentStart(PROFILE.name, PROFILE.digest, key.public_point(), code).encode()
        request: SignedRequest = signed(NEW, body, key, signing_key_id(public_point=key.public_point()), server.clock())
        return server.serve(replace(request, address=address))

    def test_a_code_may_begin_so_many_enrolments_and_restarts_do_not_change_that(
        self, server: Server, folder: Path, clock: Clock
    ) -> None:
        code = administration.issue_code(server.ctx, label="Ann").code
        told = []
        for _ in range(6):
            worker = Server(folder, clock)
            told += [self.start(worker, code).code for _ in range(2)]
            worker.close()
        assert told == ["ok"] * 10 + ["bad_enrolment_code"] * 2
        with server.store.read() as conn:
            assert [row.attempts for row in conn.execute(codes.select()) if row.label == "Ann"] == [10]

    def test_the_last_try_still_finishes(self, server: Server, tmp_path: Path) -> None:
        """What is counted is beginning; whoever was let in is not locked out half-way."""
        code = administration.issue_code(server.ctx, label="Ann").code
        for _ in range(9):
            assert self.start(server, code).code == "ok"
        enrol(server, tmp_path / "last", code)

    def test_unknown_used_expired_and_exhausted_codes_look_alike(
        self, server: Server, tmp_path: Path, clock: Clock
    ) -> None:
        used, exhausted, expired = (administration.issue_code(server.ctx, label=name).code for name in "abc")
        enrol(server, tmp_path / "used", used)
        for _ in range(10):
            self.start(server, exhausted)
        with server.store.write() as conn:
            conn.execute(codes.update().where(codes.c.label == "c").values(expires_at=clock() - 1))
        before = server.dump()

        answers = {
            (answer.status, answer.body)
            for answer in (self.start(server, each) for each in ("0" * 20, "no code", used, exhausted, expired))
        }

        assert len(answers) == 1
        assert server.dump() == before

    def test_wrong_codes_count_against_the_address_and_right_ones_do_not(self, server: Server, clock: Clock) -> None:
        there, elsewhere = "198.51.100.7", "198.51.100.8"
        told = Counter(self.start(server, "0" * 20, there).code for _ in range(40))
        assert told == {"bad_enrolment_code": 30, "throttled": 10}
        code = administration.issue_code(server.ctx, label="Ann").code
        assert self.start(server, code, there).code == "throttled"
        assert [self.start(server, code, elsewhere).code for _ in range(3)] == ["ok"] * 3
        clock.advance(130)
        assert self.start(server, code, there).code == "ok"

    def test_a_recovery_code_named_by_another_device_is_not_used_up(self, server: Server, phone: Phone) -> None:
        """Whoever overhears a code cannot spend its tries: they count for the enrolment that it is for."""
        code = administration.lift(server.ctx, phone.id, also_active=True).code
        for _ in range(20):
            assert self.start(server, code).code == "bad_enrolment_code"
        phone.device.recover(code)
        assert phone.get() > 0


def test_the_schema_goes_down_and_up_with_rows_in_place(server: Server, phone: Phone) -> None:
    """Codes and enrolments outlive a step back; tries and rates are counted anew."""
    code = administration.issue_code(server.ctx, label="Ann").code
    TestCodes().start(server, code)
    granted(server.ctx, EXACT, 3)

    migrate.downgrade(server.store, "0002")
    migrate.upgrade(server.store)

    with server.store.read() as conn:
        assert [row.attempts for row in conn.execute(codes.select()) if row.label == "Ann"] == [0]
    assert granted(server.ctx, EXACT, 20) == EXACT.burst
    assert TestCodes().start(server, code).code == "ok"
    assert phone.get() > 0


def test_the_defaults_let_a_device_take_a_thousand_provisioned_keys_in_a_row(server: Server) -> None:
    """Two requests for each, as fast as it can."""
    rate = by_enrolment(Limits())
    assert rate is not None
    assert granted(server.ctx, rate, 2000) == 2000


def enrol(server: Server, folder: Path, code: str) -> None:
    folder.mkdir()
    Device.enrol(
        server=SERVER_URL,
        enrolment_code=code,
        captures=[FACE] * 3,
        vault=folder / "vault",
        profile=PROFILE.name,
        encoder=ENCODER,
        vault_key=KeyFile(folder / "vault.key"),
        transport=Network(server.serve, server.clock, server.profile_document),
    ).close()
