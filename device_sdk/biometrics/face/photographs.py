"""Files of photographs by subject, and how a subject is named without naming anybody."""

from __future__ import annotations

import hashlib
import json
import zipfile
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Photographs = NDArray[np.uint8]
"""Shape (subjects, pictures, height, width), grey, or (subjects, pictures, height, width, 3), RGB."""


def load_photographs(path: str | Path) -> Photographs:
    """The array `images` of an .npz file, in one of the shapes above.

    Raises ValueError for any other file, OSError where it cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            images: NDArray[np.uint8] = archive["images"]
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise ValueError(f"{path}: not an .npz file with an array named images") from error
    if images.dtype != np.uint8 or not (images.ndim == 4 or (images.ndim == 5 and images.shape[4] == 3)):
        raise ValueError(f"{path}: images must be uint8 (subjects, pictures, height, width), or with 3 colours behind")
    if images.shape[0] < 1 or images.shape[1] < 4:
        raise ValueError(f"{path}: at least four pictures of each subject are needed, three of them to enrol")
    return images


def subject_digest(pictures: Photographs) -> str:
    """SHA-256 of one subject's pictures: tells whether constants were made with them."""
    shape = ",".join(str(size) for size in pictures.shape).encode("ascii")
    return hashlib.sha256(shape + b"\0" + np.ascontiguousarray(pictures).tobytes()).hexdigest()


def known_subjects(images: Photographs) -> set[int]:
    """Which of the subjects the shipped constants were made with: measuring with them needs other constants."""
    path = resources.files(f"{__package__}.constants") / "face-2048.json"
    digests = set(json.loads(path.read_text(encoding="utf-8"))["subject_digests"])
    return {number for number, pictures in enumerate(images) if subject_digest(pictures) in digests}
