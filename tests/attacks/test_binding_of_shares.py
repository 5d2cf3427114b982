"""y_tag and the credential id: only the current share of this credential of this enrolment gets an answer."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import pytest
from attacker import Attacker, altered
from real_server import ThreadServer

from mpc.login.authenticator_data import assertion_data
from mpc.login.enrolment_messages import RevokeCredential
from mpc.login.messages import Message1
from mpc.threshold_rsa.encodings import Algorithm, encode_message
from mpc.threshold_rsa.shares import KeyShare
from mpc.threshold_rsa.signing import partial_signature, share_tag


def tag_for(body: bytes, share: KeyShare, *, message: bytes | None = None, partial: int | None = None) -> bytes:
    """y_tag for this statement, computed from another share, message or partial signature."""
    statement = Message1.decode(body).statement
    encoded = encode_message(Algorithm.RS256, message or statement.signed_message, None, share.key.bits)
    return share_tag(share.key, statement.digest, partial or partial_signature(share, encoded))


def of_another_message(body: bytes, share: KeyShare) -> bytes:
    return tag_for(body, share, message=assertion_data("shop.example", 9) + bytes(32))


def of_em_to_the_zero(body: bytes, share: KeyShare) -> bytes:
    return tag_for(body, share, partial=1)


def of_a_share_that_is_one_off(body: bytes, share: KeyShare) -> bytes:
    return tag_for(body, KeyShare(share.key, share.value - 1))


def of_the_negated_partial(body: bytes, share: KeyShare) -> bytes:
    """−s1 has the e-th power −y: as good as any other wrong one."""
    statement = Message1.decode(body).statement
    encoded = encode_message(Algorithm.RS256, statement.signed_message, None, share.key.bits)
    return tag_for(body, share, partial=share.key.modulus - partial_signature(share, encoded))


def random_bytes(body: bytes, share: KeyShare) -> bytes:
    return secrets.token_bytes(32)


WRONG_TAGS = (
    of_another_message,
    of_em_to_the_zero,
    of_a_share_that_is_one_off,
    of_the_negated_partial,
    random_bytes,
)


@pytest.mark.parametrize("wrong", WRONG_TAGS, ids=lambda function: function.__name__)
def test_a_wrong_tag_quarantines(attacker: Attacker, wrong: Callable[[bytes, KeyShare], bytes]) -> None:
    body = attacker.prepare().message_1
    share = attacker.shares[attacker.credentials[0].credential_id]
    assert tag_for(body, share) == Message1.decode(body).share_tag, "the test computes tags as the device does"

    outcome = attacker.try_login(altered(body, y_tag=wrong(body, share)))

    assert outcome.told == (403, "quarantined")
    assert (outcome.counted, outcome.login_state) == (True, "failed")
    assert attacker.status() == ("quarantined", "share_tag_failed")
    assert outcome.enrolment["sealed_base_ot"] is None
    # And nothing goes any more, not even what would have been right.
    after = attacker.try_login(attacker.prepare().message_1)
    assert (after.told, after.counted) == ((403, "not_active"), False)


def test_the_tag_of_another_login_does_not_carry_over(attacker: Attacker) -> None:
    first, second = attacker.prepare().message_1, attacker.prepare().message_1
    outcome = attacker.try_login(altered(second, y_tag=Message1.decode(first).share_tag))
    assert (outcome.told, outcome.counted) == ((403, "quarantined"), True)


def test_a_share_from_before_the_last_refresh(attacker: Attacker) -> None:
    """The thief claims the current epoch, but his share is a year old."""
    credential = attacker.credentials[0]
    stale = attacker.shares[credential.credential_id]
    attacker.succeed(attacker.prepare())
    assert attacker.shares[credential.credential_id] != stale

    outcome = attacker.try_login(attacker.prepare(key_share=stale).message_1)

    assert (outcome.told, outcome.counted) == ((403, "quarantined"), True)
    assert attacker.status() == ("quarantined", "share_tag_failed")


def test_an_old_device_that_admits_its_epoch(attacker: Attacker) -> None:
    old_epoch, old_template = attacker.state.epoch, attacker.state.template
    old_share = attacker.shares[attacker.credentials[0].credential_id]
    attacker.succeed(attacker.prepare())

    outcome = attacker.try_login(
        attacker.prepare(epoch=old_epoch, template=old_template, key_share=old_share).message_1
    )

    assert (outcome.told, outcome.counted) == ((403, "quarantined"), True)
    assert attacker.status() == ("quarantined", "clone_suspected")


def test_a_stale_template_share_cannot_match(attacker: Attacker) -> None:
    """Key share of today, template share of yesterday: the server cannot see it, and the distance is a coin toss."""
    stale = attacker.state.template
    attacker.succeed(attacker.prepare())
    login = attacker.prepare(template=stale)
    outcome = attacker.try_login(login.message_1)

    assert outcome.status == 200
    assert type(login.finish(outcome.body)).__name__ == "NoMatch"
    assert attacker.logins()[-1]["state"] == "pending"


def test_another_credential_of_the_same_enrolment(attacker: Attacker) -> None:
    """The id of one, everything else of the other: the share that is checked is the named one's."""
    other = attacker.register(rp_id="bank.example", which_key=1)
    body = attacker.prepare(credential_id=other.credential_id).message_1

    outcome = attacker.try_login(body)

    assert (outcome.told, outcome.counted) == ((403, "quarantined"), True)
    assert attacker.status() == ("quarantined", "share_tag_failed")


