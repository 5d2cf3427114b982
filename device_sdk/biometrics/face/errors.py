"""Why a picture gives no face code. Each is an EncodingError with a code of its own; the texts are for users."""

from __future__ import annotations

from typing import ClassVar

from device_sdk.biometrics.errors import EncodingError
from device_sdk.errors import Advice


class FaceSupportMissing(EncodingError):
    """The packages behind `tandem-auth[face]` are not installed, or their weights are not the ones expected."""

    def __init__(self, message: str) -> None:
        super().__init__("face_support_missing", message)


class PictureUnusable(EncodingError):
    """One picture cannot be used; another capture helps. Nothing was sent and no attempt was spent.

    The text says what to do and never contains picture content or a path. Each subclass has a `code` of its own.
    """

    _reason: ClassVar[tuple[str, str]]

    def __init__(self) -> None:
        super().__init__(*self._reason)
        self.advice = Advice.ASK_USER


class ImageUnreadable(PictureUnusable):
    """`image_unreadable`: not an image file, a damaged one, or one of more than 50 million pixels."""

    _reason = (
        "image_unreadable",
        "this is no picture that can be read; take a JPEG, PNG or WebP file of at most 50 million pixels",
    )


class NoFace(PictureUnusable):
    """`no_face`"""

    _reason = ("no_face", "there is no face in the picture; look into the camera, with the whole face in view")


class SeveralFaces(PictureUnusable):
    """`several_faces`: the size of the second is at least half that of the first."""

    _reason = ("several_faces", "there is more than one face in the picture; only one person may be in view")


class FaceTooSmall(PictureUnusable):
    """`face_too_small`"""

    _reason = ("face_too_small", "the face is too small in the picture; come closer to the camera")


class FaceTooDark(PictureUnusable):
    """`face_too_dark`"""

    _reason = ("face_too_dark", "the face is too dark; turn towards the light")


class FaceBlurred(PictureUnusable):
    """`face_blurred`"""

    _reason = ("face_blurred", "the face is blurred; hold still and clean the lens")
