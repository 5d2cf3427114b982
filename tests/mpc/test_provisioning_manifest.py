"""The manifest: what was signed is what is read, and a validly signed manifest outside its form is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from dealt_folder import (
    ANN,
    BOB,
    CEREMONY_ID,
    DEALT,
    NOW,
    SERVER,
    SIGNER,
    ceremony,
    dealt_pair,
    files,
    key_id,
    manifest,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from mpc.errors import DecodeError
from mpc.primitives import base64url
from mpc.provisioning.manifest import (
    MANIFEST_NAME,
    CeremonyKind,
    Manifest,
    SignedManifest,
    device_share_path,
    recipient_path,
    server_share_path,
    share_path,
)
from mpc.provisioning.signed_document import sign_document
from mpc.threshold_rsa.public_key import PublicKey

SIGNED = ceremony()["manifest.json"]


def resigned(change: Callable[[dict[str, Any]], object]) -> bytes:
    """The manifest with a change, signed by the key of the ceremony: what a careless or hostile dealer could make."""
    values = json.loads(SIGNED)
    change(values)
    return sign_document({n: v for n, v in values.items() if n not in ("signing_key", "signature")}, SIGNER)


def refusal(data: bytes) -> str:
    with pytest.raises(DecodeError) as caught:
        SignedManifest.decode(data)
    return str(caught.value)


# --- round trip ------------------------------------------------------------------------------------------------

_people = st.lists(
    st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1, max_size=20).filter(str.isprintable),
    max_size=4,
).map(tuple)
_plain = st.dictionaries(
    st.from_regex(r"[A-Za-z0-9 .,:;()/+_-]{1,30}", fullmatch=True), st.just("yes/no (1)"), max_size=3
)


@given(
    kind=st.sampled_from(list(CeremonyKind)),
    revision=st.integers(1, 10_000),
    previous=st.binary(min_size=32, max_size=32),
    operators=_people,
    witnesses=_people,
    started_at=st.integers(0, NOW + 60),
    not_after=st.none() | st.integers(0, 2**35),
    parameters=_plain,
    rp_id=st.from_regex(r"[a-z0-9.-]{1,253}", fullmatch=True),
    ceremony_id=st.binary(min_size=16, max_size=16),
)
@settings(max_examples=40, deadline=None)
def test_what_was_signed_is_what_is_read(kind: CeremonyKind, revision: int, previous: bytes, **values: Any) -> None:
    rewrap = kind is CeremonyKind.REWRAP
    made: Manifest = manifest(
        files(),
        kind=kind,
        revision=revision if rewrap else 0,
        previous=previous if rewrap else None,
        **values,
    )

    read = SignedManifest.decode(made.sign(SIGNER))

    assert read.manifest == made and read.signing_key == SIGNER.public_key().public_bytes_raw()


def test_the_fingerprint_is_that_of_the_key_whatever_was_signed() -> None:
    other = Ed25519PrivateKey.generate()
    one = SignedManifest.decode(SIGNED)
    two = SignedManifest.decode(manifest(files(), rp_id="bank.example").sign(SIGNER))
    foreign = SignedManifest.decode(manifest(files()).sign(other))

    assert one.fingerprint == two.fingerprint != foreign.fingerprint
    assert foreign.manifest == one.manifest


# --- tampering -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(json.loads(SIGNED)))
def test_no_member_can_be_changed_or_taken_out_unnoticed(name: str) -> None:
    values = json.loads(SIGNED)
    changed = {"kind": "import", "revision": 1, "operators": ["Eve"], "witnesses": [], "rp_id": "bank.example"}
    changed |= {"ceremony_id": "00" * 16, "started_at": "2020-01-01T00:00:00Z", "finished_at": "2020-01-01T00:00:00Z"}
    changed |= {"tool": {}, "parameters": {}, "recipients": values["recipients"][:1], "keys": values["keys"][:1]}
    changed |= {"files": {}, "format": "tandem recipient v1"}
    changed |= {n: "A" * len(values[n]) for n in ("signing_key", "signature")}

    refusal(json.dumps(values | {name: changed[name]}).encode())

    del values[name]
    refusal(json.dumps(values).encode())


def test_an_expiry_cannot_be_added_or_taken_away_unnoticed() -> None:
    expiring = json.loads(manifest(files(), not_after=NOW).sign(SIGNER))
    del expiring["not_after"]

    assert "does not verify" in refusal(json.dumps(expiring).encode())
    assert "does not verify" in refusal(json.dumps(json.loads(SIGNED) | {"not_after": "2030-01-01T00:00:00Z"}).encode())


def test_a_key_can_be_moved_to_another_recipient_only_by_the_signer() -> None:
    values = json.loads(SIGNED)
    values["keys"][0]["device"] = base64url.encode(BOB.id)

    assert "does not verify" in refusal(json.dumps(values).encode())


# --- the form --------------------------------------------------------------------------------------------------


def member(name: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda values: values.update({name: value}) if value is not ... else values.pop(name)


def of_key(name: str, value: object) -> Callable[[dict[str, Any]], object]:
    def change(values: dict[str, Any]) -> None:
        if value is ...:
            del values["keys"][0][name]
        else:
            values["keys"][0][name] = value

    return change


def of_files(path: str, digest: object) -> Callable[[dict[str, Any]], object]:
    return lambda values: values["files"].update({path: digest})


MODULUS = dealt_pair(0)[0].modulus

FORMS: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    *((f"no {name}", member(name, ...)) for name in json.loads(SIGNED) if name not in ("signing_key", "signature")),
    ("an unknown member", member("extra", 1)),
    ("a short ceremony id", member("ceremony_id", "00" * 15)),
    ("a ceremony id in capitals", member("ceremony_id", CEREMONY_ID.hex().upper())),
    ("a ceremony id that is a path", member("ceremony_id", "../../../../../../../../../../etc")),
    ("an unknown kind", member("kind", "escrow")),
    ("a negative revision", member("revision", -1)),
    ("a revision too large", member("revision", 10_001)),
    ("a boolean revision", member("revision", False)),
    ("a revision in text", member("revision", "0")),
    ("operators as text", member("operators", "Ann")),
    ("an empty operator", member("operators", [""])),
    ("an operator with an escape", member("operators", ["Ann\x1b[2J"])),
    ("an operator with two lines", member("operators", ["Ann\nBob"])),
    ("a witness that runs backwards", member("witnesses", ["\u202eeve"])),
    ("a witness of spaces", member("witnesses", ["  "])),
    ("101 witnesses", member("witnesses", ["Eve"] * 101)),
    ("a long witness", member("witnesses", ["e" * 101])),
    ("a start in numbers", member("started_at", NOW)),
    ("an end without zone", member("finished_at", "2026-11-20T16:00:00")),
    ("an empty expiry", member("not_after", None)),
    ("an expiry before 1970", member("not_after", "1969-01-01T00:00:00Z")),
    ("a tool with markup", member("tool", {"<script>": "1"})),
    ("a tool version that is a number", member("tool", {"tandem-keys": 1})),
    ("a tool that is a list", member("tool", ["tandem-keys"])),
    ("a parameter with an escape", member("parameters", {"bits": "\x1b[2J"})),
    ("a parameter with terminal markup", member("parameters", {"bits": "[red]"})),
    ("a parameter without a name", member("parameters", {"": "x"})),
    ("an rp id with a scheme", member("rp_id", "https://shop.example")),
    ("an rp id with a port", member("rp_id", "shop.example:443")),
    ("an rp id in capitals", member("rp_id", "Shop.example")),
    ("an rp id in Unicode", member("rp_id", "schön.example")),
    ("an rp id with a newline", member("rp_id", "shop.example\n")),
    ("recipients as text", member("recipients", "x")),
    ("a recipient id in hexadecimal", member("recipients", [SERVER.id.hex()])),
    ("a short recipient id", member("recipients", [base64url.encode(SERVER.id[:31])])),
    ("a recipient id that is a path", member("recipients", ["../../server"])),
    ("a recipient id with padding", member("recipients", [base64url.encode(SERVER.id) + "="])),
    ("keys as a map", member("keys", {})),
    ("a key that is text", member("keys", ["x"])),
    ("another key id", of_key("key_id", base64url.encode(key_id(1)))),
    ("a key id that is a path", of_key("key_id", "../../../etc/passwd")),
    ("an even modulus", of_key("n", base64url.encode((MODULUS + 1).to_bytes(256, "big")))),
    ("a modulus of 2,040 bits", of_key("n", base64url.encode((MODULUS >> 8 | 1).to_bytes(255, "big")))),
    ("a modulus with a leading zero", of_key("n", base64url.encode(b"\x00" + MODULUS.to_bytes(256, "big")))),
    ("a modulus of 4,104 bits", of_key("n", base64url.encode(b"\xff" * 513))),
    ("exponent 1", of_key("e", 1)),
    ("an even exponent", of_key("e", 65536)),
    ("another exponent under the same id", of_key("e", 3)),
    ("an exponent too large", of_key("e", 2**31 + 1)),
    ("a short server id", of_key("server", "AA")),
    ("a key without a device", of_key("device", ...)),
    ("a key with more", of_key("d", "AQAB")),
    ("a digest in capitals", of_files("report.html", "AB" * 32)),
    ("a short digest", of_files("report.html", "ab" * 31)),
    ("a digest that is a number", of_files("report.html", 1)),
    ("files as a list", member("files", [])),
]


@pytest.mark.parametrize("change", [change for _, change in FORMS], ids=[name for name, _ in FORMS])
def test_a_validly_signed_manifest_outside_its_form_is_refused(change: Callable[[dict[str, Any]], object]) -> None:
    SignedManifest.decode(resigned(lambda values: None))

    text = refusal(resigned(change))

    assert not {"\x1b", "\n", "\u202e"} & set(text) and "passwd" not in text and "script" not in text


@pytest.mark.parametrize(
    ("kind", "revision", "previous"),
    [
        (CeremonyKind.GENERATE, 1, bytes(32)),
        (CeremonyKind.IMPORT, 1, bytes(32)),
        (CeremonyKind.GENERATE, 0, bytes(32)),
        (CeremonyKind.REWRAP, 0, None),
        (CeremonyKind.REWRAP, 0, bytes(32)),
        (CeremonyKind.REWRAP, 1, None),
        (CeremonyKind.GENERATE, 1, None),
    ],
)
def test_only_a_rewrap_has_a_predecessor_and_every_rewrap_has_one(
    kind: CeremonyKind, revision: int, previous: bytes | None
) -> None:
    """Otherwise a first ceremony could pass for the successor of another, or a successor for a new start."""
    data = manifest(files(), kind=kind, revision=revision, previous=previous).sign(SIGNER)

    assert "do not fit" in refusal(data)


def test_a_key_named_twice_is_refused() -> None:
    """Two halves on each side under one key would be two splits of one exponent."""
    again = replace(DEALT[0], device=BOB.id)
    other_exponent = replace(DEALT[0], key=PublicKey(DEALT[0].key.modulus, 3))

    for second in (DEALT[0], again, other_exponent):
        assert "twice" in refusal(manifest(files(), keys=(*DEALT, second)).sign(SIGNER))


# --- paths -----------------------------------------------------------------------------------------------------


@given(st.binary(min_size=32, max_size=32))
def test_no_path_leaves_its_folder(identifier: bytes) -> None:
    """Key ids are hashes of what a dealer chose; whatever they are, the path has these parts and no others."""
    for path, depth in ((server_share_path(identifier), 2), (device_share_path(ANN, identifier), 3)):
        parts = path.split("/")
        assert len(parts) == depth and all(part and not part.startswith(".") for part in parts)
        assert "\\" not in path and "\x00" not in path and path.isascii()


def test_a_server_has_no_place_among_the_devices() -> None:
    with pytest.raises(ValueError, match="not a device"):
        device_share_path(SERVER, key_id(0))
    assert share_path(SERVER, key_id(0)).startswith("server/") and share_path(ANN, key_id(0)).startswith("device/")
    assert recipient_path(ANN) == f"recipients/{ANN.fingerprint}.json"


def test_white_space_and_order_leave_the_digest_as_it_is() -> None:
    """The next revision names its predecessor by it: a courier may reformat the file, and changes nothing else."""
    data = ceremony()[MANIFEST_NAME]
    reformatted = json.dumps(json.loads(data), sort_keys=True).encode()
    assert reformatted != data

    one, two = SignedManifest.decode(data), SignedManifest.decode(reformatted)
    other = SignedManifest.decode(ceremony(witnesses=())[MANIFEST_NAME])

    assert one.digest == two.digest != other.digest
    assert SignedManifest.decode(ceremony(Ed25519PrivateKey.generate())[MANIFEST_NAME]).digest != one.digest
