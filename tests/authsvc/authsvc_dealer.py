"""A dealer for the server's tests: ceremonies with real signatures, hashes and sealed halves, as files in memory.

Keys are real RSA keys where a test computes with them, and otherwise random odd numbers: importing does no arithmetic.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authsvc.services import recipients, share_import
from authsvc.services.context import ServiceContext
from authsvc.store.credentials import CredentialRow, load_credential
from authsvc.store.enrolments import EnrolmentRow, EnrolmentStatus, insert_enrolment
from mpc.login.provisioned_messages import PairingStatement
from mpc.primitives.hpke import HpkePrivateKey, HpkeSuite
from mpc.primitives.rng import SystemRng
from mpc.provisioning.manifest import (
    MANIFEST_NAME,
    REPORT_NAME,
    CeremonyKind,
    DealtKey,
    Manifest,
    SignedManifest,
    recipient_path,
    share_path,
)
from mpc.provisioning.recipient import Recipient, new_recipient
from mpc.provisioning.signed_document import key_fingerprint
from mpc.threshold_rsa.public_key import PublicKey
from mpc.threshold_rsa.share_package import Role, SharePackage, seal_share
from mpc.threshold_rsa.shares import KeyShare, share_bits, split

SHOP = "shop.example"
SERVER_ID = "auth.example"
RNG = SystemRng()
_TERMS: dict[bytes, tuple[str, int | None, bytes]] = {}


@dataclass
class Clock:
    """Unix seconds that a test sets."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass(frozen=True)
class SplitKey:
    """Both halves of one key, as only a dealer ever has them."""

    device: KeyShare = field(repr=False)
    server: KeyShare = field(repr=False)

    @property
    def key_id(self) -> bytes:
        return self.server.key.key_id


def real_key() -> SplitKey:
    """A fresh RSA key, split."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_numbers()
    return SplitKey(*split(RNG, PublicKey(private.public_numbers.n), private.d))


def number_like_a_key() -> SplitKey:
    """Of the right sizes, and of no use for signing."""
    key = PublicKey(secrets.randbits(2048) | 1 << 2047 | 1)
    size = share_bits(key)
    server = secrets.randbits(size) | 1 << (size - 1)
    return SplitKey(KeyShare(key, -server), KeyShare(key, server))


def statement(share: KeyShare, enrolment_id: bytes, server_id: str = SERVER_ID) -> PairingStatement:
    """What a device says when it pairs: the terms of its half are those of the last ceremony that dealt the key."""
    rp_id, not_after, ceremony_id = _TERMS.get(share.key.key_id, (SHOP, None, bytes(16)))
    return PairingStatement(server_id, enrolment_id, rp_id, not_after, ceremony_id)


def device_recipient(
    enrolment_id: bytes, server_id: str = "auth.example", name: str = "a phone"
) -> tuple[HpkePrivateKey, Recipient]:
    return new_recipient(
        role=Role.DEVICE,
        name=name,
        server_id=server_id,
        enrolment_id=enrolment_id,
        suite=HpkeSuite.X25519,
        now=int(time.time()),
    )


def server_recipient(ctx: ServiceContext) -> Recipient:
    """The server's current one."""
    own = recipients.current(ctx) or recipients.create(ctx, suite=HpkeSuite.X25519)
    return own.recipient


@dataclass(frozen=True)
class Dealt:
    """A ceremony's folder, and the secrets of whoever made it."""

    files: dict[str, bytes] = field(repr=False)
    manifest: Manifest
    keys: Sequence[SplitKey] = field(repr=False)
    signer: Ed25519PrivateKey = field(repr=False)

    @property
    def fingerprint(self) -> str:
        return key_fingerprint(self.signer.public_key().public_bytes_raw())

    @property
    def manifest_hash(self) -> bytes:
        return SignedManifest.decode(self.files[MANIFEST_NAME]).digest

    @property
    def key_ids(self) -> tuple[bytes, ...]:
        return tuple(key.key_id for key in self.keys)

    def signed_again(self, signer: Ed25519PrivateKey | None = None, **changes: Any) -> Dealt:
        """The same folder under another manifest: what a dealer, honest or not, could have signed."""
        manifest = replace(self.manifest, **changes)
        signer = signer or self.signer
        return replace(
            self, files={**self.files, MANIFEST_NAME: manifest.sign(signer)}, manifest=manifest, signer=signer
        )

    def with_file(self, path: str, content: bytes) -> Dealt:
        """One file exchanged, with its new hash in a manifest signed by the same dealer."""
        files = {**self.manifest.files, path: hashlib.sha256(content).digest()}
        return replace(self, files={**self.files, path: content}).signed_again(files=files)

    def write(self, folder: Path) -> Path:
        for path, content in self.files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        return folder

    def import_into(self, ctx: ServiceContext, **arguments: Any) -> share_import.Imported:
        """As an operator who compared the fingerprint."""
        given: dict[str, Any] = {"listing": self.files, "expected_ceremony_key": self.fingerprint, **arguments}
        return share_import.import_shares(ctx, self.files.get, **given)


