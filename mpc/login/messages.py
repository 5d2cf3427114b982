"""The three messages of a login, as types and as canonical CBOR.

1  device → server   everything the server needs to decide        (POST /v1/logins)
2  server → device   garbled tables and the sealed partial signature    (its answer)
3  device → server   the token that only an accepted login reveals (POST /v1/confirmations)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

from mpc.errors import DecodeError
from mpc.login.authenticator_data import (
    ASSERTION_DATA_BYTES,
    MAX_CREDENTIAL_ID_BYTES,
    MIN_CREDENTIAL_ID_BYTES,
    PS256,
    cose_rsa_key,
    registration_data,
)
from mpc.login.extension_outputs import MAX_OUTPUTS_BYTES
from mpc.login.profile import Profile
from mpc.ot.expansion import PROOF_X_BYTES, PROOF_Y_BYTES, row_bytes
from mpc.ot.keys import KAPPA
from mpc.parameters import MAX_MODULUS_BITS, PROTOCOL_VERSION, PUBLIC_EXPONENT, TANDEM_SUITE_1
from mpc.primitives import codec
from mpc.primitives.hashing import tagged_hash
from mpc.primitives.secrecy import NeverPickled
from mpc.threshold_rsa.encodings import PSS_SALT_BYTES, Algorithm
from mpc.threshold_rsa.signing import TAG_BYTES

ID_BYTES = 16
NONCE_BYTES = 32
TOKEN_BYTES = 32
OUTPUT_TAG_BYTES = 16
KINDS = ("create", "get", "change")
"""`change`: shows the match for a change of the enrolment's templates, and signs for no relying party."""
MAX_INDEX = 2**62
"""Indices and counters stay far below what a database's signed 64-bit integer holds."""

_LARGEST_KEY = cose_rsa_key(PS256, 2**MAX_MODULUS_BITS - 1, PUBLIC_EXPONENT)
MAX_AUTHENTICATOR_DATA_BYTES = (
    len(registration_data("", 0, bytes(MAX_CREDENTIAL_ID_BYTES), _LARGEST_KEY)) + MAX_OUTPUTS_BYTES
)


@dataclass(frozen=True, slots=True)
class Confirmation(NeverPickled):
    """Proof that login `ot_index` was accepted on the device: the token sealed in its answer."""

    ot_index: int
    token: bytes = field(repr=False)

    def as_map(self) -> dict[str, object]:
        return {"ot_index": self.ot_index, "token": self.token}

    @classmethod
    def from_fields(cls, fields: codec.Fields) -> Confirmation:
        result = cls(
            ot_index=fields.uint("ot_index", at_most=MAX_INDEX), token=fields.bytes("token", length=TOKEN_BYTES)
        )
        fields.done()
        return result

    @property
    def token_hash(self) -> bytes:
        """What the server stores instead of the token."""
        return token_hash(self.token)


@dataclass(frozen=True, slots=True)
class LoginStatement:
    """Everything of message 1 that is fixed before the OT part: what is to be signed, and under which state."""

    enrolment_id: bytes
    base_ot_id: bytes
    profile_digest: bytes
    kind: str
    credential_id: bytes
    epoch: int
    ot_index: int
    authenticator_data: bytes
    client_data_hash: bytes
    pss_salt: bytes | None
    device_nonce: bytes
    ephemeral: bytes
    """The device's X25519 share of this login."""
    confirmation: Confirmation | None = None
    attest: bool = False
    """The device would like the server's attestation of the new credential; for `create` only."""

    def as_map(self) -> dict[str, object]:
        values: dict[str, object] = {
            "v": PROTOCOL_VERSION,
            "suite": TANDEM_SUITE_1.number,
            "enrolment_id": self.enrolment_id,
            "base_ot_id": self.base_ot_id,
            "profile_digest": self.profile_digest,
            "kind": self.kind,
            "credential_id": self.credential_id,
            "epoch": self.epoch,
            "ot_index": self.ot_index,
            "authenticator_data": self.authenticator_data,
            "client_data_hash": self.client_data_hash,
            "device_nonce": self.device_nonce,
            "ephemeral": self.ephemeral,
        }
        if self.pss_salt is not None:
            values["pss_salt"] = self.pss_salt
        if self.confirmation is not None:
            values["confirm"] = self.confirmation.as_map()
        if self.attest:
            values["attest"] = True
        return values

    @property
    def digest(self) -> bytes:
        """T1: hash of the canonical message without y_tag, U, x and Y. Binds the OT proof and the share tag."""
        return tagged_hash("tandem statement v1", codec.encode(self.as_map()))

    @property
    def signed_message(self) -> bytes:
        """What RSA signs: authenticatorData ‖ SHA-256(clientDataJSON)."""
        return self.authenticator_data + self.client_data_hash


