"""A failed OT proof is one bit of Δ. Once computed on the current base OT it is written, whatever else has changed.

Otherwise a thief would ask many questions at once and bring about a refusal for every answer that would accuse him.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from state_machine_harness import (
    LOGINS,
    STRANGER,
    Answer,
    Clock,
    HeldLogin,
    Network,
    Phone,
    Server,
    opened_message,
    policy,
    with_body,
)
from state_machine_thief import as_request, crafted_login

from authsvc.policy import Limits
from authsvc.services import administration
from authsvc.services.context import SignedRequest
from device_sdk.errors import NoMatch, NotActive, TransportError
from mpc.login.enrolment_messages import RevokeCredential
from mpc.login.server_side import Answer as GoodVerdict
from mpc.login.server_side import OtProofFailed

FAR = 90


@pytest.fixture
def second_worker(folder: Path, clock: Clock, server: Server) -> Iterator[Server]:
    worker = Server(folder, clock)
    yield worker
    worker.close()


def held_bad_proof(server: Server, phone: Phone, ot_index: int = FAR) -> HeldLogin:
    """Bit 0 of Δ is 1, so inverting column 0 makes a proof that fails for certain."""
    held = HeldLogin(server, crafted_login(phone, ot_index=ot_index, sign_count=ot_index, bent_column=0))
    assert isinstance(held.computed, OtProofFailed)
    return held


def is_written(server: Server, phone: Phone, answer: Answer) -> None:
    """Told, Δ erased, one event, and nobody is answered any more."""
    row = server.enrolment(phone.id)
    assert (answer.status, answer.code) == (403, "quarantined")
    assert (row.status, row.status_reason, row.sealed_base_ot) == ("quarantined", "ot_proof_failed", None)
    assert server.events(phone.id).count("quarantined") == 1
    last = row.last_index
    assert server.serve(crafted_login(phone, ot_index=last + 1, sign_count=last + 1)).code == "not_active"


def revoke_by_device(server: Server, phone: Phone) -> None:
    body = RevokeCredential(phone.id, phone.state.credentials[0].credential_id).encode()
    assert server.serve(as_request(phone, body, "/v1/credentials/revoke")).code == "ok"


def revoke_by_operator(server: Server, phone: Phone) -> None:
    administration.revoke_credential(server.ctx, phone.state.credentials[0].credential_id)


@pytest.mark.parametrize("revoke", [revoke_by_device, revoke_by_operator])
def test_a_credential_revoked_meanwhile_saves_no_thief(
    phone: Phone, server: Server, revoke: Callable[[Server, Phone], None]
) -> None:
    """Whoever holds the request key can revoke at any moment, so a revocation must not swallow a verdict."""
    held = held_bad_proof(server, phone)
    before = server.enrolment(phone.id)
    revoke(server, phone)

    answer = held.release()

    is_written(server, phone, answer)
    row = server.enrolment(phone.id)
    assert server.states(phone.id) == ["confirmed", "failed"]
    assert (row.last_index, row.consecutive_failures) == (FAR, before.consecutive_failures + 1)
    assert row.template_attempts == before.template_attempts + 1


def test_a_provisional_credential_deleted_meanwhile_saves_no_thief(phone: Phone, server: Server) -> None:
    """Of that credential not even a row is left; the failed proof was about Δ, not about the credential."""
    held: list[HeldLogin] = []

    def bend_and_delete(network: Network, request: SignedRequest) -> Answer:
        message = opened_message(request)
        wrong = replace(message, proof_x=bytes([message.proof_x[0] ^ 1]) + message.proof_x[1:])
        held.append(HeldLogin(server, with_body(request, wrong.encode(), phone)))
        body = RevokeCredential(phone.id, message.statement.credential_id).encode()
        assert server.serve(as_request(phone, body, "/v1/credentials/revoke")).code == "ok"
        raise TransportError

    phone.network.plan(LOGINS, bend_and_delete)
    with pytest.raises(TransportError):
        phone.create("bob")
    assert isinstance(held[0].computed, OtProofFailed)
    assert len(server.credentials(phone.id)) == 1

    is_written(server, phone, held[0].release())
    assert server.states(phone.id) == ["confirmed", "failed"]


@pytest.mark.parametrize("higher", [False, True])
def test_an_index_consumed_meanwhile_saves_no_thief(phone: Phone, server: Server, higher: bool) -> None:
    """The parallel request may take the very index or one above it; the attempt counts, the row is not doubled."""
    held = held_bad_proof(server, phone)
    taken = FAR + 5 if higher else FAR
    assert server.serve(crafted_login(phone, ot_index=taken, sign_count=taken)).code == "ok"
    before = server.enrolment(phone.id)
    rows = server.logins(phone.id)

    answer = held.release()

    is_written(server, phone, answer)
    row = server.enrolment(phone.id)
    assert [login.ot_index for login in server.logins(phone.id)] == [login.ot_index for login in rows]
    assert row.last_index == taken
    assert row.template_attempts == before.template_attempts + 1
    assert row.consecutive_failures == before.consecutive_failures + 1


def test_a_delay_that_began_meanwhile_saves_no_thief(phone: Phone, folder: Path, clock: Clock) -> None:
    """Five wrong faces beside it, and every further request has to wait; the verdict has been computed already."""
    server = Server(folder, clock, policy(limits=Limits()))
    phone.network.serve = server.serve
    held = held_bad_proof(server, phone)
    for _ in range(5):
        with pytest.raises(NoMatch):
            phone.get(STRANGER)
    assert server.serve(crafted_login(phone, ot_index=50, sign_count=50)).code == "throttled"

    answer = held.release()

    is_written(server, phone, answer)
    # A wrong face is "pending" for the server, which cannot see whether it matched.
    assert server.states(phone.id) == ["confirmed", *["pending"] * 5, "failed"]
    assert server.enrolment(phone.id).consecutive_failures == 6
    server.close()


def test_a_base_ot_erased_meanwhile_is_not_burnt_twice(phone: Phone, server: Server) -> None:
    """The second verdict is about a Δ that is gone: it is worth nothing, and the reason stays the first one."""
    held = [held_bad_proof(server, phone, index) for index in (FAR, FAR + 1)]
    first = held[0].release()
    before = server.dump()

    second = held[1].release()

    assert (first.code, second.code) == ("quarantined", "not_active")
    assert server.dump() == before


def test_a_base_ot_replaced_meanwhile_is_not_accused(phone: Phone, server: Server) -> None:
    """After a recovery the phone holds another Δ; a verdict about the old one must not take the new one away."""
    held = held_bad_proof(server, phone)
    assert server.serve(crafted_login(phone, ot_index=2, sign_count=2, bent_column=0)).code == "quarantined"
    phone.device.recover(server.lift(phone.id))
    before = server.dump()

    assert held.release().code == "base_ot_changed"

    assert server.dump() == before
    assert phone.get() > 0 and phone.confirm()


def test_an_enrolment_lifted_meanwhile_stays_in_recovery(phone: Phone, server: Server) -> None:
    """Lifting erases Δ. The operator's code must not become worthless by a verdict about it."""
    held = held_bad_proof(server, phone)
    code = administration.lift(server.ctx, phone.id, also_active=True).code
    before = server.dump()

    assert held.release().code == "not_active"

    assert server.dump() == before
    with pytest.raises(NotActive):
        phone.get()
    phone.device.recover(code)
    assert phone.get() > 0


