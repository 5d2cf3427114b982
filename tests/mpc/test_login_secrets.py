"""What each side can and cannot get out of a login: copied devices, rejected probes, known Δ, stored shares."""

from __future__ import annotations

import gmpy2
import numpy as np
import pytest
from chi_square import bit_counts_look_fair, looks_uniform
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from parties import (
    PLAIN,
    SERVER_ID,
    Capture,
    Device,
    Pair,
    enrol,
    get_request,
    private_exponent,
    probe_at,
    public_key,
    run,
    signed_bytes,
)

from mpc.errors import Blame, ProtocolAbort
from mpc.garbling.evaluator import evaluate
from mpc.garbling.hashing import input_whitening, tables_bytes
from mpc.login.device_side import Match, NoMatch
from mpc.login.messages import Message1, Message2
from mpc.login.session import OutputKeys, exchange, output_tag, sealed_bytes, session_id
from mpc.login.template import share_template, xor
from mpc.ot.expansion import expand, stream_key
from mpc.primitives.aes import Blocks
from mpc.primitives.bit_matrix import transpose_128, unpack
from mpc.primitives.rng import SeededRng
from mpc.threshold_rsa.encodings import Algorithm, encode_message
from mpc.threshold_rsa.signing import partial_signature

NEAR, FAR = 0, 200


def opened_answer(pair: Pair, answer: bytes) -> Message2:
    sealed = sealed_bytes(public_key(pair.private))
    return Message2.decode(answer, tables_bytes=tables_bytes(PLAIN.circuit), sealed_bytes=sealed)


def sid_of(pair: Pair, body: bytes, answer: Message2) -> bytes:
    return session_id(
        message_1=body,
        server_id=SERVER_ID,
        profile_digest=PLAIN.digest,
        key=public_key(pair.private),
        server_nonce=answer.server_nonce,
        server_ephemeral=answer.ephemeral,
    )


def copied_labels(device: Device, body: bytes) -> Blocks:
    """V from the vault and a message 1 that was read off the wire: no secret of the running login is needed."""
    statement = Message1.decode(body).statement
    key = stream_key(statement.base_ot_id, statement.ot_index, statement.device_nonce)
    return transpose_128(expand(key, device.state.base_keys.zeros, PLAIN.input_bits))[: PLAIN.input_bits]


def active_output(pair: Pair, body: bytes, answer: Message2) -> tuple[bytes, bytes]:
    """(sid, the output label that a holder of the device's vault computes)."""
    sid = sid_of(pair, body, answer)
    labels = copied_labels(pair.device, body) ^ input_whitening(sid, PLAIN.input_bits)
    return sid, evaluate(PLAIN.circuit, sid, answer.tables, labels)


def encoded_request() -> int:
    return encode_message(Algorithm.RS256, signed_bytes(get_request()), None, 2048)


def test_a_copied_device_cannot_open_the_answer_to_the_original() -> None:
    """It has the vault and both messages in the clear, even the accept label. It lacks the ephemeral secret."""
    pair = enrol(PLAIN)
    body = pair.device.start(probe_at(pair.enrolled, NEAR)).message_1
    answer = opened_answer(pair, pair.server.answer(body))

    sid, label = active_output(pair, body, answer)

    assert output_tag(1, sid, label) == answer.accept_tag
    own = X25519PrivateKey.from_private_bytes(b"\x05" * 32)
    theirs = Message1.decode(body).statement.ephemeral
    guesses = [bytes(32), answer.ephemeral, theirs, exchange(own, answer.ephemeral, Blame.SERVER)]
    guesses.append(exchange(own, theirs, Blame.DEVICE))
    for guess in guesses:
        with pytest.raises(ProtocolAbort) as caught:
            OutputKeys.derive(sid, label, guess).open(answer.sealed)
        assert (caught.value.reason, caught.value.blame) == ("sealed_box", Blame.SERVER)


