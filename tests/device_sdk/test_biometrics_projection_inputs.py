"""What SignProjection refuses: samples, constants and files that are not what they should be."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_sdk.biometrics import EncodingError, ProjectionConstants, SignProjection
from device_sdk.errors import InconsistentCaptures

MEAN = [0.125, -0.0625, 0.03, 0.0, -0.2, 0.015625]
WHITENING = (3 * np.eye(6) + 0.25).tolist()
LABEL = "inputs"
EMBEDDING = [0.31, -1.7, 0.002, 4.4, -0.9, 2.25]


@pytest.fixture
def encoder() -> SignProjection:
    return SignProjection(6, 64, MEAN, WHITENING, LABEL)


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        ([0.0] * 6, "zero_embedding"),
        ([-0.0] * 6, "zero_embedding"),
        ([0.1, math.nan, 0, 0, 0, 0], "not_finite"),
        ([0.1, -math.inf, 0, 0, 0, 0], "not_finite"),
        ([0.1] * 5, "wrong_shape"),
        ([[0.1] * 6], "wrong_shape"),
        (0.5, "wrong_shape"),
        (["a"] * 6, "wrong_type"),
        ([1j] * 6, "wrong_type"),
        ([None] * 6, "wrong_type"),
        ([10**400] * 6, "wrong_type"),
        ([True] * 6, "wrong_type"),
    ],
)
def test_what_is_no_embedding_is_refused(encoder: SignProjection, sample: Any, reason: str) -> None:
    """With a word the app can act on, and never with the values in the text."""
    for call in (lambda: encoder.encode(sample), lambda: encoder.enrol([EMBEDDING, EMBEDDING, sample])):
        with pytest.raises(EncodingError) as caught:
            call()
        assert caught.value.code == reason


def test_an_embedding_that_is_the_population_mean_is_refused() -> None:
    """Its code would be all ones for everybody."""
    encoder = SignProjection(2, 16, [1.0, 0.0], np.eye(2), "mean")

    with pytest.raises(EncodingError) as caught:
        encoder.encode([5.0, 0.0])

    assert caught.value.code == "no_information"


def test_enrolment_needs_three_embeddings_that_do_not_cancel(encoder: SignProjection) -> None:
    """Opposite embeddings have no mean direction."""
    opposite = [-x for x in EMBEDDING]

    with pytest.raises(EncodingError) as caught:
        encoder.enrol([EMBEDDING, EMBEDDING])
    assert caught.value.code == "too_few_captures"
    with pytest.raises(InconsistentCaptures):
        encoder.enrol([EMBEDDING, opposite, EMBEDDING, opposite])


@pytest.mark.parametrize(
    "change",
    [
        {"dimensions": 0},
        {"dimensions": 1025},
        {"code_bits": 0},
        {"code_bits": 65537},
        {"mean": [0.1] * 5},
        {"mean": [math.nan] * 6},
        {"mean": [0.5] * 6},
        {"mean": [1e300] * 6},
        {"whitening": np.zeros((6, 6))},
        {"whitening": np.eye(5)},
        {"whitening": np.full((6, 6), math.inf)},
        {"seed_label": ""},
        {"seed_label": "x" * 65},
        {"seed_label": "bell\a"},
        {"seed_label": "Köln"},
    ],
)
def test_constants_out_of_range_are_refused(change: dict[str, Any]) -> None:
    """They are checked once, so that no encoding can overflow later."""
    good = {"dimensions": 6, "code_bits": 64, "mean": MEAN, "whitening": WHITENING, "seed_label": LABEL}

    with pytest.raises(ValueError):
        SignProjection(**{**good, **change})


def test_integer_constants_out_of_range_are_refused() -> None:
    """The same for integers that come from a file, the smallest int64 among them."""
    mean, whitening = np.zeros(2, dtype=np.int64), np.eye(2, dtype=np.int64)
    smallest = np.iinfo(np.int64).min

    for bad_mean, bad_whitening in [
        (mean + smallest, whitening),
        (mean + (1 << 20), whitening),
        (mean, whitening + smallest),
        (mean, whitening * ((1 << 22) + 1)),
        (mean, whitening.astype(np.float64)),
        (mean.astype(np.int32), whitening),
    ]:
        with pytest.raises(ValueError):
            ProjectionConstants(2, 16, bad_mean, bad_whitening, "x")


# ---- the file --------------------------------------------------------------------------------------------


def test_constants_survive_the_file(encoder: SignProjection, tmp_path: Path) -> None:
    """Integers are stored, so nothing is rounded twice."""
    path = tmp_path / "constants"
    encoder.save(path)

    loaded = SignProjection.load(path)

    assert loaded.encoder_id == encoder.encoder_id
    assert loaded.encode(EMBEDDING).packed() == encoder.encode(EMBEDDING).packed()


def write(path: Path, **entries: Any) -> None:
    with path.open("wb") as file:
        np.savez(file, **entries)


def test_a_file_with_pickled_content_is_refused_and_not_run(tmp_path: Path) -> None:
    """Unpickling runs what the file says."""
    marker = tmp_path / "ran"

    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (marker,))

    names = ("version", "dimensions", "code_bits", "mean", "label")
    write(tmp_path / "npz", **dict.fromkeys(names, np.int64(1)), whitening=np.array([Bomb()], dtype=object))
    (tmp_path / "plain").write_bytes(pickle.dumps(Bomb()))

    for name in ("npz", "plain"):
        with pytest.raises(ValueError):
            SignProjection.load(tmp_path / name)
    assert not marker.exists()


def test_files_that_are_not_ours_are_refused(encoder: SignProjection, tmp_path: Path) -> None:
    """Cut, changed, incomplete, of another version, or something else altogether: one kind of error."""
    path = tmp_path / "constants.npz"
    encoder.save(path)
    whole = path.read_bytes()
    with np.load(path) as archive:
        entries = {name: archive[name] for name in archive.files}
    contents = [b"", b"hello", whole[: len(whole) // 2], whole[:-5]]
    at = whole.index(entries["mean"].tobytes())
    contents.append(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    for content in contents:
        path.write_bytes(content)
        with pytest.raises(ValueError):
            SignProjection.load(path)

    for change in [
        {"version": np.int64(2)},
        {"version": np.array([1, 1])},
        {"version": np.float64(1)},
        {"extra": np.int64(0)},
        {"dimensions": np.int64(7)},
        {"code_bits": np.int64(0)},
        {"mean": entries["mean"].astype(np.float64)},
        {"label": entries["mean"]},
        {"label": np.array([255], dtype=np.uint8)},
    ]:
        write(path, **{**entries, **change})
        with pytest.raises(ValueError):
            SignProjection.load(path)
    del entries["mean"]
    write(path, **entries)
    with pytest.raises(ValueError, match="not a file"):
        SignProjection.load(path)
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(ValueError, match="not a file"):
        SignProjection.load(tmp_path / "array.npy")
    with pytest.raises(FileNotFoundError):
        SignProjection.load(tmp_path / "absent")


def test_reprs_show_sizes_only(encoder: SignProjection) -> None:
    """Reprs end in logs."""
    assert repr(encoder) == f"SignProjection({encoder.encoder_id}, 6 dimensions, 64 bits)"
    assert repr(encoder.constants) == "ProjectionConstants(6 dimensions, 64 bits)"
