"""`python -m device_sdk.biometrics.face.make_constants DATA.npz`: mean and whitening of face-2048 from photographs.

Writes the constants as .npz, and beside them a .json that says from what and how they were made. The subjects are
named by digests of their pictures only, so that a measurement can tell whether it tests people it was made with.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from device_sdk.biometrics.face.embedding import DIMENSIONS, capture_face
from device_sdk.biometrics.face.errors import PictureUnusable
from device_sdk.biometrics.face.face_encoder import CODE_BITS, MODEL_ID, SEED_LABEL, FaceEncoder
from device_sdk.biometrics.face.photographs import Photographs, load_photographs, subject_digest
from device_sdk.biometrics.sign_projection import SignProjection
from device_sdk.biometrics.whitening import Whitening, whitening

Embedding = NDArray[np.float64]


def embeddings_of(images: Photographs, advance: Callable[[], None] = lambda: None) -> list[list[Embedding | None]]:
    """The embedding of each picture by subject, None where no face could be captured."""

    def one(picture: Photographs) -> Embedding | None:
        try:
            return capture_face(picture).embedding
        except PictureUnusable:
            return None
        finally:
            advance()

    return [[one(picture) for picture in pictures] for pictures in images]


def projection_for(subjects: Sequence[Sequence[Embedding | None]]) -> tuple[SignProjection, Whitening]:
    """The face projection whose constants come from these subjects. Raises ValueError for fewer than two."""
    people: dict[int | str, Embedding] = {}
    for number, embeddings in enumerate(subjects):
        usable = [embedding for embedding in embeddings if embedding is not None]
        if usable:
            people[number] = np.array(usable)
    made = whitening(people)
    return SignProjection(DIMENSIONS, CODE_BITS, made.mean, made.matrix, SEED_LABEL), made


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="make_constants", description=__doc__)
    parser.add_argument("data", type=Path, metavar="DATA.npz", help="array images: subjects, pictures, height, width")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.npz")
    parser.add_argument("--source", required=True, help="what the photographs are, in words")
    options = parser.parse_args(arguments)
    images = load_photographs(options.data)
    print(f"{images.shape[0]} subjects, {images.shape[1]} pictures each: one dot a subject ", end="", flush=True)
    done = 0

    def dot() -> None:
        nonlocal done
        done += 1
        if done % images.shape[1] == 0:
            print(".", end="", flush=True)

    projection, made = projection_for(embeddings_of(images, dot))
    projection.save(options.out)
    record = {
        "encoder_id": FaceEncoder(projection).encoder_id,
        "model": MODEL_ID,
        "source": options.source,
        "subjects": made.subjects,
        "pictures": made.samples,
        "effective_samples": round(made.effective_samples, 2),
        "shrinkage": round(made.shrinkage, 4),
        "subject_digests": [subject_digest(pictures) for pictures in images],
    }
    options.out.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"\n{record['encoder_id']}: {options.out}, {options.out.with_suffix('.json')}")


if __name__ == "__main__":
    main()
