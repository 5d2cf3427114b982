"""What the sealed columns hold, and what each is bound to, besides its column and its owner.

Every function takes the data key of the owner (`Keyring.key_of`): of the enrolment, or of the recipient.

| column | content | bound to |
|---|---|---|
| sealed_base_ot | Δ ‖ 128 keys | the base-OT run |
| sealed_pending_base_ot | the receiver's state between two requests | the base-OT run |
| sealed_template | t2 ‖ m2 | the epoch |
| sealed_change | a template's share to be added, or the position of one to go | the challenge |
| sealed_share | d2 | the credential |
| sealed_rho | session id ‖ ρ | index and epoch of the login |
| sealed_key | a recipient's private key | the recipient |
| `server_state` | audit_key, audit_head, audit_begun, attestation_authority | the name |
"""

from __future__ import annotations

from mpc.errors import DecodeError
from mpc.login.profile import Profile
from mpc.login.template import TemplateShare
from mpc.ot.base_ot import ReceiverState
from mpc.ot.keys import SenderBaseKeys
from mpc.primitives.hpke import HpkePrivateKey, HpkeSuite
from mpc.threshold_rsa.public_key import PublicKey
from mpc.threshold_rsa.shares import KeyShare

from ..sealing import SERVER_OWNER, DataKey, SealingError
from ..store.credentials import CredentialRow
from ..store.enrolments import EnrolmentRow
from ..store.logins import LoginRow
from ..store.recipients import RecipientRow

_SESSION_ID_BYTES = 32


def seal_base_keys(key: DataKey, base_ot_id: bytes, keys: SenderBaseKeys) -> bytes:
    return key.seal("sealed_base_ot", base_ot_id, keys.to_bytes())


def open_base_keys(key: DataKey, row: EnrolmentRow) -> SenderBaseKeys:
    opened = _of(key, row.id).open("sealed_base_ot", row.base_ot_id or b"", row.sealed_base_ot)
    return SenderBaseKeys.from_bytes(opened)


def seal_receiver_state(key: DataKey, base_ot_id: bytes, state: ReceiverState) -> bytes:
    return key.seal("sealed_pending_base_ot", base_ot_id, state.to_bytes())


def open_receiver_state(key: DataKey, row: EnrolmentRow) -> ReceiverState:
    context = row.pending_base_ot_id or b""
    opened = _of(key, row.id).open("sealed_pending_base_ot", context, row.sealed_pending_base_ot)
    return ReceiverState.from_bytes(opened)


def seal_template(key: DataKey, epoch: int, share: TemplateShare) -> bytes:
    return key.seal("sealed_template", _number(epoch), share.to_bytes())


def open_template(key: DataKey, row: EnrolmentRow, profile: Profile) -> TemplateShare:
    opened = _of(key, row.id).open("sealed_template", _number(row.epoch), row.sealed_template)
    return TemplateShare.from_bytes(profile, opened)


def seal_change(key: DataKey, challenge: bytes, change: bytes) -> bytes:
    return key.seal("sealed_change", challenge, change)


def open_change(key: DataKey, row: EnrolmentRow) -> bytes:
    return _of(key, row.id).open("sealed_change", row.change_challenge or b"", row.sealed_change)


def seal_key_share(key: DataKey, credential_id: bytes, share: KeyShare) -> bytes:
    return key.seal("sealed_share", credential_id, share.to_bytes())


def open_key_share(key: DataKey, row: CredentialRow) -> KeyShare:
    public = PublicKey.from_bytes(row.modulus, row.exponent)
    opened = _of(key, row.enrolment_id).open("sealed_share", row.id, row.sealed_share)
    share = KeyShare.from_bytes(public, opened)
    if share.value < 0:
        raise DecodeError("sealed_share", "the server's share is the positive one")
    return share


def seal_recipient_key(key: DataKey, private: HpkePrivateKey) -> bytes:
    return key.seal("sealed_key", key.owner_id, private.raw)


def open_recipient_key(key: DataKey, row: RecipientRow) -> HpkePrivateKey:
    return HpkePrivateKey(HpkeSuite(row.suite), _of(key, row.id).open("sealed_key", row.id, row.sealed_key))


def seal_server_value(key: DataKey, name: str, value: bytes) -> bytes:
    """For a row of `server_state`."""
    return _of(key, SERVER_OWNER).seal(name, b"", value)


def open_server_value(key: DataKey, name: str, sealed: bytes | None) -> bytes:
    return _of(key, SERVER_OWNER).open(name, b"", sealed)


def seal_refresh(key: DataKey, ot_index: int, epoch: int, sid: bytes, rho: bytes) -> bytes:
    return key.seal("sealed_rho", _number(ot_index) + _number(epoch), sid + rho)


def open_refresh(key: DataKey, row: LoginRow, epoch: int) -> tuple[bytes, bytes]:
    """(session id, ρ)."""
    context = _number(row.ot_index) + _number(epoch)
    opened = _of(key, row.enrolment_id).open("sealed_rho", context, row.sealed_rho)
    return opened[:_SESSION_ID_BYTES], opened[_SESSION_ID_BYTES:]


def _of(key: DataKey, owner_id: bytes) -> DataKey:
    """The key, if it is that owner's: a row that was given to another does not open under the key of its old one."""
    if key.owner_id != owner_id:
        raise SealingError("the row belongs to another owner than the key")
    return key


def _number(value: int) -> bytes:
    return value.to_bytes(8, "big")
