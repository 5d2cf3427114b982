"""The report beside the manifest: one page that people read, print and sign.

It says nothing the manifest does not, but for the names of the files in which the recipients came.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from keys.ceremony.comparison import NOT_COMPARED
from mpc.primitives import base64url
from mpc.provisioning.manifest import RECIPIENTS_COMPARED, CeremonyKind, Manifest
from mpc.provisioning.recipient import Recipient
from mpc.provisioning.times import to_text
from mpc.threshold_rsa.share_package import Role

Entry = TypeVar("Entry")

_KEYS_IN_FULL, _KEYS_AT_EACH_END = 24, 6
_DEVICES_IN_FULL, _DEVICES_AT_EACH_END = 10, 4
"""The page has room for so many lines."""

_TITLES = {
    CeremonyKind.GENERATE: "Keys made and split",
    CeremonyKind.IMPORT: "Keys imported and split",
    CeremonyKind.REWRAP: "Halves sealed to a new recipient",
}
_ENVIRONMENT = Environment(
    loader=FileSystemLoader(Path(__file__).resolve().parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render_report(
    manifest: Manifest, recipients: Sequence[Recipient], file_names: Mapping[bytes, str], ceremony_fingerprint: str
) -> str:
    """The page. file_names: by recipient's id, where known. `manifest.files` is not used: the report is one of them."""

    def of(role: Role) -> list[tuple[str, str, str]]:
        return [
            (recipient.name, recipient.fingerprint, file_names.get(recipient.id, ""))
            for recipient in recipients
            if recipient.role is role
        ]

    devices = of(Role.DEVICE)
    return _ENVIRONMENT.get_template("report.html").render(
        manifest=manifest,
        title=_TITLES[manifest.kind],
        rewrapped=manifest.kind is CeremonyKind.REWRAP,
        imported=manifest.kind is CeremonyKind.IMPORT,
        ceremony_id=manifest.ceremony_id.hex(),
        fingerprint_groups=ceremony_fingerprint.split("-"),
        started=_for_people(manifest.started_at),
        finished=_for_people(manifest.finished_at),
        not_after=None if manifest.not_after is None else _for_people(manifest.not_after),
        previous=None if manifest.previous is None else manifest.previous.hex(),
        compared=manifest.parameters.get(RECIPIENTS_COMPARED) != NOT_COMPARED,
        servers=of(Role.SERVER),
        devices=_ends(devices, _DEVICES_IN_FULL, _DEVICES_AT_EACH_END),
        device_count=len(devices),
        key_ids=_ends(
            [base64url.encode(dealt.key.key_id) for dealt in manifest.keys], _KEYS_IN_FULL, _KEYS_AT_EACH_END
        ),
        key_count=len(manifest.keys),
        sizes=", ".join(str(bits) for bits in sorted({dealt.key.bits for dealt in manifest.keys})),
    )


def _ends(entries: list[Entry], in_full: int, at_each_end: int) -> tuple[list[Entry], int, list[Entry]]:
    """(the first ones, how many are left out, the last ones): all of a short list."""
    if len(entries) <= in_full:
        return entries, 0, []
    return entries[:at_each_end], len(entries) - 2 * at_each_end, entries[-at_each_end:]


def _for_people(at: int) -> str:
    return to_text(at).replace("T", " ").replace("Z", " UTC")
