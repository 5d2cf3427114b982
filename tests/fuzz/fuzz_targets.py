"""What is fuzzed: each target has valid originals, and a check of what the program does with any bytes in their place.

A check returns an `Outcome`, or raises `Violation`: another error than the documented one, or a changed file that was
taken. "Sealed again" and "signed again" targets damage what lies below the protection and protect the result anew, as a
forger without the right keys would, so that the inner parsers are reached.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace

import gmpy2
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from fuzz_mutations import Style
from fuzz_promise import Outcome, Target, Violation, only
from fuzz_room import Room, make_room

from keys.ceremony.inspection import look_at
from keys.refusal import Refusal
from keys.sources.source_key import SourceKeyError, load_source_key
from keys.sources.weak_keys import WeakKey, refuse_weak
from mpc.errors import DecodeError
from mpc.primitives import codec
from mpc.primitives.hashing import framed
from mpc.primitives.rng import SystemRng
from mpc.provisioning import passphrase_lock
from mpc.provisioning.ceremony import CeremonyError, check_ceremony
from mpc.provisioning.manifest import (
    MANIFEST_NAME,
    SignedManifest,
    recipient_path,
    share_path,
)
from mpc.provisioning.recipient import Recipient
from mpc.provisioning.recipient_key import RecipientKey
from mpc.provisioning.signed_document import sign_document
from mpc.threshold_rsa.share_package import (
    Role,
    SharePackage,
    SharePackageError,
    open_share,
    read_share_header,
)

_PASSPHRASE = "a passphrase of the fuzzer"


def all_targets() -> list[Target]:
    """All of them, in a room of their own."""
    return targets(make_room())


def targets(room: Room) -> list[Target]:
    """All of them."""
    return [
        *(_share_file(room, role) for role in Role),
        *(_package_sealed_again(room, role) for role in Role),
        _package(room),
        _recipient(room),
        _recipient_signed_again(room),
        _manifest(room),
        _manifest_signed_again(room),
        *(_file_of_ceremony(room, path) for path in room.files),
        _ceremony_signed_again(room),
        *_source_keys(room),
        _looked_at(room),
        _recipient_key(room),
        _recipient_key_sealed_again(room),
    ]


def _share_file(room: Room, role: Role) -> Target:
    recipient, package = room.recipients[role], room.packages[role]
    original = room.files[share_path(recipient, package.key.key_id)]

    def check(data: bytes) -> Outcome:
        only(SharePackageError, lambda: read_share_header(data))
        opened = only(
            SharePackageError,
            lambda: open_share(data, room.keys[role], recipient_id=recipient.id, expected_role=role),
        )
        return _unchanged_or_refused(data == original and opened == package, opened)

    return Target(f"share file of the {role}", [original], check, [Style.BYTES, Style.SHARE])


def _package_sealed_again(room: Room, role: Role) -> Target:
    """Base mode lets everybody seal: what a forger sealed must be read as strictly, and is never this key's share."""
    recipient, package = room.recipients[role], room.packages[role]
    file = room.files[share_path(recipient, package.key.key_id)]
    end = 7 + int.from_bytes(file[5:7], "big")
    header = file[7:end]

    def check(data: bytes) -> Outcome:
        sealed = recipient.public_key.seal(data, info=framed("tandem sealed share v1", header))
        forged = file[:end] + len(sealed).to_bytes(4, "big") + sealed
        opened = only(
            SharePackageError,
            lambda: open_share(forged, room.keys[role], recipient_id=recipient.id, expected_role=role),
        )
        return _canonical_or_refused(data, opened, package)

    return Target(f"package sealed again to the {role}", [package.encode()], check, [Style.BYTES, Style.CBOR])


def _package(room: Room) -> Target:
    originals = {package.encode(): package for package in room.packages.values()}

    def check(data: bytes) -> Outcome:
        opened = only(SharePackageError, lambda: SharePackage.decode(data))
        return _canonical_or_refused(data, opened, originals.get(data))

    return Target("package", list(originals), check, [Style.BYTES, Style.CBOR])


def _canonical_or_refused(data: bytes, opened: SharePackage | None, original: SharePackage | None) -> Outcome:
    if opened is None:
        return Outcome.REFUSED
    if opened.encode() != data:
        raise Violation("a package was taken that is not the encoding of what was read")
    return Outcome.UNCHANGED if opened == original else Outcome.FORGED


