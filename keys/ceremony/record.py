"""Writing a ceremony down: files with their hashes, report, signed manifest, and a last look at it all."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from cryptography.hazmat.backends.openssl import backend
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from keys.ceremony.ceremony_key import fingerprint_of
from keys.ceremony.input_files import CeremonyFolder
from keys.ceremony.output_folder import OutputFolder
from keys.ceremony.report import render_report
from mpc.provisioning.ceremony import CeremonyError, check_ceremony
from mpc.provisioning.manifest import (
    MANIFEST_NAME,
    REPORT_NAME,
    CeremonyKind,
    DealtKey,
    Manifest,
    recipient_path,
    share_path,
)
from mpc.provisioning.recipient import Recipient


@dataclass(frozen=True, slots=True)
class Attendance:
    """Who holds the ceremony, since when (Unix seconds), and with which key it is signed."""

    operators: tuple[str, ...]
    witnesses: tuple[str, ...]
    started_at: int
    signing_key: Ed25519PrivateKey = field(repr=False)

    @property
    def fingerprint(self) -> str:
        return fingerprint_of(self.signing_key)


@dataclass(frozen=True, slots=True)
class Origin:
    """Which ceremony this is: a new one, or the next revision of one before."""

    kind: CeremonyKind
    ceremony_id: bytes
    rp_id: str
    not_after: int | None
    parameters: Mapping[str, str]
    revision: int = 0
    previous: bytes | None = None


class CeremonyRecord:
    """Collects what belongs into the manifest while the files are written."""

    def __init__(self, folder: OutputFolder, file_names: Mapping[bytes, str]) -> None:
        """file_names: by recipient's id, under which name its file was given; for the report."""
        self._folder = folder
        self._file_names = file_names
        self._hashes: dict[str, bytes] = {}
        self._absent: set[str] = set()

    def add_recipient(self, recipient: Recipient) -> None:
        self._add(recipient_path(recipient), recipient.document)

    def add_share(self, recipient: Recipient, key_id: bytes, sealed: bytes) -> None:
        self._add(share_path(recipient, key_id), sealed)

    def add_absent(self, path: str, digest: bytes) -> None:
        """A half that was delivered earlier and does not lie here; its hash stays in the manifest."""
        self._hashes[path] = digest
        self._absent.add(path)

    def close(
        self, origin: Origin, attendance: Attendance, recipients: Iterable[Recipient], keys: Iterable[DealtKey]
    ) -> Manifest:
        """Write report and manifest, check the folder as a holder would, and publish it.

        Raises OSError; CeremonyError if the disk gives back something else than was written.
        """
        recipients = tuple(recipients)
        manifest = Manifest(
            ceremony_id=origin.ceremony_id,
            kind=origin.kind,
            revision=origin.revision,
            previous=origin.previous,
            operators=attendance.operators,
            witnesses=attendance.witnesses,
            started_at=attendance.started_at,
            # A clock that was set back during the ceremony must not make it end before it began.
            finished_at=max(int(time.time()), attendance.started_at),
            tool=tool_versions(),
            parameters=origin.parameters,
            rp_id=origin.rp_id,
            not_after=origin.not_after,
            recipients=tuple(recipient.id for recipient in recipients),
            keys=tuple(keys),
            files={},
        )
        report = render_report(manifest, recipients, self._file_names, attendance.fingerprint)
        self._add(REPORT_NAME, report.encode("utf-8"))
        manifest = replace(manifest, files=dict(sorted(self._hashes.items())))
        self._folder.write(MANIFEST_NAME, manifest.sign(attendance.signing_key))
        written = CeremonyFolder(self._folder.working_path)
        listing = written.listing()
        check_ceremony(written.read, roles=(), listing=listing)
        if lost := sorted(self._hashes.keys() - self._absent - set(listing)):
            raise CeremonyError(lost[0], "missing", "was written and is not there: use another disk")
        self._folder.publish()
        return manifest

    def _add(self, path: str, data: bytes) -> None:
        self._folder.write(path, data)
        self._hashes[path] = hashlib.sha256(data).digest()


def tool_versions() -> dict[str, str]:
    """This program and what its keys depend on, as the manifest names them."""
    return {
        "tandem-keys": importlib.metadata.version("tandem-auth"),
        "python": platform.python_version(),
        "cryptography": importlib.metadata.version("cryptography"),
        "openssl": backend.openssl_version_text(),
        "gmpy2": importlib.metadata.version("gmpy2"),
    }
