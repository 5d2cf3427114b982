"""One login between two parties that exchange bytes, with every value of docs/protocol.md sections 6 to 8 on the way.

Messages come from `DeviceLogin` and `decide`. The values between are computed once more by the functions that those
call, and compared with what the messages say, so that no vector can tell something else than what was sent.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from interop.drawing import Draws
from interop.notation import Json, blocks, digest, message, number
from mpc.errors import Blame
from mpc.garbling.evaluator import evaluate
from mpc.garbling.garbler import Garbled, garble
from mpc.garbling.hashing import input_whitening, tables_bytes
from mpc.login import template
from mpc.login.device_side import DeviceLogin, DeviceLoginState, LoginRequest, Match, NoMatch, Probe
from mpc.login.messages import Message1, Message2
from mpc.login.server_side import Answer, ServerLoginState, decide
from mpc.login.session import OutputKeys, exchange, sealed_bytes, session_id
from mpc.ot import extension_receiver, extension_sender
from mpc.ot.expansion import challenge, stream_key
from mpc.primitives import codec, modular
from mpc.primitives.aes import Blocks, blocks_from_bytes
from mpc.primitives.bit_matrix import masks_from_bits, unpack
from mpc.primitives.hashing import tagged_hash, tagged_stream
from mpc.threshold_rsa.encodings import Algorithm, encode_message
from mpc.threshold_rsa.shares import refresh_offset, share_bits
from mpc.threshold_rsa.signing import partial_signature


@dataclass(frozen=True, slots=True)
class Detail:
    """What of a login is written out; the rest stands there by length and SHA-256."""

    matrices: bool
    messages: bool


IN_FULL = Detail(matrices=True, messages=True)
MESSAGES_ONLY = Detail(matrices=False, messages=True)
DIGESTS = Detail(matrices=False, messages=False)


@dataclass(frozen=True, slots=True)
class Run:
    """What a login left with each side, and its part of a vector file."""

    answer: Answer
    result: Match | NoMatch
    shown: Json


@dataclass(frozen=True, slots=True)
class _Device:
    """The device's values of message 1."""

    draws: list[Json]
    message_1: bytes
    message: Message1
    ephemeral: X25519PrivateKey
    encoded: int
    partial: int
    choices: bytes
    stream_key: bytes
    extension: extension_receiver.ReceiverExtension
    rows: bytes


class _Said:
    """A source of exactly the bytes that were drawn before."""

    def __init__(self, drawn: bytes) -> None:
        self._drawn = drawn

    def bytes(self, count: int) -> bytes:
        assert count == len(self._drawn)
        return self._drawn


def run_login(
    device: DeviceLoginState,
    server: ServerLoginState,
    request: LoginRequest,
    probe: Probe,
    device_draws: Draws,
    server_draws: Draws,
    *,
    detail: Detail,
) -> Run:
    """An honest login."""
    salt = ["pss_salt"] if device.algorithm is Algorithm.PS256 else []
    with device_draws.named("X25519 private key", *salt, "device_nonce", "u_tail") as of_device:
        login = DeviceLogin(device_draws, device, request, probe)
    first = _device_values(device, probe, login.message_1, of_device)
    with server_draws.named("X25519 private key", "server_nonce", "rho") as of_server:
        answer = decide(server_draws, server, first.message, login.message_1)
    assert isinstance(answer, Answer)
    result = login.finish(answer.message_2)
    return Run(
        answer,
        result,
        {
            "asked": _asked(request, probe),
            "device_round_1": _first_shown(device, first, detail=detail),
            "server": _server_shown(server, first, answer, of_server, detail=detail),
            "device_round_2": _second_shown(device, first, answer, result, detail=detail),
        },
    )


def _asked(request: LoginRequest, probe: Probe) -> Json:
    return {
        "kind": request.kind,
        "ot_index, stored before": request.ot_index,
        "authenticator_data": request.authenticator_data.hex(),
        "client_data_hash": request.client_data_hash.hex(),
        "confirm": request.confirmation is not None,
        "b, a code for each template": probe.codes.hex(),
        "m, the probe's mask": probe.mask.hex(),
    }


