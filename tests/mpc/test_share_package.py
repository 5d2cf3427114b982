"""Share files: round trip, every kind of damage with its own reason, and nothing of the secret in any text."""

from __future__ import annotations

import base64
import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parties import private_exponent, private_key, public_key

from mpc.primitives import base64url, codec
from mpc.primitives.hashing import framed
from mpc.primitives.hpke import HpkePrivateKey, HpkeSuite
from mpc.primitives.rng import SeededRng
from mpc.threshold_rsa.public_key import PublicKey
from mpc.threshold_rsa.share_package import (
    MAX_SEALED_SHARE_BYTES,
    MAX_TIME_S,
    PackageProblem,
    Role,
    SharePackage,
    SharePackageError,
    open_share,
    read_share_header,
    seal_share,
)
from mpc.threshold_rsa.shares import KeyShare, split

PRIVATE = private_key(2048)
KEY = public_key(PRIVATE)
D1, D2 = split(SeededRng(b"packages"), KEY, private_exponent(PRIVATE))
CEREMONY, OTHER_CEREMONY = b"\x01" * 16, b"\x02" * 16
RECIPIENT, OTHER_RECIPIENT = b"\x03" * 32, b"\x04" * 32
BOTH_SUITES = pytest.mark.parametrize("suite", list(HpkeSuite))


KEYS = {(suite, which): HpkePrivateKey.generate(suite) for suite in HpkeSuite for which in (0, 1)}


def key_of(suite: HpkeSuite = HpkeSuite.X25519, which: int = 0) -> HpkePrivateKey:
    return KEYS[suite, which]


def package(role: Role = Role.DEVICE, **changes: Any) -> SharePackage:
    values: dict[str, Any] = {
        "role": role,
        "share": D1 if role is Role.DEVICE else D2,
        "epoch": 0,
        "rp_id": "shop.example",
        "not_after": 2_000_000_000,
        "ceremony_id": CEREMONY,
    }
    return SharePackage(**(values | changes))


def sealed(role: Role = Role.DEVICE, suite: HpkeSuite = HpkeSuite.X25519, **changes: Any) -> bytes:
    return seal_share(package(role, **changes), key_of(suite).public_key, RECIPIENT)


def opened(data: bytes, **changes: Any) -> SharePackage:
    values: dict[str, Any] = {"key": key_of(), "recipient_id": RECIPIENT, "expected_role": Role.DEVICE}
    return open_share(data, **(values | changes))


def refusal(data: bytes, **changes: Any) -> str:
    """The reason for which this file is refused; fails if it loads."""
    with pytest.raises(SharePackageError) as caught:
        opened(data, **changes)
    return str(caught.value.reason)


def header_end(data: bytes) -> int:
    return 7 + int.from_bytes(data[5:7], "big")


def forged(header: dict[str, object], inner: bytes, *, bound_to: dict[str, object] | None = None) -> bytes:
    """A file that anybody could make who knows the recipient's public key, laid out by the format's description."""
    encoded = codec.encode(header)
    bound = encoded if bound_to is None else codec.encode(bound_to)
    secret = key_of().public_key.seal(inner, info=framed("tandem sealed share v1", bound))
    return b"TSHR\x01" + len(encoded).to_bytes(2, "big") + encoded + len(secret).to_bytes(4, "big") + secret


def header_values(**changes: object) -> dict[str, object]:
    values: dict[str, object] = {
        "suite": "x25519",
        "role": "device",
        "recipient_id": RECIPIENT,
        "key_id": KEY.key_id,
        "ceremony_id": CEREMONY,
        "rp_id": "shop.example",
        "not_after": 2_000_000_000,
    }
    return {name: value for name, value in (values | changes).items() if value is not None}


def inner_values(**changes: object) -> dict[str, object]:
    values: dict[str, object] = {
        "v": 1,
        "role": "device",
        "key_id": KEY.key_id,
        "n": KEY.modulus_bytes,
        "e": 65537,
        "share": D1.to_bytes(),
        "epoch": 0,
        "rp_id": "shop.example",
        "ceremony_id": CEREMONY,
        "not_after": 2_000_000_000,
    }
    return {name: value for name, value in (values | changes).items() if value is not None}