def test_with_delta_known_a_rejected_login_opens() -> None:
    """Why Δ is erased after a failed proof: it is worth the signature, whatever the probe."""
    pair = enrol(PLAIN)
    login = pair.device.start(probe_at(pair.enrolled, FAR))
    body = login.message_1
    answer = opened_answer(pair, pair.server.answer(body))
    sid, label = active_output(pair, body, answer)
    assert output_tag(0, sid, label) == answer.reject_tag

    accept = xor(label, pair.server.state.base_keys.delta)
    shared = exchange(login._ephemeral, answer.ephemeral, Blame.SERVER)
    s2, _ = OutputKeys.derive(sid, accept, shared).open(answer.sealed)

    s1 = partial_signature(pair.device.state.key_share, encoded_request())
    signature = s1 * int.from_bytes(s2, "big") % public_key(pair.private).modulus
    pair.private.public_key().verify(signature.to_bytes(256, "big"), signed_bytes(get_request()), PKCS1v15(), SHA256())


@pytest.mark.parametrize("label", ["reject", "zeros", "random", "one bit off"])
def test_without_delta_a_rejected_login_does_not_open(label: str) -> None:
    pair = enrol(PLAIN)
    login = pair.device.start(probe_at(pair.enrolled, FAR))
    answer = opened_answer(pair, pair.server.answer(login.message_1))
    sid, reject = active_output(pair, login.message_1, answer)
    delta = pair.server.state.base_keys.delta
    guess = {
        "reject": reject,
        "zeros": bytes(16),
        "random": SeededRng(b"guess").bytes(16),
        "one bit off": xor(xor(reject, delta), b"\x02" + bytes(15)),
    }[label]
    assert output_tag(1, sid, guess) != answer.accept_tag

    shared = exchange(login._ephemeral, answer.ephemeral, Blame.SERVER)
    with pytest.raises(ProtocolAbort) as caught:
        OutputKeys.derive(sid, guess, shared).open(answer.sealed)

    assert (caught.value.reason, caught.value.blame) == ("sealed_box", Blame.SERVER)


def windows(data: bytes, size: int) -> list[int]:
    """Every run of `size` bytes as a number, in both byte orders."""
    pieces = [data[start : start + size] for start in range(len(data) - size + 1)]
    return [int.from_bytes(piece, order) for piece in pieces for order in ("big", "little")]  # type: ignore[arg-type]


def test_a_rejected_login_holds_no_signature_and_no_partial_signature() -> None:
    """Every run of bytes in the answer, and all that the server keeps of it, is tried as s with s^e = EM."""
    pair = enrol(PLAIN)
    login = pair.device.start(probe_at(pair.enrolled, FAR))
    kept = pair.server.accept(login.message_1)
    modulus, encoded = public_key(pair.private).modulus, encoded_request()
    s1, s2 = (partial_signature(share, encoded) for share in (pair.device.state.key_share, pair.server.state.key_share))
    whole = s1 * s2 % modulus
    assert gmpy2.powmod(whole, 65537, modulus) == encoded

    assert login.finish(kept.message_2) == NoMatch()

    seen = login.message_1, kept.message_2, kept.session_id + kept.rho + kept.token_hash
    for data in seen:
        for secret in (s1, s2, whole):
            for order in ("big", "little"):
                assert secret.to_bytes(256, order) not in data  # type: ignore[arg-type]
    numbers = set(windows(kept.message_2, 256))
    assert not any(gmpy2.powmod(number, 65537, modulus) == encoded for number in numbers)
    assert len(numbers) > 30_000


def test_no_match_holds_nothing() -> None:
    pair = enrol(PLAIN)

    result = run(pair, probe_at(pair.enrolled, FAR))

    assert result == NoMatch() and not NoMatch.__slots__
    assert [name for name in dir(result) if not name.startswith("__")] == []


def test_neither_party_holds_the_key_or_the_template() -> None:
    pair = enrol(PLAIN)
    code = pair.enrolled.packed(PLAIN)[0]
    d = private_exponent(pair.private)
    exponents = {d, d % ((pair.private.private_numbers().p - 1) * (pair.private.private_numbers().q - 1))}

    for state in (pair.device.state, pair.server.state):
        assert state.template.codes != code
        assert not {state.key_share.value, -state.key_share.value} & exponents
        assert state.key_share.value.bit_length() > 2048
    assert xor(pair.device.state.template.codes, pair.server.state.template.codes) == code


