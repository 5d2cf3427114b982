"""Pictures that cannot be used get an error of their own, and pictures in every form give the same code."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter

from device_sdk.biometrics import EncodingError
from device_sdk.biometrics.face import (
    CameraFrame,
    FaceBlurred,
    FaceEncoder,
    FaceTooDark,
    FaceTooSmall,
    ImageUnreadable,
    NoFace,
    PictureUnusable,
    SeveralFaces,
)
from device_sdk.biometrics.face.images import load_picture
from device_sdk.biometrics.face.photographs import load_photographs
from device_sdk.errors import Advice

PHOTOGRAPHS = Path(__file__).parents[3] / "shared/data/orl_faces_s01_s20.npz"
needs_photographs = pytest.mark.skipif(not PHOTOGRAPHS.exists(), reason="the photographs are not beside this checkout")


@pytest.fixture(scope="module")
def face() -> np.ndarray:
    return load_photographs(PHOTOGRAPHS)[0, 0]


def as_file(pixels: np.ndarray, kind: str, **how: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **how)
    return stream.getvalue()


@needs_photographs
def test_every_form_of_a_picture_gives_one_code(face: np.ndarray, tmp_path: Path) -> None:
    """A path, the file's bytes, an array, a camera's frame with its channels turned, a file that lies on its side."""
    encoder = FaceEncoder()
    colour = np.stack([face, face, np.minimum(face, 200)], axis=2)
    lying = Image.fromarray(colour).transpose(Image.Transpose.ROTATE_90)
    exif = lying.getexif()
    exif[0x0112] = 6  # turn by 90° clockwise to view
    stream = io.BytesIO()
    lying.save(stream, "PNG", exif=exif)
    (tmp_path / "face.png").write_bytes(as_file(colour, "PNG"))
    code = encoder.encode(colour).packed()

    for sample in (
        tmp_path / "face.png",
        str(tmp_path / "face.png"),
        as_file(colour, "PNG"),
        CameraFrame(np.ascontiguousarray(colour[:, :, ::-1]), channels="bgr"),
        stream.getvalue(),
        encoder.capture(colour),
    ):
        assert encoder.encode(sample).packed() == code


@needs_photographs
def test_the_quality_falls_with_what_is_wrong(face: np.ndarray) -> None:
    good = FaceEncoder.capture(face).quality
    dim = FaceEncoder.capture((face * 0.4).astype(np.uint8)).quality
    soft = FaceEncoder.capture(np.asarray(Image.fromarray(face).filter(ImageFilter.GaussianBlur(1.5)))).quality

    assert 0 <= dim.score < good.score <= 100 and 0 <= soft.score < good.score
    assert dim.brightness < good.brightness and soft.sharpness < good.sharpness
    assert 40 < good.face_width < 112


def two_faces(face: np.ndarray) -> np.ndarray:
    return np.concatenate([face, face[:, ::-1]], axis=1)


def far_away(face: np.ndarray) -> np.ndarray:
    canvas = np.full((224, 184), 128, dtype=np.uint8)
    canvas[60:108, 60:100] = np.asarray(Image.fromarray(face).resize((40, 48)))
    return canvas


@needs_photographs
@pytest.mark.parametrize(
    ("spoil", "error", "code"),
    [
        (lambda face: np.full_like(face, 128), NoFace, "no_face"),
        (lambda face: face[60:, :], NoFace, "no_face"),
        (two_faces, SeveralFaces, "several_faces"),
        (far_away, FaceTooSmall, "face_too_small"),
        (lambda face: (face * 0.15).astype(np.uint8), FaceTooDark, "face_too_dark"),
        (
            lambda face: np.asarray(Image.fromarray(face).filter(ImageFilter.GaussianBlur(4))),
            FaceBlurred,
            "face_blurred",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_unusable_picture_has_its_error(face: np.ndarray, spoil, error: type, code: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(error) as caught:
        FaceEncoder.capture(spoil(face))
    assert (caught.value.code, caught.value.advice) == (code, Advice.ASK_USER)
    assert isinstance(caught.value, PictureUnusable)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a picture",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        as_file(np.zeros((8, 8), np.uint8), "PNG"),
        b"GIF89a" + bytes(50),
    ],
    ids=["empty", "text", "cut", "tiny", "gif"],
)
def test_what_is_no_picture_is_unreadable(content: bytes, tmp_path: Path) -> None:
    """Whatever a decoder raises on damaged input must not reach the app, nor quote a path."""
    path = tmp_path / "secret-name"
    path.write_bytes(content)
    for sample in (content, path):
        with pytest.raises(ImageUnreadable) as caught:
            load_picture(sample)
        assert "secret-name" not in str(caught.value)


def test_a_picture_that_unpacks_to_gigabytes_is_refused_by_its_header() -> None:
    bomb = as_file(np.zeros((64, 64), np.uint8), "PNG")
    header = bomb[:16] + (60_000).to_bytes(4, "big") * 2 + bomb[24:29]
    import zlib

    forged = header + zlib.crc32(header[12:29]).to_bytes(4, "big") + bomb[33:]
    with pytest.raises(ImageUnreadable):
        load_picture(forged)


@pytest.mark.parametrize("sample", [np.zeros((20, 20)), np.zeros((20, 20, 4), np.uint8), 7, None], ids=str)
def test_a_sample_of_another_kind_is_the_apps_mistake(sample: object) -> None:
    with pytest.raises(EncodingError) as caught:
        load_picture(sample)
    assert caught.value.advice is Advice.STOP


def test_the_package_is_imported_without_its_heavy_parts() -> None:
    """Apps without the extra import `device_sdk` all the same, and nobody loads a network to read a code."""
    script = (
        "import sys, device_sdk, device_sdk.biometrics.face as face\n"
        "assert not {'dlib', 'PIL', 'face_recognition_models'} & set(sys.modules)\n"
        "sys.modules['dlib'] = None\n"
        "import numpy\n"
        "try: face.capture_face(numpy.zeros((50, 50), numpy.uint8))\n"
        "except face.FaceSupportMissing as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "tandem-auth[face]" in done.stdout
