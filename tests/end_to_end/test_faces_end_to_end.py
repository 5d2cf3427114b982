"""Faces on photographs through a real server: the published profile's claim, and the errors that users meet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from real_server import ThreadServer, thread_server
from relying_parties import RelyingParty

from benchmarks.accuracy.photographs import Captures, captured, constants_for
from benchmarks.accuracy.photographs import run as measure
from device_sdk import Device, KeyFile
from device_sdk.biometrics import BinaryCode
from device_sdk.biometrics.face import FaceEncoder
from device_sdk.biometrics.face.photographs import Photographs, known_subjects, load_photographs
from device_sdk.errors import InconsistentCaptures, NoMatch
from mpc.login.published_profiles import MEASUREMENTS, PUBLISHED

PHOTOGRAPHS = Path(__file__).parents[3] / "shared/data/orl_faces_s01_s20.npz"
pytestmark = pytest.mark.skipif(not PHOTOGRAPHS.exists(), reason="the photographs are not beside this checkout")

FACE = PUBLISHED["face-2048"]


@dataclass(frozen=True)
class Faces:
    """Everybody's faces, embedded once for all tests of this file, and for each subject an encoder made without him."""

    images: Photographs
    captures: Captures
    encoders: list[FaceEncoder]


@pytest.fixture(scope="module")
def faces() -> Faces:
    images = load_photographs(PHOTOGRAPHS)
    captures = captured(images, lambda: None)
    return Faces(images, captures, [FaceEncoder(projection) for projection in constants_for(images, captures)[0]])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, faces: Faces) -> Iterator[ThreadServer]:
    """Serves the published rule for the constants of either half."""
    rule = {"code_bits": FACE.code_bits, "threshold": FACE.threshold}
    profiles = {f"fold-{fold}": {**rule, "encoder_id": faces.encoders[fold].encoder_id} for fold in (0, 1)}
    with thread_server(tmp_path_factory.mktemp("faces"), profiles=profiles) as running:
        yield running


def enrolled(server: ThreadServer, folder: Path, faces: Faces, subject: int, captures: list[Any]) -> Device:
    """Subjects take turns in the folds, so the subject's number tells his profile."""
    return Device.enrol(
        server=server.url,
        enrolment_code=server.code(),
        captures=captures,
        vault=folder / "vault",
        vault_key=KeyFile(folder / "vault.key"),
        encoder=faces.encoders[subject],
        profile=f"fold-{subject % 2}",
    )


def distance(one: BinaryCode, other: BinaryCode) -> int:
    return int(np.count_nonzero(one.bits != other.bits))


def test_every_subject_logs_in_through_the_real_server(server: ThreadServer, tmp_path: Path, faces: Faces) -> None:
    """Enrolled with pictures 1 to 3, tried with 4 to 10 and with the two nearest pictures of somebody else."""
    misses, tries, wrong = 0, 0, []
    for subject, encoder in enumerate(faces.encoders):
        folder = tmp_path / str(subject)
        folder.mkdir()
        own = faces.captures[subject]
        template = encoder.enrol(own[:3])
        shop = RelyingParty()
        with enrolled(server, folder, faces, subject, own[:3]) as device:
            nearest = min(own[:3], key=lambda capture: distance(encoder.encode(capture), template))
            options = shop.creation_options()
            shop.register(options, device.create(options, shop.origin, nearest))
            strangers = [capture for row in faces.captures if row is not own for capture in row[3:]]
            strangers.sort(key=lambda capture: distance(encoder.encode(capture), template))
            for capture in [*own[3:], *strangers[:2]]:
                expected = distance(encoder.encode(capture), template) <= FACE.threshold
                options = shop.request_options()
                try:
                    shop.authenticate(options, device.get(options, shop.origin, capture))
                    matched = True
                except NoMatch:
                    matched = False
                genuine = any(capture is one for one in own)
                tries += genuine
                misses += genuine and not matched
                if matched is not expected or (matched and not genuine):
                    wrong.append((subject, genuine, matched, expected))
            assert distance(encoder.encode(strangers[0]), template) > FACE.threshold
    assert not wrong
    assert tries == 140 and misses <= 0.05 * tries


def test_the_published_measurement_is_what_the_photographs_give(faces: Faces) -> None:
    """The rule in the clear for all 2,800 tries; the circuit's decision is compared with it in `make accuracy`."""
    counted = measure(faces.images, faces.captures, lambda: None, joint=False).as_dict()
    published = MEASUREMENTS[FACE.measured]

    assert counted["impostor_tries"] == 20 * 19 * 7
    names = ("genuine_tries", "false_rejects", "impostor_tries", "false_accepts", "failures_to_capture", "subjects")
    assert {name: counted[name] for name in names} == {name: getattr(published, name) for name in names}
    assert counted["impostor_tries_with_both_unseen"] == 1260


def test_constants_are_never_made_with_the_person_enrolled(faces: Faces) -> None:
    projections, made_from = constants_for(faces.images, faces.captures)

    assert known_subjects(faces.images) == set(range(20))
    assert all(subject not in made_from[subject] and len(made_from[subject]) == 10 for subject in range(20))
    assert len({projection.encoder_id for projection in projections}) == 2


def test_people_that_the_shipped_constants_do_not_know_are_tried_with_them(faces: Faces) -> None:
    """Mirrored pictures stand for other people here: their digests are not in the list."""
    mirrored = np.ascontiguousarray(faces.images[:2, :, :, ::-1])

    projections, made_from = constants_for(mirrored, faces.captures[:2])

    assert {FaceEncoder(projection).encoder_id for projection in projections} == {FACE.encoder_id}
    assert made_from == [set(), set()]


def test_the_shipped_constants_are_those_of_the_published_profile() -> None:
    encoder = FaceEncoder()

    assert (encoder.encoder_id, encoder.code_bits, encoder.masked) == (FACE.encoder_id, FACE.code_bits, False)


@pytest.mark.parametrize(("own", "foreign"), [(2, 1), (3, 3), (5, 5)])
def test_a_mixed_set_is_refused(server: ThreadServer, tmp_path: Path, faces: Faces, own: int, foreign: int) -> None:
    """A template between two people would let in both."""
    captures = [*faces.captures[0][:own], *faces.captures[4][:foreign]]

    with pytest.raises(InconsistentCaptures):
        enrolled(server, tmp_path, faces, 0, captures)
    assert not (tmp_path / "vault").exists()


def test_one_stray_picture_among_many_is_left_out(faces: Faces) -> None:
    encoder, own, stray = faces.encoders[0], faces.captures[0][:5], faces.captures[4][0]

    def agree(one: BinaryCode, other: BinaryCode) -> bool:
        return distance(one, other) <= FACE.threshold

    with_stray = encoder.enrol([*own[:2], stray, *own[2:]], agree)

    assert with_stray.packed() == encoder.enrol(own, agree).packed()