def _recipient(room: Room) -> Target:
    known = {_meaning(recipient) for recipient in room.recipients.values()}

    def check(data: bytes) -> Outcome:
        read = only(DecodeError, lambda: Recipient.decode(data))
        return _unchanged_or_refused(read is not None and _meaning(read) in known, read)

    originals = [recipient.document for recipient in room.recipients.values()]
    return Target("recipient", originals, check, [Style.BYTES, Style.JSON])


def _recipient_signed_again(room: Room) -> Target:
    forger = Ed25519PrivateKey.generate()
    known = {recipient.id for recipient in room.recipients.values()}

    def check(data: bytes) -> Outcome:
        read = only(DecodeError, lambda: Recipient.decode(_signed_again(data, forger)))
        if read is not None and read.id in known:
            raise Violation("a recipient that somebody else signed has the fingerprint of a known one")
        return Outcome.REFUSED if read is None else Outcome.FORGED

    originals = [_without_signature(recipient.document) for recipient in room.recipients.values()]
    return Target("recipient signed again", originals, check, [Style.BYTES, Style.JSON])


def _manifest(room: Room) -> Target:
    original = SignedManifest.decode(room.files[MANIFEST_NAME])

    def check(data: bytes) -> Outcome:
        read = only(DecodeError, lambda: SignedManifest.decode(data))
        return _unchanged_or_refused(read == original, read)

    return Target("manifest", [room.files[MANIFEST_NAME]], check, [Style.BYTES, Style.JSON])


def _manifest_signed_again(room: Room) -> Target:
    forger = Ed25519PrivateKey.generate()

    def check(data: bytes) -> Outcome:
        read = only(DecodeError, lambda: SignedManifest.decode(_signed_again(data, forger)))
        return _forged_or_refused(read, room)

    original = _without_signature(room.files[MANIFEST_NAME])
    return Target("manifest signed again", [original], check, [Style.BYTES, Style.JSON])


def _file_of_ceremony(room: Room, path: str) -> Target:
    signed = SignedManifest.decode(room.files[MANIFEST_NAME])

    def check(data: bytes) -> Outcome:
        folder = {**room.files, path: data}
        checked = only(CeremonyError, lambda: check_ceremony(folder.get, roles=set(Role), listing=folder))
        same = data == room.files[path] or path == MANIFEST_NAME
        return _unchanged_or_refused(checked is not None and checked.signed == signed and same, checked)

    labels = {recipient_path(recipient): f"the {role}'s recipient" for role, recipient in room.recipients.items()}
    labels |= {
        share_path(recipient, room.source.public.key_id): f"the {role}'s share"
        for role, recipient in room.recipients.items()
    }
    styles = [Style.BYTES, Style.JSON] if path.endswith(".json") else [Style.BYTES]
    return Target(f"ceremony with {labels.get(path, path)}", [room.files[path]], check, styles)


def _ceremony_signed_again(room: Room) -> Target:
    forger = Ed25519PrivateKey.generate()

    def check(data: bytes) -> Outcome:
        folder = {**room.files, MANIFEST_NAME: _signed_again(data, forger)}
        checked = only(CeremonyError, lambda: check_ceremony(folder.get, roles=set(Role), listing=folder))
        return _forged_or_refused(None if checked is None else checked.signed, room)

    original = _without_signature(room.files[MANIFEST_NAME])
    return Target("ceremony with a manifest signed again", [original], check, [Style.BYTES, Style.JSON])


def _forged_or_refused(read: SignedManifest | None, room: Room) -> Outcome:
    if read is None:
        return Outcome.REFUSED
    if read.signing_key == SignedManifest.decode(room.files[MANIFEST_NAME]).signing_key:
        raise Violation("a manifest that somebody else signed has the fingerprint of the ceremony's key")
    return Outcome.FORGED


