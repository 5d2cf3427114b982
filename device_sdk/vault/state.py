"""What the device remembers, as one value with a strict encoding: the payload of the vault file.

Durable are: epoch, shares, index, counters, base-OT keys, the request key, credentials, `next` (a login accepted
but not acknowledged), `recovery` and `rotation` (begun but not acknowledged), the recipient and the provisioned keys.
Everything else lives for one ceremony only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from device_sdk.errors import VaultCorrupt
from device_sdk.vault.key_shares import key_share_map, read_key_share
from device_sdk.vault.provisioned import (
    MAX_PROVISIONED_KEYS,
    ProvisionedKey,
    provisioned_map,
    read_provisioned,
    read_recipient,
    recipient_map,
)
from mpc.errors import DecodeError
from mpc.login.authenticator_data import ALGORITHMS, MAX_CREDENTIAL_ID_BYTES, MIN_CREDENTIAL_ID_BYTES
from mpc.login.extension_outputs import CredProtect
from mpc.login.history import HASH_BYTES
from mpc.login.messages import ID_BYTES, MAX_INDEX, Confirmation
from mpc.login.profile import Profile
from mpc.login.template import TemplateShare
from mpc.ot.keys import KEYS_BYTES, ReceiverBaseKeys
from mpc.parameters import MAX_TEMPLATES
from mpc.primitives import codec
from mpc.primitives.secrecy import NeverPickled
from mpc.provisioning.recipient_key import RecipientKey
from mpc.threshold_rsa.encodings import Algorithm
from mpc.threshold_rsa.share_package import MAX_TIME_S
from mpc.threshold_rsa.shares import KeyShare

_VERSION = 1
MAX_CREDENTIALS = 1024
"""More than these a vault could not be opened with."""
_MAX_TEXT = 1024


@dataclass(frozen=True, slots=True)
class Credential(NeverPickled):
    """One key of this device for one account at one relying party.

    `created_at` and `not_after` are Unix times in seconds; only a dealt key may have the latter.
    """

    credential_id: bytes
    rp_id: str
    user_handle: bytes
    user_name: str
    user_display_name: str
    algorithm: Algorithm
    key_share: KeyShare = field(repr=False)
    sign_count: int
    discoverable: bool
    provisional: bool
    """Until the first joint signature. Provisional credentials answer no request."""
    created_at: int
    not_after: int | None = None
    cred_protect: CredProtect = CredProtect.UV_OPTIONAL
    """Who may learn of it unverified. Whatever it is, nothing is signed without a match."""


@dataclass(frozen=True, slots=True)
class NextShares(NeverPickled):
    """The shares of the epoch to come: they hold as soon as the server has seen the token."""

    confirmation: Confirmation
    credential_id: bytes
    key_share: KeyShare = field(repr=False)
    template: TemplateShare = field(repr=False)
    templates: int | None = None
    """How many templates there will be, where the login was for a change of them."""


@dataclass(frozen=True, slots=True)
class PendingRecovery(NeverPickled):
    """New request key and base OT, sent to the server but not acknowledged yet."""

    code: str = field(repr=False)
    request_key: bytes = field(repr=False)
    base_ot_id: bytes
    base_keys: ReceiverBaseKeys = field(repr=False)
    sender_message: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class PendingRotation(NeverPickled):
    """This device's half of a template rotation whose second request may have arrived.

    The server's half is not here: together they are the template. So the request is never said again, and the server
    is asked what became of it.
    """

    base_ot_id: bytes
    base_keys: ReceiverBaseKeys = field(repr=False)
    epoch: int
    """The epoch that the rotation ends."""
    template: TemplateShare = field(repr=False)


@dataclass(frozen=True, slots=True)
class HistoryHead:
    """The last event of this enrolment's history that was seen: its number and its hash, which fixes all before it."""

    seq: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class DeviceState(NeverPickled):
    """The whole durable state of one enrolment. `with_…` methods give the state after a step."""

    server_url: str
    server_id: str
    profile: Profile
    enrolment_id: bytes
    request_key: bytes = field(repr=False)
    base_ot_id: bytes
    base_keys: ReceiverBaseKeys = field(repr=False)
    epoch: int
    ot_index: int
    template: TemplateShare = field(repr=False)
    credentials: tuple[Credential, ...] = ()
    next: NextShares | None = None
    recovery: PendingRecovery | None = None
    rotation: PendingRotation | None = None
    overtaken: bool = False
    """The server has seen indices this device never used: it was restored to an old state, or copied."""
    recipient: RecipientKey | None = None
    """What dealers seal this device's halves to."""
    provisioned: tuple[ProvisionedKey, ...] = ()
    """Dealt keys that no registration has taken yet, oldest import first. One that a registration is trying stands
    here too until it succeeds, so that a crash in between loses nothing."""
    history: HistoryHead | None = None
    """How far the server's record of this enrolment was read and checked."""
    history_from: int | None = None
    """The epoch from which on that record must hold every login. None in a vault from before this was kept, which
    takes the server's word for it, and for the rotations until then, at the next reading."""
    rotations: int = 0
    """How many template rotations there were, each of which began an epoch that no login did."""

    def credential(self, credential_id: bytes) -> Credential:
        """The credential with that id. KeyError if there is none."""
        for credential in self.credentials:
            if credential.credential_id == credential_id:
                return credential
        raise KeyError("no such credential")

    def with_credential(self, credential: Credential) -> DeviceState:
        """The credential added, or put in the place of the one with its id."""
        others = [c for c in self.credentials if c.credential_id != credential.credential_id]
        return replace(self, credentials=(*others, credential))

    def without_credentials(self, credential_ids: Iterable[bytes]) -> DeviceState:
        gone = set(credential_ids)
        return replace(self, credentials=tuple(c for c in self.credentials if c.credential_id not in gone))

    def without_provisional(self) -> DeviceState:
        """Registrations that came to nothing are forgotten; a provisioned key waits again, with its counter kept.

        The server counts for each credential id, and it may have counted the attempt.
        """
        if not any(credential.provisional for credential in self.credentials):
            return self
        used = {c.credential_id: c.sign_count for c in self.credentials if c.provisional}
        return replace(
            self,
            credentials=tuple(c for c in self.credentials if not c.provisional),
            provisioned=self._counted(used),
        )

    def with_sign_counts(self, counts: Mapping[bytes, int]) -> DeviceState:
        """Counters moved up to those given; none ever goes back."""
        credentials = tuple(
            replace(c, sign_count=max(c.sign_count, counts.get(c.credential_id, 0))) for c in self.credentials
        )
        return replace(self, credentials=credentials, provisioned=self._counted(counts))

    def _counted(self, counts: Mapping[bytes, int]) -> tuple[ProvisionedKey, ...]:
        return tuple(replace(k, sign_count=max(k.sign_count, counts.get(k.key_id, 0))) for k in self.provisioned)

    def without_recipient(self) -> DeviceState:
        return self if self.recipient is None else replace(self, recipient=None)

    def with_recipient(self, recipient: RecipientKey) -> DeviceState:
        """The one in the vault is replaced; what was sealed to it and not imported cannot be opened any more."""
        return replace(self, recipient=recipient)

    def provisioned_key(self, key_id: bytes) -> ProvisionedKey | None:
        """The waiting key with that id, if there is one."""
        return next((key for key in self.provisioned if key.key_id == key_id), None)

    def with_provisioned(self, key: ProvisionedKey) -> DeviceState:
        """The key waits, as the newest; one with its id is replaced in its place."""
        if self.provisioned_key(key.key_id) is None:
            return replace(self, provisioned=(*self.provisioned, key))
        return replace(self, provisioned=tuple(key if k.key_id == key.key_id else k for k in self.provisioned))

    def without_provisioned(self, key_id: bytes) -> DeviceState:
        return replace(self, provisioned=tuple(key for key in self.provisioned if key.key_id != key_id))

    def promoted(self) -> DeviceState:
        """The next epoch's shares become the shares; the old ones are forgotten."""
        if self.next is None:
            return self
        profile = self.profile.with_templates(self.next.templates or self.profile.templates)
        state = replace(self, epoch=self.epoch + 1, profile=profile, template=self.next.template, next=None)
        for credential in state.credentials:
            if credential.credential_id == self.next.credential_id:
                return state.with_credential(replace(credential, key_share=self.next.key_share))
        return state

    def settled(self, confirmation: Confirmation) -> DeviceState:
        """The server is known to have processed this confirmation: promoted, if `next` is still the one it is of.

        A later login may have promoted those shares already, and put its own in their place.
        """
        return self.promoted() if self._awaits(confirmation) else self

    def dropped(self, confirmation: Confirmation) -> DeviceState:
        """The server does not know this confirmation (row D6): without `next`, if it is still the one."""
        return replace(self, next=None) if self._awaits(confirmation) else self

    def _awaits(self, confirmation: Confirmation) -> bool:
        return self.next is not None and self.next.confirmation == confirmation

    def rotated(self, pending: PendingRotation, *, last_index: int = 0) -> DeviceState:
        """The new template and base keys are in place, at the next epoch; a new base OT repeats no stream."""
        return replace(
            self,
            base_ot_id=pending.base_ot_id,
            base_keys=pending.base_keys,
            epoch=pending.epoch + 1,
            # The server has used up one index; where its answer was lost, the device knows so all the same.
            ot_index=max(min(self.ot_index + 1, MAX_INDEX), last_index),
            template=pending.template,
            next=None,
            rotation=None,
            rotations=self.rotations + 1,
        )

    def encode(self) -> bytes:
        """Canonical CBOR, versioned."""
        values: dict[str, object] = {
            "v": _VERSION,
            "server_url": self.server_url,
            "server_id": self.server_id,
            "profile": self.profile.as_dict(),
            "enrolment_id": self.enrolment_id,
            "request_key": self.request_key,
            "base_ot_id": self.base_ot_id,
            "base_zeros": self.base_keys.zeros,
            "base_ones": self.base_keys.ones,
            "epoch": self.epoch,
            "ot_index": self.ot_index,
            "template": self.template.to_bytes(),
            "credentials": [_credential_map(credential) for credential in self.credentials],
            "overtaken": self.overtaken,
        }
        if self.next is not None:
            values["next"] = {
                "confirm": self.next.confirmation.as_map(),
                "credential_id": self.next.credential_id,
                **key_share_map(self.next.key_share),
                "template": self.next.template.to_bytes(),
                **({"templates": self.next.templates} if self.next.templates is not None else {}),
            }
        if self.recovery is not None:
            values["recovery"] = {
                "code": self.recovery.code,
                "request_key": self.recovery.request_key,
                "base_ot_id": self.recovery.base_ot_id,
                "base_zeros": self.recovery.base_keys.zeros,
                "base_ones": self.recovery.base_keys.ones,
                "sender_message": self.recovery.sender_message,
            }
        if self.rotation is not None:
            values["rotation"] = {
                "base_ot_id": self.rotation.base_ot_id,
                "base_zeros": self.rotation.base_keys.zeros,
                "base_ones": self.rotation.base_keys.ones,
                "epoch": self.rotation.epoch,
                "template": self.rotation.template.to_bytes(),
            }
        if self.recipient is not None:
            values["recipient"] = recipient_map(self.recipient)
        if self.provisioned:
            values["provisioned"] = [provisioned_map(key) for key in self.provisioned]
        if self.history is not None:
            values["history"] = {"seq": self.history.seq, "hash": self.history.hash}
        if self.history_from is not None:
            values["history_from"] = self.history_from
        if self.rotations:
            values["rotations"] = self.rotations
        return codec.encode(values)

    @classmethod
    def decode(cls, payload: bytes) -> DeviceState:
        """Raises VaultCorrupt: the file decrypted, so the program that wrote it was another one, or wrong."""
        try:
            with codec.reading(payload, what="vault", version=_VERSION) as fields:
                return _read_state(fields)
        except (DecodeError, ValueError, TypeError):
            raise VaultCorrupt("the vault's content is not of a form this version knows") from None