def test_one_key_used_by_two_credentials_gives_nothing_away(attacker: Attacker) -> None:
    """Same RSA key, another split: shares of one do not fit the other."""
    other = attacker.register(rp_id="bank.example", which_key=0)
    body = attacker.prepare(credential_id=other.credential_id).message_1
    assert attacker.try_login(body).told == (403, "quarantined")


def test_a_credential_of_another_enrolment(server: ThreadServer, attacker: Attacker) -> None:
    with Attacker.enrolled(server, person=2) as victim:
        theirs = victim.register()
        outcome = attacker.try_login(attacker.prepare(credential_id=theirs.credential_id).message_1)

        assert (outcome.told, outcome.counted) == ((403, "credential_not_usable"), False)
        assert victim.still_works()
    assert attacker.still_works()


def test_an_unknown_credential_looks_like_somebody_elses(server: ThreadServer, attacker: Attacker) -> None:
    with Attacker.enrolled(server, person=2) as victim:
        theirs = attacker.try_login(attacker.prepare(credential_id=victim.register().credential_id).message_1)
    nobodys = attacker.try_login(attacker.prepare(credential_id=secrets.token_bytes(32)).message_1)
    assert theirs.document == nobodys.document


def test_taking_over_somebody_elses_credential_id(server: ThreadServer, attacker: Attacker) -> None:
    with Attacker.enrolled(server, person=2) as victim:
        theirs = victim.register()
        before = server.database.one("SELECT * FROM credentials WHERE id = ?", theirs.credential_id)
        with pytest.raises(AssertionError, match="credential_conflict"):
            attacker.add_credential(credential_id=theirs.credential_id)
        assert server.database.one("SELECT * FROM credentials WHERE id = ?", theirs.credential_id) == before
        assert victim.still_works()


def test_giving_up_somebody_elses_credential(server: ThreadServer, attacker: Attacker) -> None:
    with Attacker.enrolled(server, person=2) as victim:
        theirs = victim.register()
        answer = attacker.post("/v1/credentials/revoke", RevokeCredential(attacker.id, theirs.credential_id).encode())
        assert answer.status_code == 200  # as for one that was revoked before
        assert victim.still_works()
        answer = attacker.post("/v1/credentials/revoke", RevokeCredential(victim.id, theirs.credential_id).encode())
        assert (answer.status_code, answer.json()["field"]) == (400, "enrolment_id")
        assert victim.still_works()


def test_a_body_that_names_another_enrolment_than_its_signature(server: ThreadServer, attacker: Attacker) -> None:
    with Attacker.enrolled(server, person=2) as victim:
        victim.register()
        before = victim.logins()
        outcome = attacker.try_login(victim.prepare().message_1)
        assert (outcome.told, outcome.document["field"], outcome.counted) == ((400, "malformed"), "enrolment_id", False)
        assert victim.logins() == before
