"""What the sealed columns hold, and what each is bound to.

| column | content | bound to |
|---|---|---|
| sealed_base_ot | Δ ‖ 128 keys | the base-OT run |
| sealed_pending_base_ot | the receiver's state between two requests | the base-OT run |
| sealed_template | t2 ‖ m2 | the epoch |
| sealed_share | d2 | the credential |
| sealed_rho | session id ‖ ρ | index and epoch of the login |
| sealed_key | a recipient's private key | the recipient |
| `server_state` | audit_key, audit_head | the name |
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

from ..sealing import Sealer
from ..store.credentials import CredentialRow
from ..store.enrolments import EnrolmentRow
from ..store.logins import LoginRow
from ..store.recipients import RecipientRow

_SESSION_ID_BYTES = 32
_SERVER = bytes(16)
"""The owner of what belongs to no enrolment."""


def seal_base_keys(sealer: Sealer, enrolment_id: bytes, base_ot_id: bytes, keys: SenderBaseKeys) -> bytes:
    return sealer.seal(enrolment_id, "sealed_base_ot", base_ot_id, keys.to_bytes())


def open_base_keys(sealer: Sealer, row: EnrolmentRow) -> SenderBaseKeys:
    opened = sealer.open(row.id, "sealed_base_ot", row.base_ot_id or b"", row.sealed_base_ot)
    return SenderBaseKeys.from_bytes(opened)


def seal_receiver_state(sealer: Sealer, enrolment_id: bytes, base_ot_id: bytes, state: ReceiverState) -> bytes:
    return sealer.seal(enrolment_id, "sealed_pending_base_ot", base_ot_id, state.to_bytes())


def open_receiver_state(sealer: Sealer, row: EnrolmentRow) -> ReceiverState:
    context = row.pending_base_ot_id or b""
    return ReceiverState.from_bytes(sealer.open(row.id, "sealed_pending_base_ot", context, row.sealed_pending_base_ot))


def seal_template(sealer: Sealer, enrolment_id: bytes, epoch: int, share: TemplateShare) -> bytes:
    return sealer.seal(enrolment_id, "sealed_template", _number(epoch), share.to_bytes())


def open_template(sealer: Sealer, row: EnrolmentRow, profile: Profile) -> TemplateShare:
    opened = sealer.open(row.id, "sealed_template", _number(row.epoch), row.sealed_template)
    return TemplateShare.from_bytes(profile, opened)


def seal_key_share(sealer: Sealer, enrolment_id: bytes, credential_id: bytes, share: KeyShare) -> bytes:
    return sealer.seal(enrolment_id, "sealed_share", credential_id, share.to_bytes())


def open_key_share(sealer: Sealer, row: CredentialRow) -> KeyShare:
    key = PublicKey.from_bytes(row.modulus, row.exponent)
    share = KeyShare.from_bytes(key, sealer.open(row.enrolment_id, "sealed_share", row.id, row.sealed_share))
    if share.value < 0:
        raise DecodeError("sealed_share", "the server's share is the positive one")
    return share


def seal_recipient_key(sealer: Sealer, recipient_id: bytes, key: HpkePrivateKey) -> bytes:
    return sealer.seal(recipient_id, "sealed_key", recipient_id, key.raw)


def open_recipient_key(sealer: Sealer, row: RecipientRow) -> HpkePrivateKey:
    return HpkePrivateKey(HpkeSuite(row.suite), sealer.open(row.id, "sealed_key", row.id, row.sealed_key))


def seal_server_value(sealer: Sealer, name: str, value: bytes) -> bytes:
    """For a row of `server_state`."""
    return sealer.seal(_SERVER, name, b"", value)


def open_server_value(sealer: Sealer, name: str, sealed: bytes | None) -> bytes:
    return sealer.open(_SERVER, name, b"", sealed)


def seal_refresh(sealer: Sealer, enrolment_id: bytes, ot_index: int, epoch: int, sid: bytes, rho: bytes) -> bytes:
    return sealer.seal(enrolment_id, "sealed_rho", _number(ot_index) + _number(epoch), sid + rho)


def open_refresh(sealer: Sealer, row: LoginRow, epoch: int) -> tuple[bytes, bytes]:
    """(session id, ρ)."""
    context = _number(row.ot_index) + _number(epoch)
    opened = sealer.open(row.enrolment_id, "sealed_rho", context, row.sealed_rho)
    return opened[:_SESSION_ID_BYTES], opened[_SESSION_ID_BYTES:]


def _number(value: int) -> bytes:
    return value.to_bytes(8, "big")
