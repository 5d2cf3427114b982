"""For whom a ceremony deals: recipient files, and whether they are the holders' own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from keys.ceremony.input_files import read_input
from keys.refusal import Refusal, printable
from mpc.errors import DecodeError
from mpc.provisioning.recipient import MAX_RECIPIENT_BYTES, Recipient
from mpc.threshold_rsa.share_package import Role


@dataclass(frozen=True, slots=True)
class RecipientFile:
    """A recipient, and the file that it was read from."""

    path: Path
    recipient: Recipient

    @property
    def stem(self) -> str:
        """The file's name without its ending: `import` with a folder goes by it."""
        return self.path.stem

    @property
    def name(self) -> str:
        """The file's name, for people."""
        return printable(self.path.name)


def read_recipient(path: Path, expected_role: Role) -> RecipientFile:
    """Raises Refusal: "not_a_recipient", "other_role", and those of `read_input`."""
    try:
        recipient = Recipient.decode(read_input(path, at_most=MAX_RECIPIENT_BYTES))
    except DecodeError as error:
        raise Refusal("not_a_recipient", f"{path} is not a sound recipient file: {error}") from None
    if recipient.role is not expected_role:
        raise Refusal(
            "other_role", f"{path} is the recipient file of a {recipient.role}; a {expected_role}'s is needed here"
        )
    return RecipientFile(path, recipient)


def read_devices(path: Path) -> tuple[RecipientFile, ...]:
    """The one file, or every *.json of a folder in the order of their names.

    Raises Refusal: "no_recipients", "duplicate_recipient", and those of `read_recipient`.
    """
    files = sorted(path.glob("*.json")) if path.is_dir() else [path]
    if not files:
        raise Refusal("no_recipients", f"{path} has no *.json file; put the devices' recipient files there")
    devices = tuple(read_recipient(file, Role.DEVICE) for file in files)
    seen: dict[bytes | None, RecipientFile] = {}
    for device in devices:
        # Two recipients of one enrolment are one device that made a new key: the older of the two opens nothing.
        other = seen.setdefault(device.recipient.enrolment_id, device)
        if other is not device:
            raise Refusal(
                "duplicate_recipient",
                f"{other.name} and {device.name} are of the same device; keep the one it can still open",
            )
    return devices


def refuse_mixed_servers(server: RecipientFile, devices: Sequence[RecipientFile]) -> None:
    """Raises Refusal("other_server")."""
    for device in devices:
        if device.recipient.server_id != server.recipient.server_id:
            raise Refusal(
                "other_server",
                f"{device.name} is of a device that is enrolled at another server than the one given",
            )
