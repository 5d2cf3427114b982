"""The port behind "with your own face": what the site asks of the phones that its visitors' browsers stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from relying_party_demo.phone_port import PhoneOutcome

PICTURES_MIN: Final = 3
PICTURES_MAX: Final = 10
"""Of an enrolment; a login takes one."""


@dataclass(frozen=True, slots=True)
class PictureProblem:
    """Why one picture cannot be used: `position` from 1, a stable word, and a sentence for the person."""

    position: int
    code: str
    text: str


class PicturesUnusable(Exception):
    """These pictures are no capture of one face / take others. Nothing was sent and no attempt was spent.

    `text` is a sentence for the person; `problems` has one for each picture that is to blame.
    """

    def __init__(self, text: str, problems: Sequence[PictureProblem] = ()) -> None:
        super().__init__(text)
        self.text = text
        self.problems = tuple(problems)


class PhoneFault(Exception):
    """The phone or its authentication server could not do it / try again; `text` is for the person."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class FacesUnavailable(Exception):
    """What recognises faces is not installed, or its weights are not the ones expected; the text says which."""


class FacePhones(Protocol):
    """One phone a browser, each enrolled with pictures of one face. `browser` names the browser.

    A picture is the content of an image file as it was received: anything. It is looked at and forgotten, whatever the
    outcome. Calls may come from several threads and may block. `options` and `origin` as for `Phone`; a refusal of a
    ceremony is an outcome.
    """

    def is_enrolled(self, browser: bytes) -> bool: ...

    def enrol(self, browser: bytes, pictures: Sequence[bytes], options: dict[str, Any], origin: str) -> PhoneOutcome:
        """A new phone for the browser, in place of any it had, and its first passkey, made with one of the pictures.

        Raises PicturesUnusable, PhoneFault: the browser then has the phone it had before.
        """

    def register(self, browser: bytes, picture: bytes, options: dict[str, Any], origin: str) -> PhoneOutcome | None:
        """Another passkey; None where the browser has no phone. Raises PicturesUnusable."""

    def sign_in(self, browser: bytes, picture: bytes, options: dict[str, Any], origin: str) -> PhoneOutcome | None:
        """None where the browser has no phone. Raises PicturesUnusable."""

    def forget(self, browser: bytes) -> None:
        """Erase the phone, and the server's half of its template and keys.

        Raises PhoneFault where the server's could not be erased; the phone's is gone all the same.
        """