def _device_values(device: DeviceLoginState, probe: Probe, message_1: bytes, draws: list[Json]) -> _Device:
    received = Message1.decode(message_1)
    statement, key = received.statement, device.key_share.key
    drawn = [bytes.fromhex(entry["value"]) for entry in draws]
    encoded = encode_message(device.algorithm, statement.signed_message, statement.pss_salt, key.bits)
    choices = _choices(device, probe)
    prg_key = stream_key(device.base_ot_id, statement.ot_index, statement.device_nonce)
    extension = extension_receiver.extend(_Said(drawn[-1]), device.base_keys, prg_key, choices)
    rows = challenge(
        statement.digest, device.profile.digest, tagged_hash("tandem u v1", extension.u), device.profile.input_bits
    )
    assert extension.u == received.u
    assert extension_receiver.prove(extension, rows) == (received.proof_x, received.proof_y)
    return _Device(
        draws=draws,
        message_1=message_1,
        message=received,
        ephemeral=X25519PrivateKey.from_private_bytes(drawn[0]),
        encoded=encoded,
        partial=partial_signature(device.key_share, encoded),
        choices=choices,
        stream_key=prg_key,
        extension=extension,
        rows=rows,
    )


def _choices(device: DeviceLoginState, probe: Probe) -> bytes:
    own = device.template
    if device.profile.rotation:
        return own.codes + own.masks + probe.codes + probe.mask
    return template.xor(own.codes, probe.codes) + own.masks + probe.mask


def _first_shown(device: DeviceLoginState, first: _Device, *, detail: Detail) -> Json:
    key, statement = device.key_share.key, first.message.statement
    bits = first.extension.choice_bits
    return {
        "draws": first.draws,
        "ephemeral": statement.ephemeral.hex(),
        "statement": codec.encode(statement.as_map()).hex(),
        "T1": statement.digest.hex(),
        "signed message": statement.signed_message.hex(),
        "EM": number(first.encoded, key),
        "s1": number(first.partial, key),
        "s1^e": number(modular.power(first.partial, key.exponent, key.modulus), key),
        "y_tag": first.message.share_tag.hex(),
        "u, the choice bits": first.choices.hex(),
        "prg_key": first.stream_key.hex(),
        "U": digest(first.extension.u),
        "V, rows": _labels(first.extension.v[:bits], detail=detail),
        "V_tail, rows": _labels(first.extension.v[bits:], detail=detail),
        "R": digest(first.rows),
        "x": first.message.proof_x.hex(),
        "Y": digest(first.message.proof_y),
        "message_1": _sent("message 1", "device", "POST /v1/logins", first.message_1, detail=detail),
    }


def _server_shown(
    server: ServerLoginState, first: _Device, answer: Answer, draws: list[Json], *, detail: Detail
) -> Json:
    circuit = server.profile.circuit
    sent = _decoded(server, answer)
    ephemeral = X25519PrivateKey.from_private_bytes(bytes.fromhex(draws[0]["value"]))
    shared = exchange(ephemeral, first.message.statement.ephemeral, Blame.DEVICE)
    w = extension_sender.extend(server.base_keys, first.stream_key, first.message.u, circuit.inputs)
    zero_labels, garbled = _garbled(server, answer.session_id, w[: circuit.inputs])
    assert garbled.tables == sent.tables
    keys = OutputKeys.derive(answer.session_id, garbled.accept_label, shared)
    s2, rho = keys.open(sent.sealed)
    return {
        "draws": draws,
        "W, rows": _labels(w[: circuit.inputs], detail=detail),
        "check": "passed",
        "s2": s2.hex(),
        "share_check": "passed",
        "ephemeral": sent.ephemeral.hex(),
        "X25519": shared.hex(),
        "sid": answer.session_id.hex(),
        "white_key": tagged_hash("tandem white v1", answer.session_id)[:16].hex(),
        "F": _labels(input_whitening(answer.session_id, circuit.inputs), detail=detail),
        "zero_labels": _labels(zero_labels, detail=detail),
        "garble_key": tagged_hash("tandem garble v1", answer.session_id)[:16].hex(),
        "tables": digest(garbled.tables),
        "reject_label": garbled.reject_label.hex(),
        "accept_label": garbled.accept_label.hex(),
        "tag0": sent.reject_tag.hex(),
        "tag1": sent.accept_tag.hex(),
        "seal_key": keys.seal_key.hex(),
        "token": keys.token.hex(),
        "token_hash, all that is kept of the token": answer.token_hash.hex(),
        "sealed plaintext, s2 and rho": (s2 + rho).hex(),
        "message_2": _sent("message 2", "server", "answer to POST /v1/logins", answer.message_2, detail=detail),
    }


