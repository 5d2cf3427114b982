"""The photograph part: every subject of a file enrolled with pictures 1 to 3, and everybody's other pictures tried.

Constants are never made with the person enrolled. If the file holds a subject of the shipped constants, both halves
of the subjects get constants made from the other half; otherwise the shipped ones are tested as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.accuracy.joint_decision import Enrolled
from device_sdk.biometrics import BinaryCode, SignProjection, differing_and_valid
from device_sdk.biometrics.face import FaceEncoder
from device_sdk.biometrics.face.embedding import FaceCapture
from device_sdk.biometrics.face.errors import PictureUnusable
from device_sdk.biometrics.face.face_encoder import shipped_projection
from device_sdk.biometrics.face.make_constants import projection_for
from device_sdk.biometrics.face.photographs import Photographs, known_subjects
from device_sdk.errors import InconsistentCaptures
from mpc.login.profile import Profile
from mpc.login.published_profiles import PUBLISHED

ENROLLED_PICTURES = 3

Captures = list[list[FaceCapture | None]]


@dataclass(frozen=True, slots=True)
class Try:
    """One comparison: whose template, whose picture, how far, and both decisions.

    `unseen`: neither of the two people was among those that the constants were made from.
    """

    enrolled: int
    person: int
    picture: int
    distance: int
    clear: bool
    joint: bool
    unseen: bool


@dataclass(slots=True)
class PhotographResult:
    profile: Profile
    subjects: int
    two_fold: bool
    failures_to_capture: int
    failures_to_enrol: list[int]
    tries: list[Try] = field(repr=False)
    templates: list[BinaryCode | None] = field(repr=False)
    qualities: list[int] = field(repr=False)

    @property
    def genuine(self) -> list[Try]:
        return [one for one in self.tries if one.person == one.enrolled]

    @property
    def impostor(self) -> list[Try]:
        return [one for one in self.tries if one.person != one.enrolled]

    def as_dict(self) -> dict[str, Any]:
        unseen = [one for one in self.impostor if one.unseen]
        return {
            "profile": self.profile.name,
            "theta": self.profile.threshold,
            "genuine_tries": len(self.genuine),
            "false_rejects": sum(not one.joint for one in self.genuine),
            "impostor_tries": len(self.impostor),
            "false_accepts": sum(one.joint for one in self.impostor),
            "failures_to_capture": self.failures_to_capture,
            "equal_to_clear": all(one.joint == one.clear for one in self.tries),
            "failures_to_enrol": len(self.failures_to_enrol),
            "subjects": self.subjects,
            "constants": "two-fold over the subjects" if self.two_fold else "as shipped",
            "impostor_tries_with_both_unseen": len(unseen),
            "false_accepts_with_both_unseen": sum(one.joint for one in unseen),
        }


def captured(images: Photographs, advance: Callable[[], None]) -> Captures:
    """The face of every picture, None where there is no usable one."""

    def one(picture: Photographs) -> FaceCapture | None:
        try:
            return FaceEncoder.capture(picture)
        except PictureUnusable:
            return None
        finally:
            advance()

    return [[one(picture) for picture in pictures] for pictures in images]


def constants_for(images: Photographs, captures: Captures) -> tuple[list[SignProjection], list[set[int]]]:
    """For each subject the projection to enrol with, and the subjects that it was made from.

    Raises ValueError where two folds are needed and one of them would hold fewer than two subjects.
    """
    everybody = range(len(images))
    if not known_subjects(images):
        return [shipped_projection()] * len(images), [set[int]()] * len(images)
    if len(images) < 4:
        raise ValueError("subjects that the shipped constants were made with need at least four in the file")
    folds = [{number for number in everybody if number % 2 == fold} for fold in (0, 1)]
    made = []
    for fold in folds:
        embeddings: list[list[NDArray[np.float64] | None]] = [
            [capture.embedding if capture else None for capture in captures[number]] for number in sorted(fold)
        ]
        made.append(projection_for(embeddings)[0])
    other = [1 - number % 2 for number in everybody]
    return [made[fold] for fold in other], [folds[fold] for fold in other]


def run(
    images: Photographs, captures: Captures, advance: Callable[[], None], *, joint: bool = True
) -> PhotographResult:
    """Enrol and try. `joint`: decide by whole logins of the protocol, else by the clear rule alone."""
    shipped = PUBLISHED["face-2048"]
    projections, made_from = constants_for(images, captures)
    result = PhotographResult(
        profile=shipped,
        subjects=len(images),
        two_fold=any(made_from),
        failures_to_capture=sum(capture is None for row in captures for capture in row),
        failures_to_enrol=[],
        tries=[],
        templates=[],
        qualities=[capture.quality.score for row in captures for capture in row if capture],
    )
    for number in range(len(images)):
        encoder = FaceEncoder(projections[number])
        profile = replace(shipped, encoder_id=encoder.encoder_id)
        usable = [capture for capture in captures[number][:ENROLLED_PICTURES] if capture]

        def agree(one: BinaryCode, other: BinaryCode, profile: Profile = profile) -> bool:
            return profile.accepts(*differing_and_valid(one, other))

        try:
            if len(usable) < ENROLLED_PICTURES:
                raise InconsistentCaptures
            template = encoder.enrol(usable, agree)
        except InconsistentCaptures:
            result.failures_to_enrol.append(number)
            result.templates.append(None)
            continue
        result.templates.append(template)
        enrolled = Enrolled.of(profile, template) if joint else None
        for person, row in enumerate(captures):
            unseen = not {number, person} & made_from[number]
            for picture, capture in enumerate(row[ENROLLED_PICTURES:], start=ENROLLED_PICTURES + 1):
                if capture is not None:
                    probe = encoder.encode(capture)
                    distance, valid = differing_and_valid(template, probe)
                    clear = profile.accepts(distance, valid)
                    decided = enrolled.accepts(probe) if enrolled else clear
                    result.tries.append(Try(number, person, picture, distance, clear, decided, unseen))
                advance()
    return result
