"""Phones of visitors who show their own face: an enrolment at the authentication server for each browser."""

from __future__ import annotations

import shutil
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Final, Protocol

import numpy as np

from device_sdk import Device, KeyFile, TandemError
from device_sdk.biometrics import BinaryCode, EncodingError, differing_and_valid
from device_sdk.biometrics.face import FaceCapture, FaceEncoder, FaceSupportMissing
from device_sdk.biometrics.face.models import shared_models
from device_sdk.errors import InconsistentCaptures
from mpc.login.published_profiles import PUBLISHED
from relying_party_demo.face_phone_port import (
    PICTURES_MAX,
    PICTURES_MIN,
    FacesUnavailable,
    PhoneFault,
    PictureProblem,
    PicturesUnusable,
)
from relying_party_demo.local_stack import StackError
from relying_party_demo.phone_device import PhoneDevice
from relying_party_demo.phone_port import PhoneOutcome

PHONES_MAX: Final = 16
PROFILE: Final = PUBLISHED["face-2048"]


class Operator(Protocol):
    """Who runs the authentication server. Both raise StackError."""

    def enrolment_code(self) -> str:
        """A new one-time code."""

    def erase(self, enrolment_id: bytes) -> None:
        """Remove all that the server holds of an enrolment."""


@dataclass(frozen=True, slots=True)
class _Held:
    phone: PhoneDevice
    enrolment_id: bytes
    folder: Path


def load_face_models() -> None:
    """Raises FacesUnavailable. Called early, a command fails before it has started anything."""
    try:
        shared_models()
    except FaceSupportMissing as missing:
        raise FacesUnavailable(str(missing)) from None


class VisitorsFacePhones:
    """`FacePhones` with the SDK, dlib and a running authentication server.

    Vaults are folders below `folder`. At most `PHONES_MAX` phones are kept; one more erases the one that was used
    longest ago. Pictures are decoded in memory, one at a time: a picture of 50 million pixels, the most that is decoded
    at all, takes some 700 MB.
    """

    def __init__(self, server: str, operator: Operator, folder: Path) -> None:
        self._server = server
        self._operator = operator
        self._folder = folder
        self._encoder = FaceEncoder()
        self._decoding = Lock()
        self._lock = Lock()
        self._held: OrderedDict[bytes, _Held] = OrderedDict()
        self._made = 0

    def is_enrolled(self, browser: bytes) -> bool:
        with self._lock:
            return browser in self._held

    def enrol(self, browser: bytes, pictures: Sequence[bytes], options: dict[str, Any], origin: str) -> PhoneOutcome:
        if not PICTURES_MIN <= len(pictures) <= PICTURES_MAX:
            raise PicturesUnusable(f"Enrolling takes {PICTURES_MIN} to {PICTURES_MAX} pictures.")
        captures = self._captured(pictures)
        held = self._enrolled(captures)
        self._keep(browser, held)
        # The person has just shown that it is them; the picture most like the others speaks for all.
        return held.phone.create(options, origin, _most_typical(captures))

    def register(self, browser: bytes, picture: bytes, options: dict[str, Any], origin: str) -> PhoneOutcome | None:
        phone = self._phone(browser)
        return None if phone is None else phone.create(options, origin, self._capture(picture))

    def sign_in(self, browser: bytes, picture: bytes, options: dict[str, Any], origin: str) -> PhoneOutcome | None:
        phone = self._phone(browser)
        return None if phone is None else phone.get(options, origin, self._capture(picture))

    def forget(self, browser: bytes) -> None:
        with self._lock:
            held = self._held.pop(browser, None)
        if held:
            try:
                self._discard(held)
            except StackError:
                raise PhoneFault(
                    "The authentication server did not erase its half, which is noise by itself."
                ) from None

    def close(self) -> None:
        """Close all phones. What the folder holds is left to its owner."""
        with self._lock:
            everything = list(self._held.values())
            self._held.clear()
        for held in everything:
            held.phone.close()

    def _enrolled(self, captures: list[FaceCapture]) -> _Held:
        try:
            # The server would be asked only after the same check, but a one-time code would be issued for nothing.
            self._encoder.enrol(captures, _agree)
        except InconsistentCaptures as strange:
            raise _not_alike(strange) from None
        with self._lock:
            self._made += 1
            folder = self._folder / str(self._made)
        folder.mkdir(parents=True)
        try:
            device = Device.enrol(
                server=self._server,
                enrolment_code=self._operator.enrolment_code(),
                captures=captures,
                vault=folder / "vault",
                vault_key=KeyFile(folder / "vault.key"),
                profile=PROFILE.name,
                encoder=self._encoder,
            )
        except (TandemError, StackError) as error:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(error, InconsistentCaptures):  # the server's rule is tighter than the published one
                raise _not_alike(error) from None
            told = str(error) if isinstance(error, TandemError) else "the authentication server issued no code"
            raise PhoneFault(_sentence(told)) from None
        # Without the server's view: this person is real, and both halves together are the template.
        return _Held(PhoneDevice(device), device.enrolment_id, folder)

    def _keep(self, browser: bytes, held: _Held) -> None:
        with self._lock:
            gone = [self._held.pop(browser, None)]
            self._held[browser] = held
            if len(self._held) > PHONES_MAX:
                gone.append(self._held.popitem(last=False)[1])
        for old in gone:
            if old:
                # Whoever comes now has nothing to do with it; the server's half is noise by itself.
                with suppress(StackError):
                    self._discard(old)

    def _discard(self, held: _Held) -> None:
        """Raises StackError where the server's half stays."""
        held.phone.close()
        shutil.rmtree(held.folder, ignore_errors=True)
        self._operator.erase(held.enrolment_id)

    def _phone(self, browser: bytes) -> PhoneDevice | None:
        with self._lock:
            held = self._held.get(browser)
            if held:
                self._held.move_to_end(browser)
        return held.phone if held else None

    def _capture(self, picture: bytes) -> Callable[[], FaceCapture]:
        # Called by the SDK before anything is sent: an unusable picture costs no attempt.
        return lambda: self._captured([picture])[0]

    def _captured(self, pictures: Sequence[bytes]) -> list[FaceCapture]:
        """The faces of all pictures. Raises PicturesUnusable, which names all that have none to use."""
        captures, problems = [], []
        for position, picture in enumerate(pictures, start=1):
            try:
                with self._decoding:
                    captures.append(self._encoder.capture(picture))
            except EncodingError as error:
                problems.append(PictureProblem(position, error.code, _sentence(str(error))))
        if problems:
            of_all = f"{len(problems)} of {len(pictures)} pictures" if len(pictures) > 1 else "The picture"
            raise PicturesUnusable(f"{of_all} cannot be used.", problems)
        return captures


def _agree(one: BinaryCode, other: BinaryCode) -> bool:
    return PROFILE.accepts(*differing_and_valid(one, other))


def _not_alike(strange: InconsistentCaptures) -> PicturesUnusable:
    text = "This picture does not look like the others. All must show the same person."
    problems = [PictureProblem(position, strange.code, text) for position in strange.positions]
    return PicturesUnusable("The pictures do not look like one and the same person.", problems)


def _most_typical(captures: Sequence[FaceCapture]) -> FaceCapture:
    """The one with the highest mean cosine to all: never an outlier that the encoder leaves out."""
    vectors = np.array([capture.embedding for capture in captures])
    return captures[int(np.argmax((vectors @ vectors.T).sum(axis=1)))]


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."
