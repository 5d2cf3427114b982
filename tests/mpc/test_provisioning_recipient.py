"""Recipient files: round trip in both suites, and every field tampered with, with and without a fresh signature."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from mpc.errors import DecodeError
from mpc.primitives import base64url
from mpc.primitives.hpke import HpkeSuite
from mpc.provisioning.recipient import MAX_RECIPIENT_BYTES, Recipient, new_recipient
from mpc.provisioning.signed_document import sign_document
from mpc.threshold_rsa.share_package import Role

NOW = 1_795_000_000
ENROLMENT = bytes(range(16))
DEVICE: dict[str, Any] = {
    "role": Role.DEVICE,
    "name": "Ann's phone",
    "server_id": "auth.example",
    "enrolment_id": ENROLMENT,
    "suite": HpkeSuite.X25519,
    "now": NOW,
}
SERVER = DEVICE | {"role": Role.SERVER, "name": "auth", "enrolment_id": None}
_, ANN = new_recipient(**DEVICE)
_, AUTH = new_recipient(**SERVER)


def values_of(recipient: Recipient) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(recipient.document)
    return values


def tampered(recipient: Recipient, changes: dict[str, Any]) -> bytes:
    """Some members changed, the signature left as it was."""
    return json.dumps(values_of(recipient) | changes).encode()


def resigned(recipient: Recipient, changes: dict[str, Any]) -> bytes:
    """The same by somebody who signs anew, as anybody can. A change to ... takes the member out."""
    values = {name: value for name, value in (values_of(recipient) | changes).items() if value is not ...}
    return sign_document(
        {name: value for name, value in values.items() if name not in ("signing_key", "signature")},
        Ed25519PrivateKey.generate(),
    )


def refusal(document: bytes) -> str:
    with pytest.raises(DecodeError) as caught:
        Recipient.decode(document)
    return str(caught.value)


# --- round trip ------------------------------------------------------------------------------------------------

_names = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1, max_size=25).filter(
    lambda name: name.isprintable()
)


@given(
    role=st.sampled_from(list(Role)),
    suite=st.sampled_from(list(HpkeSuite)),
    name=_names,
    server_id=st.from_regex(r"[!-~]{1,253}", fullmatch=True),
    enrolment=st.binary(min_size=16, max_size=16),
    now=st.integers(0, 2**35),
)
@settings(max_examples=40, deadline=None)
def test_a_recipient_says_what_it_was_made_with(
    role: Role, suite: HpkeSuite, name: str, server_id: str, enrolment: bytes, now: int
) -> None:
    enrolment_id = enrolment if role is Role.DEVICE else None

    key, made = new_recipient(
        role=role, name=name, server_id=server_id, enrolment_id=enrolment_id, suite=suite, now=now
    )
    read = Recipient.decode(made.document)

    assert read == made and read.public_key == key.public_key and key.suite is suite
    assert (read.role, read.name, read.server_id, read.enrolment_id) == (role, name, server_id, enrolment_id)
    assert read.created_at == now and len(read.id) == 32 and len(made.document) < MAX_RECIPIENT_BYTES
    assert key.open(read.public_key.seal(b"for you", info=b""), info=b"") == b"for you"


def test_the_file_shows_no_private_key() -> None:
    for suite in HpkeSuite:
        key, made = new_recipient(**DEVICE | {"suite": suite})
        for form in (
            key.raw.hex().encode(),
            base64url.encode(key.raw).encode(),
            base64url.encode(key.raw[-32:]).encode(),
        ):
            assert form not in made.document
        assert key.raw.hex() not in repr(made) and repr(key.raw)[2:20] not in repr(made)


def test_two_recipients_of_one_holder_have_two_fingerprints() -> None:
    assert new_recipient(**DEVICE)[1].fingerprint != ANN.fingerprint != AUTH.fingerprint


def test_the_fingerprint_does_not_depend_on_the_layout_but_on_every_member() -> None:
    """What two people read to each other stands for the content, however the file was mailed."""
    compact = Recipient.decode(json.dumps(values_of(ANN), separators=(",", ":")).encode())
    assert compact.fingerprint == ANN.fingerprint and compact.id == ANN.id

    for changes in ({"name": "Ann"}, {"server_id": "a"}, {"enrolment_id": "00" * 16}, {}):
        assert Recipient.decode(resigned(ANN, changes)).fingerprint != ANN.fingerprint


# --- tampering -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(values_of(ANN)))
def test_no_member_can_be_changed_or_taken_out_unnoticed(name: str) -> None:
    """The attack to stop: a stranger's public key under a friend's name."""
    other = values_of(new_recipient(**DEVICE | {"name": "Eve", "server_id": "eve", "enrolment_id": bytes(16)})[1])
    replacements = {"format": "tandem recipient v1 ", "role": "server", "suite": "mlkem768-x25519"}
    replacements["created_at"] = "2030-01-01T00:00:00Z"

    refusal(tampered(ANN, {name: replacements.get(name, other[name])}))

    values = values_of(ANN)
    del values[name]
    refusal(json.dumps(values).encode())


def test_the_signature_of_one_recipient_does_not_fit_another() -> None:
    _, other = new_recipient(**DEVICE)
    stolen = {name: values_of(other)[name] for name in ("signing_key", "signature")}

    assert "does not verify" in refusal(tampered(ANN, stolen))


@pytest.mark.parametrize(
    "changes",
    [
        {"role": "dealer"},
        {"role": "Device"},
        {"role": 1},
        {"role": ...},
        {"role": "server"},
        {"name": ""},
        {"name": " Ann"},
        {"name": "Ann "},
        {"name": "Ann\n"},
        {"name": "Ann\x1b[2J"},
        {"name": "Ann\x00"},
        {"name": "Ann\x7f"},
        {"name": "Ann\x9b2J"},
        {"name": "Ann\u202egnp.exe"},
        {"name": "Ann\u2028Bob"},
        {"name": "Ann\u200b"},
        {"name": "Ann\u00a0Bob"},
        {"name": "A" * 101},
        {"name": "é" * 51},
        {"name": ["Ann"]},
        {"server_id": ""},
        {"server_id": "auth example"},
        {"server_id": "auth\x1b]0;x\x07"},
        {"server_id": "auth\n"},
        {"server_id": "\u202eauth"},
        {"server_id": "äuth.example"},
        {"server_id": "a" * 254},
        {"enrolment_id": "00" * 15},
        {"enrolment_id": "00" * 17},
        {"enrolment_id": "0" * 31},
        {"enrolment_id": "AB" * 16},
        {"enrolment_id": "zz" * 16},
        {"enrolment_id": "00 " * 10 + "00"},
        {"enrolment_id": "../../../../../../../etc/passwd "},
        {"enrolment_id": None},
        {"enrolment_id": ...},
        {"suite": "x448"},
        {"suite": "mlkem768-x25519"},
        {"suite": ...},
        {"public_key": base64url.encode(bytes(32))},
        {"public_key": base64url.encode((1).to_bytes(32, "little"))},
        {"public_key": base64url.encode(b"\x09" * 31)},
        {"public_key": base64url.encode(b"\x09" * 33)},
        {"public_key": base64url.encode(b"\x09" * 32) + "="},
        {"public_key": ...},
        {"created_at": "today"},
        {"created_at": 1_795_000_000},
        {"created_at": "2026-11-20T16:00:00+01:00"},
        {"created_at": "1969-12-31T23:59:59Z"},
        {"created_at": ...},
        {"extra": 1},
        {"not_after": "2030-01-01T00:00:00Z"},
    ],
    ids=lambda changes: " ".join(f"{name}={str(value)[:12]!a}" for name, value in changes.items()),
)
def test_a_validly_signed_file_outside_its_form_is_refused(changes: dict[str, Any]) -> None:
    """Anybody can sign such a file, so the signature vouches for no field; each is checked for itself."""
    Recipient.decode(resigned(ANN, {}))

    text = refusal(resigned(ANN, changes))

    assert "\x1b" not in text and "\u202e" not in text and "passwd" not in text


@pytest.mark.parametrize(
    "changes",
    [{"enrolment_id": "00" * 16}, {"enrolment_id": None}, {"role": "device"}],
    ids=["a server with an enrolment", "with none", "a device without one"],
)
def test_only_devices_name_an_enrolment(changes: dict[str, Any]) -> None:
    """The enrolment is what a half is bound to; a server's file that names one would be ambiguous."""
    Recipient.decode(resigned(AUTH, {}))

    refusal(resigned(AUTH, changes))


