"""Pictures in whatever form an app has them, as one thing: RGB pixels, upright, of bounded size."""

from __future__ import annotations

import io
import os
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from device_sdk.biometrics.errors import EncodingError
from device_sdk.biometrics.face.errors import FaceSupportMissing, ImageUnreadable

Pixels = NDArray[np.uint8]
"""Shape (height, width, 3), red, green, blue."""

PIXELS_MAX: Final = 50_000_000
SIDE_MIN: Final = 16
FILE_BYTES_MAX: Final = 64 << 20
_FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP", "PPM", "TIFF")


@dataclass(frozen=True, slots=True, eq=False)
class CameraFrame:
    """A frame as a camera library gives it. `channels`: OpenCV's frames are "bgr"."""

    pixels: NDArray[Any] = field(repr=False)
    channels: Literal["rgb", "bgr"] = "rgb"


def load_picture(sample: Any) -> Pixels:
    """The pixels of a picture.

    A sample is the path of an image file, its content as bytes, a uint8 array of shape (height, width) for grey or
    (height, width, 3) for RGB, or a `CameraFrame`. Files are turned upright as their EXIF data say. Raises
    ImageUnreadable for a file that is none, is damaged, or has more than 50 million pixels, EncodingError `wrong_type`
    or `wrong_shape` for anything else, OSError where a file cannot be opened.
    """
    if isinstance(sample, CameraFrame):
        pixels = _from_array(sample.pixels)
        return np.ascontiguousarray(pixels[:, :, ::-1]) if sample.channels == "bgr" else pixels
    if isinstance(sample, np.ndarray):
        return _from_array(sample)
    if isinstance(sample, (bytes, bytearray, memoryview)):
        return _from_file_content(bytes(sample))
    if isinstance(sample, (str, os.PathLike)):
        path = Path(sample)
        if path.stat().st_size > FILE_BYTES_MAX:
            raise ImageUnreadable
        return _from_file_content(path.read_bytes())
    raise EncodingError("wrong_type", "a picture is a path, bytes of an image file, a uint8 array or a CameraFrame")


def resized(pixels: Pixels, width: int, height: int) -> Pixels:
    """Bicubic, with the low-pass filter that shrinking needs."""
    image = _pillow().fromarray(pixels)
    return np.asarray(image.resize((width, height), _pillow().Resampling.BICUBIC), dtype=np.uint8)


def _from_array(array: NDArray[Any]) -> Pixels:
    if array.dtype != np.uint8:
        raise EncodingError("wrong_type", "pixels must be uint8, 0 to 255")
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    if array.ndim != 3 or array.shape[2] != 3:
        raise EncodingError("wrong_shape", "pixels must have shape (height, width) or (height, width, 3)")
    if min(array.shape[:2]) < SIDE_MIN or array.shape[0] * array.shape[1] > PIXELS_MAX:
        raise ImageUnreadable
    return np.ascontiguousarray(array)


def _from_file_content(content: bytes) -> Pixels:
    if not 0 < len(content) <= FILE_BYTES_MAX:
        raise ImageUnreadable
    pillow = _pillow()
    from PIL import ImageOps

    try:
        with warnings.catch_warnings():
            # Pillow only warns of a picture that unpacks to a multiple of its limit; the size is judged right below,
            # from the header, before anything is unpacked.
            warnings.simplefilter("ignore")
            with pillow.open(io.BytesIO(content), formats=_FORMATS) as image:
                if image.width * image.height > PIXELS_MAX:
                    raise ImageUnreadable
                upright = ImageOps.exif_transpose(image).convert("RGB")
        return _from_array(np.asarray(upright, dtype=np.uint8))
    except (ImageUnreadable, MemoryError):
        raise
    except Exception:  # decoders raise whatever they like on damaged files; none of it says anything to a user
        raise ImageUnreadable from None


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise FaceSupportMissing("pictures need Pillow: install tandem-auth[face]") from None
    return Image
