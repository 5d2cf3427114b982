"""Every message type: round trip, and no mutated or shortened encoding does anything but decode or DecodeError."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from parties import MASKED, PLAIN, enrol, plain_profile, probe_at

from mpc.errors import Blame, DecodeError
from mpc.login.attestation import AttestationStatement
from mpc.login.authenticator_data import PS256, RS256
from mpc.login.enrolment_messages import (
    Accepted,
    AddCredential,
    BaseOtOffer,
    EnrolmentFinish,
    EnrolmentStart,
    RecoveryFinish,
    RecoveryStart,
)
from mpc.login.history import HistoryEvent, HistoryPage, HistoryRequest
from mpc.login.messages import (
    MAX_AUTHENTICATOR_DATA_BYTES,
    MAX_INDEX,
    Acknowledgement,
    Confirmation,
    LoginStatement,
    Message1,
    Message2,
    Message3,
    message_1_max_bytes,
    u_bytes,
)
from mpc.login.profile import Profile
from mpc.login.rotation_messages import (
    RotationFinish,
    RotationOffer,
    RotationSettle,
    RotationSettled,
    RotationStart,
)
from mpc.login.template import TemplateShare
from mpc.login.template_messages import AddTemplate, RemoveTemplate
from mpc.ot.base_ot import RECEIVER_MESSAGE_BYTES, SENDER_MESSAGE_BYTES
from mpc.parameters import MAX_TEMPLATES
from mpc.primitives import codec
from mpc.threshold_rsa.encodings import Algorithm


class Encodes(Protocol):
    def encode(self) -> bytes: ...


@dataclass(frozen=True)
class Kind:
    decode: Callable[[bytes], Encodes]
    values: st.SearchStrategy[Any]


def _bytes(low: int, high: int | None = None) -> st.SearchStrategy[bytes]:
    """Cheap also where they are long: a short random piece, repeated to the length."""
    lengths = st.integers(low, low if high is None else high)
    return st.builds(lambda piece, n: (piece * (n // len(piece) + 1))[:n], st.binary(min_size=1, max_size=9), lengths)


_ids = _bytes(16)
_indices = st.integers(0, MAX_INDEX)
_text = st.text(st.characters(codec="ascii", categories=("L", "N", "P")), min_size=1, max_size=40)
_confirmations = st.builds(Confirmation, ot_index=_indices, token=_bytes(32))
_statements = st.builds(
    LoginStatement,
    enrolment_id=_ids,
    base_ot_id=_ids,
    profile_digest=_bytes(32),
    kind=st.sampled_from(["create", "get", "change"]),
    credential_id=_bytes(16, 64),
    epoch=_indices,
    ot_index=_indices,
    authenticator_data=_bytes(37, MAX_AUTHENTICATOR_DATA_BYTES),
    client_data_hash=_bytes(32),
    pss_salt=st.none() | _bytes(32),
    device_nonce=_bytes(32),
    ephemeral=_bytes(32),
    confirmation=st.none() | _confirmations,
)
_statements |= st.builds(replace, _statements, kind=st.just("create"), attest=st.just(True))

_shares = st.builds(TemplateShare, codes=_bytes(64, 2560), masks=_bytes(0, 2560))

KINDS: dict[str, Kind] = {
    "message_1": Kind(
        Message1.decode,
        st.builds(
            Message1,
            statement=_statements,
            share_tag=_bytes(32),
            u=_bytes(0, 300),
            proof_x=_bytes(16),
            proof_y=_bytes(2048),
        ),
    ),
    "message_2": Kind(
        partial(Message2.decode, tables_bytes=96, sealed_bytes=304, attestation_at_most=900),
        st.builds(
            Message2,
            server_nonce=_bytes(32),
            ephemeral=_bytes(32),
            tables=_bytes(96),
            reject_tag=_bytes(16),
            accept_tag=_bytes(16),
            sealed=_bytes(304),
            attestation=st.none() | _bytes(0, 900),
        ),
    ),
    "attestation": Kind(
        AttestationStatement.decode,
        st.builds(AttestationStatement, certificate=_bytes(1, 900), signature=_bytes(8, 72)),
    ),
    "message_3": Kind(Message3.decode, st.builds(Message3, enrolment_id=_ids, confirmation=_confirmations)),
    "acknowledgement": Kind(Acknowledgement.decode, st.builds(Acknowledgement, epoch=_indices)),
    "enrolment_start": Kind(
        EnrolmentStart.decode,
        st.builds(EnrolmentStart, profile_name=_text, profile_digest=_bytes(32), signing_key=_bytes(65), code=_text),
    ),
    "base_ot_offer": Kind(
        BaseOtOffer.decode,
        st.builds(
            BaseOtOffer,
            enrolment_id=_ids,
            base_ot_id=_ids,
            server_id=_text,
            receiver_message=_bytes(RECEIVER_MESSAGE_BYTES),
            epoch=_indices,
        ),
    ),
    "enrolment_finish": Kind(
        EnrolmentFinish.decode,
        st.builds(
            EnrolmentFinish,
            enrolment_id=_ids,
            base_ot_id=_ids,
            code=_text,
            sender_message=_bytes(SENDER_MESSAGE_BYTES),
            share=_shares,
        ),
    ),
    "add_credential": Kind(
        AddCredential.decode,
        st.builds(
            AddCredential,
            enrolment_id=_ids,
            credential_id=_bytes(16, 64),
            rp_id=_text,
            algorithm=st.sampled_from([RS256, PS256]),
            modulus=_bytes(256, 512),
            exponent=st.just(65537),
            key_share=_bytes(0, 600),
        ),
    ),
    "recovery_start": Kind(
        RecoveryStart.decode,
        st.builds(
            RecoveryStart,
            enrolment_id=_ids,
            code=_text,
            signing_key=_bytes(65),
            epoch=_indices,
            confirmation=st.none() | _confirmations,
        ),
    ),
    "recovery_finish": Kind(
        RecoveryFinish.decode,
        st.builds(
            RecoveryFinish,
            enrolment_id=_ids,
            base_ot_id=_ids,
            code=_text,
            sender_message=_bytes(SENDER_MESSAGE_BYTES),
        ),
    ),
    "rotation_start": Kind(
        RotationStart.decode, st.builds(RotationStart, enrolment_id=_ids, code=_text, epoch=_indices)
    ),
    "rotation_offer": Kind(
        RotationOffer.decode,
        st.builds(
            RotationOffer,
            enrolment_id=_ids,
            base_ot_id=_ids,
            receiver_message=_bytes(RECEIVER_MESSAGE_BYTES),
            epoch=_indices,
            match=st.booleans(),
        ),
    ),
    "rotation_finish": Kind(
        RotationFinish.decode,
        st.builds(
            RotationFinish,
            enrolment_id=_ids,
            base_ot_id=_ids,
            code=_text,
            epoch=_indices,
            ot_index=_indices,
            sender_message=_bytes(SENDER_MESSAGE_BYTES),
            share=_shares,
        ),
    ),
    "rotation_settle": Kind(RotationSettle.decode, st.builds(RotationSettle, enrolment_id=_ids, base_ot_id=_ids)),
    "add_template": Kind(
        AddTemplate.decode,
        st.builds(
            AddTemplate,
            enrolment_id=_ids,
            epoch=_indices,
            profile_digest=_bytes(32),
            share=st.builds(TemplateShare, codes=_bytes(64, 512), masks=_bytes(0, 512)),
            code=st.none() | _text,
        ),
    ),
    "remove_template": Kind(
        RemoveTemplate.decode,
        st.builds(
            RemoveTemplate,
            enrolment_id=_ids,
            epoch=_indices,
            profile_digest=_bytes(32),
            position=st.integers(0, MAX_TEMPLATES - 1),
        ),
    ),
    "rotation_settled": Kind(RotationSettled.decode, st.builds(RotationSettled, done=st.booleans())),
    "accepted": Kind(Accepted.decode, st.builds(Accepted, epoch=_indices, last_index=_indices)),
    "history_request": Kind(HistoryRequest.decode, st.builds(HistoryRequest, enrolment_id=_ids, after=_indices)),
    "history_page": Kind(
        HistoryPage.decode,
        st.builds(
            HistoryPage,
            events=st.lists(
                st.builds(
                    HistoryEvent,
                    at=st.floats(0, 1e12),
                    name=st.sampled_from(["enrolled", "login_answered"]),
                    detail=st.sampled_from(["{}", '{"reason":"clone_proved"}']),
                ),
                max_size=3,
            ).map(tuple),
            head_seq=_indices,
            head_hash=_bytes(32),
        ),
    ),
}


def decodes_to_itself_or_is_refused(name: str, original: bytes, received: bytes) -> None:
    """A changed encoding is another valid value, or a DecodeError that names this message; nothing else."""
    try:
        value = KINDS[name].decode(received)
    except DecodeError as error:
        assert error.field.split(".")[0] == name
        assert error.blame is Blame.PEER and error.reason == "malformed"
    else:
        assert value.encode() == received != original


@pytest.mark.parametrize("name", KINDS)
@settings(deadline=None, max_examples=30, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_decode_of_encode_is_the_message(name: str, data: st.DataObject) -> None:
    message = data.draw(KINDS[name].values)

    assert KINDS[name].decode(message.encode()) == message


@pytest.mark.parametrize("name", KINDS)
@settings(deadline=None, max_examples=15, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_mutated_byte_or_a_shortened_message_decodes_to_something_else_or_is_refused(
    name: str, data: st.DataObject
) -> None:
    body = data.draw(KINDS[name].values).encode()
    flips = st.tuples(st.integers(0, len(body) - 1), st.integers(1, 255))
    for position, mask in data.draw(st.lists(flips, min_size=20, max_size=20)):
        mutated = body[:position] + bytes([body[position] ^ mask]) + body[position + 1 :]
        decodes_to_itself_or_is_refused(name, body, mutated)
    for cut in data.draw(st.lists(st.integers(0, len(body) - 1), min_size=8, max_size=8)):
        with pytest.raises(DecodeError):
            KINDS[name].decode(body[:cut])
    with pytest.raises(DecodeError):
        KINDS[name].decode(body + data.draw(st.binary(min_size=1, max_size=3)))


@pytest.mark.parametrize("name", ["message_3", "acknowledgement", "enrolment_start", "recovery_start", "accepted"])
def test_every_single_byte_mutation_of_a_short_message(name: str) -> None:
    """All 255 other values at every position: the frame bytes of all the messages are alike, so this is thorough."""
    confirmation = Confirmation(70_000, b"\x11" * 32)
    body = {
        "message_3": Message3(b"\x22" * 16, confirmation),
        "acknowledgement": Acknowledgement(300),
        "enrolment_start": EnrolmentStart("sim-2048", b"\x33" * 32, b"\x04" * 65, "ABCD-EFGH"),
        "recovery_start": RecoveryStart(b"\x44" * 16, "ABCD-EFGH", b"\x04" * 65, 9, confirmation),
        "accepted": Accepted(300, 2**40),
    }[name].encode()
    for position in range(len(body)):
        for mask in range(1, 256, 1 if len(body) < 120 else 5):
            mutated = body[:position] + bytes([body[position] ^ mask]) + body[position + 1 :]
            decodes_to_itself_or_is_refused(name, body, mutated)
        with pytest.raises(DecodeError):
            KINDS[name].decode(body[:position])


@pytest.mark.parametrize("name", KINDS)
@settings(deadline=None, max_examples=3, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_missing_unknown_or_mistyped_field_is_named(name: str, data: st.DataObject) -> None:
    good = codec.decode(data.draw(KINDS[name].values).encode(), what=name)._values
    optional = {"confirm", "pss_salt", "attest", "attestation"} | ({"code"} if name == "add_template" else set())
    for field in good:
        if field not in optional:
            with pytest.raises(DecodeError) as caught:
                KINDS[name].decode(codec.encode({k: v for k, v in good.items() if k != field}))
            assert caught.value.field == f"{name}.{field}"
        for wrong in ([], None, 1 if type(good[field]) is bool else True, -1, 1.5):
            if wrong == [] and isinstance(good[field], list):
                continue  # a page may hold no event
            with pytest.raises(DecodeError) as caught:
                KINDS[name].decode(codec.encode(good | {field: wrong}))
            assert caught.value.field.startswith(f"{name}.{field}")
    with pytest.raises(DecodeError) as caught:
        KINDS[name].decode(codec.encode(good | {"unheard_of": 1}))
    assert caught.value.field == name
    assert "unheard_of" not in str(caught.value)
    with pytest.raises(DecodeError) as caught:
        KINDS[name].decode(codec.encode(good | {"v": 0}))
    assert caught.value.field == f"{name}.v"


@pytest.mark.parametrize("suite", [0, 2, 2**63])
def test_an_unknown_suite_is_refused(suite: int) -> None:
    pair = enrol(PLAIN)
    body = pair.device.start(probe_at(pair.enrolled, 0)).message_1
    values = codec.decode(body, what="message_1")._values

    with pytest.raises(DecodeError) as caught:
        Message1.decode(codec.encode(values | {"suite": suite}))

    assert caught.value.field == "message_1.suite"


@pytest.mark.parametrize("length", [0, 16, 31, 33, 64])
def test_a_salt_of_another_length_is_refused(length: int) -> None:
    pair = enrol(PLAIN, algorithm=Algorithm.PS256)
    body = pair.device.start(probe_at(pair.enrolled, 0)).message_1
    values = codec.decode(body, what="message_1")._values

    with pytest.raises(DecodeError) as caught:
        Message1.decode(codec.encode(values | {"pss_salt": bytes(length)}))

    assert caught.value.field == "message_1.pss_salt"


@pytest.mark.parametrize(
    "profile", [PLAIN, MASKED, plain_profile(2048), plain_profile(1024, templates=5)], ids=lambda p: p.name
)
def test_no_message_1_is_longer_than_the_bound_of_its_profile(profile: Profile) -> None:
    """The server refuses longer bodies before it parses them, so the bound must be exact from above."""
    pair = enrol(profile, algorithm=Algorithm.PS256)
    body = pair.device.start(probe_at(pair.enrolled, *[0] * profile.templates)).message_1

    slack = message_1_max_bytes(profile) - len(body)

    assert 0 <= slack < 900
    assert u_bytes(profile) == 128 * (profile.input_bits + 128) // 8
