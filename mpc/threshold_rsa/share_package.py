"""One half of a provisioned key, as it travels from the dealer to its holder: a share package inside HPKE.

A sealed share is a file of its own:

| bytes | content |
|---|---|
| 0–3 | "TSHR" |
| 4 | version, 1 |
| 5–6 | length h of the header, big-endian |
| 7– | header: canonical CBOR of what may be seen without opening |
| 7+h, 4 bytes | length of the sealed part, big-endian |
| 11+h– | HPKE (RFC 9180, base mode) of the share package; info = "tandem sealed share v1" and the header, framed |

The header is bound to the sealed part, and what it says is said again inside: neither can be exchanged alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from mpc.errors import DecodeError
from mpc.parameters import MAX_EXPONENT, MAX_MODULUS_BITS, MIN_MODULUS_BITS
from mpc.primitives import codec
from mpc.primitives.hashing import framed
from mpc.primitives.hpke import HpkePrivateKey, HpkePublicKey, HpkeSuite, OpenFailed
from mpc.primitives.secrecy import NeverPickled
from mpc.threshold_rsa.public_key import PublicKey
from mpc.threshold_rsa.shares import KeyShare

PACKAGE_VERSION = 1
SEALED_VERSION = 1
CEREMONY_ID_BYTES = 16
KEY_ID_BYTES = 32
RECIPIENT_ID_BYTES = 32
MAX_SEALED_SHARE_BYTES = 16 * 1024
MAX_TIME_S = 253_402_300_799  # 9999-12-31T23:59:59Z, the last that RFC 3339 can write
_MAGIC = b"TSHR"
_MAX_RP_ID_BYTES = 253
_RP_ID = re.compile(r"[a-z0-9.-]{1,253}", re.ASCII)
_MAX_EPOCH = 2**63 - 1
_MAX_SHARE_BYTES = MAX_MODULUS_BITS // 4
_INFO = "tandem sealed share v1"


class Role(StrEnum):
    """Who holds a half."""

    DEVICE = "device"
    SERVER = "server"


class PackageProblem(StrEnum):
    """What is wrong with a share file; stable words for programs and tests."""

    NOT_A_SHARE = "not_a_share"
    UNKNOWN_VERSION = "unknown_version"
    TRUNCATED = "truncated"
    ALTERED = "altered"
    OTHER_ROLE = "other_role"
    OTHER_KEY = "other_key"
    OTHER_RECIPIENT = "other_recipient"


_SENTENCES = {
    PackageProblem.NOT_A_SHARE: "this is not a sealed share; give a file that tandem-keys made",
    PackageProblem.UNKNOWN_VERSION: "this share has a format version that this program does not know; update it",
    PackageProblem.TRUNCATED: "this share is cut short; copy the file again",
    PackageProblem.ALTERED: "this share was altered or damaged; copy the file again, or report it",
    PackageProblem.OTHER_ROLE: "this is the other side's half: the device and the server each have their own file",
    PackageProblem.OTHER_KEY: "this share belongs to another key than the one named beside it",
    PackageProblem.OTHER_RECIPIENT: "this share is sealed to another recipient",
}


class SharePackageError(DecodeError):
    """A share file was refused. `reason` is a `PackageProblem`; the text says what to do."""

    def __init__(self, problem: PackageProblem) -> None:
        super().__init__("share_package", _SENTENCES[problem])
        self.reason = problem.value


@dataclass(frozen=True, slots=True)
class ShareHeader:
    """What a sealed share shows to everybody. `not_after`: Unix seconds, None if it does not expire."""

    suite: HpkeSuite
    role: Role
    recipient_id: bytes
    key_id: bytes
    ceremony_id: bytes
    rp_id: str
    not_after: int | None

    def encode(self) -> bytes:
        values: dict[str, object] = {
            "suite": self.suite.value,
            "role": self.role.value,
            "recipient_id": self.recipient_id,
            "key_id": self.key_id,
            "ceremony_id": self.ceremony_id,
            "rp_id": self.rp_id,
        }
        if self.not_after is not None:
            values["not_after"] = self.not_after
        return codec.encode(values)

    @classmethod
    def decode(cls, data: bytes) -> ShareHeader:
        fields = codec.decode(data, what="share_header")
        header = cls(
            suite=HpkeSuite(fields.text("suite", at_most=40, one_of=tuple(HpkeSuite))),
            role=Role(fields.text("role", at_most=10, one_of=tuple(Role))),
            recipient_id=fields.bytes("recipient_id", length=RECIPIENT_ID_BYTES),
            key_id=fields.bytes("key_id", length=KEY_ID_BYTES),
            ceremony_id=fields.bytes("ceremony_id", length=CEREMONY_ID_BYTES),
            rp_id=rp_id_field(fields.text("rp_id", at_most=_MAX_RP_ID_BYTES)),
            not_after=fields.uint("not_after", at_most=MAX_TIME_S) if fields.has("not_after") else None,
        )
        fields.done()
        return header


@dataclass(frozen=True, slots=True)
class SharePackage(NeverPickled):
    """One half of one key: whose it is, for which relying party, until when, and from which ceremony.

    epoch: how many refreshes the share has behind it; 0 from a dealer. not_after: Unix seconds, or None. The
    device's share is the negative one and the server's the positive one; ValueError for the wrong sign.
    """

    role: Role
    share: KeyShare
    epoch: int
    rp_id: str
    not_after: int | None
    ceremony_id: bytes

    def __post_init__(self) -> None:
        if (self.share.value < 0) != (self.role is Role.DEVICE):
            raise ValueError("the device's share is the negative one and the server's the positive one")

    @property
    def key(self) -> PublicKey:
        return self.share.key

    def encode(self) -> bytes:
        """Canonical CBOR. Secret: it exists between here and `HpkePublicKey.seal`."""
        values: dict[str, object] = {
            "v": PACKAGE_VERSION,
            "role": self.role.value,
            "key_id": self.key.key_id,
            "n": self.key.modulus_bytes,
            "e": self.key.exponent,
            "share": self.share.to_bytes(),
            "epoch": self.epoch,
            "rp_id": self.rp_id,
            "ceremony_id": self.ceremony_id,
        }
        if self.not_after is not None:
            values["not_after"] = self.not_after
        return codec.encode(values)

    @classmethod
    def decode(cls, data: bytes) -> SharePackage:
        """Raises SharePackageError: unknown_version, other_key (key id and modulus do not fit), altered."""
        try:
            return _read_package(codec.decode(data, what="share_package"))
        except SharePackageError:
            raise
        except (DecodeError, ValueError):
            raise SharePackageError(PackageProblem.ALTERED) from None


def seal_share(package: SharePackage, recipient: HpkePublicKey, recipient_id: bytes) -> bytes:
    """The file for this recipient. `recipient_id`: SHA-256 of the recipient's document."""
    header = ShareHeader(
        suite=recipient.suite,
        role=package.role,
        recipient_id=recipient_id,
        key_id=package.key.key_id,
        ceremony_id=package.ceremony_id,
        rp_id=package.rp_id,
        not_after=package.not_after,
    ).encode()
    sealed = recipient.seal(package.encode(), info=_info(header))
    lengths = len(header).to_bytes(2, "big"), len(sealed).to_bytes(4, "big")
    return _MAGIC + bytes([SEALED_VERSION]) + lengths[0] + header + lengths[1] + sealed