def deal(
    server: Recipient,
    device_of: Callable[[int], Recipient],
    keys: Sequence[SplitKey],
    *,
    rp_id: str = SHOP,
    not_after: int | None = None,
    signer: Ed25519PrivateKey | None = None,
    replaces: Dealt | None = None,
) -> Dealt:
    """A ceremony. device_of: who gets the device's half of the key at that place. replaces: what it rewraps."""
    ceremony_id = replaces.manifest.ceremony_id if replaces else secrets.token_bytes(16)
    devices = [device_of(place) for place in range(len(keys))]
    everybody = {recipient.id: recipient for recipient in (server, *devices)}
    files = {REPORT_NAME: b"<p>dealt</p>"}
    files |= {recipient_path(recipient): recipient.document for recipient in everybody.values()}
    for key, device in zip(keys, devices, strict=True):
        _TERMS[key.key_id] = (rp_id, not_after, ceremony_id)
        for role, share, holder in ((Role.SERVER, key.server, server), (Role.DEVICE, key.device, device)):
            package = SharePackage(role, share, 0, rp_id, not_after, ceremony_id)
            files[share_path(holder, key.key_id)] = seal_share(package, holder.public_key, holder.id)
    now = int(time.time())
    manifest = Manifest(
        ceremony_id=ceremony_id,
        kind=CeremonyKind.REWRAP if replaces else CeremonyKind.GENERATE,
        revision=replaces.manifest.revision + 1 if replaces else 0,
        previous=replaces.manifest_hash if replaces else None,
        operators=("Ann",),
        witnesses=("Bob",),
        started_at=now,
        finished_at=now,
        tool={"tests": "1"},
        parameters={"bits": "2048", "recipients compared": "by telephone"},
        rp_id=rp_id,
        not_after=not_after,
        recipients=tuple(everybody),
        keys=tuple(DealtKey(key.server.key, server.id, device.id) for key, device in zip(keys, devices, strict=True)),
        files={path: hashlib.sha256(content).digest() for path, content in files.items()},
    )
    signer = signer or Ed25519PrivateKey.generate()
    files[MANIFEST_NAME] = manifest.sign(signer)
    return Dealt(files, manifest, keys, signer)


def enrol(ctx: ServiceContext, enrolment_id: bytes, status: EnrolmentStatus = "active") -> None:
    """The row of an enrolment, for tests in which its device never appears."""
    row = EnrolmentRow(
        id=enrolment_id,
        status=status,
        status_reason=None,
        label="somebody",
        profile_name="sim-512",
        code_hash=bytes(32),
        signing_key=b"\x04" + bytes(64),
        next_signing_key=None,
        epoch=0,
        base_ot_id=None,
        sealed_base_ot=None,
        sealed_pending_base_ot=None,
        pending_base_ot_id=None,
        sealed_template=None,
        last_index=0,
        confirmed_index=None,
        confirmed_token_hash=None,
        consecutive_failures=0,
        last_attempt_at=None,
        template_attempts=0,
        created_at=1.0,
        updated_at=1.0,
    )
    with ctx.store.write() as conn:
        ctx.keyring.insert(conn, ctx.keyring.new_key(RNG, enrolment_id, ctx.keyring.current(conn)))
        insert_enrolment(conn, row)


def stored(ctx: ServiceContext, key_id: bytes) -> CredentialRow | None:
    with ctx.store.read() as conn:
        return load_credential(conn, key_id)


def events(ctx: ServiceContext) -> list[tuple[str, str | None, dict[str, Any]]]:
    """(name, enrolment id in hexadecimal, detail) of all events, oldest first."""
    with ctx.store.read() as conn:
        rows = conn.exec_driver_sql("SELECT name, enrolment_id, detail FROM events ORDER BY id").all()
    return [(row[0], None if row[1] is None else bytes(row[1]).hex(), json.loads(row[2])) for row in rows]


def everything(ctx: ServiceContext) -> dict[str, list[tuple[Any, ...]]]:
    """All rows that provisioning writes, to show that nothing was stored."""
    with ctx.store.read() as conn:
        return {
            table: [tuple(row) for row in conn.exec_driver_sql(f"SELECT * FROM {table} ORDER BY 1")]
            for table in ("credentials", "ceremonies", "recipients", "events", "enrolments")
        }