def test_the_server_sees_the_probe_only_under_the_devices_share() -> None:
    """u = t1 ⊕ b is itself hidden by the OT: no run of bytes of message 1 is u, b or t1."""
    pair = enrol(PLAIN)
    capture = probe_at(pair.enrolled, FAR)
    body = pair.device.start(capture).message_1
    probe, share = capture.packed(PLAIN)[0], pair.device.state.template.codes

    for secret in (probe, share, xor(probe, share), pair.server.state.template.codes):
        assert secret not in body and secret[:16] not in body


def test_shares_of_a_template_are_fair_coins_each() -> None:
    """For the most extreme template there is: all ones, with an all-ones mask."""
    codes, masks = b"\xff" * 64, b"\xff" * 64
    rng = SeededRng(b"many templates")
    drawn = [share_template(rng, codes, masks) for _ in range(3000)]
    for side in (0, 1):
        bits = np.array([unpack(shares[side].to_bytes()) for shares in drawn])
        assert bit_counts_look_fair(bits.sum(axis=0).tolist(), 3000)
        octets = bytes(shares[side].codes[5] for shares in drawn)
        assert looks_uniform(octets.count(value) for value in range(256))
    assert all(xor(one.codes, two.codes) == codes and xor(one.masks, two.masks) == masks for one, two in drawn)


def test_what_the_server_receives_is_fair_whatever_the_probe() -> None:
    """U for the probe of all zeros and of all ones: every bit of every column is a fair coin."""
    pair = enrol(PLAIN)
    for value in (0, 1):
        capture = Capture(np.full((1, 512), value, dtype=np.uint8), np.ones((1, 512), dtype=np.uint8))
        drawn = [unpack(Message1.decode(pair.device.start(capture, bytes([value, n])).message_1).u) for n in range(200)]
        counts = np.array(drawn).sum(axis=0, dtype=np.int64)
        # 81,920 coins: six deviations each, and as a whole
        assert np.abs(counts - 100).max() < 3 * 200**0.5
        assert abs(int(counts.sum()) - counts.size * 100) < 2.5 * (counts.size * 200) ** 0.5


def test_labels_are_fair_and_their_colours_do_not_follow_the_choices() -> None:
    pair = enrol(PLAIN)
    zeros, colours = np.zeros(128), []
    for number in range(60):
        login = pair.device.start(probe_at(pair.enrolled, FAR), bytes([number]))
        bits = unpack(login._labels.tobytes()).reshape(512, 128)
        zeros += bits.sum(axis=0)
        probe = probe_at(pair.enrolled, FAR).packed(PLAIN)[0]
        colours.append(int((bits[:, 0] == unpack(xor(probe, pair.device.state.template.codes))).sum()))
    assert bit_counts_look_fair(zeros.tolist(), 60 * 512)
    assert abs(sum(colours) - 60 * 256) < 2.5 * (60 * 512) ** 0.5


def test_secrets_are_in_no_repr() -> None:
    pair = enrol(PLAIN)
    login = pair.device.start(probe_at(pair.enrolled, NEAR))
    answer = pair.server.accept(login.message_1)
    match = login.finish(answer.message_2)
    assert isinstance(match, Match)
    shown = " ".join(
        map(repr, (pair.device.state, pair.server.state, login, answer, match, Message1.decode(login.message_1)))
    )
    base = pair.server.state.base_keys
    secrets = [
        pair.device.state.template.codes,
        pair.server.state.template.codes,
        base.delta,
        base.chosen[:16],
        pair.device.state.base_keys.zeros[:16],
        answer.rho,
        match.confirmation.token,
        match.next_template.codes,
    ]
    numbers = [pair.device.state.key_share.value, pair.server.state.key_share.value, match.next_key_share.value]

    assert not [secret for secret in secrets if repr(secret)[2:-1] in shown or secret.hex() in shown]
    assert not [number for number in numbers if str(number) in shown]
