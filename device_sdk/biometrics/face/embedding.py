"""From a picture to dlib's face embedding: find the one face, align it, judge it, describe it."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from device_sdk.biometrics.face.errors import NoFace, SeveralFaces
from device_sdk.biometrics.face.images import Pixels, load_picture, resized
from device_sdk.biometrics.face.models import Detection, FaceModels, shared_models
from device_sdk.biometrics.face.quality import CaptureQuality, assess

DIMENSIONS: Final = 128

_SEARCH_SIDES: Final = (336, 672, 1344)
"""The longer side of the picture in which faces are looked for, in turn. The detector finds faces of 80 pixels, so a
face may span from 6 % of the picture up."""
_SURE: Final = 0.0
_PERHAPS: Final = -0.3
_OTHER_SURE: Final = 0.2

_network_lock = Lock()


@dataclass(frozen=True, slots=True, eq=False)
class FaceCapture:
    """One face: 128 floats of length 1, and the quality of the capture. The repr hides the embedding."""

    embedding: NDArray[np.float64] = field(repr=False)
    quality: CaptureQuality


def capture_face(sample: Any, models: FaceModels | None = None) -> FaceCapture:
    """The one face of a picture (`images.load_picture` says what a sample may be).

    The embedding is the mean of those of the aligned face and of its mirror image, each scaled to length 1: the mean
    of one picture and its mirror errs less, and costs a second run of the network.

    Raises what `load_picture` raises, NoFace, SeveralFaces, FaceTooSmall, FaceTooDark, FaceBlurred,
    FaceSupportMissing. Calls of several threads take turns.
    """
    pixels = load_picture(sample)
    with _network_lock:
        models = models or shared_models()
        searched, scale, face = _find(models, pixels)
        aligned = models.align(searched, face)
        quality = assess(aligned, round(face.width / scale))
        quality.require_usable()
        seen, mirrored = models.describe(aligned.chip), models.describe(aligned.chip[:, ::-1])
        embedding = _unit(_unit(seen) + _unit(mirrored))
    return FaceCapture(embedding, quality)


def _find(models: FaceModels, pixels: Pixels) -> tuple[Pixels, float, Detection]:
    """(the picture at the size searched, that size over the original's, the face). Raises NoFace, SeveralFaces."""
    longest = max(pixels.shape[:2])
    unsure: tuple[Pixels, float, Detection] | None = None
    for side in _SEARCH_SIDES:
        scale = side / longest
        height, width = (max(1, round(length * scale)) for length in pixels.shape[:2])
        searched = resized(pixels, width, height)
        found = models.detect(searched, _PERHAPS)
        if not found:
            continue
        face = found[0]
        if any(other.score >= _OTHER_SURE and 2 * other.width >= face.width for other in found[1:]):
            raise SeveralFaces
        if face.score >= _SURE:
            return searched, scale, face
        if unsure is None or face.score > unsure[2].score:
            unsure = searched, scale, face
    if unsure is None:
        raise NoFace
    return unsure


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    return vector / np.linalg.norm(vector)