def _read_state(fields: codec.Fields) -> DeviceState:
    # The profile was validated when it was pinned; it is validated again, since the rest depends on its sizes.
    profile = Profile.from_dict(fields.fields("profile").remaining())
    enrolment_id = fields.bytes("enrolment_id", length=ID_BYTES)
    return DeviceState(
        server_url=fields.text("server_url", at_most=_MAX_TEXT),
        server_id=fields.text("server_id", at_most=_MAX_TEXT),
        profile=profile,
        enrolment_id=enrolment_id,
        request_key=fields.bytes("request_key", length=32),
        base_ot_id=fields.bytes("base_ot_id", length=ID_BYTES),
        base_keys=_read_base_keys(fields),
        epoch=fields.uint("epoch", at_most=MAX_INDEX),
        ot_index=fields.uint("ot_index", at_most=MAX_INDEX),
        template=TemplateShare.from_bytes(profile, fields.bytes("template")),
        credentials=tuple(_read_credential(entry) for entry in fields.each("credentials", at_most=MAX_CREDENTIALS)),
        next=_read_next(fields.fields("next"), profile) if fields.has("next") else None,
        recovery=_read_recovery(fields.fields("recovery")) if fields.has("recovery") else None,
        rotation=_read_rotation(fields.fields("rotation"), profile) if fields.has("rotation") else None,
        overtaken=fields.boolean("overtaken"),
        recipient=(
            read_recipient(fields.fields("recipient"), expected_enrolment_id=enrolment_id)
            if fields.has("recipient")
            else None
        ),
        provisioned=_read_all_provisioned(fields) if fields.has("provisioned") else (),
        history=_read_history(fields.fields("history")) if fields.has("history") else None,
        history_from=fields.uint("history_from", at_most=MAX_INDEX) if fields.has("history_from") else None,
        rotations=fields.uint("rotations", at_most=MAX_INDEX) if fields.has("rotations") else 0,
    )


