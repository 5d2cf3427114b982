"""One small ceremony with everything that its holders have: the valid files that are then damaged."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from keys.sources.source_key import SourceKey
from mpc.primitives.hpke import HpkePrivateKey, HpkeSuite
from mpc.primitives.rng import SystemRng
from mpc.provisioning.manifest import (
    MANIFEST_NAME,
    REPORT_NAME,
    CeremonyKind,
    DealtKey,
    Manifest,
    recipient_path,
    share_path,
)
from mpc.provisioning.recipient import Recipient, new_recipient
from mpc.threshold_rsa.share_package import Role, SharePackage, seal_share
from mpc.threshold_rsa.shares import split

_NOW = 1_763_650_000


@dataclass(frozen=True)
class Room:
    """One small ceremony with everything that its holders have."""

    source: SourceKey = field(repr=False)
    recipients: dict[Role, Recipient]
    keys: dict[Role, HpkePrivateKey] = field(repr=False)
    packages: dict[Role, SharePackage] = field(repr=False)
    manifest: Manifest
    files: dict[str, bytes] = field(repr=False)


def make_room() -> Room:
    """Fresh keys; the server's recipient has the hybrid suite, the device's X25519."""
    numbers = rsa.generate_private_key(65537, 2048).private_numbers()
    crt = (numbers.dmp1, numbers.dmq1, numbers.iqmp)
    source = SourceKey(numbers.public_numbers.n, 65537, numbers.d, numbers.p, numbers.q, crt)
    device_key, device = new_recipient(
        role=Role.DEVICE, name="phone", server_id="s", enrolment_id=bytes(16), suite=HpkeSuite.X25519, now=_NOW
    )
    server_key, server = new_recipient(
        role=Role.SERVER, name="auth", server_id="s", enrolment_id=None, suite=HpkeSuite.MLKEM768_X25519, now=_NOW
    )
    recipients = {Role.DEVICE: device, Role.SERVER: server}
    key, ceremony_id = source.public, os.urandom(16)
    packages, files = {}, {REPORT_NAME: b"<p>report</p>"}
    for share, role in zip(split(SystemRng(), key, numbers.d), (Role.DEVICE, Role.SERVER), strict=True):
        recipient = recipients[role]
        packages[role] = SharePackage(role, share, 0, "example.com", _NOW + 10**8, ceremony_id)
        files[recipient_path(recipient)] = recipient.document
        files[share_path(recipient, key.key_id)] = seal_share(packages[role], recipient.public_key, recipient.id)
    manifest = Manifest(
        ceremony_id=ceremony_id,
        kind=CeremonyKind.GENERATE,
        revision=0,
        previous=None,
        operators=("Ann", "Bob"),
        witnesses=("Chloé",),
        started_at=_NOW,
        finished_at=_NOW + 60,
        tool={"tandem-keys": "0.1.0"},
        parameters={"bits": "2048"},
        rp_id="example.com",
        not_after=_NOW + 10**8,
        recipients=(server.id, device.id),
        keys=(DealtKey(key, server.id, device.id),),
        files={path: hashlib.sha256(data).digest() for path, data in files.items()},
    )
    files[MANIFEST_NAME] = manifest.sign(Ed25519PrivateKey.generate())
    return Room(source, recipients, {Role.DEVICE: device_key, Role.SERVER: server_key}, packages, manifest, files)
