"""A small ceremony in memory: one server, two devices, three keys, real shares really sealed.

A test changes the parts and signs again, as a dealer (or somebody who pretends to be one) could.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from mpc.primitives.hpke import HpkePrivateKey, HpkeSuite
from mpc.primitives.rng import SeededRng
from mpc.provisioning.manifest import MANIFEST_NAME, CeremonyKind, DealtKey, Manifest, recipient_path, share_path
from mpc.provisioning.recipient import Recipient, new_recipient
from mpc.threshold_rsa.public_key import PublicKey
from mpc.threshold_rsa.share_package import Role, SharePackage, seal_share
from mpc.threshold_rsa.shares import KeyShare, split

CEREMONY_ID = bytes(range(16))
NOW = 1_795_000_000
SIGNER = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
Folder = dict[str, bytes]


@cache
def _holder(role: Role, name: str, server_id: str) -> tuple[HpkePrivateKey, Recipient]:
    return new_recipient(
        role=role,
        name=name,
        server_id=server_id,
        enrolment_id=hashlib.sha256(name.encode()).digest()[:16] if role is Role.DEVICE else None,
        suite=HpkeSuite.X25519,
        now=NOW,
    )


def holder(role: Role, name: str, server_id: str = "auth.example") -> tuple[HpkePrivateKey, Recipient]:
    """A recipient with its private key; the enrolment id of a device follows from its name."""
    return _holder(role, name, server_id)


def recipient(role: Role, name: str, server_id: str = "auth.example") -> Recipient:
    return holder(role, name, server_id)[1]


SERVER = recipient(Role.SERVER, "auth")
ANN, BOB = recipient(Role.DEVICE, "Ann's phone"), recipient(Role.DEVICE, "Bob's phone")


@cache
def dealt_pair(number: int, bits: int = 2048) -> tuple[PublicKey, KeyShare, KeyShare]:
    """(key, device's half, server's half). N is a random odd number: nothing here computes with the key."""
    rng = SeededRng(b"dealt" + number.to_bytes(4, "big"))
    key = PublicKey(int.from_bytes(rng.bytes(bits // 8), "big") | 1 << (bits - 1) | 1)
    return key, *split(rng, key, key.modulus // 3)


def key_id(number: int) -> bytes:
    return dealt_pair(number)[0].key_id


def half(number: int, to: Recipient, **changes: Any) -> bytes:
    """The sealed half of key `number` for this recipient."""
    _, device, server = dealt_pair(number)
    values: dict[str, Any] = {
        "role": to.role,
        "share": device if to.role is Role.DEVICE else server,
        "epoch": 0,
        "rp_id": "shop.example",
        "not_after": None,
        "ceremony_id": CEREMONY_ID,
    }
    return seal_share(SharePackage(**(values | changes)), to.public_key, to.id)


@cache
def _cached_half(number: int, to: Recipient) -> bytes:
    return half(number, to)


DEALT = (
    DealtKey(dealt_pair(0)[0], SERVER.id, ANN.id),
    DealtKey(dealt_pair(1)[0], SERVER.id, BOB.id),
    DealtKey(dealt_pair(2)[0], SERVER.id, ANN.id),
)


def files() -> Folder:
    """Everything but the manifest."""
    made = {recipient_path(each): each.document for each in (SERVER, ANN, BOB)} | {"report.html": b"<p>report"}
    for number, owner in enumerate((ANN, BOB, ANN)):
        for to in (SERVER, owner):
            made[share_path(to, key_id(number))] = _cached_half(number, to)
    return made


def manifest(folder: Folder, **changes: Any) -> Manifest:
    """The manifest of these files."""
    made = Manifest(
        ceremony_id=CEREMONY_ID,
        kind=CeremonyKind.GENERATE,
        revision=0,
        previous=None,
        operators=("Ann Ode", "Bob Lee"),
        witnesses=("Eve Fox",),
        started_at=NOW,
        finished_at=NOW + 60,
        tool={"tandem-keys": "0.1.0"},
        parameters={"bits": "2048"},
        rp_id="shop.example",
        not_after=None,
        recipients=(SERVER.id, ANN.id, BOB.id),
        keys=DEALT,
        files={path: hashlib.sha256(data).digest() for path, data in folder.items() if path != MANIFEST_NAME},
    )
    return replace(made, **changes)


def ceremony(signer: Ed25519PrivateKey = SIGNER, **changes: Any) -> Folder:
    """A whole folder, as it should be but for the changes to its manifest."""
    folder = files()
    return folder | {MANIFEST_NAME: manifest(folder, **changes).sign(signer)}


def signed_again(folder: Folder, **changes: Any) -> Folder:
    """The folder with a manifest that fits its files, by somebody who can sign."""
    return folder | {MANIFEST_NAME: manifest(folder, **changes).sign(SIGNER)}