def _read_history(fields: codec.Fields) -> HistoryHead:
    result = HistoryHead(seq=fields.uint("seq", at_most=MAX_INDEX), hash=fields.bytes("hash", length=HASH_BYTES))
    fields.done()
    return result


def _read_all_provisioned(fields: codec.Fields) -> tuple[ProvisionedKey, ...]:
    keys = tuple(read_provisioned(entry) for entry in fields.each("provisioned", at_most=MAX_PROVISIONED_KEYS))
    if not keys or len({key.key_id for key in keys}) != len(keys):
        raise DecodeError("provisioned", "is left out where it is empty, and names no key twice")
    return keys


def _credential_map(credential: Credential) -> dict[str, object]:
    values: dict[str, object] = {
        "credential_id": credential.credential_id,
        "rp_id": credential.rp_id,
        "user_handle": credential.user_handle,
        "user_name": credential.user_name,
        "user_display_name": credential.user_display_name,
        "algorithm": int(credential.algorithm),
        **key_share_map(credential.key_share),
        "sign_count": credential.sign_count,
        "discoverable": credential.discoverable,
        "provisional": credential.provisional,
        "created_at": credential.created_at,
    }
    if credential.not_after is not None:
        values["not_after"] = credential.not_after
    if credential.cred_protect is not CredProtect.UV_OPTIONAL:
        values["cred_protect"] = int(credential.cred_protect)
    return values


