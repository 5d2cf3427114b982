"""A short run of what `tests/fuzz/fuzz_wire.py` does at length, and proof that it can fail at all."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fuzz"))

import fuzz_engines
import fuzz_wire
import fuzz_wire_targets
from fuzz_memory import Memory
from fuzz_promise import Outcome, Violation
from fuzz_structured import run_structured

import authsvc.api.protocol as protocol

INPUTS = 120
TARGETS = {target.name: target for target in fuzz_wire_targets.all_targets()}


@pytest.mark.parametrize("name", TARGETS)
def test_what_strangers_send_is_refused_with_the_documented_error(name: str) -> None:
    """Anything else is a way to make a worker fail, or to be taken for somebody."""
    outcomes = run_structured(TARGETS[name], INPUTS, seed_value=5)

    assert outcomes.total() >= INPUTS
    assert outcomes[Outcome.REFUSED] > INPUTS / 3


@pytest.mark.parametrize("name", TARGETS)
def test_the_originals_are_taken(name: str) -> None:
    """Refusing everything would keep every promise above."""
    assert {TARGETS[name].check(original) for original in TARGETS[name].originals} == {Outcome.UNCHANGED}


def test_every_message_that_the_server_reads_is_among_the_targets() -> None:
    """A new address brings a new decoder, which would otherwise never be fuzzed."""
    everything = SimpleNamespace(policy=SimpleNamespace(profiles={"sim-512": fuzz_wire_targets._PROFILE}))
    addresses = protocol.protocol_endpoints(everything)  # type: ignore[arg-type]
    messages = set(TARGETS) - {"request", "request signed again"}
    assert len(messages) == len(addresses)


def test_a_request_that_is_taken_unsigned_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fuzz_wire_targets, "_taken", lambda _fields, _key, key_id: key_id)
    with pytest.raises(Violation, match="something else than what was signed"):
        run_structured(TARGETS["request"], 100, seed_value=5)
    with pytest.raises(Violation):
        run_structured(TARGETS["request signed again"], 200, seed_value=5)


def test_a_reader_that_keeps_what_it_reads_would_be_found() -> None:
    kept = []
    memory = Memory(3000)
    for number in range(3000):
        kept.append(bytes([number % 256]) * 20_000)
        memory.note()
    assert memory.grown > 2**25


def test_a_reader_that_keeps_nothing_does_not_grow() -> None:
    memory = Memory(2000)
    for _ in range(2000):
        TARGETS["message 3"].check(TARGETS["message 3"].originals[0])
        memory.note()
    assert memory.grown < 2**23


def test_the_command_says_if_an_engine_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "atheris", None)
    assert fuzz_wire.main(["--count", "1"]) == 2
    assert "atheris is not installed" in capsys.readouterr().err
    assert fuzz_engines.MOST_GROWN_BYTES == 64 * 2**20