# --- known answer and round trip -------------------------------------------------------------------------------


def test_the_key_id_is_the_thumbprint_of_rfc_7638() -> None:
    path = Path(__file__).parents[1] / "vectors" / "json_web_key_thumbprint.json"
    vector = json.loads(path.read_text(encoding="utf-8"))

    key = PublicKey.from_bytes(base64.urlsafe_b64decode(vector["n"] + "=="), 65537)

    assert base64url.encode(key.key_id) == vector["thumbprint"]


def test_the_exponent_enters_the_key_id() -> None:
    assert PublicKey(KEY.modulus, 3).key_id != PublicKey(KEY.modulus, 65537).key_id


_rp_ids = st.from_regex(r"[a-z0-9.-]{1,253}", fullmatch=True)


@given(
    bits=st.integers(2048, 4096),
    seed=st.binary(min_size=8, max_size=8),
    exponent=st.sampled_from([3, 17, 65537, 2**31 - 1]),
    role=st.sampled_from(list(Role)),
    suite=st.sampled_from(list(HpkeSuite)),
    epoch=st.integers(0, 2**63 - 1),
    rp_id=_rp_ids,
    not_after=st.none() | st.integers(0, MAX_TIME_S),
    ceremony=st.binary(min_size=16, max_size=16),
)
@settings(max_examples=60, deadline=None)
def test_what_was_sealed_is_what_is_opened(
    bits: int,
    seed: bytes,
    exponent: int,
    role: Role,
    suite: HpkeSuite,
    epoch: int,
    rp_id: str,
    not_after: int | None,
    ceremony: bytes,
) -> None:
    rng = SeededRng(seed)
    modulus = int.from_bytes(rng.bytes(512), "big") >> (4096 - bits) | 1 << (bits - 1) | 1
    key = PublicKey(modulus, exponent)
    shares = dict(zip(Role, split(rng, key, modulus // 3), strict=True))
    made = SharePackage(role, shares[role], epoch, rp_id, not_after, ceremony)

    data = seal_share(made, key_of(suite).public_key, RECIPIENT)
    again = opened(data, key=key_of(suite), expected_role=role, expected_key_id=key.key_id)

    assert again == made and again.key == key and again.share.value == shares[role].value
    header = read_share_header(data)
    assert (header.suite, header.role, header.recipient_id, header.key_id) == (suite, role, RECIPIENT, key.key_id)
    assert (header.ceremony_id, header.rp_id, header.not_after) == (ceremony, rp_id, not_after)
    assert len(data) < MAX_SEALED_SHARE_BYTES


def test_the_header_shows_nothing_of_the_share() -> None:
    """A stranger may look at the file; what he sees is whose it is."""
    for role, share in ((Role.DEVICE, D1), (Role.SERVER, D2)):
        data = sealed(role)
        magnitude = abs(share.value).to_bytes(300, "big").lstrip(b"\x00")
        assert not any(magnitude[at : at + 8] in data for at in range(len(magnitude) - 8))
        assert KEY.modulus_bytes[:8] not in data


def test_the_format_is_the_one_that_is_described() -> None:
    """The forger of this file works from the table of the format; what he builds honestly loads."""
    assert opened(forged(header_values(), codec.encode(inner_values()))) == package()


# --- each damage and its reason --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [b"", b"PK\x03\x04" + bytes(900), b"-----BEGIN PRIVATE KEY-----\n", b"{}", b"\x00", b"TSHS\x01", b"tshr\x01"],
    ids=["empty", "zip", "PEM", "JSON", "zero", "a neighbour", "lower case"],
)
def test_another_file_is_not_a_share(data: bytes) -> None:
    assert refusal(data) == PackageProblem.NOT_A_SHARE


@pytest.mark.parametrize("version", [0, 2, 0x54, 255])
def test_an_unknown_version_of_the_file_is_told_as_such(version: int) -> None:
    data = sealed()

    assert refusal(data[:4] + bytes([version]) + data[5:]) == PackageProblem.UNKNOWN_VERSION


@pytest.mark.parametrize("version", [0, 2, 2**64 - 1])
def test_an_unknown_version_of_the_package_is_told_as_such(version: int) -> None:
    data = forged(header_values(), codec.encode(inner_values(v=version, new_field=b"of tomorrow")))

    assert refusal(data) == PackageProblem.UNKNOWN_VERSION


@BOTH_SUITES
def test_a_file_cut_short_at_any_length_is_truncated(suite: HpkeSuite) -> None:
    data = sealed(suite=suite)

    reasons = {refusal(data[:length], key=key_of(suite)) for length in range(1, len(data))}

    assert reasons == {PackageProblem.TRUNCATED}


@BOTH_SUITES
def test_no_file_with_a_changed_byte_loads(suite: HpkeSuite) -> None:
    """Every byte, and the reason tells the region: who damaged what is part of the report."""
    data = sealed(suite=suite)
    end = header_end(data)
    at_start = {range(4): {"not_a_share"}, range(4, 5): {"unknown_version"}, range(5, 7): {"truncated", "altered"}}
    in_header = {"altered", "other_role", "other_recipient"}
    for at in range(len(data)):
        allowed = next((reasons for region, reasons in at_start.items() if at in region), None)
        if allowed is None:
            allowed = in_header if at < end else {"truncated", "altered"} if at < end + 4 else {"altered"}
        damaged = data[:at] + bytes([data[at] ^ 1 << at % 8]) + data[at + 1 :]

        assert refusal(damaged, key=key_of(suite)) in allowed, at


@pytest.mark.parametrize("tail", [b"\x00", b"TSHR", bytes(20_000)], ids=["a byte", "another magic", "too many"])
def test_bytes_after_the_end_are_an_alteration(tail: bytes) -> None:
    assert refusal(sealed() + tail) == PackageProblem.ALTERED


def test_headers_or_sealed_parts_of_two_files_cannot_be_exchanged() -> None:
    """Else a relying party or an expiry could be moved from one key to another without opening anything."""
    one, two = sealed(), sealed(rp_id="bank.example", not_after=None)
    assert opened(one).rp_id == "shop.example" and opened(two).rp_id == "bank.example"

    for head, tail in ((one, two), (two, one)):
        mixed = head[: header_end(head)] + tail[header_end(tail) :]
        assert refusal(mixed) == PackageProblem.ALTERED


def test_the_half_of_the_other_side_is_refused() -> None:
    assert refusal(sealed(Role.SERVER)) == PackageProblem.OTHER_ROLE
    assert refusal(sealed(Role.DEVICE), expected_role=Role.SERVER) == PackageProblem.OTHER_ROLE


def test_a_half_that_only_pretends_to_be_of_this_side_is_refused() -> None:
    """The header says device, the package inside is the server's."""
    inner = codec.encode(inner_values(role="server", share=D2.to_bytes()))

    assert refusal(forged(header_values(), inner)) == PackageProblem.OTHER_ROLE


def test_a_half_of_another_key_is_refused() -> None:
    assert refusal(sealed(), expected_key_id=b"\x05" * 32) == PackageProblem.OTHER_KEY


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        ({"key_id": b"\x06" * 32}, {}),
        ({}, {"key_id": b"\x06" * 32}),
        ({}, {"e": 3}),
        ({}, {"n": PublicKey(KEY.modulus + 2).modulus_bytes}),
    ],
    ids=["header names another", "package names another", "another exponent", "another modulus"],
)
def test_a_key_id_that_is_not_the_keys_is_refused(outer: dict[str, object], inner: dict[str, object]) -> None:
    data = forged(header_values(**outer), codec.encode(inner_values(**inner)))

    assert refusal(data) == PackageProblem.OTHER_KEY


