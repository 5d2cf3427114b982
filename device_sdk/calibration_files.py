"""What `tandem-device calibrate` reads and writes."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from device_sdk.biometrics.calibration import calibrate
from device_sdk.biometrics.whitening import Floats, grouped

_WORST = 12


def write_calibration(data: Path, out: Path, model: str, wanted: float) -> dict[str, Any]:
    """Writes constants.npz, calibration.json, histogram.png, det.png and subjects.png into `out`; the JSON's content.

    Raises ValueError for data that cannot be used or a missing matplotlib, OSError.
    """
    if not (1 <= len(model) <= 60 and model.isascii() and model.isprintable()):
        raise ValueError("model: 1 to 60 printable ASCII characters")
    people = _read(data)
    try:
        from device_sdk.biometrics import plots
        from device_sdk.biometrics.det_curve import det_curve
    except ImportError:
        raise ValueError("pictures need matplotlib: install tandem-auth[calibrate]") from None
    made = calibrate(people, wanted, model)
    best = made.recommended
    document = {"encoder_id": f"{model}/{made.as_dict()['encoder_digest']}", **made.as_dict()}
    out.mkdir(parents=True, exist_ok=True)
    made.projection.save(out / "constants.npz")
    (out / "calibration.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    share = best.threshold / best.code_bits
    genuine, strangers = best.genuine.tolist(), best.impostor.tolist()
    title = f"{model}, {best.code_bits} bits, {len(people)} people"
    plots.histograms(out / "histogram.png", genuine, {"strangers": strangers}, share, title)
    det_curve(out / "det.png", genuine, strangers, share, best.false_matches, best.false_non_matches, title)
    worst = sorted(best.refused_by_person.items(), key=lambda one: -one[1])[:_WORST]
    plots.worst_subjects(out / "subjects.png", worst, f"{title}: refused most")
    return document


def _read(path: Path) -> dict[int | str, Floats]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            embeddings, labels = archive["embeddings"], archive["labels"]
    except (ValueError, KeyError, EOFError, zipfile.BadZipFile, AttributeError, TypeError):
        raise ValueError(f"{path}: not an .npz file with the arrays embeddings and labels") from None
    return grouped(embeddings, labels)
