"""What objects say about themselves: reprs, pickles and tracebacks; and the statistics of shares."""

from __future__ import annotations

import dataclasses
import importlib
import math
import pickle
import pkgutil
import traceback
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest
from parties import PLAIN, enrol, private_exponent, private_key, probe_at, public_key, run

import authsvc
import device_sdk
import mpc
from authsvc.key_port.raw_key import RawKeyWrapper
from authsvc.sealing import DataKey
from authsvc.services.keyring import Keyring
from device_sdk import BinaryCode, Passphrase
from device_sdk.transport import RequestKey
from mpc.errors import ProtocolAbort
from mpc.login.device_side import Match
from mpc.login.template import share_template
from mpc.ot.base_ot import BaseOtContext, receiver_round_1
from mpc.primitives.bit_matrix import unpack
from mpc.primitives.rng import SeededRng, SystemRng
from mpc.threshold_rsa.shares import share_bits, split

MARKER = "5ec4e75ec4e7"
SECRET_NAMES = frozenset(
    {
        "accept_label", "reject_label", "base_keys", "chosen", "choices", "code", "codes", "delta",
        "device_share_bits", "exponents", "kek", "key_share", "masks", "mask",
        "next_key_share", "next_template", "ones", "probe", "request_key", "rho", "seal_key", "sealed_base_ot",
        "sealed_pending_base_ot", "sealed_rho", "sealed_share", "sealed_template", "template", "token", "value",
        "zeros", "tail", "v",
    }
)  # fmt: skip


def modules() -> Iterator[ModuleType]:
    for package in (mpc, authsvc, device_sdk):
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if "migrations" not in found.name and not found.name.endswith("__main__"):
                yield importlib.import_module(found.name)


def our_dataclasses() -> list[type]:
    found = {
        item
        for module in modules()
        for item in vars(module).values()
        if isinstance(item, type) and dataclasses.is_dataclass(item) and item.__module__ == module.__name__
    }
    return sorted(found, key=lambda item: (item.__module__, item.__name__))


PROBLEM_CODES = frozenset({("Exchange", "code"), ("ProtocolAddress", "codes")})
"""Words of the table of refusals, not one-time codes and not biometric ones."""
SECRET_FIELDS = [
    (item, field.name)
    for item in our_dataclasses()
    for field in dataclasses.fields(item)
    if field.name in SECRET_NAMES and (item.__name__, field.name) not in PROBLEM_CODES
]


def test_there_are_secrets_to_look_at() -> None:
    names = {item.__name__ for item, _ in SECRET_FIELDS}
    assert {"KeyShare", "TemplateShare", "SenderBaseKeys", "DeviceState", "OutputKeys", "Probe", "Match"} <= names
    assert len(SECRET_FIELDS) > 40


@pytest.mark.parametrize(
    ("item", "name"), SECRET_FIELDS, ids=lambda value: value if isinstance(value, str) else value.__name__
)
def test_a_secret_field_is_not_in_the_repr(item: type, name: str) -> None:
    """Filled past the constructor, so that no check of form stands between the marker and the repr."""
    made = object.__new__(item)
    for field in dataclasses.fields(item):
        object.__setattr__(made, field.name, MARKER if field.name == name else _harmless(field.name))
    for text in (repr(made), str(made), f"{made!r:>9}"):
        assert MARKER not in text


def _harmless(name: str) -> object:
    return np.zeros(8, dtype=np.uint8) if name in ("bits", "mask") else b"\x00" * 32


def long_lived_secrets() -> list[object]:
    pair = enrol(PLAIN)
    device, server = pair.device.state, pair.server.state
    receiver = receiver_round_1(SystemRng(), BaseOtContext(bytes(16), bytes(16)))
    match = run(pair, probe_at(pair.enrolled, 3))
    assert isinstance(match, Match)
    return [
        device, device.key_share, device.template, device.base_keys,
        server, server.key_share, server.template, server.base_keys,
        receiver, match, DataKey(bytes(16), bytes(32)), RequestKey.generate(),
        pair.device.start(probe_at(pair.enrolled, 3)),
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(13))
def test_secrets_are_not_pickled(number: int) -> None:
    secret = long_lived_secrets()[number]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
            pickle.dumps(secret, protocol)


@pytest.mark.parametrize(
    "secret",
    [
        DataKey(bytes(16), b"K" * 32),
        RawKeyWrapper(b"K" * 32),
        Keyring([RawKeyWrapper(b"K" * 32)]),
        Passphrase("correct horse battery"),
        RequestKey.generate(),
    ],
    ids=lambda secret: type(secret).__name__,
)
def test_objects_that_are_no_dataclasses(secret: object) -> None:
    text = repr(secret)
    assert "KKKK" not in text and "4b4b" not in text and "horse" not in text
    if isinstance(secret, RequestKey):
        assert secret.to_scalar().hex()[:16] not in text


