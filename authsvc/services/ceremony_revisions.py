"""Which manifest of a ceremony may follow the one that was imported last: the same again, or its immediate successor.

Whoever signs a later revision decides where waiting halves go, so it must be the signer of the one before, or one whom
a person named. It can move halves and nothing else: the keys are the same ones.
"""

from __future__ import annotations

import hmac

from ..store.ceremonies import CeremonyRow
from .provisioning_refusals import ProvisioningRefused


def require_next(
    before: CeremonyRow, found: CeremonyRow, *, previous: bytes | None, same_keys: bool, signer_was_named: bool
) -> None:
    """Raise ProvisioningRefused unless `found` is `before` again, or follows it.

    previous: the digest of the manifest that the found one says it replaces. same_keys: whether it deals exactly the
    keys of this ceremony that are here. signer_was_named: whether a person gave the fingerprint of its signer for this
    import; a pinned key alone may belong to the dealer of other ceremonies.
    """
    if found.revision < before.revision:
        raise ProvisioningRefused(
            "stale_revision",
            f"revision {before.revision} of this ceremony was imported already, and this is revision {found.revision};"
            " use the newest folder",
        )
    if found.revision == before.revision:
        if not hmac.compare_digest(found.manifest_hash, before.manifest_hash):
            raise ProvisioningRefused(
                "other_manifest",
                "another manifest of the same ceremony and revision was imported before; find out which of the two is"
                " real",
            )
        return
    if before.revoked_at is not None:
        raise ProvisioningRefused(
            "revoked_ceremony", "this ceremony was revoked as a whole and takes no further revision; deal new keys"
        )
    follows = found.revision == before.revision + 1 and previous is not None
    if not follows or not hmac.compare_digest(previous or b"", before.manifest_hash):
        raise ProvisioningRefused(
            "broken_chain",
            f"this folder does not follow revision {before.revision}, which was imported last; import the folders in"
            " between first",
        )
    if not same_keys:
        raise ProvisioningRefused(
            "other_keys",
            "this revision does not deal exactly the keys of the one before; a rewrap adds none and leaves none out",
        )
    if not signer_was_named and not hmac.compare_digest(found.signing_key, before.signing_key):
        raise ProvisioningRefused(
            "other_signer",
            "this revision is signed with another ceremony key than the one before; find out who rewrapped the keys,"
            " and then give the fingerprint as --ceremony-key",
        )
