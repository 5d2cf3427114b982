"""Whether a share was dealt in a ceremony that the user knows: its manifest, under a fingerprint from the witnesses.

A share file names no sender: whoever knows a device's recipient can seal to it, and the server's word is all that an
import has without a manifest. A server that deals a key itself knows all of it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from device_sdk.errors import ShareRefused
from mpc.errors import DecodeError
from mpc.provisioning.manifest import Manifest, SignedManifest, device_share_path
from mpc.provisioning.recipient import Recipient
from mpc.provisioning.signed_document import normal_fingerprint
from mpc.threshold_rsa.share_package import SharePackage


@dataclass(frozen=True, slots=True)
class TrustedCeremony:
    """A manifest whose signing key has the fingerprint that the user was told over another channel."""

    manifest: Manifest

    @classmethod
    def read(cls, manifest: bytes, *, expected_ceremony_key: str) -> TrustedCeremony:
        """expected_ceremony_key: the fingerprint as typed; ValueError if it is none.

        Raises ShareRefused("bad_manifest") or ShareRefused("other_ceremony_key").
        """
        expected = normal_fingerprint(expected_ceremony_key)
        try:
            signed = SignedManifest.decode(manifest)
        except DecodeError:
            raise ShareRefused("bad_manifest") from None
        if signed.fingerprint != expected:
            raise ShareRefused("other_ceremony_key")
        return cls(signed.manifest)

    def require(self, sealed: bytes, package: SharePackage, recipient: Recipient) -> None:
        """This very file was dealt, to this recipient. Raises ShareRefused("not_in_manifest")."""
        dealt = any((key.key, key.device) == (package.key, recipient.id) for key in self.manifest.keys)
        listed = self.manifest.files.get(device_share_path(recipient, package.key.key_id))
        terms = (package.ceremony_id, package.rp_id, package.not_after)
        if (
            not dealt
            or listed != hashlib.sha256(sealed).digest()
            or terms != (self.manifest.ceremony_id, self.manifest.rp_id, self.manifest.not_after)
        ):
            raise ShareRefused("not_in_manifest")
