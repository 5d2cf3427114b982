"""`rewrap`: the halves of a replaced recipient, sealed to its successor, in a folder that names the one it replaces.

Needs the old recipient's private key. One half at a time is open in memory; all others stay as they are,
and need not lie there if they were delivered. Whether the folder is the next revision of its ceremony, the server
decides: the digest in it says of which manifest, and its signer is compared before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from keys.ceremony.checking import CheckedFolder
from keys.ceremony.output_folder import OutputFolder
from keys.ceremony.record import Attendance, CeremonyRecord, Origin
from keys.refusal import Refusal
from mpc.provisioning.manifest import CeremonyKind, DealtKey, Manifest, share_path
from mpc.provisioning.recipient import Recipient
from mpc.provisioning.recipient_key import RecipientKey
from mpc.threshold_rsa.share_package import Role, SharePackageError, open_share, seal_share

REPLACED_SIGNER, REPLACED_SIGNER_COMPARED = "replaced manifest signed by", "replaced manifest compared"
"""The new manifest's parameters that say who signed the old one, and how that was compared."""


@dataclass(frozen=True, slots=True)
class RewrapPlan:
    """From which recipient to which, and where the new folder goes."""

    checked: CheckedFolder
    old: RecipientKey
    new: Recipient
    out: Path
    attendance: Attendance
    parameters: Mapping[str, str]
    file_names: Mapping[bytes, str]


def refuse_unfit_successor(checked: CheckedFolder, old: Recipient, new: Recipient) -> None:
    """Raises Refusal: "unknown_recipient", "other_role", "other_server", "same_recipient", "duplicate_recipient"."""
    known = checked.ceremony.recipients
    if old.id not in known:
        raise Refusal("unknown_recipient", "the private key is of a recipient that this ceremony dealt nothing to")
    if new.role is not old.role:
        raise Refusal("other_role", f"the replaced recipient is a {old.role}, the new one a {new.role}")
    if new.server_id != old.server_id:
        raise Refusal("other_server", "the new recipient belongs to another server than the replaced one")
    if new.id in known:
        raise Refusal("same_recipient", "the new recipient has a part in this ceremony already; give a fresh one")
    others = (recipient for recipient in known.values() if recipient.id != old.id)
    if new.role is Role.DEVICE and any(other.enrolment_id == new.enrolment_id for other in others):
        raise Refusal("duplicate_recipient", "the new recipient is of a device that has other keys of this ceremony")


def rewrap(plan: RewrapPlan, progress: Callable[[int, int], None], tell: Callable[[str], None]) -> Manifest:
    """Raises Refusal, also "does_not_open", "missing" (a half of the replaced recipient); OSError.

    Nothing remains then.
    """
    checked, old, new = plan.checked, plan.old.recipient, plan.new
    refuse_unfit_successor(checked, old, new)
    before = checked.ceremony.manifest
    recipients = [new if id_ == old.id else checked.ceremony.recipients[id_] for id_ in before.recipients]
    keys = [_with_successor(dealt, old.id, new.id) for dealt in before.keys]
    with OutputFolder(plan.out, tell) as folder:
        record = CeremonyRecord(folder, plan.file_names)
        for recipient in recipients:
            record.add_recipient(recipient)
        for done, dealt in enumerate(before.keys):
            progress(done, len(before.keys))
            for role in Role:
                holder = checked.ceremony.recipient_of(dealt, role)
                path = share_path(holder, dealt.key.key_id)
                if holder.id == old.id:
                    record.add_share(new, dealt.key.key_id, _sealed_again(plan, dealt, checked.read_again(path)))
                elif checked.folder.read(path) is not None:
                    record.add_share(holder, dealt.key.key_id, checked.read_again(path))
                else:
                    record.add_absent(path, before.files[path])
        progress(len(before.keys), len(before.keys))
        origin = Origin(
            kind=CeremonyKind.REWRAP,
            ceremony_id=before.ceremony_id,
            rp_id=before.rp_id,
            not_after=before.not_after,
            parameters=plan.parameters,
            revision=before.revision + 1,
            previous=checked.ceremony.signed.digest,
        )
        return record.close(origin, plan.attendance, recipients, keys)


def _with_successor(dealt: DealtKey, old_id: bytes, new_id: bytes) -> DealtKey:
    def successor(recipient_id: bytes) -> bytes:
        return new_id if recipient_id == old_id else recipient_id

    return DealtKey(dealt.key, server=successor(dealt.server), device=successor(dealt.device))


def _sealed_again(plan: RewrapPlan, dealt: DealtKey, sealed: bytes) -> bytes:
    old = plan.old.recipient
    try:
        package = open_share(
            sealed,
            plan.old.key,
            recipient_id=old.id,
            expected_role=old.role,
            expected_key_id=dealt.key.key_id,
        )
    except SharePackageError as error:
        raise Refusal("does_not_open", f"{share_path(old, dealt.key.key_id)}: {error.problem}") from None
    return seal_share(package, plan.new.public_key, plan.new.id)
