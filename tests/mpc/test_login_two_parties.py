"""A whole login between two parties that exchange bytes: honest runs at every size, and every mixed-up message."""

from __future__ import annotations

import pickle
from dataclasses import replace

import numpy as np
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given, settings
from hypothesis import strategies as st
from parties import (
    CREDENTIAL_ID,
    ENROLMENT_ID,
    MASKED,
    PLAIN,
    Capture,
    Device,
    Pair,
    Server,
    enrol,
    get_request,
    plain_profile,
    probe_at,
    random_capture,
    run,
    signed_bytes,
)

from mpc.errors import Blame, DecodeError, ProtocolAbort, SessionMisuse
from mpc.login import server_side, template
from mpc.login.device_side import DeviceLogin, LoginRequest, Match, NoMatch, Probe
from mpc.login.messages import Confirmation, Message3, token_hash
from mpc.login.profile import Profile
from mpc.login.server_side import OtProofFailed, ShareTagFailed
from mpc.login.template import TemplateShare
from mpc.primitives import codec
from mpc.primitives.rng import SeededRng
from mpc.threshold_rsa.encodings import Algorithm
from mpc.threshold_rsa.shares import refresh_offset

PROFILES = [
    *(plain_profile(bits) for bits in (512, 1024, 2048, 4096)),
    plain_profile(512, templates=2),
    plain_profile(1024, templates=5),
    MASKED,
]