def _garbled(server: ServerLoginState, sid: bytes, w: Blocks) -> tuple[Blocks, Garbled]:
    circuit, delta = server.profile.circuit, server.base_keys.delta
    shares = unpack(server.template.to_bytes().ljust(circuit.inputs // 8, b"\0"))
    zero_labels = w ^ masks_from_bits(shares)[:, None] & blocks_from_bytes(delta)
    zero_labels ^= input_whitening(sid, circuit.inputs)
    return zero_labels, garble(circuit, sid, delta, zero_labels)


def _second_shown(
    device: DeviceLoginState, first: _Device, answer: Answer, result: Match | NoMatch, *, detail: Detail
) -> Json:
    circuit, key = device.profile.circuit, device.key_share.key
    sent = _decoded(device, answer)
    sid = session_id(
        message_1=first.message_1,
        server_id=device.server_id,
        profile_digest=device.profile.digest,
        key=key,
        server_nonce=sent.server_nonce,
        server_ephemeral=sent.ephemeral,
    )
    assert sid == answer.session_id
    active = first.extension.labels ^ input_whitening(sid, circuit.inputs)
    label = evaluate(circuit, sid, sent.tables, active)
    values: Json = {"sid": sid.hex(), "active_labels": _labels(active, detail=detail), "label": label.hex()}
    if isinstance(result, NoMatch):
        return {**values, "matches": "tag0", "outcome": "no match: nothing more is sent"}
    shared = exchange(first.ephemeral, sent.ephemeral, Blame.SERVER)
    s2, rho = OutputKeys.derive(sid, label, shared).open(sent.sealed)
    count = len(device.template.to_bytes())
    bits = share_bits(key)
    return {
        **values,
        "matches": "tag1",
        "X25519": shared.hex(),
        "s2": s2.hex(),
        "rho": rho.hex(),
        "signature": result.signature.hex(),
        "outcome": "stored next shares and token, then released the signature",
        "next": {
            "r_d": refresh_offset(key, sid, rho, device.credential_id).to_bytes((bits + 7) // 8, "big").hex(),
            "r_t": tagged_stream("tandem refresh v1", count, sid, rho, b"template", device.enrolment_id).hex(),
            "d1": result.next_key_share.to_bytes().hex(),
            "t1": result.next_template.codes.hex(),
            "m1": result.next_template.masks.hex(),
            "confirm": {"ot_index": result.confirmation.ot_index, "token": result.confirmation.token.hex()},
        },
    }


def _decoded(state: DeviceLoginState | ServerLoginState, answer: Answer) -> Message2:
    return Message2.decode(
        answer.message_2,
        tables_bytes=tables_bytes(state.profile.circuit),
        sealed_bytes=sealed_bytes(state.key_share.key),
    )


def _labels(rows: Blocks, *, detail: Detail) -> str | Json:
    return blocks(rows) if detail.matrices else digest(rows.tobytes())


def _sent(name: str, sender: str, http: str, body: bytes, *, detail: Detail) -> Json:
    shown = message(name, sender, http, body)
    if not detail.messages:
        del shown["hex"]
        shown |= digest(body)
    return shown
