"""`tandem-device calibrate` on embeddings of simulated people: what it writes, recommends and refuses."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import NormalDist

import matplotlib.pyplot as plt
import numpy as np
import pytest
from typer.testing import CliRunner

from device_sdk.biometrics import SignProjection
from device_sdk.biometrics.bounds import Rate, pair_rate, rate
from device_sdk.biometrics.calibration import calibrate
from device_sdk.biometrics.det_curve import det_points, draw_det
from device_sdk.biometrics.embedding_encoder import EmbeddingEncoder
from device_sdk.biometrics.whitening import grouped
from device_sdk.cli import app
from mpc.login.profile import Profile


def embeddings(people: int = 40, samples: int = 6, noise: float = 0.35) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(4)
    centres = generator.standard_normal((people, 48))
    rows = np.repeat(centres, samples, axis=0) + noise * generator.standard_normal((people * samples, 48))
    return rows, np.repeat(np.arange(people), samples)


def save(path: Path, rows: np.ndarray, labels: np.ndarray) -> Path:
    np.savez(path, embeddings=rows, labels=labels)
    return path


def test_the_command_makes_an_encoder_that_holds_what_it_promises(tmp_path: Path) -> None:
    data = save(tmp_path / "data.npz", *embeddings())
    out = tmp_path / "out"

    done = CliRunner().invoke(app, ["calibrate", str(data), "--out", str(out), "--model", "voice-v1", "--fmr", "0.001"])

    assert done.exit_code == 0, done.output
    document = json.loads((out / "calibration.json").read_text())
    assert json.loads(done.stdout) == document
    encoder = EmbeddingEncoder(SignProjection.load(out / "constants.npz"), lambda sample: sample, "voice-v1")
    assert (encoder.encoder_id, encoder.code_bits) == (document["encoder_id"], document["recommended"]["code_bits"])
    # A server's profile takes them as they are.
    recommended = {name: document["recommended"][name] for name in ("code_bits", "threshold", "thresholds")}
    profile = Profile.from_dict({"name": "voice", "encoder_id": encoder.encoder_id, **recommended})
    assert profile.max_templates == 5
    # 40 people in two halves: 20 · 19 strangers each way, three tries each
    assert [length["impostor_tries"] for length in document["lengths"]] == [2 * 20 * 19 * 3] * 4
    assert [length["genuine_tries"] for length in document["lengths"]] == [120] * 4
    assert all(length["false_accepts"] <= 0.001 * length["impostor_tries"] for length in document["lengths"])
    for picture in ("histogram.png", "det.png", "subjects.png"):
        assert (out / picture).read_bytes().startswith(b"\x89PNG")


def test_more_noise_means_more_refusals_and_no_more_false_matches() -> None:
    quiet, loud = (
        calibrate(grouped(rows, labels), 1e-3, "test") for rows, labels in (embeddings(), embeddings(noise=1.2))
    )

    assert quiet.recommended.false_non_matches.value < loud.recommended.false_non_matches.value
    for made in (quiet, loud):
        assert made.recommended.threshold < made.recommended.code_bits / 2
        assert made.recommended.false_matches.value <= 1e-3


@pytest.mark.parametrize(
    ("rows", "labels", "more"),
    [
        (np.zeros((8, 4)), np.arange(8), []),
        (np.ones((8, 4), dtype=int), np.arange(8), []),
        (np.ones((8, 4)), np.arange(7), []),
        (*embeddings(people=3), []),
        (*embeddings(samples=3), []),
        (*embeddings(), ["--fmr", "0"]),
        (*embeddings(), ["--fmr", "0.7"]),
        (*embeddings(), ["--model", "é"]),
    ],
    ids=["zeros", "integers", "labels", "people", "samples", "never", "always", "name"],
)
def test_what_cannot_be_calibrated_is_said_in_a_sentence(
    tmp_path: Path, rows: np.ndarray, labels: np.ndarray, more: list[str]
) -> None:
    data = save(tmp_path / "data.npz", rows, labels)

    done = CliRunner().invoke(app, ["calibrate", str(data), "--out", str(tmp_path / "out"), "--model", "m", *more])

    assert (done.exit_code == 1 and done.exception is None) or isinstance(done.exception, SystemExit)
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "data.npz").write_bytes(b"nothing")

    done = CliRunner().invoke(app, ["calibrate", str(tmp_path / "data.npz"), "--out", str(tmp_path), "--model", "m"])

    assert done.exit_code == 1 and "data.npz" in done.output


def test_the_det_curve_of_normal_distances_is_a_straight_line_over_normal_deviates() -> None:
    """What makes it a DET plot: under a logarithmic or linear scale the same distances give a bent curve."""
    steps = (np.arange(4000) + 0.5) / 4000
    genuine = [NormalDist(0.2, 0.02).inv_cdf(float(one)) for one in steps]
    impostor = [NormalDist(0.3, 0.04).inv_cdf(float(one)) for one in steps]
    figure, axes = plt.subplots()

    draw_det(axes, genuine, impostor, 0.24, Rate(0, 4000, 0.0, 3 / 4000), rate([100] * 40, [4000] * 40))

    x, y = (np.array(values, dtype=float) for values in axes.lines[0].get_data())
    inside = (x > -2.5) & (x < 0) & (y > -2.5) & (y < 0)
    assert np.count_nonzero(inside) > 1000
    # t = 0.2 + 0.02 a = 0.3 + 0.04 b at a threshold t; FNMR has the deviate -a, FMR b.
    assert np.abs(y[inside] - (-5 - 2 * x[inside])).max() < 0.02
    for axis in (axes.xaxis, axes.yaxis):
        ticks = {text.get_text(): at for text, at in zip(axis.get_ticklabels(), axis.get_ticklocs(), strict=True)}
        assert ticks["1 %"] == NormalDist().inv_cdf(0.01) and ticks["20 %"] == NormalDist().inv_cdf(0.2)
    plt.close(figure)


def test_the_points_of_the_det_curve_are_counts() -> None:
    at, fmr, fnmr = det_points([0.1, 0.2, 0.2, 0.4], [0.2, 0.3, 0.5])

    assert at.tolist() == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert (3 * fmr).round(9).tolist() == [0, 1, 2, 2, 3]
    assert (4 * fnmr).round(9).tolist() == [3, 1, 1, 0, 0]


def test_bounds_come_from_people_not_from_comparisons() -> None:
    """The same errors in one person's tries leave more open than spread over all."""
    spread, gathered = rate([1] * 10 + [0] * 10, [10] * 20), rate([10] + [0] * 19, [10] * 20)

    assert spread.value == gathered.value == 0.05
    assert gathered.high > spread.high and gathered.low < spread.low
    assert rate([0] * 20, [10] * 20).high == 3 / 200
    assert str(rate([0], [0])) == "not tried"
    errors, tries = np.zeros((4, 4), dtype=np.int64), 5 * (1 - np.eye(4, dtype=np.int64))
    assert pair_rate(errors, tries).high == 3 / 60
    errors[1, 2] = 5
    assert 0 == pair_rate(errors, tries).low < pair_rate(errors, tries).value < pair_rate(errors, tries).high
