"""Taking the server's halves of a ceremony: everything is checked first, then all of them are stored or none.

| checked | against |
|---|---|
| signatures, hashes, places of all files | the manifest (`mpc.provisioning.ceremony`) |
| the key of the ceremony | the fingerprint given, or the setting `ceremony_keys` |
| server id, relying party, expiry | this server's id, its policy, the clock |
| server recipients | this server's own, not retired |
| each half | the public key, ceremony, relying party and expiry in the manifest |
| revision, and what was stored before | see `ceremony_revisions` and `dealt_keys` |
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass

from mpc.errors import DecodeError
from mpc.provisioning.ceremony import Ceremony, CeremonyError, ReadFile, check_ceremony
from mpc.provisioning.manifest import MANIFEST_NAME, RECIPIENTS_COMPARED, DealtKey, SignedManifest
from mpc.provisioning.recipient_key import RecipientKey
from mpc.provisioning.signed_document import normal_fingerprint
from mpc.threshold_rsa.encodings import Algorithm
from mpc.threshold_rsa.share_package import Role, SharePackage, SharePackageError, open_share

from ..errors import Refused
from ..sealing import DataKey
from ..store.ceremonies import CeremonyRow, load_ceremony, store_ceremony
from ..store.credentials import CredentialRow, list_provisioned
from ..store.enrolments import load_enrolment
from ..store.events import EventDetail, append_event
from .ceremony_revisions import require_next
from .context import COMMAND_LINE, ServiceContext
from .dealt_keys import DealtHalf, Stored, store_halves
from .provisioning_refusals import ProvisioningRefused
from .recipients import opening_key_for
from .secrets_at_rest import seal_key_share

"""The parameter of a manifest that says how the dealer made sure whose recipients they are."""
Progress = Callable[[int, int], None]
"""Called with (halves done, halves in all)."""


@dataclass(frozen=True, slots=True)
class Imported(Stored):
    """What an import did, and what an operator should know of the ceremony."""

    ceremony_id: bytes
    revision: int
    recipients_compared: str
    """How the dealer compared the recipients' fingerprints, in the manifest's words; empty if it does not say."""
    server_recipients: tuple[str, ...]
    """Fingerprints of those recipients of this server that the halves were sealed to."""


def import_shares(
    ctx: ServiceContext,
    read: ReadFile,
    *,
    listing: Collection[str] | None = None,
    expected_ceremony_key: str | None = None,
    progress: Progress = lambda done, total: None,
) -> Imported:
    """Store the server's halves of the ceremony in a folder: all of them in one transaction, or none.

    expected_ceremony_key: the fingerprint that the manifest's signer must have, from a person who compared it; if
    None, it must be one of the policy's. Repeating it changes no key, and leaves an event of its own. Raises
    CeremonyError (the folder is not what its manifest says) or ProvisioningRefused.
    """
    read = _manifest_once(read)
    ceremony = check_ceremony(read, roles={Role.SERVER}, listing=listing, progress=progress)
    _check_trusted(ctx, ceremony.signed, expected_ceremony_key)
    _check_policy(ctx, ceremony)
    halves = _opened(ctx, read, ceremony)
    manifest = ceremony.manifest
    servers = [ceremony.recipients[each] for each in sorted({dealt.server for dealt in manifest.keys})]
    found = CeremonyRow(
        ceremony_id=manifest.ceremony_id,
        revision=manifest.revision,
        manifest_hash=ceremony.signed.digest,
        signing_key=ceremony.signed.signing_key,
        imported_at=ctx.clock(),
    )
    with ctx.store.write() as conn:
        before = load_ceremony(conn, found.ceremony_id)
        known = {row.id: row for row in list_provisioned(conn, found.ceremony_id)}
        if before is not None:
            require_next(
                before,
                found,
                previous=manifest.previous,
                same_keys=set(known) == {half.row.id for half in halves},
                signer_was_named=expected_ceremony_key is not None,
            )
        for recipient in servers:
            opening_key_for(ctx, conn, recipient)  # retired meanwhile?
        keys = store_halves(ctx, conn, halves, known)
        if before is None or before.revision < found.revision:
            store_ceremony(conn, found)
        counts = {"new": len(keys.new), "known": len(keys.known), "rebound": len(keys.rebound)}
        told: EventDetail = {
            "ceremony_id": found.ceremony_id.hex(),
            "revision": found.revision,
            "by": COMMAND_LINE,
            **counts,
        }
        append_event(
            conn,
            at=found.imported_at,
            name="shares_imported",
            detail=told,
        )
    return Imported(
        **asdict(keys),
        ceremony_id=found.ceremony_id,
        revision=found.revision,
        recipients_compared=manifest.parameters.get(RECIPIENTS_COMPARED, ""),
        server_recipients=tuple(recipient.fingerprint for recipient in servers),
    )


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


def _opened(ctx: ServiceContext, read: ReadFile, ceremony: Ceremony) -> list[DealtHalf]:
    """Each key's half, and its row with the half sealed for the enrolment it was dealt to."""
    manifest, now = ceremony.manifest, ctx.clock()
    with ctx.store.read() as conn:
        servers = {dealt.server for dealt in manifest.keys}
        keys = {each: opening_key_for(ctx, conn, ceremony.recipients[each]) for each in servers}
    halves = []
    for dealt in manifest.keys:
        package = _package(read, ceremony, dealt, keys[dealt.server])
        enrolment_id = ceremony.recipient_of(dealt, Role.DEVICE).enrolment_id
        assert enrolment_id is not None
        key = _key_of_device(ctx, enrolment_id)
        row = CredentialRow(
            id=dealt.key.key_id,
            enrolment_id=enrolment_id,
            rp_id=manifest.rp_id,
            algorithm=int(Algorithm.RS256),
            modulus=dealt.key.modulus_bytes,
            exponent=dealt.key.exponent,
            sealed_share=None if key is None else seal_key_share(key, dealt.key.key_id, package.share),
            status="provisioned",
            sign_count=0,
            created_at=now,
            ceremony_id=manifest.ceremony_id,
            not_after=manifest.not_after,
        )
        halves.append(DealtHalf(row, package.share))
    return halves


def _key_of_device(ctx: ServiceContext, enrolment_id: bytes) -> DataKey | None:
    """The data key of an enrolment, or None: whether that stops the import depends on what is here of the key."""
    with ctx.store.read() as conn:
        enrolment = load_enrolment(conn, enrolment_id)
        if enrolment is None or enrolment.status == "revoked":
            return None
        return ctx.keyring.key_of(conn, enrolment_id)


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
