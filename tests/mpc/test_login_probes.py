"""Crafted probes: whatever the device feeds in is a legitimate code, and the joint decision is the clear one.

A protocol in which shares of a distance are added could be fooled by a device that subtracts a constant, or by an
all-zero vector. Here every input of the device is a probe, and no input but a near one is accepted.
"""

from __future__ import annotations

import numpy as np
import pytest
from parties import MASKED, PLAIN, Capture, enrol, plain_profile, run

from mpc.login.device_side import Match, NoMatch
from mpc.login.profile import Profile
from mpc.primitives.bit_matrix import Bits


def biased_template(bits: int, seed: int) -> Bits:
    """A code as real encoders give them: neighbours agree, and ones prevail."""
    generator = np.random.default_rng(seed)
    return np.repeat(generator.random((1, bits // 8)) < 0.6, 8, axis=1).astype(np.uint8)


def crafted(template: Bits) -> dict[str, Bits]:
    bits = template.shape[1]
    positions = np.arange(bits)[None, :]
    majority = np.concatenate([biased_template(bits, seed) for seed in range(100, 121)]).mean(axis=0) > 0.5
    return {
        "zeros": np.zeros_like(template),
        "ones": np.ones_like(template),
        "alternating": (positions % 2).astype(np.uint8),
        "alternating the other way": (1 - positions % 2).astype(np.uint8),
        "pairs": (positions // 2 % 2).astype(np.uint8),
        "first half": (positions < bits // 2).astype(np.uint8),
        "majority of the population": majority.astype(np.uint8)[None, :],
        "complement of the template": 1 - template,
        "template moved by one": np.roll(template, 1, axis=1),
        "template reversed": template[:, ::-1].copy(),
        "half of the template": np.where(positions < bits // 2, template, 1 - template),
        "template": template,
    }


def decided(profile: Profile, template: Bits, probe: Bits, mask: Bits | None = None) -> bool:
    usable = np.ones_like(template) if mask is None else mask
    pair = enrol(profile, enrolled=Capture(template, np.ones_like(template)))
    result = run(pair, Capture(probe, usable))
    assert isinstance(result, (Match, NoMatch))
    return isinstance(result, Match)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(
    "profile", [PLAIN, plain_profile(512, threshold=255), plain_profile(1024)], ids=lambda p: str(p.threshold)
)
def test_crafted_probes_are_decided_as_in_the_clear(profile: Profile, seed: int) -> None:
    template = biased_template(profile.code_bits, seed)

    for probe in crafted(template).values():
        distance = int((template ^ probe).sum())
        assert decided(profile, template, probe) is (distance <= profile.threshold)


def test_crafted_probes_under_masks_are_decided_as_in_the_clear() -> None:
    """The mask of the probe is the attacker's to choose, down to the smallest number of bits that is allowed."""
    template = biased_template(512, 4)
    for probe in crafted(template).values():
        agreeing = np.argsort((template ^ probe)[0], kind="stable")
        for kept in (512, 385, 384, 383, 1, 0):
            mask = np.zeros_like(template)
            mask[0, agreeing[:kept]] = 1
            distance, valid = int(((template ^ probe) & mask).sum()), int(mask.sum())
            assert decided(MASKED, template, probe, mask) is MASKED.accepts(distance, valid)


def test_different_probes_for_different_templates_are_each_compared_with_their_own() -> None:
    profile = plain_profile(512, templates=3)
    codes = np.concatenate([biased_template(512, seed) for seed in (1, 2, 3)])
    pair = enrol(profile, enrolled=Capture(codes, np.ones_like(codes)))
    options = list(crafted(codes[:1]).values())
    generator = np.random.default_rng(1)
    results = []
    for _ in range(12):
        probe = np.concatenate([options[int(choice)] for choice in generator.integers(0, len(options), 3)])
        expected = bool(((probe ^ codes).sum(axis=1) <= profile.threshold).any())
        results.append(isinstance(run(pair, Capture(probe, np.ones((1, 512), dtype=np.uint8))), Match))
        assert results[-1] is expected
    assert {True, False} == set(results)