def _read_credential(fields: codec.Fields) -> Credential:
    credential = Credential(
        credential_id=_read_credential_id(fields),
        rp_id=fields.text("rp_id", at_most=253),
        user_handle=fields.bytes("user_handle", at_least=1, at_most=64),
        user_name=_read_text(fields, "user_name"),
        user_display_name=_read_text(fields, "user_display_name"),
        algorithm=Algorithm(fields.integer("algorithm", one_of=ALGORITHMS)),
        key_share=read_key_share(fields),
        sign_count=fields.uint("sign_count", at_most=2**32 - 1),
        discoverable=fields.boolean("discoverable"),
        provisional=fields.boolean("provisional"),
        created_at=fields.uint("created_at", at_most=MAX_INDEX),
        not_after=fields.uint("not_after", at_most=MAX_TIME_S) if fields.has("not_after") else None,
        cred_protect=_read_cred_protect(fields),
    )
    fields.done()
    return credential


def _read_cred_protect(fields: codec.Fields) -> CredProtect:
    """The lowest level is left out, so a vault of an older release reads the same and one value has one encoding."""
    if not fields.has("cred_protect"):
        return CredProtect.UV_OPTIONAL
    protected = (CredProtect.UV_OPTIONAL_WITH_ID_LIST, CredProtect.UV_REQUIRED)
    return CredProtect(fields.integer("cred_protect", one_of=protected))


def _read_next(fields: codec.Fields, profile: Profile) -> NextShares:
    templates = fields.uint("templates", at_most=MAX_TEMPLATES) if fields.has("templates") else None
    result = NextShares(
        confirmation=Confirmation.from_fields(fields.fields("confirm")),
        credential_id=_read_credential_id(fields),
        key_share=read_key_share(fields),
        template=TemplateShare.from_bytes(
            profile if templates is None else profile.with_templates(templates), fields.bytes("template")
        ),
        templates=templates,
    )
    fields.done()
    return result


def _read_recovery(fields: codec.Fields) -> PendingRecovery:
    result = PendingRecovery(
        code=fields.text("code", at_most=64),
        request_key=fields.bytes("request_key", length=32),
        base_ot_id=fields.bytes("base_ot_id", length=ID_BYTES),
        base_keys=_read_base_keys(fields),
        sender_message=fields.bytes("sender_message"),
    )
    fields.done()
    return result


def _read_rotation(fields: codec.Fields, profile: Profile) -> PendingRotation:
    result = PendingRotation(
        base_ot_id=fields.bytes("base_ot_id", length=ID_BYTES),
        base_keys=_read_base_keys(fields),
        epoch=fields.uint("epoch", at_most=MAX_INDEX),
        template=TemplateShare.from_bytes(profile, fields.bytes("template")),
    )
    fields.done()
    return result


def _read_base_keys(fields: codec.Fields) -> ReceiverBaseKeys:
    return ReceiverBaseKeys(fields.bytes("base_zeros", length=KEYS_BYTES), fields.bytes("base_ones", length=KEYS_BYTES))


def _read_credential_id(fields: codec.Fields) -> bytes:
    return fields.bytes("credential_id", at_least=MIN_CREDENTIAL_ID_BYTES, at_most=MAX_CREDENTIAL_ID_BYTES)


def _read_text(fields: codec.Fields, name: str) -> str:
    return fields.text(name, at_most=_MAX_TEXT, or_empty=True)
