"""dlib's detector, landmarks and face network, with their weights found by path and checked by digest.

The package `face_recognition_models` is never imported: its `__init__` needs a module that new versions of setuptools
no longer have. Its files are found through the installed distribution's own list.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from device_sdk.biometrics.face.errors import FaceSupportMissing
from device_sdk.biometrics.face.images import Pixels

CHIP_SIDE: Final = 150
"""Pixels of the aligned face that the network takes."""
_CHIP_PADDING: Final = 0.25

_DISTRIBUTION: Final = "face_recognition_models"
_WEIGHTS: Final = {
    "dlib_face_recognition_resnet_model_v1.dat": "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
    "shape_predictor_5_face_landmarks.dat": "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
}
"""SHA-256. Not the 68-point landmarks: those come from pictures that are licensed for research only."""


@dataclass(frozen=True, slots=True)
class Detection:
    """A face found: its box in pixels of the picture searched, and the detector's score (0 is a likely face)."""

    left: int
    top: int
    right: int
    bottom: int
    score: float

    @property
    def width(self) -> int:
        return self.right - self.left + 1


@dataclass(frozen=True, slots=True)
class AlignedFace:
    """A face cut out and turned upright, 150 × 150 RGB, and how far it looks aside.

    `asymmetry` is how far the nose is from the middle between the eyes, in eye distances: 0 in a frontal picture.
    """

    chip: Pixels
    asymmetry: float


class FaceModels:
    """The loaded models. Calls are not thread-safe: the network keeps its activations."""

    def __init__(self) -> None:
        """Raises FaceSupportMissing."""
        try:
            import dlib
        except ImportError:
            raise FaceSupportMissing("faces need dlib: install tandem-auth[face]") from None
        paths = {name: str(_checked(name, digest)) for name, digest in _WEIGHTS.items()}
        self._dlib: Any = dlib
        self._detector = dlib.get_frontal_face_detector()
        self._landmarks = dlib.shape_predictor(paths["shape_predictor_5_face_landmarks.dat"])
        self._network = dlib.face_recognition_model_v1(paths["dlib_face_recognition_resnet_model_v1.dat"])

    def detect(self, pixels: Pixels, lowest_score: float) -> list[Detection]:
        """Faces of at least 80 pixels, the surest first."""
        boxes, scores, _ = self._detector.run(pixels, 0, lowest_score)
        found = [
            Detection(box.left(), box.top(), box.right(), box.bottom(), float(score))
            for box, score in zip(boxes, scores, strict=True)
        ]
        return sorted(found, key=lambda face: -face.score)

    def align(self, pixels: Pixels, face: Detection) -> AlignedFace:
        shape = self._landmarks(pixels, self._dlib.rectangle(face.left, face.top, face.right, face.bottom))
        # Points: outer and inner corner of each eye (0, 1 and 2, 3), then below the nose (4).
        points = np.array([(point.x, point.y) for point in shape.parts()], dtype=np.float64)
        one, other = points[0:2].mean(axis=0), points[2:4].mean(axis=0)
        eyes = other - one
        distance = float(np.hypot(*eyes)) or 1.0
        along = float((points[4] - (one + other) / 2) @ eyes) / distance
        chip = self._dlib.get_face_chip(pixels, shape, CHIP_SIDE, _CHIP_PADDING)
        return AlignedFace(np.ascontiguousarray(chip), abs(along) / distance)

    def describe(self, chip: Pixels) -> NDArray[np.float64]:
        """The network's 128 numbers for an aligned face."""
        return np.array(self._network.compute_face_descriptor(np.ascontiguousarray(chip)), dtype=np.float64)


@lru_cache(maxsize=1)
def shared_models() -> FaceModels:
    """Loaded once a process: about a second, and 100 MB of memory."""
    return FaceModels()


def _checked(name: str, digest: str) -> Path:
    try:
        files = metadata.files(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        raise FaceSupportMissing("faces need face_recognition_models: install tandem-auth[face]") from None
    for file in files:
        if file.name == name:
            path = Path(str(file.locate()))
            with path.open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
            if found != digest:
                raise FaceSupportMissing(f"{name} is not the file that the profiles were measured with")
            return path
    raise FaceSupportMissing(f"{name} is missing from face_recognition_models; install it again")
