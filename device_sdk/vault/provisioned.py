"""What the vault holds of keys that were dealt elsewhere: the recipient they are sealed to, and those that wait."""

from __future__ import annotations

from dataclasses import dataclass, field

from device_sdk.vault.key_shares import key_share_map, read_key_share
from mpc.errors import DecodeError
from mpc.primitives.codec import Fields
from mpc.primitives.hpke import HpkePrivateKey, HpkeSuite
from mpc.primitives.secrecy import NeverPickled
from mpc.provisioning.recipient import MAX_RECIPIENT_BYTES, Recipient
from mpc.provisioning.recipient_key import RecipientKey
from mpc.threshold_rsa.share_package import CEREMONY_ID_BYTES, MAX_TIME_S, Role
from mpc.threshold_rsa.shares import KeyShare

MAX_PROVISIONED_KEYS = 1024
_MAX_RP_ID_BYTES = 253
_MAX_SIGN_COUNT = 2**32 - 1


@dataclass(frozen=True, slots=True)
class ProvisionedKey(NeverPickled):
    """This device's half of a key that a dealer made and that waits for its registration.

    not_after: Unix seconds, None if it does not expire. sign_count: the last counter that a registration with it has
    used up, successful or not. ValueError if the share is not the device's.
    """

    key_share: KeyShare = field(repr=False)
    rp_id: str
    not_after: int | None
    ceremony_id: bytes
    sign_count: int = 0

    def __post_init__(self) -> None:
        if self.key_share.value >= 0:
            raise ValueError("the device's share is the negative one")

    @property
    def key_id(self) -> bytes:
        """The key's name, and its credential id to come."""
        return self.key_share.key.key_id


def provisioned_map(key: ProvisionedKey) -> dict[str, object]:
    values: dict[str, object] = {
        **key_share_map(key.key_share),
        "rp_id": key.rp_id,
        "ceremony_id": key.ceremony_id,
        "sign_count": key.sign_count,
    }
    if key.not_after is not None:
        values["not_after"] = key.not_after
    return values


def read_provisioned(fields: Fields) -> ProvisionedKey:
    """Raises DecodeError or ValueError."""
    key = ProvisionedKey(
        key_share=read_key_share(fields),
        rp_id=fields.text("rp_id", at_most=_MAX_RP_ID_BYTES),
        not_after=fields.uint("not_after", at_most=MAX_TIME_S) if fields.has("not_after") else None,
        ceremony_id=fields.bytes("ceremony_id", length=CEREMONY_ID_BYTES),
        sign_count=fields.uint("sign_count", at_most=_MAX_SIGN_COUNT),
    )
    fields.done()
    return key


def recipient_map(recipient: RecipientKey) -> dict[str, object]:
    return {
        "suite": recipient.key.suite.value,
        "key": recipient.key.raw,
        "document": recipient.recipient.document,
    }


def read_recipient(fields: Fields, *, expected_enrolment_id: bytes) -> RecipientKey:
    """Raises DecodeError or ValueError: also where the private key, or the enrolment, is not the document's."""
    suite = HpkeSuite(fields.text("suite", at_most=40, one_of=tuple(HpkeSuite)))
    key = HpkePrivateKey(suite, fields.bytes("key", length=suite.private_bytes))
    recipient = Recipient.decode(fields.bytes("document", at_most=MAX_RECIPIENT_BYTES))
    fields.done()
    if recipient.role is not Role.DEVICE or recipient.enrolment_id != expected_enrolment_id:
        raise DecodeError("recipient", "is not of this enrolment")
    return RecipientKey(recipient, key)
