"""A dealer for tests: real keys, split and sealed to real recipients, in a real signed ceremony, all in memory."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authsvc.services import recipients, share_import
from authsvc.services.context import ServiceContext
from mpc.primitives.hpke import HpkeSuite
from mpc.primitives.rng import SystemRng
from mpc.provisioning.manifest import (
    MANIFEST_NAME,
    CeremonyKind,
    DealtKey,
    Manifest,
    SignedManifest,
    recipient_path,
    share_path,
)
from mpc.provisioning.recipient import Recipient
from mpc.threshold_rsa.public_key import PublicKey
from mpc.threshold_rsa.share_package import Role, SharePackage, seal_share
from mpc.threshold_rsa.shares import KeyShare, split

RP_ID = "shop.example"


def dealt_key(which: int = 0, exponent: int = 65537) -> tuple[PublicKey, int]:
    """A key made once a session, and its private exponent."""
    return _made_once(which, exponent)


@lru_cache(maxsize=16)
def _made_once(which: int, exponent: int) -> tuple[PublicKey, int]:
    numbers = rsa.generate_private_key(public_exponent=exponent, key_size=2048).private_numbers()
    return PublicKey(numbers.public_numbers.n, exponent), numbers.d


@dataclass(frozen=True)
class Dealt:
    """A finished ceremony. `keys`: in the order of the devices they were dealt to."""

    keys: list[PublicKey]
    files: dict[str, bytes] = field(repr=False)
    devices: list[Recipient]
    server: Recipient

    def key_id(self, at: int = 0) -> bytes:
        return self.keys[at].key_id

    def device_file(self, at: int = 0) -> bytes:
        return self.files[share_path(self.devices[at], self.key_id(at))]

    def server_file(self, at: int = 0) -> bytes:
        return self.files[share_path(self.server, self.key_id(at))]

    @property
    def manifest(self) -> bytes:
        return self.files[MANIFEST_NAME]

    @property
    def ceremony_key(self) -> str:
        """The fingerprint that the witnesses write down."""
        return SignedManifest.decode(self.manifest).fingerprint

    def import_into(self, ctx: ServiceContext) -> share_import.Imported:
        """`authsvc import-shares`, told the fingerprint of the ceremony's key."""
        return share_import.import_shares(
            ctx, self.files.get, listing=self.files, expected_ceremony_key=self.ceremony_key
        )


def deal(
    ctx: ServiceContext,
    devices: Sequence[Recipient],
    *,
    which: int = 0,
    exponent: int = 65537,
    rp_id: str = RP_ID,
    not_after: int | None = None,
) -> Dealt:
    """One key for each device, starting with the `which`-th of the cached ones."""
    known = [own.recipient for own in recipients.every(ctx) if own.retired_at is None]
    server = known[-1] if known else recipients.create(ctx, suite=HpkeSuite.X25519).recipient
    ceremony_id = secrets.token_bytes(16)
    files: dict[str, bytes] = {}
    keys = []
    for at, device in enumerate(devices):
        key, private_exponent = dealt_key(which + at, exponent)
        keys.append(key)
        halves = dict(zip((Role.DEVICE, Role.SERVER), split(SystemRng(), key, private_exponent), strict=True))
        for recipient in (device, server):
            files[share_path(recipient, key.key_id)] = sealed(
                halves[recipient.role], recipient, ceremony_id, rp_id=rp_id, not_after=not_after
            )
    for recipient in (server, *devices):
        files[recipient_path(recipient)] = recipient.document
    files["report.html"] = b"<p>dealt for a test</p>"
    now = int(ctx.clock())
    manifest = Manifest(
        ceremony_id,
        CeremonyKind.GENERATE,
        0,
        None,
        ("Grace",),
        ("Edsger",),
        now,
        now,
        {"tandem-keys": "0.1.0"},
        {"bits": "2048"},
        rp_id,
        not_after,
        (server.id, *(device.id for device in devices)),
        tuple(DealtKey(key, server.id, device.id) for key, device in zip(keys, devices, strict=True)),
        {path: hashlib.sha256(data).digest() for path, data in files.items()},
    )
    files[MANIFEST_NAME] = manifest.sign(Ed25519PrivateKey.generate())
    return Dealt(keys, files, list(devices), server)


def sealed(
    share: KeyShare, recipient: Recipient, ceremony_id: bytes, *, rp_id: str = RP_ID, not_after: int | None = None
) -> bytes:
    """One half as the file for its recipient."""
    package = SharePackage(recipient.role, share, 0, rp_id, not_after, ceremony_id)
    return seal_share(package, recipient.public_key, recipient.id)