def test_a_code_shows_sizes_only() -> None:
    assert repr(BinaryCode(np.array([1, 0, 1, 1], dtype=np.uint8))) == "BinaryCode(4 bits, unmasked)"


def test_tracebacks_with_locals_show_no_long_lived_secret() -> None:
    """The worst error reporter prints every local variable. Objects hide; what is left is of one login only."""
    pair = enrol(PLAIN)
    login = pair.device.start(probe_at(pair.enrolled, 3))
    answer = bytearray(pair.server.answer(login.message_1))
    answer[-3] ^= 1
    try:
        login.finish(bytes(answer))
    except ProtocolAbort as error:
        text = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
        plain = "".join(traceback.format_exception(error))
    device, server = pair.device.state, pair.server.state
    for secret in (
        repr(device.template.codes),
        repr(device.base_keys.zeros)[2:60],
        str(device.key_share.value),
        repr(server.base_keys.delta)[2:-1],
        str(server.key_share.value),
        str(private_exponent(pair.private)),
    ):
        assert secret not in text and secret not in plain
    assert "output_label" in plain and "Profile(" in text, "the texts are of the right error, with locals"


class TestStatisticsOfShares:
    """Six standard deviations everywhere: one false alarm in 10^8 runs, and a biased bit is far beyond."""

    ROUNDS = 600

    def test_each_bit_of_t2_is_fair_and_independent_of_t(self) -> None:
        template = np.random.default_rng(1).integers(0, 2, 512, dtype=np.uint8)
        template[:100] = 1  # a template far from noise
        packed = np.packbits(template, bitorder="little").tobytes()
        servers, devices = [], []
        for _ in range(self.ROUNDS):
            device, server = share_template(SystemRng(), packed, b"")
            servers.append(unpack(server.codes))
            devices.append(unpack(device.codes))
        for shares in (np.array(servers), np.array(devices)):
            deviation = np.abs(shares.sum(axis=0) - self.ROUNDS / 2)
            assert deviation.max() < 6 * math.sqrt(self.ROUNDS) / 2
            # Chi-square over all 512 positions: mean 512, standard deviation 32.
            chi_square = float((4 * deviation**2 / self.ROUNDS).sum())
            assert abs(chi_square - 512) < 6 * 32
            agreement = int((shares == template).sum())
            assert abs(agreement - self.ROUNDS * 256) < 6 * math.sqrt(self.ROUNDS * 512) / 2
            neighbours = int((shares[:, 1:] ^ shares[:, :-1]).sum())
            assert abs(neighbours - self.ROUNDS * 511 / 2) < 6 * math.sqrt(self.ROUNDS * 511) / 2

    def test_the_bytes_of_d2_are_uniform_and_d1_follows_no_d(self) -> None:
        private = private_key(2048, 0)
        key, d = public_key(private), private_exponent(private)
        bits = share_bits(key)
        seen = np.zeros(256)
        tops, agreements = [], 0
        for _ in range(self.ROUNDS):
            device, server = split(SystemRng(), key, d)
            data = np.frombuffer(server.value.to_bytes(bits // 8, "big"), dtype=np.uint8)
            seen += np.bincount(data, minlength=256)
            tops.append(data[0])
            # d1's low 2,048 bits against d's
            agreements += 2048 - ((-device.value & (2**2048 - 1)) ^ d).bit_count()
        expected = seen.sum() / 256
        chi_square = float(((seen - expected) ** 2 / expected).sum())
        assert abs(chi_square - 255) < 6 * math.sqrt(2 * 255)
        assert abs(agreements - self.ROUNDS * 1024) < 6 * math.sqrt(self.ROUNDS * 2048) / 2
        assert abs(float(np.mean(tops)) - 127.5) < 6 * 74 / math.sqrt(self.ROUNDS)

    def test_the_check_finds_a_share_that_is_not_noise(self) -> None:
        """A test of the test: a generator stuck at one value fails the chi-square above."""
        _, server = share_template(SeededRng(b"stuck"), bytes(64), b"")
        stuck = np.array([unpack(server.codes)] * self.ROUNDS)
        deviation = np.abs(stuck.sum(axis=0) - self.ROUNDS / 2)
        assert deviation.max() > 6 * math.sqrt(self.ROUNDS) / 2

    def test_a_refresh_makes_shares_that_have_nothing_in_common_with_the_old(self) -> None:
        pair = enrol(PLAIN)
        match = run(pair, probe_at(pair.enrolled, 3))
        assert isinstance(match, Match)
        old, new = unpack(pair.device.state.template.codes), unpack(match.next_template.codes)
        assert abs(int((old ^ new).sum()) - 256) < 6 * math.sqrt(512) / 2
        step = abs(match.next_key_share.value - pair.device.state.key_share.value)
        assert step.bit_length() > share_bits(match.next_key_share.key) - 64
