"""Random histories over loss, repetition, reordering, two workers, crashes and one lying clone.

The invariants are those of the model checker, looked at after every step on the real database and vault.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from state_machine_databases import copy_database
from state_machine_harness import (
    CONFIRMATIONS,
    FACE,
    LOGINS,
    STRANGER,
    Answer,
    Clock,
    Fate,
    HeldLogin,
    Network,
    Phone,
    Server,
    answer_to,
    copy_vault,
    deliver,
    deliver_twice,
    lose_answer,
    lose_request,
    opened_message,
    overtaken_by_its_copy,
)
from state_machine_thief import as_request, crafted_login, started_login

from authsvc.errors import Refused
from authsvc.services.context import SignedRequest
from authsvc.services.secrets_at_rest import open_template
from authsvc.store.enrolments import EnrolmentRow
from device_sdk.errors import (
    DeviceRestored,
    NoMatch,
    NotActive,
    Quarantined,
    StaleAfterRecovery,
    TandemError,
    TransportError,
)
from mpc.login.device_side import Match
from mpc.login.messages import Message3
from mpc.login.template import xor

FATES = st.sampled_from([deliver, lose_request, lose_answer, deliver_twice, overtaken_by_its_copy])
WORKERS = st.integers(0, 1)


class Histories(RuleBasedStateMachine):
    """One phone, two workers, at most one clone."""

    pattern: ClassVar[Path]

    @initialize()
    def begin(self) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="history-"))
        copy_database(self.pattern, self.root)
        self.clock = Clock()
        self.workers = [Server(self.root, self.clock) for _ in range(2)]
        self.phone = Phone(copy_vault(self.pattern, self.root / "phone"), self.workers[0])
        self.phone.network.serve = self.serve_phone
        self.worker = 0
        self.sent: list[SignedRequest] = []
        self.answered: list[SignedRequest] = []
        self.held: list[HeldLogin] = []
        self.chain = [self.row.confirmed_token_hash]
        self.clone: Phone | None = None
        self.clone_acted = False
        self.clone_knows: set[bytes | None] = set()
        self.clone_tokens: list[SignedRequest] = []

    # ---- the two ways into a worker

    def serve_phone(self, request: SignedRequest) -> Answer:
        self.sent.append(request)
        return self.serve(request)

    def serve(self, request: SignedRequest) -> Answer:
        answer = self.workers[self.worker].serve(request)
        self.note(request, answer)
        return answer

    def note(self, request: SignedRequest, answer: Answer) -> None:
        if request.path == LOGINS and answer.status == 200:
            self.answered.append(request)
        confirmed = self.row.confirmed_token_hash
        if confirmed != self.chain[-1]:
            self.chain.append(confirmed)

    @property
    def row(self) -> EnrolmentRow:
        return self.workers[0].enrolment(self.phone.id)

    def try_phone(self, action: Callable[[], object]) -> None:
        """What may happen to an honest user: a lost connection or a wrong face. The rest needs a clone."""
        try:
            action()
        except (TransportError, NoMatch):
            pass
        except TandemError:
            if not self.clone_acted:
                raise

    # ---- the phone

    @rule(fate=FATES, worker=WORKERS, right_face=st.booleans())
    def phone_signs_in(self, fate: Fate, worker: int, right_face: bool) -> None:
        self.worker = worker
        self.phone.network.plan(LOGINS, fate)
        self.try_phone(lambda: self.phone.get(FACE if right_face else STRANGER))
        self.phone.network.forget_plans()

    @rule(fate=FATES, worker=WORKERS)
    def phone_confirms(self, fate: Fate, worker: int) -> None:
        self.worker = worker
        self.phone.network.plan(CONFIRMATIONS, fate)
        self.try_phone(self.phone.confirm)
        self.phone.network.forget_plans()

    @rule()
    def phone_crashes(self) -> None:
        self.phone.restart()

    # ---- the network and the workers

    @precondition(lambda self: self.sent)
    @rule(data=st.data(), worker=WORKERS)
    def an_old_message_arrives_again(self, data: st.DataObject, worker: int) -> None:
        self.worker = worker
        self.serve(data.draw(st.sampled_from(self.sent), label="message"))

    @precondition(lambda self: self.sent and len(self.held) < 3)
    @rule(data=st.data(), worker=WORKERS)
    def a_worker_computes_and_waits(self, data: st.DataObject, worker: int) -> None:
        request = data.draw(st.sampled_from(self.sent), label="message")
        if request.path == LOGINS:
            with contextlib.suppress(Refused):
                self.held.append(HeldLogin(self.workers[worker], request))
            self.note(request, Answer(0, b""))

    @rule(worker=WORKERS, right_face=st.booleans())
    def phone_times_out_while_a_worker_computes(self, worker: int, right_face: bool) -> None:
        def hold(network: Network, request: SignedRequest) -> Answer:
            self.sent.append(request)
            try:
                self.held.append(HeldLogin(self.workers[worker], request))
            except Refused as refused:
                return answer_to(refused)
            finally:
                self.note(request, Answer(0, b""))
            raise TransportError

        self.phone.network.plan(LOGINS, hold)
        self.try_phone(lambda: self.phone.get(FACE if right_face else STRANGER))
        self.phone.network.forget_plans()

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def a_waiting_worker_goes_on(self, data: st.DataObject) -> None:
        held = self.held.pop(data.draw(st.integers(0, len(self.held) - 1), label="which"))
        self.judge_clone(held.request, lambda: held.release())

    @rule()
    def a_worker_dies(self) -> None:
        self.held.clear()
        self.workers[1].close()
        self.workers[1] = Server(self.root, self.clock)

    # ---- the clone

    @precondition(lambda self: self.clone is None)
    @rule()
    def the_vault_is_copied(self) -> None:
        self.clone = self.phone.clone(self.root / "clone", self.workers[0])
        outstanding = self.clone.state.next
        self.clone_knows = {*self.chain, *([outstanding.confirmation.token_hash] if outstanding else [])}

    def judge_clone(self, request: SignedRequest, serve: Callable[[], Answer]) -> Answer:
        """No circuit for a clone whose shares predate a confirmed login."""
        answer = serve()
        self.note(request, answer)
        if request not in self.sent and answer.status == 200:
            assert set(self.chain) <= self.clone_knows, "a circuit for shares that predate a confirmed login"
        return answer

    @precondition(lambda self: self.clone is not None)
    @rule(index=st.integers(1, 3), lie=st.booleans(), hold=st.booleans(), worker=WORKERS)
    def the_clone_sends(self, index: int, lie: bool, hold: bool, worker: int) -> None:
        assert self.clone is not None
        self.clone_acted, self.worker = True, worker
        state, row = self.clone.state.promoted(), self.row
        number = max(row.last_index, state.ot_index) + index
        login = started_login(state, ot_index=number, sign_count=number, epoch=row.epoch if lie else None)
        request = as_request(self.clone, login.message_1)
        if hold:
            with contextlib.suppress(Refused):
                self.held.append(HeldLogin(self.workers[worker], request))
            return
        answer = self.judge_clone(request, lambda: self.workers[worker].serve(request))
        if answer.status == 200:
            result = login.finish(answer.body)
            assert isinstance(result, Match)
            said = Message3(self.clone.id, result.confirmation)
            self.clone_tokens.append(as_request(self.clone, said.encode(), CONFIRMATIONS))
            self.clone_knows.add(result.confirmation.token_hash)

    @precondition(lambda self: self.clone is not None and self.clone.state.next is not None)
    @rule(worker=WORKERS)
    def the_clone_repeats_the_copied_confirmation(self, worker: int) -> None:
        assert self.clone is not None and self.clone.state.next is not None
        self.clone_acted, self.worker = True, worker
        body = Message3(self.clone.id, self.clone.state.next.confirmation).encode()
        self.serve(as_request(self.clone, body, CONFIRMATIONS))

    @precondition(lambda self: self.clone_tokens)
    @rule(worker=WORKERS)
    def the_clone_confirms(self, worker: int) -> None:
        self.worker = worker
        self.serve(self.clone_tokens[-1])

    # ---- invariants

    @invariant()
    def every_answer_is_counted(self) -> None:
        hashes = {login.request_hash for login in self.workers[0].logins(self.phone.id)}
        assert all(hashlib.sha256(request.body).digest() in hashes for request in self.answered)

    @invariant()
    def no_index_is_answered_twice(self) -> None:
        indices = [opened_message(request).statement.ot_index for request in self.answered]
        assert len(indices) == len(set(indices))

    @invariant()
    def the_phone_never_uses_an_index_for_two_messages(self) -> None:
        statements = [opened_message(request).statement for request in self.sent if request.path == LOGINS]
        assert len({each.ot_index for each in statements}) == len({each.device_nonce for each in statements})

    @invariant()
    def without_a_clone_nobody_is_accused(self) -> None:
        if not self.clone_acted:
            assert self.row.status == "active"

    @invariant()
    def counters_are_those_of_the_rows(self) -> None:
        row, rows = self.row, self.workers[0].logins(self.phone.id)
        assert row.template_attempts == len(rows)
        assert row.last_index == max(login.ot_index for login in rows)

    def teardown(self) -> None:
        if not hasattr(self, "workers"):
            return
        try:
            self.held.clear()
            self.clean_run()
        finally:
            self.phone.crash()
            if self.clone is not None:
                self.clone.crash()
            for worker in self.workers:
                worker.close()
            shutil.rmtree(self.root, ignore_errors=True)

    def clean_run(self) -> None:
        """The user is not stranded; then one share each, nothing pending, and the template is what it was."""
        phone, server = self.phone, self.workers[0]
        phone.network.forget_plans()
        if self.clone_acted:
            try:
                if self.row.status == "quarantined":
                    phone.device.recover(server.lift(phone.id))
                phone.get()
            except (StaleAfterRecovery, DeviceRestored, Quarantined, NotActive):
                # Told to go to the operator, and rightly so: a copy was there first.
                return
        else:
            phone.get()
        assert phone.confirm()
        row = self.row
        assert (row.status, row.epoch, phone.state.next) == ("active", phone.state.epoch, None)
        assert "pending" not in server.states(phone.id)
        key = server.ctx.data_key(phone.id)
        halves = open_template(key, row, phone.state.profile).codes, phone.state.template.codes
        assert xor(*halves) == phone.device._encoder.encode(FACE).packed()


def test_random_histories_keep_the_invariants(enrolled_folder: Path) -> None:
    """What nobody thought of writing down as a trace."""
    Histories.pattern = enrolled_folder
    run_state_machine_as_test(
        Histories,
        settings=settings(
            max_examples=20,
            stateful_step_count=25,
            deadline=None,
            # Shrinking a history takes longer than reading it: every step of the failing one is printed.
            phases=(Phase.generate,),
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_clone_check_of_the_histories_can_fail(enrolled_folder: Path, tmp_path: Path) -> None:
    """A check that cannot fail checks nothing: fed with an answer to a stale clone, it objects."""
    Histories.pattern = enrolled_folder
    history = Histories()
    history.begin()
    history.the_vault_is_copied()
    history.phone.get()
    assert history.phone.confirm()
    assert history.clone is not None
    request = crafted_login(history.clone, ot_index=9, sign_count=9)

    with pytest.raises(AssertionError, match="predate"):
        history.judge_clone(request, lambda: Answer(200, b""))
    history.teardown()
