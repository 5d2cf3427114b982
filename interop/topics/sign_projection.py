"""Sign projection: small constants in full, and the constants of face-2048 on embeddings of 128 floats."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from device_sdk.biometrics import SignProjection
from device_sdk.biometrics.errors import EncodingError
from device_sdk.biometrics.face.face_encoder import MODEL_ID, shipped_projection
from device_sdk.biometrics.projection_constants import Integers, ProjectionConstants
from device_sdk.biometrics.sign_projection import _normalised, _quantised, projection_matrix
from device_sdk.errors import InconsistentCaptures
from interop.drawing import Draws
from interop.notation import Json, digest, topic

_DIMENSIONS, _BITS = 6, 64
_LABEL = "tandem vectors"


def vectors() -> Json:
    small = SignProjection.from_constants(_small_constants())
    face = shipped_projection()
    draws = Draws("tandem vectors: embeddings")
    with draws.named(*[f"embedding {number} of a face, before smoothing" for number in range(4)]) as drawn:
        faces = [_embedding(draws.bytes(4 * 128)) for _ in range(4)]
    base = faces[0]
    captures = [base, base + faces[1] / 8, base + faces[2] / 8]
    return topic(
        "Sign projection",
        "From floats to bits. Floats are given in decimal and as IEEE 754 binary64, big-endian. The inner values q, "
        "N, u, y are integers. The whitening constants come from a population and are data, not part of an "
        "implementation.",
        ["docs/encoders.md, SignProjection"],
        {
            "small": {
                "constants": _constants(small.constants),
                "R, row by row": projection_matrix(_LABEL, _DIMENSIONS, _BITS).tolist(),
                "encodings": [_encoding(small, values) for values in _SMALL],
                "refused": [_refusal(small, values) for values in _REFUSED],
                "enrolment": _enrolment(small, [np.array(values) for values in _CAPTURES]),
                "refused enrolment": _refused_enrolment(small),
            },
            "face-2048": {
                "about": "The constants are device_sdk/biometrics/face/constants/face-2048.npz. The embeddings are "
                "drawn: 16-bit integers, smoothed and scaled to length 1, of nobody's face.",
                "encoder_id": f"{MODEL_ID}/{face.constants.digest().hex()[:16]}",
                "constants digest": face.constants.digest().hex(),
                "mean": face.constants.mean.tolist(),
                "whitening, rows as i64 little-endian": digest(face.constants.whitening.tobytes()),
                "R, int8 row by row": digest(
                    projection_matrix(
                        face.constants.label, face.constants.dimensions, face.constants.code_bits
                    ).tobytes()
                ),
                "label": face.constants.label,
                "seed": draws.seed,
                "draws": drawn,
                "encodings": [_encoding(face, values.tolist()) for values in faces],
                "enrolment": _enrolment(face, captures),
            },
        },
    )


_SMALL: tuple[tuple[float, ...], ...] = (
    (0.5, -0.25, 0.125, 0.75, -0.3, 0.1),
    (1.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    (-1.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    (1e-300, 2e-300, -3e-300, 0.0, 1e-301, 5e-324),
    (1e300, -1e300, 1e290, 3.3e299, 0.0, 7.0),
    (0.1, 0.2, 0.3, 0.4, 0.5, 0.6),
)
_REFUSED: tuple[tuple[float, ...], ...] = (
    (0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    (0.5, float("nan"), 0.125, 0.75, -0.3, 0.1),
    (0.5, float("inf"), 0.125, 0.75, -0.3, 0.1),
    (0.5, -0.25, 0.125),
)
_CAPTURES = (
    (0.5, -0.25, 0.125, 0.75, -0.3, 0.1),
    (0.52, -0.24, 0.1, 0.8, -0.31, 0.12),
    (0.47, -0.2, 0.15, 0.7, -0.28, 0.05),
)


def _small_constants() -> ProjectionConstants:
    mean = np.array([20_000, -15_000, 3, 0, 100_000, -1])
    whitening = np.array([[(1 << 21) + 7 * i if i == j else 1_000 * (i - 2 * j) for j in range(6)] for i in range(6)])
    return ProjectionConstants(_DIMENSIONS, _BITS, mean.astype(np.int64), whitening.astype(np.int64), _LABEL)


def _constants(constants: ProjectionConstants) -> Json:
    return {
        "dimensions": constants.dimensions,
        "code_bits": constants.code_bits,
        "label": constants.label,
        "mean": constants.mean.tolist(),
        "whitening": constants.whitening.tolist(),
        "digest": constants.digest().hex(),
        "encoder_id": SignProjection.from_constants(constants).encoder_id,
    }


def _encoding(encoder: SignProjection, values: Sequence[float]) -> Json:
    """The steps of docs/encoders.md, by the functions of the encoder; the code is the encoder's own."""
    constants = encoder.constants
    quantised = _quantised(np.array(values))
    unit = _normalised(quantised)
    whitened = constants.whitening @ (unit - constants.mean)
    return {
        **_floats(values),
        "q": quantised.tolist(),
        "u": unit.tolist(),
        "y": whitened.tolist(),
        "code": encoder.encode(np.array(values)).packed().hex(),
    }


def _enrolment(encoder: SignProjection, captures: Sequence[NDArray[np.float64]]) -> Json:
    units: list[Integers] = [_normalised(_quantised(capture)) for capture in captures]
    total: Integers = np.sum(np.stack(units), axis=0, dtype=np.int64)
    return {
        "captures": [_floats(capture.tolist()) for capture in captures],
        "sum of u": total.tolist(),
        "u of the sum": _normalised(total).tolist(),
        "template": encoder.enrol(captures).packed().hex(),
    }


def _refused_enrolment(encoder: SignProjection) -> Json:
    """Captures that cancel out."""
    captures = [np.eye(_DIMENSIONS)[0], -np.eye(_DIMENSIONS)[0], np.eye(_DIMENSIONS)[1]]
    try:
        encoder.enrol(captures)
    except InconsistentCaptures as refusal:
        return {"captures": [_floats(capture.tolist()) for capture in captures], "refused": refusal.code}
    raise AssertionError("captures that cancel out were taken")


def _refusal(encoder: SignProjection, values: Sequence[float]) -> Json:
    try:
        encoder.encode(np.array(values))
    except EncodingError as refusal:
        return {"x": [str(value) for value in values], "refused": refusal.code}
    raise AssertionError("an embedding that must be refused was taken")


def _floats(values: Sequence[float]) -> dict[str, Any]:
    return {"x": list(values), "x, binary64": "".join(struct.pack(">d", value).hex() for value in values)}


def _embedding(drawn: bytes) -> NDArray[np.float64]:
    """Signed 16-bit integers, pairs of them added, divided by their length: what a network might give, of nobody."""
    integers = np.frombuffer(drawn, dtype="<i2").astype(np.float64).reshape(-1, 2).sum(axis=1)
    length = math.sqrt(float(np.sum(integers * integers)))
    return np.asarray(integers / length, dtype=np.float64)
