"""Taking the server's halves of a ceremony: everything is checked first, then all of them are stored or none.

| checked | against |
|---|---|
| signatures, hashes, places of all files | the manifest (`mpc.provisioning.ceremony`) |
| the key of the ceremony | the fingerprint given, or the setting `ceremony_keys` |
| server id, relying party, expiry | this server's id, its policy, the clock |
| server recipients | this server's own, not retired |
| revision | the one imported last |
| each half | the public key, ceremony, relying party and expiry in the manifest |
| each device | an enrolment of this server that is not unfinished and not revoked |
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Collection
from dataclasses import dataclass

from sqlalchemy import Connection

from mpc.errors import DecodeError
from mpc.provisioning.ceremony import Ceremony, CeremonyError, ReadFile, check_ceremony
from mpc.provisioning.manifest import MANIFEST_NAME, DealtKey, SignedManifest
from mpc.provisioning.recipient_key import RecipientKey
from mpc.provisioning.signed_document import normal_fingerprint, to_base64url
from mpc.threshold_rsa.encodings import Algorithm
from mpc.threshold_rsa.share_package import Role, SharePackage, SharePackageError, open_share

from ..errors import Refused
from ..store.ceremonies import CeremonyRow, load_ceremony, store_ceremony
from ..store.credentials import WAITING, CredentialRow, insert_credential, load_credential, rebind_credential
from ..store.enrolments import load_enrolment
from ..store.events import append_event
from .context import ServiceContext
from .provisioning_refusals import ProvisioningRefused
from .recipients import opening_key_for
from .secrets_at_rest import open_key_share, seal_key_share

Progress = Callable[[int, int], None]
"""Called with (halves done, halves in all)."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did. Key ids, in the manifest's order."""

    ceremony_id: bytes
    revision: int
    new: tuple[bytes, ...]
    known: tuple[bytes, ...]
    """Here before, and left as they were."""
    rebound: tuple[bytes, ...]
    """Waiting before for another enrolment."""
    revoked: tuple[bytes, ...]
    """Those among the known that are revoked, and stay so."""


def import_shares(
    ctx: ServiceContext,
    read: ReadFile,
    *,
    listing: Collection[str] | None = None,
    expected_ceremony_key: str | None = None,
    progress: Progress = lambda done, total: None,
) -> Imported:
    """Store the server's halves of the ceremony in a folder: all of them in one transaction, or none.

    expected_ceremony_key: the fingerprint that the manifest's signer must have; if None, it must be one of the
    policy's. Repeating it changes nothing. Raises CeremonyError (the folder is not what its manifest says) or
    ProvisioningRefused.
    """
    read = _manifest_once(read)
    ceremony = check_ceremony(read, roles={Role.SERVER}, listing=listing, progress=progress)
    manifest = read(MANIFEST_NAME)
    assert manifest is not None
    _check_trusted(ctx, ceremony.signed, expected_ceremony_key)
    _check_policy(ctx, ceremony)
    rows = _opened(ctx, read, ceremony)
    found = CeremonyRow(
        ceremony_id=ceremony.manifest.ceremony_id,
        revision=ceremony.manifest.revision,
        manifest_hash=hashlib.sha256(manifest).digest(),
        signing_key=ceremony.signed.signing_key,
        imported_at=ctx.clock(),
    )
    with ctx.store.write() as conn:
        before = load_ceremony(conn, found.ceremony_id)
        _check_revision(before, found, ceremony.manifest.previous)
        for recipient_id in {dealt.server for dealt in ceremony.manifest.keys}:
            opening_key_for(ctx, conn, ceremony.recipients[recipient_id])  # retired meanwhile?
        imported = _store(ctx, conn, found, rows)
        if before is None or before.revision < found.revision:
            store_ceremony(conn, found)
        detail = {"new": len(imported.new), "known": len(imported.known), "rebound": len(imported.rebound)}
        append_event(
            conn,
            at=found.imported_at,
            name="shares_imported",
            detail={"ceremony_id": found.ceremony_id.hex(), "revision": found.revision, **detail},
        )
    return imported


def ceremony_fingerprint(read: ReadFile) -> str:
    """The fingerprint of the key that signed the manifest in a folder, to show it to somebody. CeremonyError."""
    data = read(MANIFEST_NAME)
    if data is None:
        raise CeremonyError(MANIFEST_NAME, "missing", "is missing: this is not the folder of a finished ceremony")
    try:
        return SignedManifest.decode(data).fingerprint
    except DecodeError as error:
        raise CeremonyError(MANIFEST_NAME, "wrong_manifest", str(error)) from None