def _source_keys(room: Room) -> list[Target]:
    """Key files as they are, without a KDF whose cost a damaged file could raise; and encrypted ones in part."""
    source = room.source
    public = rsa.RSAPublicNumbers(source.exponent, source.modulus)
    assert source.crt is not None
    key = rsa.RSAPrivateNumbers(source.p, source.q, source.private_exponent, *source.crt, public).private_key()
    period = gmpy2.lcm(source.p - 1, source.q - 1)
    lock = BestAvailableEncryption(_PASSPHRASE.encode())

    def check(data: bytes) -> Outcome:
        loaded = only(SourceKeyError, lambda: load_source_key(data, _PASSPHRASE.encode()))
        if loaded is None or only(WeakKey, lambda: refuse_weak(loaded) or True) is None:
            return Outcome.REFUSED
        same = (loaded.public, {loaded.p, loaded.q}) == (source.public, {source.p, source.q})
        return _unchanged_or_refused(
            same and loaded.private_exponent % period == source.private_exponent % period, data
        )

    def saved(encoding: Encoding, form: PrivateFormat) -> bytes:
        return key.private_bytes(encoding, form, NoEncryption())

    locked = key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, lock)
    head = locked[:150]  # with the KDF's cost; beyond it lies ciphertext alone
    forms = {
        "PKCS#1 DER": saved(Encoding.DER, PrivateFormat.TraditionalOpenSSL),
        "PKCS#8 DER": saved(Encoding.DER, PrivateFormat.PKCS8),
        "PKCS#1 PEM": saved(Encoding.PEM, PrivateFormat.TraditionalOpenSSL),
        "PKCS#8 PEM": saved(Encoding.PEM, PrivateFormat.PKCS8),
        "encrypted PKCS#1 PEM": key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, lock),
        "PKCS#12": pkcs12.serialize_key_and_certificates(None, key, None, None, NoEncryption()),
    }
    plain = [Target(f"source key, {name}", [data], check, [Style.BYTES]) for name, data in forms.items()]
    encrypted = Target(
        "source key, ciphertext of encrypted PKCS#8", [locked[150:]], lambda data: check(head + data), [Style.BYTES]
    )
    return [*plain, encrypted]


def _looked_at(room: Room) -> Target:
    """`inspect` shows files that nobody has checked: whatever it does not refuse, it must be able to show."""
    originals = [data for path, data in room.files.items() if not path.endswith(".html")]

    def check(data: bytes) -> Outcome:
        seen = only(Refusal, lambda: look_at(data))
        if seen is not None and not all(text.isprintable() for text in _texts(seen)):
            raise Violation("text was shown that can steer a terminal")
        return Outcome.REFUSED if seen is None else Outcome.UNCHANGED

    return Target("inspected file", originals, check, [Style.BYTES, Style.SHARE, Style.JSON])


def _texts(seen: object) -> list[str]:
    if isinstance(seen, dict):
        return [text for pair in seen.items() for part in pair for text in _texts(part)]
    if isinstance(seen, list):
        return [text for entry in seen for text in _texts(entry)]
    return [str(seen)]


def _recipient_key(room: Room) -> Target:
    held = RecipientKey(room.recipients[Role.SERVER], room.keys[Role.SERVER])
    original = held.protect(SystemRng(), _PASSPHRASE)

    def check(data: bytes) -> Outcome:
        read = only(DecodeError, lambda: RecipientKey.unprotect(data, _PASSPHRASE))
        return _unchanged_or_refused(data == original and read == held, read)

    return Target("recipient key", [original], check, [Style.BYTES], slow=True)


def _recipient_key_sealed_again(room: Room) -> Target:
    """Whoever knows the passphrase may have written anything; at the lowest cost that is accepted."""
    held = RecipientKey(room.recipients[Role.DEVICE], room.keys[Role.DEVICE])
    plaintext = codec.encode({"suite": held.key.suite.value, "key": held.key.raw, "recipient": held.recipient.document})
    salt, nonce = os.urandom(16), os.urandom(12)
    head = b"TRKY" + bytes([1, 15]) + salt + nonce
    cipher = passphrase_lock._cipher(_PASSPHRASE, salt, 15)

    def check(data: bytes) -> Outcome:
        file = head + cipher.encrypt(nonce, data, head)
        read = only(DecodeError, lambda: RecipientKey.unprotect(file, _PASSPHRASE))
        if read is not None and _meaning(read.recipient) != _meaning(held.recipient):
            raise Violation("a recipient key was taken with another recipient than it was made for")
        return Outcome.REFUSED if read is None else Outcome.UNCHANGED

    return Target("recipient key sealed again", [plaintext], check, [Style.BYTES, Style.CBOR], slow=True)


def _unchanged_or_refused(unchanged: bool, taken: object) -> Outcome:
    if taken is None:
        return Outcome.REFUSED
    if not unchanged:
        raise Violation("a changed file was taken")
    return Outcome.UNCHANGED


def _meaning(recipient: Recipient) -> Recipient:
    return replace(recipient, document=b"")


def _without_signature(document: bytes) -> bytes:
    values = json.loads(document)
    return json.dumps(
        {name: value for name, value in values.items() if name not in ("signature", "signing_key")}
    ).encode()


def _signed_again(data: bytes, key: Ed25519PrivateKey) -> bytes:
    """The document under another key; the bytes as they are if they cannot be signed."""
    try:
        values = json.loads(data)
        return sign_document(values, key) if isinstance(values, dict) else data
    except (ValueError, RecursionError):
        return data
