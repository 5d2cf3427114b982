"""The base-OT group: bad points are refused, and hash_to_point is what the text says, by a second implementation."""

from __future__ import annotations

import pytest
from edwards_points import IDENTITY, ORDER_8, SMALL_ORDER, P
from hypothesis import given, settings
from hypothesis import strategies as st
from nacl import bindings as sodium

from mpc.errors import Blame, ProtocolAbort
from mpc.primitives import group
from mpc.primitives.hashing import tagged_hash_512
from mpc.primitives.rng import SeededRng

ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, -1, P) % P
A = 486662

Affine = tuple[int, int]


def add(left: Affine, right: Affine) -> Affine:
    """The complete addition law of the twisted Edwards curve -x² + y² = 1 + d·x²·y² (RFC 8032, 5.1.4)."""
    (x1, y1), (x2, y2) = left, right
    product = D * x1 * x2 * y1 * y2
    x = (x1 * y2 + x2 * y1) * pow(1 + product, -1, P)
    y = (y1 * y2 + x1 * x2) * pow(1 - product, -1, P)
    return x % P, y % P


def times(scalar: int, point: Affine) -> Affine:
    result: Affine = (0, 1)
    for bit in bin(scalar)[2:]:
        result = add(result, result)
        if bit == "1":
            result = add(result, point)
    return result


def encoded(point: Affine) -> bytes:
    return (point[1] | (point[0] & 1) << 255).to_bytes(32, "little")


def square_root(value: int) -> int:
    root = pow(value, (P + 3) // 8, P)
    if root * root % P != value % P:
        root = root * pow(2, (P - 1) // 4, P) % P
    assert root * root % P == value % P
    return root


def x_with_sign(y: int, sign: int) -> int:
    root = square_root((y * y - 1) * pow(D * y * y + 1, -1, P) % P)
    return root if root & 1 == sign else P - root


def from_uniform(data: bytes) -> Affine:
    """Elligator 2 onto curve25519 with non-square 2, to edwards25519 by y = (u−1)/(u+1), top bit as sign, times 8."""
    number = int.from_bytes(data, "little")
    sign, r = number >> 255, number & 2**255 - 1
    u = -A * pow(1 + 2 * r * r, -1, P) % P
    if pow(u * (u * u + A * u + 1), (P - 1) // 2, P) == P - 1:
        u = (-u - A) % P
    y = (u - 1) * pow(u + 1, -1, P) % P
    return times(8, (x_with_sign(y, sign), y))


def refused(point: bytes) -> bool:
    try:
        group.checked_point(point, Blame.DEVICE)
    except ProtocolAbort as abort:
        assert (abort.reason, abort.blame) == ("invalid_point", Blame.DEVICE)
        assert not point or point.hex() not in str(abort)
        return True
    return False


@pytest.mark.parametrize("point", SMALL_ORDER, ids=lambda point: point.hex()[:8] + point.hex()[-2:])
def test_points_of_small_order_are_refused(point: bytes) -> None:
    """With one of these the sender of it would know the other side's shared value."""
    assert refused(point)


def test_the_identity_is_refused() -> None:
    assert refused(IDENTITY)


@pytest.mark.parametrize("sign", [0, 1])
def test_numbers_that_are_not_reduced_are_refused(sign: int) -> None:
    """All nineteen non-canonical encodings of y, on the curve or not."""
    for y in range(P, 2**255):
        assert refused((y | sign << 255).to_bytes(32, "little"))


def test_points_with_a_part_of_small_order_are_refused() -> None:
    good = group.base_times(group.random_scalar(SeededRng(b"point")))
    assert not refused(good)

    for torsion in ORDER_8:
        mixed = sodium.crypto_core_ed25519_add(good, bytes.fromhex(torsion))
        assert refused(mixed)


def test_values_off_the_curve_are_refused() -> None:
    off = [y for y in range(2, 60) if pow((y * y - 1) * pow(D * y * y + 1, -1, P), (P - 1) // 2, P) == P - 1]
    assert len(off) > 10

    for y in off:
        assert refused(y.to_bytes(32, "little"))


@pytest.mark.parametrize("length", [0, 1, 31, 33, 64])
def test_points_of_another_length_are_refused(length: int) -> None:
    assert refused(bytes(length))


def test_arithmetic_agrees_with_the_textbook() -> None:
    base_y = 4 * pow(5, -1, P) % P
    base = (x_with_sign(base_y, 0), base_y)
    left, right = group.random_scalar(SeededRng(b"left")), group.random_scalar(SeededRng(b"right"))
    a, b = int.from_bytes(left, "little"), int.from_bytes(right, "little")

    assert group.base_times(left) == encoded(times(a, base))
    assert group.add(group.base_times(left), group.base_times(right)) == encoded(times(a + b, base))
    assert group.subtract(group.base_times(left), group.base_times(right)) == encoded(times((a - b) % ORDER, base))
    assert group.times(left, group.base_times(right)) == encoded(times(a * b % ORDER, base))


def test_scalars_are_reduced_and_never_zero() -> None:
    class Zero:
        calls = 0

        def bytes(self, count: int) -> bytes:
            self.calls += 1
            return bytes(count) if self.calls == 1 else b"\xff" * count

    rng = Zero()

    scalar = int.from_bytes(group.random_scalar(rng), "little")

    assert rng.calls == 2
    assert scalar == (2**512 - 1) % ORDER


@given(st.binary(max_size=50), st.binary(max_size=50))
@settings(max_examples=20, deadline=None)
def test_hash_to_point_is_the_documented_map(left: bytes, right: bytes) -> None:
    """Against thirty lines of Elligator 2 in plain integers: what a port to another language has to write."""
    digest = tagged_hash_512("tandem test v1", left, right)

    expected = encoded(add(from_uniform(digest[:32]), from_uniform(digest[32:])))

    assert group.hash_to_point("tandem test v1", left, right) == expected


@given(st.binary(max_size=50))
@settings(max_examples=60, deadline=None)
def test_hashed_points_are_in_the_subgroup(data: bytes) -> None:
    point = group.hash_to_point("tandem test v1", data)

    assert not refused(point)
    assert sodium.crypto_scalarmult_ed25519_noclamp((ORDER - 1).to_bytes(32, "little"), point) == group.subtract(
        IDENTITY, point
    )


def test_hash_to_point_is_pinned() -> None:
    assert group.hash_to_point("tandem base-ot hash v1", b"enrolment", b"run", b"\x00\x07\x01").hex() == PINNED


PINNED = "3ca1e7b52043160750d999bf78675ea9e8b9ead933fae0733e9a8f573fabc2a8"
