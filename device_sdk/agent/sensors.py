"""Where a capture comes from: the encoder belongs to the enrolment's profile, and decides what the person shows."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from typing import Any, Final, Protocol

from device_sdk.biometrics import Encoder, SimulatedSensor
from device_sdk.biometrics.face import FaceEncoder
from device_sdk.biometrics.face.models import shared_models
from device_sdk.enrolment import default_encoder
from device_sdk.errors import EncodingError
from mpc.login.profile import Profile

PICTURE_BYTES_MAX: Final = 16 << 20


class SensorMissing(ValueError):
    """This vault's profile needs something that is not here. The text is for the person at the command."""


class Sensor(Protocol):
    """Gives samples for the encoder. `kind` chooses what the consent page offers."""

    @property
    def kind(self) -> str: ...
    @property
    def encoder(self) -> Encoder: ...
    @property
    def same_bytes_same_capture(self) -> bool:
        """Whether what the page sends is the capture itself, as pictures are.

        Then it is compared once in a request: a server that lies may learn a bit about the capture of each login.
        """

    def prepare(self) -> None:
        """Load what is large, before the first person waits for it. Raises EncodingError if it is missing."""

    def sample(self, submitted: bytes) -> Any:
        """A sample from what the consent page sent. Raises EncodingError. May take a second; called in a thread."""


class Pictures:
    """Faces, from the browser's camera or an image file: the page sends an image either way."""

    kind = "pictures"
    same_bytes_same_capture = True

    def __init__(self) -> None:
        """Raises SensorMissing without the packages of `tandem-auth[face]`."""
        if find_spec("dlib") is None or find_spec("PIL") is None:
            raise SensorMissing("this vault recognises faces: install tandem-auth[face]")
        self.encoder: Encoder = FaceEncoder()

    def prepare(self) -> None:
        shared_models()

    def sample(self, submitted: bytes) -> Any:
        return FaceEncoder.capture(submitted)


class SimulatedFingers:
    """For demonstrations: the person of a seed and a stranger, in front of a sensor that measures nobody.

    Whoever reaches the consent page is the person. `SimulatedFingers` is made only where the command was told to.
    """

    kind = "simulated"
    same_bytes_same_capture = False

    def __init__(self, profile: Profile, person: int) -> None:
        self.encoder = default_encoder(profile)
        series = os.urandom(16)  # captures of an earlier run do not come again
        self._sensors = {
            "enrolled": SimulatedSensor(person, profile.code_bits, profile.masked, capture_seed=series),
            "stranger": SimulatedSensor(os.urandom(16), profile.code_bits, profile.masked, capture_seed=series),
        }

    def prepare(self) -> None:
        pass

    def sample(self, submitted: bytes) -> Any:
        try:
            finger = json.loads(submitted)["finger"]
            sensor = self._sensors[finger]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise EncodingError("choose a finger of the simulated sensor") from None
        return sensor.capture()


def sensor_for(profile: Profile, simulated_person: int | None) -> Sensor:
    """The sensor that fits a profile. Raises SensorMissing if there is none.

    simulated_person: the seed that the vault was enrolled with, for profiles that take codes directly.
    """
    if profile.encoder_id.startswith("dlib-face-"):
        if simulated_person is not None:
            raise SensorMissing("this vault recognises faces; the simulated sensor does not fit it")
        sensor = Pictures()
        if sensor.encoder.encoder_id != profile.encoder_id:
            raise SensorMissing(f"this release has no encoder for profile {profile.name}")
        return sensor
    if profile.encoder_id != "binary-code-v1":
        raise SensorMissing(f"the agent has no sensor for profile {profile.name}")
    if simulated_person is None:
        raise SensorMissing(
            f"profile {profile.name} takes codes from a sensor that the agent cannot reach; a vault that was enrolled "
            "with the simulated sensor opens with --simulated-person"
        )
    return SimulatedFingers(profile, simulated_person)
