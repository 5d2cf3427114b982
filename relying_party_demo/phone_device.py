"""A `Device` behind a phone of the demonstration: ceremonies one at a time, and what each of them showed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from threading import Lock
from typing import Any

from webauthn.helpers import base64url_to_bytes, parse_attestation_object

from device_sdk import Device, TandemError
from relying_party_demo.phone_port import PhoneOutcome, Step, WhatEachPartySaw


class PhoneDevice:
    """Runs the ceremonies of a `Device`, whose faults become outcomes. Threads queue.

    `server_view` gives the authentication server's current template share (packed bits, least significant first) for
    an enrolment id, for pages that show it.
    """

    def __init__(self, device: Device, server_view: Callable[[bytes], bytes] | None = None) -> None:
        self._device = device
        self._server_view = server_view
        # The vault allows one ceremony at a time; visitors queue instead of being refused.
        self._lock = Lock()
        self._closed = False

    def create(self, options: dict[str, Any], origin: str, capture: Any) -> PhoneOutcome:
        """`capture`: as `Device.create` takes it."""
        return self._run(lambda: self._device.create(options, origin, capture))

    def get(self, options: dict[str, Any], origin: str, capture: Any) -> PhoneOutcome:
        return self._run(lambda: self._device.get(options, origin, capture))

    def seen(self, before: object = None, response: dict[str, Any] | None = None) -> WhatEachPartySaw:
        """What there is to show after a ceremony. before: `Device.last_ceremony` as it was ahead of it."""
        held = self._device.inspection()
        last = self._device.last_ceremony
        if last is before:  # refused before anything was sent: the report is of an earlier ceremony
            last = None
        return WhatEachPartySaw(
            code_bits=held.code_bits,
            device_template_share=held.device_share_bits,
            server_template_share=self._server_view(self._device.enrolment_id) if self._server_view else None,
            bytes_up=last.bytes_up if last else 0,
            bytes_down=last.bytes_down if last else 0,
            steps=tuple(Step(name, ms) for name, ms in last.steps) if last else (),
            signature_hex=_signature(response).hex() if response else "",
        )

    def close(self) -> None:
        """Waits for a ceremony that is under way; later ones are refused."""
        with self._lock:
            self._closed = True
            self._device.close()

    def _run(self, ceremony: Callable[[], dict[str, Any]]) -> PhoneOutcome:
        with self._lock:
            before = self._device.last_ceremony
            if self._closed:
                return PhoneOutcome(None, "this phone was put away (phone_closed)", self.seen(before), "phone_closed")
            try:
                response = ceremony()
            except TandemError as error:
                return PhoneOutcome(None, f"{error} ({error.code})", self.seen(before), error.code)
            # The answer is ready; waiting for the confirmation here only makes both shares those of one moment.
            with contextlib.suppress(TandemError):
                self._device.confirm_now()
            return PhoneOutcome(response, None, self.seen(before, response))


def _signature(response: dict[str, Any]) -> bytes:
    """The signature of an assertion, or of a registration's self attestation; empty if there is none."""
    fields = response["response"]
    if "signature" in fields:
        return base64url_to_bytes(fields["signature"])
    attestation = parse_attestation_object(base64url_to_bytes(fields["attestationObject"]))
    return attestation.att_stmt.sig or b""
