"""The content of the vault: every state has one encoding, older ones open, and anything else is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from device_sdk.errors import VaultCorrupt
from device_sdk.vault.provisioned import MAX_PROVISIONED_KEYS, ProvisionedKey
from device_sdk.vault.state import MAX_CREDENTIALS, Credential, DeviceState, NextShares, PendingRotation
from mpc.login.extension_outputs import CredProtect
from mpc.login.messages import MAX_INDEX, Confirmation
from mpc.login.profile import Profile
from mpc.login.template import TemplateShare
from mpc.ot.keys import KEYS_BYTES, ReceiverBaseKeys
from mpc.primitives import codec
from mpc.primitives.hpke import HpkeSuite
from mpc.primitives.rng import SystemRng
from mpc.provisioning.recipient import new_recipient
from mpc.provisioning.recipient_key import RecipientKey
from mpc.threshold_rsa.encodings import Algorithm
from mpc.threshold_rsa.public_key import PublicKey
from mpc.threshold_rsa.share_package import MAX_TIME_S, Role
from mpc.threshold_rsa.shares import KeyShare, split

PROFILE = Profile(name="sim-512", code_bits=512, threshold=120, encoder_id="codes")
ENROLMENT_ID = bytes(range(16))
EXPONENTS = (65537, 3, 2**31 - 1)


@lru_cache
def share(which: int) -> KeyShare:
    """The device's share of a real key; each has another exponent."""
    numbers = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_numbers()
    # For the vault the exponent is a number beside the modulus; that both fit is for the first signature to show.
    return split(SystemRng(), PublicKey(numbers.public_numbers.n, EXPONENTS[which]), numbers.d)[0]


@lru_cache
def recipient_key(suite: HpkeSuite, enrolment_id: bytes = ENROLMENT_ID) -> RecipientKey:
    key, recipient = new_recipient(
        role=Role.DEVICE, name="phone", server_id="auth.example", enrolment_id=enrolment_id, suite=suite, now=1
    )
    return RecipientKey(recipient, key)


BARE = DeviceState(
    server_url="https://auth.example",
    server_id="auth.example",
    profile=PROFILE,
    enrolment_id=ENROLMENT_ID,
    request_key=bytes(31) + b"\x01",
    base_ot_id=bytes(16),
    base_keys=ReceiverBaseKeys(bytes(KEYS_BYTES), bytes(KEYS_BYTES)),
    epoch=0,
    ot_index=0,
    template=TemplateShare(bytes(64), b""),
)
GROWING = replace(PROFILE, thresholds=(PROFILE.threshold, PROFILE.threshold - 3, PROFILE.threshold - 5))
TIMES = st.none() | st.integers(0, MAX_TIME_S)
COUNTS = st.integers(0, 2**32 - 1)


def credential(key_share: KeyShare, sign_count: int, provisional: bool, not_after: int | None = None) -> Credential:
    return Credential(
        credential_id=key_share.key.key_id,
        rp_id="shop.example",
        user_handle=b"u",
        user_name="ann",
        user_display_name="",
        algorithm=Algorithm.PS256,
        key_share=key_share,
        sign_count=sign_count,
        discoverable=True,
        provisional=provisional,
        created_at=7,
        not_after=not_after,
        cred_protect=CredProtect(sign_count % 3 + 1),
    )


def next_shares(templates: int | None) -> NextShares:
    held = TemplateShare(bytes(64 * (templates or 1)), b"")
    return NextShares(Confirmation(3, bytes(32)), share(1).key.key_id, share(1), held, templates)


@st.composite
def states(draw: st.DrawFn) -> DeviceState:
    rp_ids = st.sampled_from(["a", "shop.example"])
    waiting = draw(st.lists(st.sampled_from(range(len(EXPONENTS))), unique=True))
    held = draw(st.lists(st.sampled_from(range(len(EXPONENTS))), unique=True))
    upcoming = next_shares(draw(st.sampled_from([None, 1, 2, 3])))
    suite = draw(st.none() | st.sampled_from(HpkeSuite))
    return replace(
        BARE,
        profile=GROWING,
        credentials=tuple(credential(share(at), draw(COUNTS), draw(st.booleans()), draw(TIMES)) for at in held),
        next=draw(st.none() | st.just(upcoming)),
        rotation=draw(
            st.none() | st.just(PendingRotation(b"o" * 16, BARE.base_keys, 7, TemplateShare(bytes(64), b"")))
        ),
        history_from=draw(st.none() | st.integers(0, MAX_INDEX)),
        rotations=draw(st.integers(0, MAX_INDEX)),
        recipient=None if suite is None else recipient_key(suite),
        provisioned=tuple(
            ProvisionedKey(share(at), draw(rp_ids), draw(TIMES), bytes(16), draw(COUNTS)) for at in waiting
        ),
    )