def test_a_share_for_another_recipient_is_refused() -> None:
    data = seal_share(package(), key_of(which=1).public_key, OTHER_RECIPIENT)

    assert refusal(data) == PackageProblem.OTHER_RECIPIENT
    assert refusal(sealed(), recipient_id=OTHER_RECIPIENT) == PackageProblem.OTHER_RECIPIENT


def test_a_share_of_the_other_suite_is_for_another_recipient() -> None:
    hybrid = sealed(suite=HpkeSuite.MLKEM768_X25519)

    assert refusal(hybrid) == PackageProblem.OTHER_RECIPIENT
    assert refusal(sealed(), key=key_of(HpkeSuite.MLKEM768_X25519)) == PackageProblem.OTHER_RECIPIENT


def test_a_suite_that_nobody_knows_is_refused() -> None:
    data = forged(header_values(suite="x448"), codec.encode(inner_values()))

    assert refusal(data) == PackageProblem.ALTERED


def test_the_wrong_private_key_opens_nothing() -> None:
    """As after a mix-up of key files: the recipient id fits, the key does not."""
    assert refusal(sealed(), key=key_of(which=1)) == PackageProblem.ALTERED


@pytest.mark.parametrize(
    "change",
    [
        {"rp_id": "bank.example"},
        {"not_after": 2_000_000_001},
        {"not_after": None},
        {"ceremony_id": OTHER_CEREMONY},
    ],
    ids=["rp id", "later", "never", "ceremony"],
)
def test_header_and_package_must_say_the_same(change: dict[str, object]) -> None:
    """A forger who seals anew could otherwise show people one thing and programs another."""
    inside = forged(header_values(), codec.encode(inner_values(**change)))
    outside = forged(header_values(**change), codec.encode(inner_values()))

    assert refusal(inside) == refusal(outside) == PackageProblem.ALTERED


