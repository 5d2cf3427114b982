"""The receiving end of keys dealt elsewhere: the recipient that dealers seal to, and the import of what they sealed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from device_sdk.authenticator.origin import is_relying_party_id
from device_sdk.ceremony_proof import TrustedCeremony
from device_sdk.errors import NoRecipient, ShareExpired, ShareRefused
from device_sdk.expiry import is_expired
from device_sdk.server_api import ServerApi
from device_sdk.state_store import StateStore
from device_sdk.transport import RequestKey
from device_sdk.vault.provisioned import MAX_PROVISIONED_KEYS, ProvisionedKey
from device_sdk.vault.state import DeviceState
from mpc.errors import ProtocolAbort
from mpc.login.provisioned_messages import PairingStatement, PairShares, pairing_proof
from mpc.primitives.hpke import HpkeSuite
from mpc.primitives.rng import Rng
from mpc.provisioning.manifest import MAX_MANIFEST_BYTES
from mpc.provisioning.recipient import Recipient, new_recipient
from mpc.provisioning.recipient_key import RecipientKey
from mpc.threshold_rsa.share_package import MAX_SEALED_SHARE_BYTES, Role, SharePackage, SharePackageError, open_share

_ID_DIGITS_IN_NAME = 8


@dataclass(frozen=True, slots=True)
class ProvisionedKeyInfo:
    """What an app may show of a dealt key. `key_id` is the credential id to come; `not_after`: Unix seconds or None.

    `in_use`: a registration has taken it, so it no longer waits.
    """

    key_id: bytes
    rp_id: str
    not_after: int | None
    ceremony_id: bytes
    in_use: bool = False


def recipient(
    store: StateStore, *, suite: HpkeSuite | str | None, name: str | None, renew: bool, now: int
) -> Recipient:
    """The recipient in the vault, made first if there is none. It is durable before it is given out."""
    wanted = None if suite is None else HpkeSuite(suite)

    def with_recipient(state: DeviceState) -> DeviceState:
        if state.recipient is not None and not renew:
            return state
        key, made = new_recipient(
            role=Role.DEVICE,
            name=f"device {state.enrolment_id.hex()[:_ID_DIGITS_IN_NAME]}" if name is None else name,
            server_id=state.server_id,
            enrolment_id=state.enrolment_id,
            suite=wanted or HpkeSuite.X25519,
            now=now,
        )
        return state.with_recipient(RecipientKey(made, key))

    held = _held(store.change(with_recipient)).recipient
    if wanted not in (None, held.public_key.suite):
        raise ValueError(f"this device has a recipient of suite {held.public_key.suite}; renew it to change the suite")
    if name not in (None, held.name):
        raise ValueError("this device has a recipient of another name; renew it to change the name")
    return held


def export_recipient_key(store: StateStore, rng: Rng, passphrase: str) -> bytes:
    """The file that `tandem-keys rewrap` reads. Raises NoRecipient; ValueError for a short passphrase."""
    return _held(store.state).protect(rng, passphrase)


def trusted_ceremony(manifest: str | Path | bytes | None, ceremony_key: str | None) -> TrustedCeremony | None:
    """What a share must have been dealt in; None where the user named no ceremony's key.

    Raises ShareRefused for a manifest that is not there, not sound, or signed by another key. ValueError for a
    manifest without a fingerprint, since anybody can sign one, and for a fingerprint that is none.
    """
    if ceremony_key is None:
        if manifest is not None:
            raise ValueError("a manifest proves nothing without the fingerprint of the ceremony's key; give both")
        return None
    content = None if manifest is None else _content(manifest, at_most=MAX_MANIFEST_BYTES)
    if content is None:
        raise ShareRefused("no_manifest")
    return TrustedCeremony.read(content, expected_ceremony_key=ceremony_key)


def import_share(
    store: StateStore, api: ServerApi, source: str | Path | bytes, *, dealt_in: TrustedCeremony | None, now: float
) -> ProvisionedKeyInfo:
    """Open the file, ask the server whether the halves fit, and only then store. Call with `store.in_flight` held.

    Raises as `Device.import_share` says.
    """
    recipient, sealed = _held(store.state), _content(source, at_most=MAX_SEALED_SHARE_BYTES)
    if sealed is None:
        raise ShareRefused("unreadable")
    package = _opened(recipient, sealed)
    if dealt_in is not None:
        dealt_in.require(sealed, package, recipient.recipient)
    if not is_relying_party_id(package.rp_id):
        raise ShareRefused("bad_rp_id")
    key = ProvisionedKey(package.share, package.rp_id, package.not_after, package.ceremony_id)
    if is_expired(key, now):
        raise ShareExpired
    # What a crash has left of a registration goes first, so that its counter is seen below.
    state = store.change(DeviceState.without_provisional)
    if any(c.credential_id == key.key_id for c in state.credentials):
        return provisioned_info(key, in_use=True)
    waiting = state.provisioned_key(key.key_id)
    if waiting is None and len(state.provisioned) >= MAX_PROVISIONED_KEYS:
        raise ShareRefused("vault_full")
    # Also for one that waits: a server that was restored to an older state must see the half again.
    accepted = api.pair_shares(_pairing(state, key), RequestKey.from_scalar(state.request_key))
    # Counters may have been used up: by this device before, or by one that it replaces.
    counts = {key_id: count for key_id, count in accepted.sign_counts if key_id == key.key_id}
    if waiting is not None:
        key = replace(key, sign_count=waiting.sign_count)
    store.change(lambda before: before.with_provisioned(key).with_sign_counts(counts))
    return provisioned_info(key)


def _pairing(state: DeviceState, key: ProvisionedKey) -> PairShares:
    """The request, with the proof that this half fits on these terms."""
    statement = PairingStatement(state.server_id, state.enrolment_id, key.rp_id, key.not_after, key.ceremony_id)
    try:
        return PairShares(state.enrolment_id, key.key_id, pairing_proof(key.key_share, statement))
    except ProtocolAbort:
        # No dealer makes such a modulus, but anybody can seal one to a known recipient.
        raise ShareRefused("altered") from None


def provisioned_info(key: ProvisionedKey, *, in_use: bool = False) -> ProvisionedKeyInfo:
    return ProvisionedKeyInfo(key.key_id, key.rp_id, key.not_after, key.ceremony_id, in_use)


def _held(state: DeviceState) -> RecipientKey:
    if state.recipient is None:
        raise NoRecipient
    return state.recipient


def _content(source: str | Path | bytes, *, at_most: int) -> bytes | None:
    """The bytes, of a file one more than `at_most` at the most; None for a file that cannot be read."""
    if isinstance(source, bytes):
        return source
    try:
        with Path(source).open("rb") as file:
            return file.read(at_most + 1)
    except (OSError, ValueError):
        return None


def _opened(recipient: RecipientKey, sealed: bytes) -> SharePackage:
    try:
        return open_share(sealed, recipient.key, recipient_id=recipient.recipient.id, expected_role=Role.DEVICE)
    except SharePackageError as refusal:
        raise ShareRefused(refusal.reason) from None
