"""Faces as an encoder: pictures in, 2,048-bit codes out, with the constants that ship with the profile face-2048."""

from __future__ import annotations

from functools import lru_cache
from importlib import resources
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from device_sdk.biometrics.embedding_encoder import EmbeddingEncoder
from device_sdk.biometrics.face.embedding import FaceCapture, capture_face
from device_sdk.biometrics.sign_projection import SignProjection

MODEL_ID: Final = "dlib-face-v1"
"""Detection, alignment, network and mirror image as in `embedding` and `models`; the weights by their digests."""

SEED_LABEL: Final = "tandem face-2048 v1"
CODE_BITS: Final = 2048
_CONSTANTS: Final = "face-2048.npz"


class FaceEncoder(EmbeddingEncoder):
    """The encoder of the profile face-2048. Needs the packages of `tandem-auth[face]`.

    A sample is a picture with one face (a path, an image file's bytes, a uint8 array, a `CameraFrame`) or a
    `FaceCapture` made from one by `capture`, which an app uses to show the quality before it goes on. `projection`:
    other constants than the shipped ones, as measurements need; they change the encoder's id.

    `encode` and `enrol` raise the errors of `face.errors` for pictures that cannot be used, and the EncodingErrors of
    `EmbeddingEncoder`.
    """

    def __init__(self, projection: SignProjection | None = None) -> None:
        super().__init__(projection or shipped_projection(), _embedding, MODEL_ID)

    @staticmethod
    def capture(sample: Any) -> FaceCapture:
        """The face of a picture with the quality of the capture. Raises the errors of `face.errors`."""
        return capture_face(sample)


@lru_cache(maxsize=1)
def shipped_projection() -> SignProjection:
    """The public constants of face-2048; how they were made stands in the .json beside them."""
    with resources.as_file(resources.files(f"{__package__}.constants") / _CONSTANTS) as path:
        return SignProjection.load(path)


def _embedding(sample: Any) -> NDArray[np.float64]:
    return (sample if isinstance(sample, FaceCapture) else capture_face(sample)).embedding
