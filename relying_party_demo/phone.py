"""The simulated phone: an app with the SDK, a simulated sensor and two simulated people in front of it.

The one file of the relying party that knows of the SDK. A real phone is not part of a web site; this one
stands in for a visitor's own until there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

from webauthn.helpers import base64url_to_bytes, parse_attestation_object

from device_sdk import Device
from device_sdk.biometrics import BinaryCode, SimulatedSensor
from device_sdk.errors import TandemError
from relying_party_demo.phone_port import PhoneOutcome, Step, WhatEachPartySaw, Who


class SimulatedPhone:
    """A `Phone` over an enrolled `Device`. It owns neither the device nor the sensors; the caller closes them.

    `server_view` gives the authentication server's current template share (packed bits, least significant
    first) for an enrolment id. The phone cannot know it: whoever runs both servers on one machine passes a way
    to look, for the demonstration's page only.
    """

    def __init__(
        self,
        device: Device,
        *,
        owner: SimulatedSensor,
        impostor: SimulatedSensor,
        enrolment_id: bytes,
        server_view: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self._device = device
        self._sensors: dict[Who, SimulatedSensor] = {"owner": owner, "impostor": impostor}
        self._enrolment_id = enrolment_id
        self._server_view = server_view
        # The vault allows one ceremony at a time; visitors queue instead of being refused.
        self._lock = Lock()

    def register(self, options: dict[str, Any], origin: str) -> PhoneOutcome:
        return self._run(lambda: self._device.create(options, origin, self._capture("owner")))

    def sign_in(self, options: dict[str, Any], origin: str, who: Who) -> PhoneOutcome:
        return self._run(lambda: self._device.get(options, origin, self._capture(who)))

    def _capture(self, who: Who) -> Callable[[], BinaryCode]:
        # Called by the SDK once the options are known to be good, as a real sensor would be.
        return self._sensors[who].capture

    def _run(self, ceremony: Callable[[], dict[str, Any]]) -> PhoneOutcome:
        with self._lock:
            try:
                response = ceremony()
            except TandemError as error:
                return PhoneOutcome(None, f"{error} ({error.code})", self._seen(None))
            return PhoneOutcome(response, None, self._seen(response))

    def _seen(self, response: dict[str, Any] | None) -> WhatEachPartySaw:
        held = self._device.inspection()
        last = self._device.last_ceremony
        return WhatEachPartySaw(
            code_bits=held.code_bits,
            device_template_share=held.device_share_bits,
            server_template_share=self._server_view(self._enrolment_id) if self._server_view else None,
            bytes_up=last.bytes_up if last else 0,
            bytes_down=last.bytes_down if last else 0,
            steps=tuple(Step(name, ms) for name, ms in last.steps) if last else (),
            signature_hex=_signature(response).hex() if response else "",
        )


def _signature(response: dict[str, Any]) -> bytes:
    """The signature of an assertion, or of a registration's self attestation; empty if there is none."""
    fields = response["response"]
    if "signature" in fields:
        return base64url_to_bytes(fields["signature"])
    attestation = parse_attestation_object(base64url_to_bytes(fields["attestationObject"]))
    return attestation.att_stmt.sig or b""
