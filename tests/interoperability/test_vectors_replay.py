"""The vectors in docs/vectors are what the code makes, and a device written from docs/protocol.md makes them too."""

from __future__ import annotations

import fnmatch
import hashlib
import importlib.util
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from interop.notation import text_of
from interop.topics import TOPICS

ROOT = Path(__file__).parents[2]
VECTORS = ROOT / "docs" / "vectors"
PRODUCTS = ("mpc", "authsvc", "device_sdk", "keys", "relying_party_demo")


@pytest.mark.parametrize("topic", TOPICS)
def test_the_file_is_what_the_code_makes(topic: str) -> None:
    """Byte for byte: a change of any message, hash label or gate order shows here first, and then in CHANGELOG."""
    written = (VECTORS / f"{topic}.json").read_text(encoding="utf-8")

    # Not assert ==: pytest would compare half a megabyte line by line for its report.
    if text_of(TOPICS[topic]()) != written:
        pytest.fail(f"{topic}.json differs: make vectors, look at the difference, and tell it in CHANGELOG")


def test_there_is_no_other_file_and_each_is_told_of() -> None:
    """A file that nothing makes any more would mislead whoever ports the SDK."""
    files = {path.name for path in VECTORS.iterdir()} - {"README.md"}
    readme = (VECTORS / "README.md").read_text(encoding="utf-8")

    assert files == {f"{topic}.json" for topic in TOPICS}
    assert [name for name in sorted(files) if f"`{name}`" not in readme] == []
    assert all((VECTORS / name).stat().st_size < 1_000_000 for name in files)


def test_a_device_written_from_the_page_alone_makes_the_same_messages() -> None:
    """What the vectors are for: base OT, message 1, message 3, signatures and next shares, without a line of ours."""
    told = list(plain_device().main(VECTORS))

    assert told[:4] == [
        "base-ot: 128 instances",
        "login-rs256: 3 logins",
        "login-ps256: 1 logins",
        "login-no-match: no match",
    ]
    assert len(told) == 6


@pytest.mark.parametrize("broken", ["x, read from the wrong end", "another hash label", "d1 not refreshed"])
def test_a_port_with_a_mistake_is_found_out(broken: str) -> None:
    """The three mistakes are small ones; none may slip through the comparison."""
    device = plain_device()
    match broken:
        case "x, read from the wrong end":
            device.ctr = lambda key, length: device.aes(key)(bytes(length - 16) + b"\1" + bytes(15))
        case "another hash label":
            original = device.framed
            device.framed = lambda label, *parts: original(label.replace("share v1", "share v2"), *parts)
        case _:
            finish = device.finish
            device.finish = lambda state, *rest: {**finish(state, *rest), "d1": state["d1"]}

    with pytest.raises(AssertionError):
        device.replay_logins(VECTORS / "login-rs256.json", content("login-rs256"))


def test_every_draw_is_the_one_of_the_documented_generator() -> None:
    """SHAKE-256 over a label, the number of the draw and the seed; a port may feed the draws or make them."""
    draws = [draw for topic in TOPICS for draw in drawn(content(topic))]

    for seed, number, value in draws:
        stream = hashlib.shake_256(b"tandem seeded rng v1" + number.to_bytes(8, "big") + seed.encode())
        assert stream.hexdigest(len(value) // 2) == value
    assert len(draws) > 500


def test_no_product_can_come_to_the_seeded_generator() -> None:
    """It repeats itself by design: nothing that is shipped names it, and the room that uses it is not shipped."""
    naming = [
        path.relative_to(ROOT).as_posix()
        for product in PRODUCTS
        for path in (ROOT / product).rglob("*.py")
        if re.search(r"SeededRng|\binterop\b", path.read_text(encoding="utf-8"))
    ]
    configuration = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    shipped = configuration["tool"]["setuptools"]["packages"]["find"]["include"]

    assert naming == ["mpc/primitives/rng.py"]
    assert shipped and not [pattern for pattern in shipped if fnmatch.fnmatch("interop", pattern)]


def drawn(value: Any, seeds: dict[str, str] | None = None) -> Iterator[tuple[str, int, str]]:
    """(seed, number, value) of every draw. The seed stands beside the draws, or above them under the party's name."""
    seeds = dict(seeds or {})
    if isinstance(value, list):
        for entry in value:
            yield from drawn(entry, seeds)
    if not isinstance(value, dict):
        return
    seeds |= {name: text for name, text in value.items() if name in ("seed", "device_seed", "server_seed")}
    for name, entry in value.items():
        party = {"server": "server_seed", "device_round_1": "device_seed", "key": "device_seed"}.get(name)
        inner = {**seeds, "seed": seeds[party]} if party in seeds else seeds
        if name in ("draws", "split"):
            for draw in entry:
                yield seeds["seed"], draw["draw"], draw["value"]
        else:
            yield from drawn(entry, inner)


def content(topic: str) -> Any:
    return json.loads((VECTORS / f"{topic}.json").read_text(encoding="utf-8"))


def plain_device() -> ModuleType:
    """A fresh copy of the example, so that a test may break it."""
    spec = importlib.util.spec_from_file_location("plain_device", ROOT / "docs" / "examples" / "plain_device.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