@pytest.mark.parametrize("seed", range(3))
def test_in_whatever_order_held_verdicts_are_committed_the_first_failure_ends_it(
    phone: Phone, server: Server, seed: int
) -> None:
    """One bent column each. Large indices first make the small ones stale, and stale ones are judged all the same."""
    held = [
        HeldLogin(server, crafted_login(phone, ot_index=1 + column, sign_count=1 + column, bent_column=column))
        for column in range(1, 48)
    ]
    random.Random(seed).shuffle(held)
    fails = [isinstance(each.computed, OtProofFailed) for each in held]
    assert any(fails) and any(isinstance(each.computed, GoodVerdict) for each in held)

    codes = [each.release().code for each in held]

    first = fails.index(True)
    assert set(codes[:first]) <= {"ok", "stale_index", "bad_authenticator_data"}
    assert codes[first] == "quarantined"
    assert set(codes[first + 1 :]) == {"not_active"}
    row = server.enrolment(phone.id)
    counted = codes.count("ok") + codes.count("bad_authenticator_data") + 1
    assert (row.status, row.sealed_base_ot, row.consecutive_failures) == ("quarantined", None, counted)


def test_of_many_parallel_requests_with_a_bad_column_one_is_told(
    phone: Phone, server: Server, second_worker: Server
) -> None:
    """Through the front door of two workers: one quarantine, and no circuit after it."""
    bad = [crafted_login(phone, ot_index=2 + n, sign_count=2 + n, bent_column=0) for n in range(40)]
    workers = [server, second_worker]

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda at: workers[at % 2].serve(bad[at]), range(len(bad))))
    good = crafted_login(phone, ot_index=100, sign_count=100)

    assert Counter(answer.code for answer in answers) == {"quarantined": 1, "not_active": len(bad) - 1}
    assert [worker.serve(good).code for worker in workers] == ["not_active"] * 2
    assert server.events(phone.id).count("quarantined") == 1
    assert server.enrolment(phone.id).consecutive_failures == 1