def read_share_header(data: bytes) -> ShareHeader:
    """What can be seen without opening; nothing of it is authenticated. Raises SharePackageError."""
    return _parse(data)[0]


def open_share(
    data: bytes,
    key: HpkePrivateKey,
    *,
    recipient_id: bytes,
    expected_role: Role,
    expected_key_id: bytes | None = None,
) -> SharePackage:
    """The package in the file. Raises SharePackageError; each `PackageProblem` is what its name says."""
    header, encoded_header, sealed = _parse(data)
    if header.role is not expected_role:
        raise SharePackageError(PackageProblem.OTHER_ROLE)
    if header.recipient_id != recipient_id or header.suite is not key.suite:
        raise SharePackageError(PackageProblem.OTHER_RECIPIENT)
    try:
        package = SharePackage.decode(key.open(sealed, info=_info(encoded_header)))
    except OpenFailed:
        raise SharePackageError(PackageProblem.ALTERED) from None
    if package.role is not expected_role:
        raise SharePackageError(PackageProblem.OTHER_ROLE)
    if package.key.key_id != header.key_id or expected_key_id not in (None, header.key_id):
        raise SharePackageError(PackageProblem.OTHER_KEY)
    repeated = (package.ceremony_id, package.rp_id, package.not_after)
    if repeated != (header.ceremony_id, header.rp_id, header.not_after):
        raise SharePackageError(PackageProblem.ALTERED)
    return package