def _manifest_once(read: ReadFile) -> ReadFile:
    """The same, but a manifest exchanged while we look is not seen: all checks are of one file."""
    manifest = read(MANIFEST_NAME)
    return lambda path: manifest if path == MANIFEST_NAME else read(path)


def _check_trusted(ctx: ServiceContext, signed: SignedManifest, expected: str | None) -> None:
    if expected is not None:
        try:
            trusted = {normal_fingerprint(expected)}
        except ValueError:
            raise Refused("malformed", field="ceremony_key") from None
    else:
        trusted = set(ctx.policy.ceremony_keys)
    if signed.fingerprint not in trusted:
        raise ProvisioningRefused(
            "untrusted_ceremony",
            f"the manifest is signed with the ceremony key {signed.fingerprint}, which this server was not told to"
            " trust; compare it with what the witnesses wrote down, and then give it as --ceremony-key or add it to"
            " the setting ceremony_keys",
        )


def _check_policy(ctx: ServiceContext, ceremony: Ceremony) -> None:
    manifest = ceremony.manifest
    for dealt in manifest.keys:
        if ceremony.recipient_of(dealt, Role.SERVER).server_id != ctx.policy.server_id:
            raise ProvisioningRefused(
                "other_server", "these halves are for a server with another server_id; import them there"
            )
    if manifest.rp_id not in ctx.policy.allowed_rp_ids:
        raise ProvisioningRefused(
            "rp_not_allowed",
            "the keys are for a relying party that is not in the setting allowed_rp_ids; add it first, or find out"
            " why they were dealt",
        )
    if manifest.not_after is not None and ctx.clock() > manifest.not_after:
        raise ProvisioningRefused("expired", "the keys of this ceremony have expired; deal new ones")


def _opened(ctx: ServiceContext, read: ReadFile, ceremony: Ceremony) -> list[CredentialRow]:
    """The row of each key with its half sealed for the enrolment it was dealt to."""
    manifest, now = ceremony.manifest, ctx.clock()
    with ctx.store.read() as conn:
        servers = {dealt.server for dealt in manifest.keys}
        keys = {each: opening_key_for(ctx, conn, ceremony.recipients[each]) for each in servers}
    rows = []
    for dealt in manifest.keys:
        package = _package(read, ceremony, dealt, keys[dealt.server])
        enrolment_id = ceremony.recipient_of(dealt, Role.DEVICE).enrolment_id
        assert enrolment_id is not None
        rows.append(
            CredentialRow(
                id=dealt.key.key_id,
                enrolment_id=enrolment_id,
                rp_id=manifest.rp_id,
                algorithm=int(Algorithm.RS256),
                modulus=dealt.key.modulus_bytes,
                exponent=dealt.key.exponent,
                sealed_share=seal_key_share(ctx.sealer, enrolment_id, dealt.key.key_id, package.share),
                status="provisioned",
                sign_count=0,
                created_at=now,
                ceremony_id=manifest.ceremony_id,
                not_after=manifest.not_after,
            )
        )
    return rows


def _package(read: ReadFile, ceremony: Ceremony, dealt: DealtKey, own: RecipientKey) -> SharePackage:
    path = ceremony.path_of(dealt, Role.SERVER)
    data = read(path)
    # Read again after the folder was checked: it must still be the file of the ceremony.
    if data is None or hashlib.sha256(data).digest() != ceremony.manifest.files[path]:
        raise CeremonyError(path, "altered", "changed while it was being read; copy the whole folder again")
    try:
        package = open_share(
            data,
            own.key,
            recipient_id=own.recipient.id,
            expected_role=Role.SERVER,
            expected_key_id=dealt.key.key_id,
        )
    except SharePackageError as error:
        raise ProvisioningRefused("bad_share", f"{path}: {error.problem}") from None
    manifest = ceremony.manifest
    told = (package.key, package.ceremony_id, package.rp_id, package.not_after, package.epoch)
    if told != (dealt.key, manifest.ceremony_id, manifest.rp_id, manifest.not_after, 0):
        raise ProvisioningRefused("bad_share", f"{path}: holds another half than the manifest says")
    return package