@dataclass(frozen=True, slots=True)
class Message1:
    """The device's whole side of a login."""

    statement: LoginStatement
    share_tag: bytes
    u: bytes = field(repr=False)
    proof_x: bytes = field(repr=False)
    proof_y: bytes = field(repr=False)

    def encode(self) -> bytes:
        ot = {"y_tag": self.share_tag, "u": self.u, "x": self.proof_x, "y": self.proof_y}
        return codec.encode(self.statement.as_map() | ot)

    @classmethod
    def decode(cls, body: bytes) -> Message1:
        """Raises DecodeError naming the field. Lengths that depend on the profile are checked by `fits`."""
        with codec.reading(body, what="message_1", version=PROTOCOL_VERSION) as fields:
            fields.integer("suite", one_of=(TANDEM_SUITE_1.number,))
            statement = LoginStatement(
                enrolment_id=fields.bytes("enrolment_id", length=ID_BYTES),
                base_ot_id=fields.bytes("base_ot_id", length=ID_BYTES),
                profile_digest=fields.bytes("profile_digest", length=32),
                kind=fields.text("kind", at_most=8, one_of=KINDS),
                credential_id=fields.bytes(
                    "credential_id", at_least=MIN_CREDENTIAL_ID_BYTES, at_most=MAX_CREDENTIAL_ID_BYTES
                ),
                epoch=fields.uint("epoch", at_most=MAX_INDEX),
                ot_index=fields.uint("ot_index", at_most=MAX_INDEX),
                authenticator_data=fields.bytes(
                    "authenticator_data", at_least=ASSERTION_DATA_BYTES, at_most=MAX_AUTHENTICATOR_DATA_BYTES
                ),
                client_data_hash=fields.bytes("client_data_hash", length=32),
                pss_salt=fields.bytes("pss_salt", length=PSS_SALT_BYTES) if fields.has("pss_salt") else None,
                device_nonce=fields.bytes("device_nonce", length=NONCE_BYTES),
                ephemeral=fields.bytes("ephemeral", length=32),
                confirmation=Confirmation.from_fields(fields.fields("confirm")) if fields.has("confirm") else None,
                attest=fields.true("attest") if fields.has("attest") else False,
            )
            if statement.attest and statement.kind != "create":
                raise DecodeError("message_1.attest", "must not be there for a login")
            return cls(
                statement=statement,
                share_tag=fields.bytes("y_tag", length=TAG_BYTES),
                u=fields.bytes("u"),
                proof_x=fields.bytes("x", length=PROOF_X_BYTES),
                proof_y=fields.bytes("y", length=PROOF_Y_BYTES),
            )

    def check_fits(self, profile: Profile, algorithm: Algorithm) -> None:
        """Raises DecodeError if U does not have the profile's length, or a salt is there without need or missing."""
        if len(self.u) != u_bytes(profile):
            raise DecodeError("message_1.u", "does not have the length that the profile asks for")
        if (self.statement.pss_salt is not None) != (algorithm is Algorithm.PS256):
            raise DecodeError("message_1.pss_salt", "must be there for PS256 and only for it")