@given(state=states())
@settings(max_examples=60, deadline=None)
def test_every_state_comes_back_as_it_was(state: DeviceState) -> None:
    assert DeviceState.decode(state.encode()) == state


def test_a_vault_of_before_provisioning_opens_and_is_written_the_same() -> None:
    """Its fields are these; an update must neither lock its owner out nor change what an older release reads."""
    state = replace(BARE, credentials=(credential(share(0), 3, False),))
    encoded = state.encode()

    values = cbor2.loads(encoded)
    assert set(values) == {
        "v", "server_url", "server_id", "profile", "enrolment_id", "request_key", "base_ot_id", "base_zeros",
        "base_ones", "epoch", "ot_index", "template", "credentials", "overtaken",
    }  # fmt: skip
    assert values["v"] == 1
    assert not {"exponent", "not_after", "cred_protect"} & set(values["credentials"][0])
    decoded = DeviceState.decode(encoded)
    assert decoded.recipient is None and decoded.provisioned == ()
    assert decoded.credentials[0].key_share.key.exponent == 65537
    assert decoded.credentials[0].not_after is None
    assert decoded.credentials[0].cred_protect is CredProtect.UV_OPTIONAL


def full() -> DeviceState:
    return replace(
        BARE,
        credentials=(credential(share(1), 4, False),),
        recipient=recipient_key(HpkeSuite.X25519),
        provisioned=(
            ProvisionedKey(share(0), "shop.example", 5, bytes(16)),
            ProvisionedKey(share(2), "x", None, bytes(16)),
        ),
    )


