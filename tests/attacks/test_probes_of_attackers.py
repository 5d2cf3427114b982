"""Crafted probes: the joint decision is the clear one, whatever the probe; and the budgets end the search."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from attacker import Attacker, flipped
from parties import MASKED, PLAIN, Capture, Pair, enrol, plain_profile, random_capture, run
from real_server import NO_WAITING, thread_server

from device_sdk import BinaryCode, SimulatedSensor
from mpc.login.device_side import Match
from mpc.login.profile import Profile
from mpc.primitives.bit_matrix import Bits

PEOPLE = 160
COMPONENTS = 8


@pytest.fixture(scope="module")
def population() -> Bits:
    """Codes of many simulated people: shape (PEOPLE, 512)."""
    return np.array([SimulatedSensor(seed, 512).capture().bits for seed in range(1_000, 1_000 + PEOPLE)])


@pytest.fixture(scope="module")
def crafted(population: Bits) -> dict[str, Bits]:
    """What somebody with the population's statistics would try."""
    signs = 1.0 - 2.0 * population
    mean = signs.mean(axis=0)
    _, _, components = np.linalg.svd(signs - mean, full_matrices=False)
    probes = {
        "all 0": np.zeros(512),
        "all 1": np.ones(512),
        "alternating": np.arange(512) % 2,
        "population mean": mean < 0,
        "complement of the mean": mean >= 0,
    }
    for number, component in enumerate(components[:COMPONENTS], 1):
        probes[f"+component {number}"] = component < 0
        probes[f"-component {number}"] = component >= 0
    for number, centre in enumerate(cluster_centres(signs, 4), 1):
        probes[f"cluster centre {number}"] = centre < 0
    return {name: np.asarray(bits, dtype=np.uint8) for name, bits in probes.items()}


def cluster_centres(points: np.ndarray, count: int) -> np.ndarray:
    """A few rounds of k-means."""
    centres = points[np.random.default_rng(7).choice(len(points), count, replace=False)]
    for _ in range(8):
        nearest = np.argmax(points @ centres.T, axis=1)
        centres = np.array([points[nearest == k].mean(axis=0) for k in range(count)])
    return centres


def as_capture(bits: Bits, masks: Bits | None = None) -> Capture:
    codes = bits.reshape(-1, bits.shape[-1])
    return Capture(codes, np.ones((1, codes.shape[1]), dtype=np.uint8) if masks is None else masks.reshape(1, -1))


def accepted(pair: Pair, capture: Capture, seed: bytes) -> bool:
    return isinstance(run(pair, capture, seed), Match)


def test_crafted_probes_get_the_clear_decision(population: Bits, crafted: dict[str, Bits]) -> None:
    """At a threshold so lax that some of them pass: they pass exactly where plain counting says so."""
    lax = plain_profile(512, threshold=250)
    decisions: list[bool] = []
    for person in population[:2]:
        pair = enrol(lax, enrolled=Capture(person.reshape(1, -1), np.ones((1, 512), dtype=np.uint8)))
        for name, bits in crafted.items():
            distance = int(np.count_nonzero(bits ^ person))
            decision = accepted(pair, as_capture(bits), name.encode())
            assert decision == (distance <= lax.threshold), name
            decisions.append(decision)
    assert True in decisions and False in decisions


def test_no_crafted_probe_passes_at_the_real_threshold(crafted: dict[str, Bits]) -> None:
    """sim-512 accepts up to 163 of 512 bits. In the clear, for people the attacker has no codes of; the joint
    decision equals the clear one (above).
    """
    threshold = 32 * 512 // 100
    others = np.array([SimulatedSensor(seed, 512).capture().bits for seed in range(5_000, 5_150)])
    nearest = {name: int(np.count_nonzero(others ^ bits, axis=1).min()) for name, bits in crafted.items()}
    assert min(nearest.values()) > threshold, nearest


def test_through_the_real_server(attacker: Attacker, crafted: dict[str, Bits]) -> None:
    for name in ("all 0", "all 1", "alternating", "population mean", "+component 1", "-component 1"):
        login = attacker.prepare(probe=BinaryCode(crafted[name]))
        outcome = attacker.try_login(login.message_1)
        assert outcome.status == 200, "the server cannot tell a bad probe from a good one"
        assert not isinstance(login.finish(outcome.body), Match), name
        assert attacker.logins()[-1]["state"] == "pending"


