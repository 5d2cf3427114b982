"""Faces from photographs and camera frames (extra `tandem-auth[face]`). Importing it loads neither dlib nor Pillow."""

from device_sdk.biometrics.face.embedding import FaceCapture, capture_face
from device_sdk.biometrics.face.errors import (
    FaceBlurred,
    FaceSupportMissing,
    FaceTooDark,
    FaceTooSmall,
    ImageUnreadable,
    NoFace,
    PictureUnusable,
    SeveralFaces,
)
from device_sdk.biometrics.face.face_encoder import FaceEncoder
from device_sdk.biometrics.face.images import CameraFrame
from device_sdk.biometrics.face.quality import CaptureQuality

__all__ = [
    "CameraFrame",
    "CaptureQuality",
    "FaceBlurred",
    "FaceCapture",
    "FaceEncoder",
    "FaceSupportMissing",
    "FaceTooDark",
    "FaceTooSmall",
    "ImageUnreadable",
    "NoFace",
    "PictureUnusable",
    "SeveralFaces",
    "capture_face",
]
