"""The simulated phone: an app with the SDK, and people in front of it.

This file, `phone_device`, `phone_people` and `face_phones` are the only ones of the relying party that know of the SDK.
A real phone is not part of a web site; this one stands in for a visitor's own until there is one.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from webauthn.helpers import bytes_to_base64url

from device_sdk import Device, KeyFile, TandemError
from relying_party_demo.phone_device import PhoneDevice
from relying_party_demo.phone_people import PhonePeople, SimulatedPeople
from relying_party_demo.phone_port import PhoneOutcome, Who

_VAULT = "vault"
_KEY = "vault.key"


class SimulatedPhone:
    """A `Phone` over an enrolled `Device`, with the owner or an impostor in front of its sensor.

    `server_view` gives the authentication server's current template share (packed bits, least significant
    first) for an enrolment id. The phone cannot know it: whoever runs both servers on one machine passes a way
    to look, for the demonstration's page only.
    """

    def __init__(
        self,
        device: Device,
        *,
        vault: Path,
        people: PhonePeople,
        server_view: Callable[[bytes], bytes] | None = None,
    ) -> None:
        self._device = device
        self._phone = PhoneDevice(device, server_view)
        self._vault = vault
        self._people = people

    @classmethod
    def enrolled(
        cls,
        server: str,
        enrolment_code: str,
        folder: Path,
        *,
        people: PhonePeople | None = None,
        server_view: Callable[[bytes], bytes] | None = None,
    ) -> SimulatedPhone:
        """Enrol the owner, a new simulated person unless told otherwise; the vault goes into the new `folder`."""
        present: PhonePeople = people or SimulatedPeople()
        folder.mkdir(parents=True)
        device = Device.enrol(
            server=server,
            enrolment_code=enrolment_code,
            captures=present.enrolment_captures(),
            vault=folder / _VAULT,
            vault_key=KeyFile(folder / _KEY),
            profile=present.profile,
            encoder=present.encoder,
        )
        return cls(device, vault=folder / _VAULT, people=present, server_view=server_view)

    def copied_to(self, folder: Path) -> SimulatedPhone:
        """What a thief gets who copies the phone's files; the same people are in front of the copy."""
        folder.mkdir(parents=True)
        for name in (_VAULT, _KEY):
            shutil.copy2(self._vault.with_name(name), folder / name)
        device = Device.open(folder / _VAULT, vault_key=KeyFile(folder / _KEY), encoder=self._people.encoder)
        return SimulatedPhone(device, vault=folder / _VAULT, people=self._people)

    def enrolment(self) -> PhoneOutcome:
        """What enrolling cost, in the form of a ceremony without a response."""
        return PhoneOutcome(None, None, self._phone.seen())

    @property
    def enrolment_id(self) -> bytes:
        """What an operator finds the enrolment by."""
        return self._device.enrolment_id

    @property
    def newest_credential_id(self) -> str:
        """base64url without padding, as operators and relying parties write it."""
        return bytes_to_base64url(self._device.credentials()[-1].credential_id)

    def recipient(self, file: Path) -> str:
        """Write the file that a dealer seals this phone's halves to; its fingerprint, to be read out."""
        recipient = self._device.recipient()
        file.write_bytes(recipient.document)
        return recipient.fingerprint

    def import_share(self, file: Path, *, manifest: Path | None = None, ceremony_key: str | None = None) -> str:
        """Take this phone's half of a dealt key: empty if it is in the vault now, else the code of the refusal.

        ceremony_key: the fingerprint that was read out, to check the file by `manifest` as well.
        """
        try:
            self._device.import_share(file, manifest=manifest, ceremony_key=ceremony_key)
        except TandemError as error:
            return error.code
        return ""

    def recover(self, code: str) -> str | None:
        """Return to service with the operator's code: None, or the sentence that says why not."""
        try:
            self._device.recover(code)
        except TandemError as error:
            return f"{error} ({error.code})"
        return None

    def close(self) -> None:
        self._phone.close()

    def register(self, options: dict[str, Any], origin: str) -> PhoneOutcome:
        return self._phone.create(options, origin, self._capture("owner"))

    def sign_in(self, options: dict[str, Any], origin: str, who: Who) -> PhoneOutcome:
        return self._phone.get(options, origin, self._capture(who))

    def _capture(self, who: Who) -> Callable[[], Any]:
        # Called by the SDK once the options are known to be good, as a real sensor would be.
        return lambda: self._people.capture(who)