def _waiting(**changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(values: dict[str, Any]) -> None:
        for name, value in changes.items():
            if value is None:
                del values["provisioned"][0][name]
            else:
                values["provisioned"][0][name] = value

    return change


def _recipient(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda values: values["recipient"].update(changes)


DAMAGED: dict[str, Callable[[dict[str, Any]], None]] = {
    "the ordinary exponent written out": _waiting(exponent=65537),
    "an even exponent": _waiting(exponent=4),
    "an exponent of one": _waiting(exponent=1),
    "an exponent beyond the bound": _waiting(exponent=2**31 + 1),
    "a credential's exponent written out": lambda values: values["credentials"][0].update(exponent=65537),
    "a passkey's expiry beyond the bound": lambda values: values["credentials"][0].update(not_after=MAX_TIME_S + 1),
    "a passkey's expiry of another type": lambda values: values["credentials"][0].update(not_after="never"),
    "the lowest credProtect written out": lambda values: values["credentials"][0].update(cred_protect=1),
    "a credProtect level that there is not": lambda values: values["credentials"][0].update(cred_protect=4),
    "too many passkeys": lambda values: values.update(credentials=values["credentials"] * (MAX_CREDENTIALS + 1)),
    "an even modulus": lambda values: _waiting(modulus=values["provisioned"][0]["modulus"][:-1] + b"\x00")(values),
    "a modulus cut short": lambda values: _waiting(modulus=values["provisioned"][0]["modulus"][:-1])(values),
    "a share cut short": lambda values: _waiting(key_share=values["provisioned"][0]["key_share"][:-1])(values),
    "the server's share": lambda values: _waiting(key_share=b"\x01\x00" + values["provisioned"][0]["key_share"][2:])(
        values
    ),
    "no share": _waiting(key_share=None),
    "no relying party": _waiting(rp_id=None),
    "an empty relying party": _waiting(rp_id=""),
    "a relying party too long": _waiting(rp_id="x" * 254),
    "a ceremony id too long": _waiting(ceremony_id=bytes(17)),
    "an expiry beyond the bound": _waiting(not_after=MAX_TIME_S + 1),
    "a negative expiry": _waiting(not_after=-1),
    "an expiry of another type": _waiting(not_after="never"),
    "a counter beyond the bound": _waiting(sign_count=2**32),
    "an unknown field": _waiting(note="x"),
    "the same key twice": lambda values: values["provisioned"].append(values["provisioned"][0]),
    "too many keys": lambda values: values.update(provisioned=values["provisioned"] * MAX_PROVISIONED_KEYS),
    "an empty list": lambda values: values.update(provisioned=[]),
    "a list of something else": lambda values: values.update(provisioned=[1]),
    "another key than the recipient's": _recipient(key=bytes(range(32))),
    "a key of another length": _recipient(key=bytes(33)),
    "another suite": _recipient(suite="mlkem768-x25519"),
    "an unknown suite": _recipient(suite="rot13"),
    "a document that is none": _recipient(document=b"{}"),
    "another enrolment's recipient": _recipient(
        key=recipient_key(HpkeSuite.X25519, bytes(16)).key.raw,
        document=recipient_key(HpkeSuite.X25519, bytes(16)).recipient.document,
    ),
    "an unknown field of the recipient": _recipient(note="x"),
    "an unknown field of the vault": lambda values: values.update(note="x"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_state_that_no_release_wrote_is_refused(name: str) -> None:
    """The vault is authenticated, so this is a bug of somebody's program: it must not reach a signature."""
    values = cbor2.loads(full().encode())
    assert DeviceState.decode(codec.encode(values)) == full()

    DAMAGED[name](values)

    with pytest.raises(VaultCorrupt) as fault:
        DeviceState.decode(codec.encode(values))
    assert fault.value.__cause__ is None and fault.value.__suppress_context__


@pytest.mark.parametrize("templates", [None, 1, 2, 3])
def test_the_next_shares_bring_their_number_of_templates_along(templates: int | None) -> None:
    """The profile that holds from then on has the threshold for so many."""
    state = replace(BARE, profile=GROWING, next=next_shares(templates))

    promoted = DeviceState.decode(state.encode()).promoted()

    assert promoted.profile == GROWING.with_templates(templates or 1)
    assert len(promoted.template.codes) == promoted.profile.template_bytes
    assert DeviceState.decode(promoted.encode()) == promoted


@pytest.mark.parametrize(
    "change", [{"templates": 0}, {"templates": 1}, {"templates": 4}, {"templates": 6}, {}], ids=str
)
def test_next_shares_of_another_number_than_they_say_are_refused(change: dict[str, int]) -> None:
    values = cbor2.loads(replace(BARE, profile=GROWING, next=next_shares(2)).encode())
    del values["next"]["templates"]
    values["next"].update(change)

    with pytest.raises(VaultCorrupt):
        DeviceState.decode(codec.encode(values))


def test_no_repr_shows_a_share_or_the_recipient_s_key() -> None:
    state = full()
    secrets_ = [str(abs(share(0).value))[:40], repr(recipient_key(HpkeSuite.X25519).key.raw)[2:20]]

    for text in (repr(state), repr(state.provisioned), repr(state.recipient)):
        assert not any(secret in text for secret in secrets_)


def test_a_failed_registration_gives_its_counter_back_to_the_waiting_key() -> None:
    waiting = ProvisionedKey(share(0), "shop.example", None, bytes(16), sign_count=2)
    state = replace(BARE, credentials=(credential(share(0), 5, True), credential(share(1), 9, False)))
    state = state.with_provisioned(waiting)

    kept = state.without_provisional()

    assert [c.credential_id for c in kept.credentials] == [share(1).key.key_id]
    assert kept.provisioned == (replace(waiting, sign_count=5),)
    assert kept.without_provisional() is kept


def test_counters_of_a_recovery_only_ever_grow() -> None:
    state = replace(BARE, credentials=(credential(share(1), 9, False),)).with_provisioned(
        ProvisionedKey(share(0), "shop.example", None, bytes(16), sign_count=4)
    )

    moved = state.with_sign_counts({share(0).key.key_id: 3, share(1).key.key_id: 12, b"unknown": 1})

    assert (moved.provisioned[0].sign_count, moved.credentials[0].sign_count) == (4, 12)


def test_a_key_put_in_again_keeps_its_place() -> None:
    """The oldest import is taken first, and importing again does not make it the newest."""
    one, two = (ProvisionedKey(share(at), "shop.example", None, bytes(16)) for at in (0, 1))
    state = BARE.with_provisioned(one).with_provisioned(two)

    again = state.with_provisioned(replace(one, not_after=9))

    assert again.provisioned == (replace(one, not_after=9), two)
    assert again.without_provisioned(one.key_id).provisioned == (two,)