@pytest.mark.parametrize(
    "change",
    [
        {"role": "dealer"},
        {"role": "server"},
        {"recipient_id": RECIPIENT[:31]},
        {"key_id": b"\x07" * 33},
        {"ceremony_id": b""},
        {"rp_id": ""},
        {"rp_id": "Shop.example"},
        {"rp_id": "shop.example\x1b[2J"},
        {"rp_id": "../../etc"},
        {"rp_id": "a" * 254},
        {"not_after": 2**40 + 1},
        {"not_after": -1},
        {"not_after": "2030"},
        {"extra": 1},
        *({name: None} for name in ("suite", "role", "recipient_id", "key_id", "ceremony_id", "rp_id")),
    ],
    ids=lambda change: " ".join(f"{name}={str(value)[:9]!a}" for name, value in change.items()),
)
def test_a_header_outside_its_form_is_refused_without_opening(change: dict[str, object]) -> None:
    """`inspect` shows headers of unknown origin, so control characters must not get that far."""
    data = forged(header_values(**change), codec.encode(inner_values()))

    assert refusal(data) in {PackageProblem.ALTERED, PackageProblem.OTHER_ROLE}
    if change != {"role": "server"}:
        with pytest.raises(SharePackageError):
            read_share_header(data)


def with_value(share: KeyShare, value: int) -> bytes:
    return bytes([1, value < 0]) + abs(value).to_bytes(len(share.to_bytes()) - 2, "big")


