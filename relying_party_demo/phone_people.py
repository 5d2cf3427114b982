"""Who stands in front of the phone: simulated people with a simulated sensor, or people of a file of photographs."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, Protocol

from device_sdk import Encoder, SimulatedSensor
from device_sdk.biometrics.face import FaceEncoder
from device_sdk.biometrics.face.make_constants import embeddings_of, projection_for
from device_sdk.biometrics.face.photographs import known_subjects, load_photographs
from mpc.login.published_profiles import PUBLISHED
from relying_party_demo.phone_port import Who

_ENROLLED_PICTURES = 3


class PhonePeople(Protocol):
    """The owner and others. `profile` and `encoder` are what the phone enrols with; `feature` is what it looks at."""

    profile: str
    encoder: Encoder | None
    feature: str
    told: str
    """A sentence on what is real here."""
    profiles: dict[str, dict[str, Any]] | None
    """Profiles that the server must serve for these people instead of its own ones, in the form of its settings."""

    def enrolment_captures(self) -> list[Any]: ...

    def capture(self, who: Who) -> Any: ...


class SimulatedPeople:
    """Two made-up people and a sensor that measures nobody."""

    profile = "sim-2048"
    encoder: Encoder | None = None
    feature = "finger"
    told = "The finger is simulated; everything else is real."
    profiles: dict[str, dict[str, Any]] | None = None

    def __init__(self) -> None:
        self._sensors: dict[Who, SimulatedSensor] = {
            "owner": SimulatedSensor(os.urandom(16)),
            "impostor": SimulatedSensor(os.urandom(16)),
        }

    def enrolment_captures(self) -> list[Any]:
        return list(self._sensors["owner"].captures(3))

    def capture(self, who: Who) -> Any:
        return self._sensors[who].capture()


class PhotographedPeople:
    """Real faces: the first subject of the file owns the phone, the others are impostors.

    Pictures 1 to 3 are for enrolling. Each capture after that is the next of the owner's others, or of another
    person's. If the shipped constants were made with people of this file, constants made with every second one, from
    the second on, take their place, under a profile of another name: nothing is shown on people it was made with.
    Raises ValueError or OSError for a file that is none, or with too few people.
    """

    feature = "face"

    def __init__(self, file: Path, advance: Callable[[], None] = lambda: None) -> None:
        self._images = load_photographs(file)
        if len(self._images) < 2:
            raise ValueError(f"{file}: the story needs two people")
        self.profile, self.profiles = "face-2048", None
        self.encoder: Encoder | None = FaceEncoder()
        self.told = "The faces are photographs; everything is real but the camera."
        if known_subjects(self._images):
            if len(self._images) < 4:
                raise ValueError(f"{file}: people that the constants were made with need at least four in the file")
            encoder = FaceEncoder(projection_for(embeddings_of(self._images[1::2], advance))[0])
            self.encoder, self.profile = encoder, "face-2048-held-out"
            published = PUBLISHED["face-2048"]
            rule = {"code_bits": published.code_bits, "threshold": published.threshold}
            self.profiles = {self.profile: {**rule, "encoder_id": encoder.encoder_id}}
            self.told += " Its whitening was made without the phone's owner."
        self._taken = {"owner": count(), "impostor": count()}

    def enrolment_captures(self) -> list[Any]:
        return list(self._images[0][:_ENROLLED_PICTURES])

    def capture(self, who: Who) -> Any:
        number = next(self._taken[who])
        others = len(self._images) - 1
        subject = 0 if who == "owner" else 1 + number % others
        left = self._images.shape[1] - _ENROLLED_PICTURES
        turn = number if who == "owner" else number // others
        return self._images[subject][_ENROLLED_PICTURES + turn % left]