def rp_id_field(text: str) -> str:
    """An rp id as provisioning writes it: a bare lower-case domain name, IDNA encoded. Raises DecodeError."""
    if not _RP_ID.fullmatch(text):
        raise DecodeError("rp_id", "must be a bare lower-case domain name")
    return text


def _read_package(fields: codec.Fields) -> SharePackage:
    if fields.uint("v") != PACKAGE_VERSION:
        raise SharePackageError(PackageProblem.UNKNOWN_VERSION)
    modulus = fields.bytes("n", at_least=MIN_MODULUS_BITS // 8, at_most=MAX_MODULUS_BITS // 8)
    key = PublicKey.from_bytes(modulus, fields.uint("e", at_most=MAX_EXPONENT))
    if fields.bytes("key_id", length=KEY_ID_BYTES) != key.key_id:
        raise SharePackageError(PackageProblem.OTHER_KEY)
    package = SharePackage(
        role=Role(fields.text("role", at_most=10, one_of=tuple(Role))),
        share=KeyShare.from_bytes(key, fields.bytes("share", at_most=_MAX_SHARE_BYTES)),
        epoch=fields.uint("epoch", at_most=_MAX_EPOCH),
        rp_id=rp_id_field(fields.text("rp_id", at_most=_MAX_RP_ID_BYTES)),
        not_after=fields.uint("not_after", at_most=MAX_TIME_S) if fields.has("not_after") else None,
        ceremony_id=fields.bytes("ceremony_id", length=CEREMONY_ID_BYTES),
    )
    fields.done()
    return package


def _parse(data: bytes) -> tuple[ShareHeader, bytes, bytes]:
    """(header, its bytes, the sealed part)."""
    if data[: len(_MAGIC)] != _MAGIC[: len(data)] or not data:
        raise SharePackageError(PackageProblem.NOT_A_SHARE)
    if len(data) <= len(_MAGIC):
        raise SharePackageError(PackageProblem.TRUNCATED)
    if data[len(_MAGIC)] != SEALED_VERSION:
        raise SharePackageError(PackageProblem.UNKNOWN_VERSION)
    if len(data) > MAX_SEALED_SHARE_BYTES:
        raise SharePackageError(PackageProblem.ALTERED)
    header, rest = _counted(data[len(_MAGIC) + 1 :], 2)
    sealed, after = _counted(rest, 4)
    if after:
        raise SharePackageError(PackageProblem.ALTERED)
    try:
        return ShareHeader.decode(header), header, sealed
    except DecodeError:
        raise SharePackageError(PackageProblem.ALTERED) from None


def _counted(data: bytes, length_bytes: int) -> tuple[bytes, bytes]:
    """(the part whose length comes first, what follows it)."""
    end = length_bytes + int.from_bytes(data[:length_bytes], "big")
    if len(data) < max(length_bytes, end):
        raise SharePackageError(PackageProblem.TRUNCATED)
    return data[length_bytes:end], data[end:]


def _info(header: bytes) -> bytes:
    return framed(_INFO, header)
