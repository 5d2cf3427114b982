"""How good a capture of a face is, in numbers that an app can show while the person still stands there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from device_sdk.biometrics.face.errors import FaceBlurred, FaceTooDark, FaceTooSmall
from device_sdk.biometrics.face.images import Pixels, resized
from device_sdk.biometrics.face.models import AlignedFace

FACE_WIDTH_MIN: Final = 40
"""Pixels of the original picture that the face must span."""
BRIGHTNESS_MIN: Final = 30.0
SHARPNESS_MIN: Final = 0.02

_GOOD_WIDTH, _GOOD_BRIGHTNESS, _GOOD_SHARPNESS, _GOOD_CONTRAST = 100, 80.0, 0.15, 35.0
_WORST_ASYMMETRY: Final = 0.6
_SIDE: Final = 64


@dataclass(frozen=True, slots=True)
class CaptureQuality:
    """`score` is 0 to 100: the product of how near each of the others is to what is good enough.

    face_width: of the face, in pixels of the original picture. brightness: mean grey value of the face, 0 to 255.
    contrast: its standard deviation. sharpness: energy of the finest detail as a share of all, at a fixed size of the
    face, so that neither the camera's resolution nor its contrast counts. asymmetry: 0 for a frontal face.
    """

    score: int
    face_width: int
    brightness: float
    contrast: float
    sharpness: float
    asymmetry: float

    def require_usable(self) -> None:
        """Raises FaceTooSmall, FaceTooDark or FaceBlurred."""
        if self.face_width < FACE_WIDTH_MIN:
            raise FaceTooSmall
        if self.brightness < BRIGHTNESS_MIN:
            raise FaceTooDark
        if self.sharpness < SHARPNESS_MIN:
            raise FaceBlurred


def assess(face: AlignedFace, face_width: int) -> CaptureQuality:
    """The quality of an aligned face that is `face_width` pixels wide in the original picture."""
    grey = _grey(resized(face.chip, _SIDE, _SIDE))
    centre = grey[_SIDE // 8 : -_SIDE // 8, _SIDE // 8 : -_SIDE // 8]
    brightness, contrast = float(centre.mean()), float(centre.std())
    laplacian = 4 * centre[1:-1, 1:-1] - centre[:-2, 1:-1] - centre[2:, 1:-1] - centre[1:-1, :-2] - centre[1:-1, 2:]
    sharpness = float(laplacian.var()) / max(contrast * contrast, 1.0)
    parts = (
        min(1.0, face_width / _GOOD_WIDTH),
        min(1.0, brightness / _GOOD_BRIGHTNESS),
        min(1.0, contrast / _GOOD_CONTRAST),
        min(1.0, sharpness / _GOOD_SHARPNESS),
        max(0.0, 1.0 - face.asymmetry / _WORST_ASYMMETRY),
    )
    score = round(100 * float(np.prod(parts)) ** 0.5)
    return CaptureQuality(score, face_width, brightness, contrast, sharpness, face.asymmetry)


def _grey(pixels: Pixels) -> NDArray[np.float64]:
    grey: NDArray[np.float64] = pixels.astype(np.float64) @ np.array([0.299, 0.587, 0.114])
    return grey
