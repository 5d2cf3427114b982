"""Circuits, their digests, and garbling: small matchers in full, published ones by digest."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from interop.drawing import Draws
from interop.enrolled import SIM_512
from interop.notation import Json, blocks, topic
from mpc.circuits.circuit import Circuit
from mpc.circuits.matchers import MaskedRule, PlainRule, Rotations, matcher
from mpc.garbling.evaluator import evaluate
from mpc.garbling.garbler import garble
from mpc.garbling.hashing import input_whitening
from mpc.login.profile import Profile
from mpc.login.published_profiles import PUBLISHED
from mpc.login.session import output_tag
from mpc.primitives.aes import Blocks, blocks_from_bytes
from mpc.primitives.bit_matrix import Bits, masks_from_bits, unpack
from mpc.primitives.hashing import tagged_hash

_SMALL: tuple[tuple[str, int, int, PlainRule | MaskedRule, Rotations | None], ...] = (
    ("8 bits, at most 2 differ", 8, 1, PlainRule(2), None),
    ("8 bits, two templates", 8, 2, PlainRule(3), None),
    ("8 bits with masks: at least 6 usable, distance · 8 at most 2 · usable", 8, 1, MaskedRule(6, 2, 3), None),
    ("the same, the probe turned by up to one of 4 columns", 8, 1, MaskedRule(6, 2, 3), Rotations(4, 1)),
)
MASKED_2048 = Profile(
    name="sim-2048-masked",
    code_bits=2048,
    threshold=0,
    encoder_id="binary-code-v1",
    masked=True,
    min_valid=1536,
    ratio_numerator=82,
    ratio_shift=8,
)
SIM_2048 = Profile(name="sim-2048", code_bits=2048, threshold=655, encoder_id="binary-code-v1")
_PROFILES = (SIM_512, SIM_2048, MASKED_2048, PUBLISHED["face-2048"], PUBLISHED["iris-2048"])


def vectors() -> Json:
    return topic(
        "Circuits and garbling",
        "Four small matchers with every gate, table and label, each evaluated on several inputs, and the sizes and "
        "digests of profiles. A wire's number is its place: 0 and 1 are the constants, then come the inputs.",
        ["docs/protocol.md 2", "docs/protocol.md 7"],
        {
            "small": [_small(*case) for case in _SMALL],
            "profiles": [_profile(one) for one in _PROFILES],
        },
    )


def _small(about: str, bits: int, templates: int, rule: PlainRule | MaskedRule, turns: Rotations | None) -> Json:
    circuit = matcher(bits, templates, rule, turns)
    draws = Draws(f"tandem vectors: garbling, {circuit.inputs} inputs, {circuit.ands} ANDs")
    with draws.named("sid", "Delta, whose lowest bit is then set", "W, a block an input", "server's bits") as drawn:
        sid, delta = draws.bytes(32), bytearray(draws.bytes(16))
        delta[0] |= 1
        w = blocks_from_bytes(draws.bytes(16 * circuit.inputs))
        shares = unpack(draws.bytes((circuit.inputs + 7) // 8))[: circuit.inputs]
    offset = blocks_from_bytes(bytes(delta))
    whitening = input_whitening(sid, circuit.inputs)
    zero_labels = w ^ masks_from_bits(shares)[:, None] & offset ^ whitening
    garbled = garble(circuit, sid, bytes(delta), zero_labels)
    return {
        "about": about,
        "circuit": _circuit(circuit),
        "seed": draws.seed,
        "draws": drawn,
        "Delta": bytes(delta).hex(),
        "F": blocks(whitening),
        "zero_labels": blocks(zero_labels),
        "garble_key": tagged_hash("tandem garble v1", sid)[:16].hex(),
        "tables": garbled.tables.hex(),
        "reject_label": garbled.reject_label.hex(),
        "accept_label": garbled.accept_label.hex(),
        "tag0": output_tag(0, sid, garbled.reject_label).hex(),
        "tag1": output_tag(1, sid, garbled.accept_label).hex(),
        "evaluations": list(_evaluations(circuit, sid, bytes(delta), garbled.tables, zero_labels)),
    }


def _circuit(circuit: Circuit) -> Json:
    return {
        "inputs": circuit.inputs,
        "steps": [
            {"kind": step.kind.name, "left": step.left.tolist(), "right": step.right.tolist()} for step in circuit.steps
        ],
        "output": circuit.output,
        "wires": circuit.wires,
        "ands": circuit.ands,
        "digest": circuit.digest.hex(),
    }


def _evaluations(circuit: Circuit, sid: bytes, delta: bytes, tables: bytes, zero_labels: Blocks) -> Iterator[Json]:
    for bits in _cases(circuit.inputs):
        active = zero_labels ^ masks_from_bits(bits)[:, None] & blocks_from_bytes(delta)
        yield {
            "bits": "".join(map(str, bits.tolist())),
            "active_labels": blocks(active),
            "label": evaluate(circuit, sid, tables, active).hex(),
            "accepted": circuit.evaluate(bits),
        }


def _cases(inputs: int) -> list[Bits]:
    """All 0, all 1, every other one; and 1, 2 or 3 ones in the first eight inputs, all others 1."""
    wires = np.arange(inputs)
    cases = [wires < 0, wires >= 0, wires % 2 == 1, *((wires < count) | (wires >= 8) for count in (1, 2, 3))]
    return [case.astype(np.uint8) for case in cases]


def _profile(profile: Profile) -> Json:
    circuit = profile.circuit
    return {
        "profile": profile.as_dict(),
        "inputs": circuit.inputs,
        "ands": circuit.ands,
        "and_steps": sum(step.kind.name == "AND" for step in circuit.steps),
        "steps": len(circuit.steps),
        "wires": circuit.wires,
        "circuit digest": circuit.digest.hex(),
        "profile digest": profile.digest.hex(),
    }