def _check_revision(before: CeremonyRow | None, found: CeremonyRow, previous: bytes | None) -> None:
    if before is None:
        return
    if found.revision < before.revision:
        raise ProvisioningRefused(
            "stale_revision",
            f"revision {before.revision} of this ceremony was imported already, and this is revision {found.revision};"
            " use the newest folder",
        )
    if found.revision == before.revision and found.manifest_hash != before.manifest_hash:
        raise ProvisioningRefused(
            "other_manifest",
            "another manifest of the same ceremony and revision was imported before; find out which of the two is real",
        )
    if found.revision > before.revision and (
        previous is None or not hmac.compare_digest(previous, before.manifest_hash)
    ):
        raise ProvisioningRefused(
            "broken_chain",
            f"this folder does not follow revision {before.revision}, which was imported last; import the folders in"
            " between first",
        )


def _store(ctx: ServiceContext, conn: Connection, found: CeremonyRow, rows: list[CredentialRow]) -> Imported:
    new, known, rebound, revoked = [], [], [], []
    for row in rows:
        existing = load_credential(conn, row.id)
        if existing is None:
            _require_enrolment(conn, row)
            insert_credential(conn, row)
            new.append(row.id)
            continue
        _require_same_key(existing, row)
        if existing.status == "revoked":
            known.append(row.id)
            revoked.append(row.id)
        elif existing.enrolment_id == row.enrolment_id:
            known.append(row.id)
        else:
            _rebind(ctx, conn, existing, row)
            rebound.append(row.id)
    return Imported(found.ceremony_id, found.revision, tuple(new), tuple(known), tuple(rebound), tuple(revoked))


def _require_enrolment(conn: Connection, row: CredentialRow) -> None:
    enrolment = load_enrolment(conn, row.enrolment_id, lock=True)
    if enrolment is None:
        raise ProvisioningRefused(
            "unknown_enrolment",
            f"key {to_base64url(row.id)} was dealt to the device with enrolment {row.enrolment_id.hex()}, which is not"
            " enrolled here; nothing was stored",
        )
    if enrolment.status in ("enrolling", "revoked"):
        raise ProvisioningRefused(
            "enrolment_not_usable",
            f"key {to_base64url(row.id)} was dealt to enrolment {row.enrolment_id.hex()}, which is"
            f" {'revoked' if enrolment.status == 'revoked' else 'not finished'}; nothing was stored",
        )


def _require_same_key(existing: CredentialRow, row: CredentialRow) -> None:
    if existing.ceremony_id != row.ceremony_id:
        raise ProvisioningRefused(
            "other_credential",
            f"key {to_base64url(row.id)} is here already and does not come from this ceremony (enrolment"
            f" {existing.enrolment_id.hex()}); a key is dealt once, so find out which of the two is real",
        )
    same = (existing.modulus, existing.exponent, existing.rp_id, existing.not_after)
    if same != (row.modulus, row.exponent, row.rp_id, row.not_after):
        raise ProvisioningRefused(
            "changed_key",
            f"key {to_base64url(row.id)} was imported with another relying party or expiry; these never change",
        )


def _rebind(ctx: ServiceContext, conn: Connection, existing: CredentialRow, row: CredentialRow) -> None:
    """A waiting half goes to the enrolment of the device that replaces the one it was dealt to."""
    if existing.status not in WAITING:
        raise ProvisioningRefused(
            "key_in_use",
            f"key {to_base64url(row.id)} is in use by enrolment {existing.enrolment_id.hex()} and cannot go to another;"
            " revoke it and deal a new one",
        )
    _require_enrolment(conn, row)
    ours, dealt = open_key_share(ctx.sealer, existing), open_key_share(ctx.sealer, row)
    if not hmac.compare_digest(ours.to_bytes(), dealt.to_bytes()):
        raise ProvisioningRefused(
            "changed_key", f"the half of key {to_base64url(row.id)} is not the one that was imported before"
        )
    assert row.sealed_share is not None
    rebind_credential(conn, row.id, row.enrolment_id, row.sealed_share)
    for enrolment_id, other in ((row.enrolment_id, existing.enrolment_id), (existing.enrolment_id, row.enrolment_id)):
        direction = "from" if enrolment_id == row.enrolment_id else "to"
        append_event(
            conn,
            at=ctx.clock(),
            enrolment_id=enrolment_id,
            name="provisioned_key_rebound",
            detail={"key_id": row.id.hex(), direction: other.hex()},
        )
