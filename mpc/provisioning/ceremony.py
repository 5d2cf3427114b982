"""Checking the folder of a ceremony as a whole: every signature, every hash, every file's place and purpose."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from mpc.errors import DecodeError
from mpc.provisioning.manifest import (
    MANIFEST_NAME,
    REPORT_NAME,
    DealtKey,
    Manifest,
    SignedManifest,
    recipient_path,
    share_path,
)
from mpc.provisioning.recipient import Recipient
from mpc.provisioning.signed_document import fingerprint
from mpc.threshold_rsa.share_package import Role, SharePackageError, read_share_header

ReadFile = Callable[[str], bytes | None]
"""Gives the content of a file by its path in the folder, or None if there is no such file."""


class CeremonyError(Exception):
    """A ceremony's folder is not what its manifest says. `path` names the file; the text says what to do.

    `reason` is one of "missing", "altered", "unlisted", "wrong_manifest", "inconsistent".
    """

    def __init__(self, path: str, reason: str, problem: str) -> None:
        # A stranger may have named the file: nothing in its name may steer a terminal.
        super().__init__(f"{path if path.isprintable() else ascii(path)}: {problem}")
        self.path = path
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Ceremony:
    """A folder in which everything that was looked at is as its manifest says."""

    signed: SignedManifest
    recipients: Mapping[bytes, Recipient]
    """By id."""

    @property
    def manifest(self) -> Manifest:
        return self.signed.manifest

    def recipient_of(self, dealt: DealtKey, role: Role) -> Recipient:
        """Who holds that half."""
        return self.recipients[dealt.server if role is Role.SERVER else dealt.device]

    def path_of(self, dealt: DealtKey, role: Role) -> str:
        """Where that half lies."""
        return share_path(self.recipient_of(dealt, role), dealt.key.key_id)


def check_ceremony(
    read: ReadFile,
    *,
    roles: Collection[Role],
    listing: Collection[str] | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Ceremony:
    """Verify the manifest, the recipients, and the halves of these roles.

    roles: whose halves must all be there; others may have been delivered already, and are checked only
    where they still lie there. listing: all paths in the folder, to find files that the manifest does not know.
    progress: called with (halves checked, halves in all). Raises CeremonyError at the first thing that is wrong.
    """
    signed = _read_manifest(read)
    manifest = signed.manifest
    expected: dict[str, tuple[DealtKey, Recipient]] = {}
    recipients = _read_recipients(read, manifest)
    for dealt in manifest.keys:
        for role, recipient_id in ((Role.SERVER, dealt.server), (Role.DEVICE, dealt.device)):
            recipient = recipients.get(recipient_id)
            if recipient is None or recipient.role is not role:
                raise _inconsistent(MANIFEST_NAME, "names a recipient that it does not list, or of the other role")
            if recipient.server_id != recipients[dealt.server].server_id:
                raise _inconsistent(MANIFEST_NAME, "deals a key to a device of another server")
            expected[share_path(recipient, dealt.key.key_id)] = (dealt, recipient)
    named = {REPORT_NAME, *(recipient_path(recipient) for recipient in recipients.values()), *expected}
    if named != set(manifest.files):
        raise _inconsistent(MANIFEST_NAME, "lists other files than its keys and recipients have")
    if listing is not None and (unlisted := sorted(set(listing) - named - {MANIFEST_NAME})):
        raise CeremonyError(unlisted[0], "unlisted", "is not part of this ceremony; find out who put it there")
    _matching(read(REPORT_NAME), manifest, REPORT_NAME)
    for done, (path, (dealt, recipient)) in enumerate(expected.items()):
        progress(done, len(expected))
        data = read(path)
        if recipient.role in roles or data is not None:
            _check_share(_matching(data, manifest, path), path, manifest, dealt, recipient)
    progress(len(expected), len(expected))
    return Ceremony(signed, recipients)


def _read_manifest(read: ReadFile) -> SignedManifest:
    data = read(MANIFEST_NAME)
    if data is None:
        raise CeremonyError(MANIFEST_NAME, "missing", "is missing: this is not the folder of a finished ceremony")
    try:
        return SignedManifest.decode(data)
    except DecodeError as error:
        raise CeremonyError(MANIFEST_NAME, "wrong_manifest", str(error)) from None


def _read_recipients(read: ReadFile, manifest: Manifest) -> dict[bytes, Recipient]:
    recipients = {}
    for recipient_id in manifest.recipients:
        path = f"recipients/{fingerprint(recipient_id)}.json"
        try:
            recipient = Recipient.decode(_matching(read(path), manifest, path))
        except DecodeError as error:
            raise CeremonyError(path, "inconsistent", str(error)) from None
        if recipient.id != recipient_id:
            raise _inconsistent(path, "is another recipient than the manifest names")
        recipients[recipient_id] = recipient
    return recipients


def _check_share(data: bytes, path: str, manifest: Manifest, dealt: DealtKey, recipient: Recipient) -> None:
    try:
        header = read_share_header(data)
    except SharePackageError as error:
        raise CeremonyError(path, "inconsistent", error.problem) from None
    told = (header.role, header.recipient_id, header.suite, header.key_id)
    known = (recipient.role, recipient.id, recipient.public_key.suite, dealt.key.key_id)
    if told != known or (header.ceremony_id, header.rp_id, header.not_after) != (
        manifest.ceremony_id,
        manifest.rp_id,
        manifest.not_after,
    ):
        raise _inconsistent(path, "is another share than the manifest says")


def _matching(data: bytes | None, manifest: Manifest, path: str) -> bytes:
    """The file's content, once its hash is the one in the manifest."""
    if data is None:
        raise CeremonyError(path, "missing", "is missing; copy the whole folder again")
    if manifest.files.get(path) != hashlib.sha256(data).digest():
        raise CeremonyError(path, "altered", "is not the file that was made in the ceremony; copy it again")
    return data


def _inconsistent(path: str, problem: str) -> CeremonyError:
    return CeremonyError(path, "inconsistent", problem)
