"""What takes the captures, as a port: a camera, a reader, a sensor of the platform."""

from __future__ import annotations

from typing import Any, Protocol


class Sensor(Protocol):
    """Looks at the person in front of this device. `SimulatedSensor` shows its shape; that one looks at nobody.

    An app hands `sensor.capture` to `Device.create` and `Device.get`, and a sequence of captures to `Device.enrol`.
    """

    def capture(self) -> Any:
        """One fresh sample for the encoder; may prompt, and block until the relying party's timeout.

        Called once a ceremony, in the caller's thread, when its options are known to be good. Duties: the sample is
        of now and of a living person, since user presence and verification in the signed data rest on it; no copy of
        it stays; a sample that cannot be used is taken again here. Raises NotAllowed where the person refuses, and
        EncodingError where no sample comes about.
        """