def test_exactly_at_the_threshold_through_the_real_server(attacker: Attacker) -> None:
    threshold = attacker.state.profile.threshold
    for distance, expected in ((threshold, True), (threshold + 1, False)):
        login = attacker.prepare(probe=flipped(attacker.template, distance))
        assert isinstance(login.finish(attacker.try_login(login.message_1).body), Match) is expected


class TestSeveralTemplates:
    def test_a_different_probe_for_each_template(self) -> None:
        """K templates are K chances an attempt, and never more: each probe is compared with its own template."""
        profile = plain_profile(512, threshold=100, templates=3)
        pair = enrol(profile)
        templates = pair.enrolled.codes
        for seed, order in enumerate(((1, 2, 0), (2, 0, 1))):
            assert not accepted(pair, Capture(templates[list(order)], np.ones((1, 512), np.uint8)), bytes([seed]))
        assert accepted(pair, Capture(templates, np.ones((1, 512), dtype=np.uint8)), b"right")
        for hit in range(3):
            probes = random_capture(profile, 3, b"noise %d" % hit).codes
            probes[hit] = templates[hit]
            assert accepted(pair, Capture(probes, np.ones((1, 512), dtype=np.uint8)), b"hit %d" % hit)

    def test_best_of_many(self) -> None:
        """Whatever the best of many strangers is, only its own distance counts; nothing adds up over attempts."""
        pair = enrol(PLAIN)
        strangers = [random_capture(PLAIN, 1, b"stranger %d" % n) for n in range(200)]
        distances = [int(np.count_nonzero(stranger.codes ^ pair.enrolled.codes)) for stranger in strangers]
        ranked = np.argsort(distances)
        for position in (0, 1, 2, -1):
            best = int(ranked[position])
            assert accepted(pair, strangers[best], b"try %d" % best) == (distances[best] <= PLAIN.threshold)


class TestMasks:
    """MASKED: 512 bits, three of them unusable in the template, v_min 384, distance at most 80/256 of the valid."""

    def clear(self, enrolled: Capture, codes: Bits, mask: Bits) -> bool:
        valid = enrolled.masks[0] & mask
        distance = int(np.count_nonzero((enrolled.codes[0] ^ codes) & valid))
        return MASKED.accepts(distance, int(np.count_nonzero(valid)))

    def test_an_all_zero_mask(self) -> None:
        """0 of 0 bits differ: without a minimum this would be everybody's face."""
        pair = enrol(MASKED)
        nothing = np.zeros(512, dtype=np.uint8)
        assert not accepted(pair, as_capture(pair.enrolled.codes[0], nothing), b"zero mask")
        assert not accepted(pair, as_capture(1 - pair.enrolled.codes[0], nothing), b"zero mask, far")

    @pytest.mark.parametrize("valid", [1, 383, 384, 385])
    def test_around_the_least_number_of_bits(self, valid: int) -> None:
        pair = enrol(MASKED)
        mask = np.zeros(512, dtype=np.uint8)
        mask[np.flatnonzero(pair.enrolled.masks[0])[:valid]] = 1
        decision = accepted(pair, as_capture(pair.enrolled.codes[0], mask), b"valid %d" % valid)
        assert decision == (valid >= 384) == self.clear(pair.enrolled, pair.enrolled.codes[0], mask)

    def test_the_templates_unusable_bits_do_not_count(self) -> None:
        pair = enrol(MASKED)
        mask = np.zeros(512, dtype=np.uint8)
        mask[:384] = 1  # of which three are unusable in the template
        assert not accepted(pair, as_capture(pair.enrolled.codes[0], mask), b"three short")

    def test_a_mask_that_keeps_the_bits_that_agree(self) -> None:
        """The best an attacker can do who knows which bits agree: still only what v_min lets him drop."""
        pair = enrol(MASKED)
        template, usable = pair.enrolled.codes[0], np.flatnonzero(pair.enrolled.masks[0])
        for wrong in (130, 245, 246, 260):
            code = template.copy()
            code[usable[:wrong]] ^= 1
            mask = np.zeros(512, dtype=np.uint8)
            mask[usable[-384:]] = 1
            decision = accepted(pair, as_capture(code, mask), b"wrong %d" % wrong)
            assert decision == self.clear(pair.enrolled, code, mask)
        assert not decision

    def test_random_masks(self) -> None:
        pair = enrol(MASKED)
        generator = np.random.default_rng(5)
        decisions = set()
        for number in range(12):
            code = pair.enrolled.codes[0] ^ (generator.random(512) < 0.3)
            mask = (generator.random(512) < 0.76).astype(np.uint8)
            expected = self.clear(pair.enrolled, code, mask)
            assert accepted(pair, as_capture(code.astype(np.uint8), mask), b"random %d" % number) == expected
            decisions.add(expected)
        assert decisions == {True, False}