def limit(pair: Pair) -> int:
    """The greatest distance that is accepted, for a probe that uses every bit."""
    profile = pair.device.state.profile
    valid = int(pair.enrolled.masks[0].sum()) if profile.masked else profile.code_bits
    return max(distance for distance in range(profile.code_bits // 2) if profile.accepts(distance, valid))


def at(pair: Pair, distance: int) -> Capture:
    """A probe this far from the last template and just too far from the others."""
    others = [limit(pair) + 1] * (pair.device.state.profile.templates - 1)
    return probe_at(pair.enrolled, *others, distance)


def verified(pair: Pair, match: Match | NoMatch, request: LoginRequest | None = None) -> bool:
    """Whether another library takes the signature; False for no signature at all."""
    if isinstance(match, NoMatch):
        return False
    padded = (
        padding.PKCS1v15()
        if pair.device.state.algorithm is Algorithm.RS256
        else padding.PSS(padding.MGF1(SHA256()), 32)
    )
    pair.private.public_key().verify(match.signature, signed_bytes(request or get_request()), padded, SHA256())
    return True


def altered(body: bytes, **changes: object) -> bytes:
    """The message with some fields replaced."""
    return codec.encode(codec.decode(body, what="m")._values | changes)


def field_of(body: bytes, name: str) -> bytes:
    value = codec.decode(body, what="m")._values[name]
    assert isinstance(value, bytes)
    return value


def flipped(data: bytes, at: int = 0) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


# --- honest runs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES, ids=lambda p: f"{p.name}x{p.templates}")
def test_the_threshold_is_accepted_and_one_beyond_is_not(profile: Profile) -> None:
    pair = enrol(profile)

    assert verified(pair, run(pair, at(pair, 0)))
    assert verified(pair, run(pair, at(pair, limit(pair))))
    assert run(pair, at(pair, limit(pair) + 1)) == NoMatch()
    assert run(pair, random_capture(profile, profile.templates, b"a stranger")) == NoMatch()


@pytest.mark.parametrize("key_bits", [2048, 3072, 4096])
@pytest.mark.parametrize("algorithm", list(Algorithm), ids=lambda a: a.name)
def test_every_algorithm_and_key_length_gives_a_signature_that_others_verify(
    key_bits: int, algorithm: Algorithm
) -> None:
    pair = enrol(plain_profile(2048), key_bits=key_bits, algorithm=algorithm)

    assert verified(pair, run(pair, at(pair, 300)))
    assert run(pair, at(pair, 600)) == NoMatch()


@pytest.mark.parametrize("matching", range(3))
def test_with_several_templates_each_has_its_own_probe(matching: int) -> None:
    pair = enrol(plain_profile(512, templates=3))
    distances = [limit(pair) + 1] * 3
    distances[matching] = limit(pair)

    assert verified(pair, run(pair, probe_at(pair.enrolled, *distances)))


def test_a_template_matches_only_in_its_own_place() -> None:
    pair = enrol(plain_profile(512, templates=2))
    swapped = Capture(pair.enrolled.codes[::-1].copy(), pair.enrolled.masks)

    assert run(pair, swapped) == NoMatch()


def test_bits_that_the_template_masks_do_not_count() -> None:
    pair = enrol(MASKED)
    probe = at(pair, limit(pair))
    probe.codes[0, :3] ^= 1
    assert verified(pair, run(pair, probe))

    agreeing = np.flatnonzero((probe.codes == pair.enrolled.codes)[0, 3:]) + 3
    probe.codes[0, agreeing[0]] ^= 1
    assert run(pair, probe) == NoMatch()


def test_a_probe_mask_that_keeps_too_few_bits_never_matches() -> None:
    pair = enrol(MASKED)
    exact = probe_at(pair.enrolled, 0)
    for kept, accepted in ((387, True), (386, False), (100, False), (0, False)):
        mask = np.zeros((1, 512), dtype=np.uint8)
        mask[0, :kept] = 1  # of which the template's first three are unusable
        assert verified(pair, run(pair, Capture(exact.codes, mask))) is accepted


@given(st.integers(0, 2**32), st.integers(100, 140))
@settings(max_examples=25, deadline=None)
def test_any_template_and_any_probe_are_decided_like_the_rule_in_the_clear(seed: int, distance: int) -> None:
    code = np.random.default_rng(seed).integers(0, 2, (1, 512), dtype=np.uint8)
    pair = enrol(PLAIN, enrolled=Capture(code, np.ones_like(code)), seed=seed.to_bytes(8, "big"))

    result = run(pair, probe_at(pair.enrolled, distance, seed=seed), seed.to_bytes(8, "big"))

    assert verified(pair, result) is (distance <= PLAIN.threshold)


def test_messages_are_small_enough() -> None:
    pair = enrol(plain_profile(2048))
    body = pair.device.start(at(pair, 0)).message_1

    answer = pair.server.answer(body)

    assert len(body) <= 40_000 and len(answer) <= 70_000


def test_the_length_of_the_answer_does_not_tell_the_result_nor_the_threshold() -> None:
    lengths = set()
    for threshold in (1, 100, 255):
        pair = enrol(plain_profile(512, threshold=threshold))
        for distance in (0, threshold, 256):
            lengths.add(len(pair.server.answer(pair.device.start(probe_at(pair.enrolled, distance)).message_1)))
    assert len(lengths) == 1


# --- refresh ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", [PLAIN, MASKED, plain_profile(512, templates=2)], ids=lambda p: p.name)
def test_refreshed_shares_log_in_and_old_ones_do_not(profile: Profile) -> None:
    pair = enrol(profile)
    device, server = pair.device, pair.server
    for epoch in range(4):
        login = device.start(at(pair, limit(pair)), bytes([epoch]))
        answer = server.accept(login.message_1, bytes([epoch]))
        match = login.finish(answer.message_2)
        assert isinstance(match, Match)
        # the token travels as message 3
        message_3 = Message3.decode(Message3(ENROLMENT_ID, match.confirmation).encode())
        old_device, old_server = device, server
        device, server = device.after(match), server.confirmed(answer, message_3.confirmation.token)

        assert verified(pair, match)
        # yesterday's share of either side is useless with today's of the other
        stale = old_device.start(at(pair, 0), b"stale")
        assert isinstance(server.judge(stale.message_1), ShareTagFailed)
        assert isinstance(old_server.judge(device.start(at(pair, 0), b"early").message_1), ShareTagFailed)
        joined = template.xor(device.state.template.codes, server.state.template.codes)
        assert joined == pair.enrolled.packed(profile)[0]
        assert device.state.template.codes != old_device.state.template.codes
        assert server.state.key_share.value != old_server.state.key_share.value
    assert device.state.epoch == 4


def test_the_new_shares_alone_decide_nothing_with_an_old_template_share() -> None:
    """A device that kept its old template share but the new key share sees a probe that is far away."""
    pair = enrol(PLAIN)
    login = pair.device.start(at(pair, 0))
    answer = pair.server.accept(login.message_1)
    match = login.finish(answer.message_2)
    assert isinstance(match, Match)
    mixed = Device(replace(pair.device.after(match).state, template=pair.device.state.template))
    server = pair.server.confirmed(answer, match.confirmation.token)

    again = mixed.start(at(pair, 0))

    assert again.finish(server.answer(again.message_1)) == NoMatch()


def test_one_rho_in_two_sessions_refreshes_differently() -> None:
    """If the server's generator ever repeats, the shares of two epochs must still be unrelated."""
    share, key = enrol(PLAIN).device.state.template, enrol(PLAIN).device.state.key_share.key
    rho = b"\x42" * 32

    one, two = (template.refreshed(share, bytes([sid]) * 32, rho, ENROLMENT_ID) for sid in (1, 2))

    assert one.codes != two.codes
    assert refresh_offset(key, b"\x01" * 32, rho, CREDENTIAL_ID) != refresh_offset(
        key, b"\x02" * 32, rho, CREDENTIAL_ID
    )
    assert one.codes != template.refreshed(share, b"\x01" * 32, rho, bytes(16)).codes


def test_a_server_that_repeats_its_randomness_still_makes_other_sessions() -> None:
    """Same ρ, nonce and ephemeral key in two logins: message 1 is in the session id."""
    pair = enrol(PLAIN)
    first = pair.server.accept(pair.device.start(at(pair, 0), b"1").message_1, b"stuck")
    second = pair.server.accept(pair.device.start(at(pair, 0), b"2").message_1, b"stuck")

    assert first.rho == second.rho
    assert first.session_id != second.session_id and first.token_hash != second.token_hash
    assert field_of(first.message_2, "tables") != field_of(second.message_2, "tables")


def test_a_token_is_confirmed_by_its_hash_only_and_is_fresh() -> None:
    pair = enrol(PLAIN)
    login = pair.device.start(at(pair, 0))
    answer = pair.server.accept(login.message_1)

    match = login.finish(answer.message_2)

    assert isinstance(match, Match)
    assert match.confirmation.ot_index == 1 and token_hash(match.confirmation.token) == answer.token_hash
    assert match.confirmation.token not in answer.message_2 and match.confirmation.token.hex() not in repr(match)


# --- used twice, or with something foreign ---------------------------------------------------------------------


def test_an_answer_is_taken_once() -> None:
    pair = enrol(PLAIN)
    login = pair.device.start(at(pair, 0))
    answer = pair.server.answer(login.message_1)
    login.finish(answer)

    with pytest.raises(SessionMisuse):
        login.finish(answer)


@pytest.mark.parametrize("bad", [b"", b"\xa0", b"\xff" * 100])
def test_a_bad_answer_ends_the_login_as_well(bad: bytes) -> None:
    """Otherwise a server could try answer after answer on one probe and one set of labels."""
    pair = enrol(PLAIN)
    login = pair.device.start(at(pair, 0))
    answer = pair.server.answer(login.message_1)
    with pytest.raises(DecodeError):
        login.finish(bad)

    with pytest.raises(SessionMisuse):
        login.finish(answer)


def refused(pair: Pair, capture: Capture, answer: bytes) -> str:
    """Why the device refuses this answer. It must blame the server and give nothing out."""
    login = pair.device.start(capture)
    with pytest.raises(ProtocolAbort) as caught:
        login.finish(answer)
    blame = Blame.PEER if isinstance(caught.value, DecodeError) else Blame.SERVER
    assert caught.value.blame is blame
    with pytest.raises(SessionMisuse):
        login.finish(answer)
    return caught.value.reason


@pytest.mark.parametrize("distance", [0, 200], ids=["match", "no match"])
def test_the_answer_to_another_login_is_refused(distance: int) -> None:
    pair = enrol(PLAIN)
    mine = at(pair, distance)
    other = pair.device.start(mine, b"another login")

    assert refused(pair, mine, pair.server.answer(other.message_1)) == "output_label"


def test_the_sealed_box_of_another_session_is_refused() -> None:
    pair = enrol(PLAIN)
    mine = at(pair, 0)
    body = pair.device.start(mine).message_1
    answer, again = pair.server.answer(body), pair.server.answer(body, b"again")

    assert refused(pair, mine, altered(answer, sealed=field_of(again, "sealed"))) == "sealed_box"


@pytest.mark.parametrize("at_byte", [0, 100, 255, 256, 287, 288, 303])
def test_an_altered_sealed_box_is_refused(at_byte: int) -> None:
    pair = enrol(PLAIN)
    mine = at(pair, 0)
    answer = pair.server.answer(pair.device.start(mine).message_1)

    assert refused(pair, mine, altered(answer, sealed=flipped(field_of(answer, "sealed"), at_byte))) == "sealed_box"


@pytest.mark.parametrize("name", ["server_nonce", "ephemeral"])
@pytest.mark.parametrize("distance", [0, 200], ids=["match", "no match"])
def test_an_altered_fresh_value_is_refused(name: str, distance: int) -> None:
    pair = enrol(PLAIN)
    mine = at(pair, distance)
    answer = pair.server.answer(pair.device.start(mine).message_1)

    assert refused(pair, mine, altered(answer, **{name: flipped(field_of(answer, name), 5)})) == "output_label"


def test_altered_tags_are_refused_and_swapped_tags_do_not_help() -> None:
    pair = enrol(PLAIN)
    for distance, own, foreign in ((0, "tag1", "tag0"), (200, "tag0", "tag1")):
        mine = at(pair, distance)
        answer = pair.server.answer(pair.device.start(mine).message_1)
        tags = {"tag0": field_of(answer, "tag1"), "tag1": field_of(answer, "tag0")}
        assert refused(pair, mine, altered(answer, **tags)) == "output_label"
        assert refused(pair, mine, altered(answer, **{own: flipped(field_of(answer, own))})) == "output_label"
        # the tag of the other result says nothing to this device
        changed = altered(answer, **{foreign: flipped(field_of(answer, foreign))})
        assert isinstance(pair.device.start(mine).finish(changed), Match if distance == 0 else NoMatch)


@pytest.mark.parametrize("point", [bytes(32), b"\x01" + bytes(31)], ids=["zero", "one"])
def test_a_device_ephemeral_of_small_order_is_refused_before_anything_is_computed(point: bytes) -> None:
    pair = enrol(PLAIN)
    body = altered(pair.device.start(at(pair, 0)).message_1, ephemeral=point)

    with pytest.raises(ProtocolAbort) as caught:
        pair.server.judge(body)

    assert (caught.value.reason, caught.value.blame) == ("invalid_point", Blame.DEVICE)


def with_wrong_partial_signature(pair: Pair) -> Server:
    """A server whose share check is blind and whose s2 is wrong."""
    state = pair.server.state
    return Server(replace(state, key_share=replace(state.key_share, value=state.key_share.value + 1)))


def test_a_wrong_partial_signature_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = enrol(PLAIN)
    mine = at(pair, 0)
    body = pair.device.start(mine).message_1
    liar = with_wrong_partial_signature(pair)
    assert isinstance(liar.judge(body), ShareTagFailed)
    monkeypatch.setattr("mpc.login.server_side.share_tag_is_valid", lambda *_: True)

    assert refused(pair, mine, liar.answer(body)) == "bad_partial_signature"


def test_another_server_id_fits_nothing() -> None:
    pair = enrol(PLAIN)
    elsewhere = Server(replace(pair.server.state, server_id="auth.elsewhere"))
    for distance in (0, 200):
        mine = at(pair, distance)
        assert refused(pair, mine, elsewhere.answer(pair.device.start(mine).message_1)) == "output_label"


@pytest.mark.parametrize(
    "cut",
    [
        lambda body: body[:-1],
        lambda body: body[:1],
        lambda body: body[: len(body) // 2],
        lambda body: body + b"\x00",
        lambda body: body + body,
        lambda body: b"",
        lambda body: altered(body, v=2),
        lambda body: altered(body, more=1),
        lambda body: altered(body, tables=field_of(body, "tables")[:-32]),
        lambda body: altered(body, tables=field_of(body, "tables") + bytes(32)),
        lambda body: altered(body, sealed=field_of(body, "sealed")[:-1]),
        lambda body: altered(body, tag1=b""),
    ],
)
def test_a_truncated_or_extended_answer_is_malformed(cut: object) -> None:
    pair = enrol(PLAIN)
    mine = at(pair, 0)
    answer = pair.server.answer(pair.device.start(mine).message_1)

    assert refused(pair, mine, cut(answer)) == "malformed"  # type: ignore[operator]


# --- message 1 at the server -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("profile_digest", b"\x01" * 32),
        ("enrolment_id", b"\x01" * 16),
        ("base_ot_id", b"\x01" * 16),
        ("credential_id", b"\x01" * 16),
        ("epoch", 1),
        ("ot_index", 2),
        ("kind", "create"),
        ("authenticator_data", get_request(sign_count=2).authenticator_data),
        ("client_data_hash", b"\x01" * 32),
        ("device_nonce", b"\x01" * 32),
        ("ephemeral", b"\x09" + bytes(31)),
        ("confirm", Confirmation(1, bytes(32)).as_map()),
        ("u", None),
        ("x", None),
        ("y", None),
    ],
)
def test_whatever_is_altered_under_the_proof_breaks_it(name: str, value: object) -> None:
    """Every field of the statement is in the challenge of the proof: none can be exchanged afterwards."""
    pair = enrol(PLAIN)
    body = pair.device.start(at(pair, 0)).message_1
    if value is None:
        value = flipped(field_of(body, name), 9)

    assert isinstance(pair.server.judge(altered(body, **{name: value})), OtProofFailed)


def test_an_altered_share_tag_is_a_verdict_of_its_own() -> None:
    pair = enrol(PLAIN)
    body = pair.device.start(at(pair, 0)).message_1
    other = pair.device.start(at(pair, 0), request=get_request(client_data_hash=b"\x01" * 32)).message_1

    for tag in (flipped(field_of(body, "y_tag"), 31), bytes(32), field_of(other, "y_tag")):
        assert isinstance(pair.server.judge(altered(body, y_tag=tag)), ShareTagFailed)


def test_a_device_with_another_profile_or_template_key_is_caught_by_the_proof() -> None:
    pair, other = enrol(PLAIN), enrol(plain_profile(512, threshold=255))

    assert isinstance(pair.server.judge(other.device.start(at(other, 0)).message_1), OtProofFailed)


def test_the_verdict_on_the_proof_comes_first() -> None:
    """With proof and tag both wrong, Δ is burnt."""
    pair = enrol(PLAIN)
    body = pair.device.start(at(pair, 0)).message_1

    assert isinstance(pair.server.judge(altered(body, y_tag=bytes(32), x=bytes(16))), OtProofFailed)


@pytest.mark.parametrize("change", [-16, -1, 1, 16, 2048])
def test_u_of_another_length_is_refused_by_name(change: int) -> None:
    pair = enrol(PLAIN)
    body = pair.device.start(at(pair, 0)).message_1
    u = (field_of(body, "u") + bytes(2048))[: len(field_of(body, "u")) + change]

    with pytest.raises(DecodeError) as caught:
        pair.server.judge(altered(body, u=u))

    assert caught.value.field == "message_1.u"


@pytest.mark.parametrize("algorithm", list(Algorithm), ids=lambda a: a.name)
def test_a_salt_where_none_belongs_or_a_missing_one_is_refused(algorithm: Algorithm) -> None:
    """The algorithm is the credential's: a message cannot change it by bringing a salt."""
    pair = enrol(PLAIN, algorithm=algorithm)
    body = pair.device.start(at(pair, 0)).message_1
    values = dict(codec.decode(body, what="m")._values)
    if algorithm is Algorithm.PS256:
        del values["pss_salt"]
    else:
        values["pss_salt"] = bytes(32)

    with pytest.raises(DecodeError) as caught:
        pair.server.judge(codec.encode(values))

    assert caught.value.field == "message_1.pss_salt"


def test_a_repeated_message_gets_an_unrelated_answer() -> None:
    """The server here keeps no state; that an index is used once is its service's affair. Even so nothing repeats."""
    pair = enrol(PLAIN)
    body = pair.device.start(at(pair, 0)).message_1

    one, two = pair.server.answer(body, b"1"), pair.server.answer(body, b"2")

    for name in ("server_nonce", "ephemeral", "tables", "tag0", "tag1", "sealed"):
        assert field_of(one, name) != field_of(two, name)


def test_two_logins_of_one_device_share_no_stream() -> None:
    """Same base keys, same probe, same index (a restored device): the fresh nonce changes every column of U."""
    pair = enrol(PLAIN)
    one, two = (field_of(pair.device.start(at(pair, 0), seed).message_1, "u") for seed in (b"1", b"2"))
    columns = [{u[start : start + 80] for start in range(0, len(u), 80)} for u in (one, two)]

    assert not columns[0] & columns[1]


def test_a_signature_is_for_the_request_that_was_shown() -> None:
    pair = enrol(PLAIN)
    match = run(pair, at(pair, 0))
    assert isinstance(match, Match)

    with pytest.raises(InvalidSignature):
        verified(pair, match, get_request(client_data_hash=b"\x01" * 32))
    with pytest.raises(InvalidSignature):
        verified(pair, match, get_request(sign_count=2))


@pytest.mark.parametrize(
    "probe",
    [
        Probe(bytes(63), b""),
        Probe(bytes(65), b""),
        Probe(bytes(128), b""),
        Probe(bytes(64), bytes(64)),
        Probe(b"", b""),
    ],
)
def test_a_probe_that_does_not_fit_the_profile_is_the_callers_error(probe: Probe) -> None:
    pair = enrol(PLAIN)

    with pytest.raises(ValueError, match="probe"):
        DeviceLogin(SeededRng(b"device"), pair.device.state, get_request(), probe)


def test_the_templates_shares_are_strict_about_their_length() -> None:
    for length in (0, 63, 65, 128):
        with pytest.raises(ValueError, match="length"):
            TemplateShare.from_bytes(PLAIN, bytes(length))
    with pytest.raises(ValueError, match="length"):
        TemplateShare.from_bytes(MASKED, bytes(64))


def test_a_login_in_flight_is_not_pickled_and_shows_nothing() -> None:
    pair = enrol(PLAIN)
    login = pair.device.start(at(pair, 0))

    with pytest.raises(TypeError):
        pickle.dumps(login)
    with pytest.raises(TypeError):
        pickle.dumps(pair.device.state)
    with pytest.raises(TypeError):
        pickle.dumps(pair.server.state)
    assert repr(login) == "DeviceLogin()"


def test_every_verdict_costs_the_whole_computation(monkeypatch: pytest.MonkeyPatch) -> None:
    """An early return after a failed proof would tell a bit of Δ by the clock, before the verdict is durable."""
    pair = enrol(PLAIN)
    body = pair.device.start(at(pair, 0)).message_1
    calls: list[str] = []
    for name in ("partial_signature", "share_tag_is_valid", "garble", "exchange", "output_tag"):

        def counted(*args: object, name: str = name, real: object = getattr(server_side, name)) -> object:
            calls.append(name)
            return real(*args)  # type: ignore[operator]

        monkeypatch.setattr(server_side, name, counted)
    work = []
    for message in (body, altered(body, x=bytes(16)), altered(body, y_tag=bytes(32))):
        calls.clear()
        pair.server.judge(message)
        work.append(list(calls))

    assert work[0] == work[1] == work[2] and len(work[0]) == 6
