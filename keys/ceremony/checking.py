"""`verify`: is this folder, as a whole, what a ceremony made?"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Collection
from dataclasses import dataclass

from keys.ceremony.input_files import CeremonyFolder
from keys.refusal import Refusal
from keys.sources.batch_gcd import shared_factors
from mpc.provisioning.ceremony import Ceremony, check_ceremony
from mpc.provisioning.manifest import MANIFEST_NAME
from mpc.threshold_rsa.share_package import Role

PROVES = (
    "every file is the one that the holder of the ceremony's key signed, each half is labelled for its recipient, "
    "and no two keys share a prime"
)
DOES_NOT_PROVE = (
    "that the halves inside fit (their holders see that when they open them), that nobody kept a key, or who held "
    "the ceremony's key: compare its fingerprint with what the witnesses wrote down"
)


@dataclass(frozen=True, slots=True)
class CheckedFolder:
    """A folder that was verified."""

    folder: CeremonyFolder
    ceremony: Ceremony

    def read_again(self, path: str) -> bytes:
        """A file that was verified before, if it still is the same. Raises Refusal: "missing", "changed"."""
        data = self.folder.read(path)
        if data is None:
            raise Refusal("missing", f"{path} is missing; copy the whole folder again")
        if hashlib.sha256(data).digest() != self.ceremony.manifest.files[path]:
            raise Refusal("changed", f"{path} was changed while it was being read; find out by whom")
        return data


def check_folder(
    folder: CeremonyFolder,
    *,
    roles: Collection[Role],
    expected_fingerprint: str | None,
    progress: Callable[[int, int], None],
) -> CheckedFolder:
    """Verify everything in the folder; the halves of `roles` must be there.

    Raises CeremonyError, and Refusal: "other_ceremony_key", "shared_factor", or one of `CeremonyFolder`'s.
    """
    ceremony = check_ceremony(folder.read, roles=roles, listing=folder.listing(), progress=progress)
    if expected_fingerprint is not None and not hmac.compare_digest(ceremony.signed.fingerprint, expected_fingerprint):
        raise Refusal(
            "other_ceremony_key",
            f"{MANIFEST_NAME} is signed with another key than the one expected: this is not that ceremony",
        )
    keys = ceremony.manifest.keys
    if pairs := shared_factors([dealt.key.modulus for dealt in keys]):
        raise Refusal(
            "shared_factor", f"keys number {pairs[0][0] + 1} and {pairs[0][1] + 1} share a prime: use neither"
        )
    return CheckedFolder(folder, ceremony)