class TestBudgets:
    def test_probes_that_all_match_meet_the_daily_budget(self, tmp_path: Path) -> None:
        """A centre search mixes its questions with genuine successes; success restores nothing here."""
        with (
            thread_server(tmp_path, limits={**NO_WAITING, "attempts_per_day": 6}) as server,
            Attacker.enrolled(server) as attacker,
        ):
            attacker.register()
            for _ in range(5):
                attacker.succeed(attacker.prepare())
            outcome = attacker.try_login(attacker.prepare().message_1)
            assert (outcome.told, outcome.counted) == ((429, "budget_spent"), False)
            assert outcome.enrolment["consecutive_failures"] == 0
            for _ in range(3):
                assert attacker.try_login(attacker.prepare().message_1).told == (429, "budget_spent")

    def test_questions_between_successes_meet_the_monthly_budget(self, tmp_path: Path) -> None:
        with (
            thread_server(tmp_path, limits={**NO_WAITING, "unconfirmed_per_30_days": 4}) as server,
            Attacker.enrolled(server) as attacker,
        ):
            attacker.register()
            far = flipped(attacker.template, 300)
            told = []
            for _ in range(6):
                outcome = attacker.try_login(attacker.prepare(probe=far).message_1)
                told.append(outcome.told)
                if len(told) == 2:
                    attacker.succeed(attacker.prepare())
            # A success needs room in the budget too, but gives none back for the questions before it.
            assert told[-1] == (429, "budget_spent")
            assert sum(1 for row in attacker.logins() if row["state"] != "confirmed") <= 4

    def test_a_template_wears_out(self, tmp_path: Path) -> None:
        with (
            thread_server(tmp_path, limits={**NO_WAITING, "attempts_per_template": 4}) as server,
            Attacker.enrolled(server) as attacker,
        ):
            attacker.register()
            for _ in range(3):
                attacker.succeed(attacker.prepare())
            assert attacker.try_login(attacker.prepare().message_1).told == (429, "budget_spent")

    def test_failures_in_a_row_wait_and_then_stop(self, tmp_path: Path) -> None:
        limits = {**NO_WAITING, "consecutive_before_delay": 2, "consecutive_before_disabled": 4, "first_delay_s": 30}
        with thread_server(tmp_path, limits=limits) as server, Attacker.enrolled(server) as attacker:
            attacker.register()
            far = flipped(attacker.template, 300)
            for _ in range(2):
                assert attacker.try_login(attacker.prepare(probe=far).message_1).status == 200
            outcome = attacker.try_login(attacker.prepare().message_1)
            assert (outcome.told, outcome.counted) == ((429, "throttled"), False)
            assert 0 < outcome.document["retry_after_s"] <= 30
            for _ in range(2):  # time passes, and he goes on
                with server.context.store.write() as conn:
                    conn.exec_driver_sql("UPDATE enrolments SET last_attempt_at = last_attempt_at - 7200")
                assert attacker.try_login(attacker.prepare(probe=far).message_1).status == 200
            with server.context.store.write() as conn:
                conn.exec_driver_sql("UPDATE enrolments SET last_attempt_at = last_attempt_at - 7200")
            outcome = attacker.try_login(attacker.prepare().message_1)
            assert (outcome.told, outcome.counted) == ((403, "not_active"), False)

    def test_the_budget_holds_under_parallel_requests(self, tmp_path: Path) -> None:
        with (
            thread_server(tmp_path, limits={**NO_WAITING, "attempts_per_day": 4}) as server,
            Attacker.enrolled(server) as attacker,
        ):
            attacker.register()
            bodies = [attacker.prepare(sign_count=10 + n).message_1 for n in range(10)]
            with ThreadPoolExecutor(10) as pool:
                answers = list(pool.map(lambda body: attacker.post("/v1/logins", body).status_code, bodies))
            assert answers.count(200) <= 3
            assert len(attacker.logins()) <= 4


def test_profiles_without_a_minimum_cannot_be_configured() -> None:
    with pytest.raises(ValueError, match="min_valid"):
        Profile("m", 512, 0, "e", masked=True, min_valid=0, ratio_numerator=80, ratio_shift=8)
    with pytest.raises(ValueError, match="threshold"):
        Profile("p", 512, 256, "e")