def test_a_hybrid_key_with_a_half_that_is_none_is_refused() -> None:
    _, hybrid = new_recipient(**DEVICE | {"suite": HpkeSuite.MLKEM768_X25519})
    raw = hybrid.public_key.raw

    for bad in (raw[:-32] + bytes(32), b"\xff" * 3 + raw[3:], raw[:-1], raw + b"\x00", raw[-32:]):
        refusal(resigned(hybrid, {"public_key": base64url.encode(bad)}))


def test_a_key_of_one_suite_is_not_one_of_the_other() -> None:
    _, hybrid = new_recipient(**DEVICE | {"suite": HpkeSuite.MLKEM768_X25519})

    refusal(resigned(hybrid, {"suite": "x25519"}))
    refusal(resigned(ANN, {"public_key": values_of(hybrid)["public_key"]}))


def test_a_file_larger_than_any_recipient_is_not_parsed() -> None:
    assert "larger" in refusal(b" " * MAX_RECIPIENT_BYTES + ANN.document)


def test_a_file_with_half_a_surrogate_pair_is_refused_in_a_sentence() -> None:
    """JSON can name what no text holds; it must not come out as an exception of another kind, with the text in it."""
    for name in ("signing_key", "signature", "name", "role", "server_id"):
        assert refusal(json.dumps(values_of(ANN) | {name: "\ud800"}).encode())


# --- making one ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"enrolment_id": None},
        {"role": Role.SERVER},
        {"enrolment_id": bytes(15)},
        {"name": ""},
        {"name": "\x1b[2J"},
        {"name": " "},
        {"name": "x" * 101},
        {"server_id": ""},
        {"server_id": "a b"},
    ],
    ids=lambda changes: " ".join(f"{name}={str(value)[:12]!a}" for name, value in changes.items()),
)
def test_a_recipient_that_nobody_could_read_is_not_made(changes: dict[str, Any]) -> None:
    """The holder hears of it at once, not the dealer on the day of the ceremony."""
    with pytest.raises(ValueError, match=r"."):
        new_recipient(**DEVICE | changes)