INNER: list[tuple[str, Callable[[], bytes]]] = [
    ("nothing", lambda: b""),
    ("not CBOR", lambda: b"\xff" * 40),
    ("a list", lambda: b"\x80"),
    ("bytes after the end", lambda: codec.encode(inner_values()) + b"\x00"),
    ("not canonical", lambda: b"\xb9\x00\x0a" + codec.encode(inner_values())[1:]),
    ("unknown field", lambda: codec.encode(inner_values(extra=1))),
    *((f"no {name}", lambda name=name: codec.encode(inner_values(**{name: None}))) for name in inner_values()),
    ("a positive share for the device", lambda: codec.encode(inner_values(share=D2.to_bytes()))),
    ("a short share", lambda: codec.encode(inner_values(share=with_value(D1, -(2**1000))))),
    ("a zero share", lambda: codec.encode(inner_values(share=with_value(D1, 0)))),
    ("a share of another width", lambda: codec.encode(inner_values(share=D1.to_bytes() + b"\x00"))),
    ("a share of another version", lambda: codec.encode(inner_values(share=b"\x02" + D1.to_bytes()[1:]))),
    ("an even modulus", lambda: codec.encode(inner_values(n=(KEY.modulus + 1).to_bytes(256, "big")))),
    ("a leading zero", lambda: codec.encode(inner_values(n=b"\x00" + KEY.modulus_bytes))),
    ("a short modulus", lambda: codec.encode(inner_values(n=KEY.modulus_bytes[:255]))),
    ("a long modulus", lambda: codec.encode(inner_values(n=KEY.modulus_bytes * 3))),
    ("exponent 1", lambda: codec.encode(inner_values(e=1))),
    ("an even exponent", lambda: codec.encode(inner_values(e=65536))),
    ("a large exponent", lambda: codec.encode(inner_values(e=2**31 + 1))),
    ("a boolean exponent", lambda: codec.encode(inner_values(e=True))),
    ("a negative epoch", lambda: codec.encode(inner_values(epoch=-1))),
    ("an epoch too large", lambda: codec.encode(inner_values(epoch=2**63))),
    ("an unknown role", lambda: codec.encode(inner_values(role="dealer"))),
    ("a short ceremony id", lambda: codec.encode(inner_values(ceremony_id=CEREMONY[:15]))),
    ("text for bytes", lambda: codec.encode(inner_values(share="d1"))),
]


@pytest.mark.parametrize("inner", [make for _, make in INNER], ids=[name for name, _ in INNER])
def test_a_package_outside_its_form_does_not_load_even_when_it_opens(inner: Callable[[], bytes]) -> None:
    """Base mode lets anybody seal to a known recipient, so what opens is still a stranger's."""
    assert refusal(forged(header_values(), inner())) == PackageProblem.ALTERED


def test_every_problem_has_been_reached_and_has_its_own_sentence() -> None:
    sentences = {str(SharePackageError(problem)) for problem in PackageProblem}

    assert len(sentences) == len(PackageProblem) == 7


@given(st.binary(max_size=400) | st.binary(max_size=400).map(lambda tail: b"TSHR\x01" + tail))
@settings(max_examples=300, deadline=None)
def test_no_bytes_of_chance_do_anything_but_be_refused(data: bytes) -> None:
    assert refusal(data) in set(PackageProblem)


# --- what a caller cannot build, and what nobody sees ----------------------------------------------------------


@pytest.mark.parametrize(("role", "share"), [(Role.DEVICE, D2), (Role.SERVER, D1)])
def test_a_package_with_the_other_sides_share_cannot_be_built(role: Role, share: KeyShare) -> None:
    """A dealer's mix-up would hand each side the other's half; it must stop before sealing."""
    with pytest.raises(ValueError, match="negative"):
        package(role, share=share)


def test_a_package_is_neither_shown_nor_pickled_nor_copied() -> None:
    for role, share in ((Role.DEVICE, D1), (Role.SERVER, D2)):
        made = package(role)
        for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
            with pytest.raises(TypeError, match="never pickled"):
                attempt(made)
        shown = repr(made) + str(made) + f"{made!r:>9}"
        magnitude = abs(share.value)
        assert str(magnitude)[:20] not in shown and hex(magnitude)[2:20] not in shown.lower()
        assert repr(share.to_bytes())[10:40] not in shown


@pytest.mark.parametrize("inner", [make for name, make in INNER if "share" in name or "field" in name])
def test_a_refusal_carries_nothing_of_what_was_opened(inner: Callable[[], bytes]) -> None:
    with pytest.raises(SharePackageError) as caught:
        opened(forged(header_values(), inner()))

    error = caught.value
    assert error.__cause__ is None and error.__suppress_context__
    link: BaseException | None = error
    while link is not None:
        text = str(link) + repr(link) + repr(link.args)
        assert str(abs(D1.value))[:20] not in text and D1.to_bytes()[4:16].hex() not in text
        assert repr(D1.to_bytes()[4:16])[2:-1] not in text
        link = link.__context__