@dataclass(frozen=True, slots=True)
class Message2:
    """The server's answer. Only a device that holds the accept label can open `sealed`."""

    server_nonce: bytes
    ephemeral: bytes
    tables: bytes = field(repr=False)
    reject_tag: bytes = field(repr=False)
    accept_tag: bytes = field(repr=False)
    sealed: bytes = field(repr=False)
    attestation: bytes | None = field(default=None, repr=False)
    """The box of `mpc.login.attestation`, where the device asked for one and the server gives it."""

    def encode(self) -> bytes:
        values: dict[str, object] = {
            "v": PROTOCOL_VERSION,
            "server_nonce": self.server_nonce,
            "ephemeral": self.ephemeral,
            "tables": self.tables,
            "tag0": self.reject_tag,
            "tag1": self.accept_tag,
            "sealed": self.sealed,
        }
        if self.attestation is not None:
            values["attestation"] = self.attestation
        return codec.encode(values)

    @classmethod
    def decode(
        cls, body: bytes, *, tables_bytes: int, sealed_bytes: int, attestation_at_most: int | None = None
    ) -> Message2:
        """attestation_at_most: None where the device did not ask for one. Raises DecodeError naming the field."""
        with codec.reading(body, what="message_2", version=PROTOCOL_VERSION) as fields:
            return cls(
                server_nonce=fields.bytes("server_nonce", length=NONCE_BYTES),
                ephemeral=fields.bytes("ephemeral", length=32),
                tables=fields.bytes("tables", length=tables_bytes),
                reject_tag=fields.bytes("tag0", length=OUTPUT_TAG_BYTES),
                accept_tag=fields.bytes("tag1", length=OUTPUT_TAG_BYTES),
                sealed=fields.bytes("sealed", length=sealed_bytes),
                attestation=(
                    fields.bytes("attestation", at_most=attestation_at_most)
                    if attestation_at_most is not None and fields.has("attestation")
                    else None
                ),
            )


@dataclass(frozen=True, slots=True)
class Message3:
    """The confirmation on its own."""

    enrolment_id: bytes
    confirmation: Confirmation

    def encode(self) -> bytes:
        return codec.encode(
            {"v": PROTOCOL_VERSION, "enrolment_id": self.enrolment_id, "confirm": self.confirmation.as_map()}
        )

    @classmethod
    def decode(cls, body: bytes) -> Message3:
        with codec.reading(body, what="message_3", version=PROTOCOL_VERSION) as fields:
            return cls(
                enrolment_id=fields.bytes("enrolment_id", length=ID_BYTES),
                confirmation=Confirmation.from_fields(fields.fields("confirm")),
            )


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The answer to message 3: the epoch that is current now."""

    epoch: int

    def encode(self) -> bytes:
        return codec.encode({"v": PROTOCOL_VERSION, "epoch": self.epoch})

    @classmethod
    def decode(cls, body: bytes) -> Acknowledgement:
        with codec.reading(body, what="acknowledgement", version=PROTOCOL_VERSION) as fields:
            return cls(epoch=fields.uint("epoch", at_most=MAX_INDEX))


def token_hash(token: bytes) -> bytes:
    """Hash of a confirmation token, for storage and comparison."""
    return tagged_hash("tandem token v1", token)


def u_bytes(profile: Profile) -> int:
    """Length of U: 128 columns of ℓ + 128 bits."""
    return KAPPA * row_bytes(profile.input_bits)


@lru_cache(maxsize=64)
def message_1_max_bytes(profile: Profile) -> int:
    """The longest message 1 this profile allows: the length of one with every field at its largest."""
    statement = LoginStatement(
        enrolment_id=bytes(ID_BYTES),
        base_ot_id=bytes(ID_BYTES),
        profile_digest=bytes(32),
        kind=max(KINDS, key=len),
        credential_id=bytes(MAX_CREDENTIAL_ID_BYTES),
        epoch=MAX_INDEX,
        ot_index=MAX_INDEX,
        authenticator_data=bytes(MAX_AUTHENTICATOR_DATA_BYTES),
        client_data_hash=bytes(32),
        pss_salt=bytes(PSS_SALT_BYTES),
        device_nonce=bytes(NONCE_BYTES),
        ephemeral=bytes(32),
        confirmation=Confirmation(MAX_INDEX, bytes(TOKEN_BYTES)),
        attest=True,
    )
    filled = Message1(statement, bytes(TAG_BYTES), bytes(u_bytes(profile)), bytes(PROOF_X_BYTES), bytes(PROOF_Y_BYTES))
    return len(filled.encode())
