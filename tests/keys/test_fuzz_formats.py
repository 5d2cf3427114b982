"""A short run of what `tests/fuzz/fuzz_provisioning.py` does at length, and proof that it can fail at all."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / "fuzz"))

import fuzz_provisioning
import fuzz_room
import fuzz_targets
from fuzz_mutations import BYTE_EDITS, TREE_EDITS, Style, damaged
from fuzz_structured import run_structured
from fuzz_targets import Outcome, Target, Violation

from mpc.threshold_rsa.share_package import PackageProblem, Role, SharePackageError

INPUTS = 150
ROOM = fuzz_room.make_room()
TARGETS = {target.name: target for target in fuzz_targets.targets(ROOM)}


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if not target.slow])
def test_damaged_files_are_refused_with_the_documented_error(name: str) -> None:
    """Anything else in a loader is a way in: a crash in the middle of an import, or a changed share that is taken."""
    outcomes = run_structured(TARGETS[name], INPUTS, seed_value=3)

    assert outcomes.total() >= INPUTS
    assert outcomes[Outcome.REFUSED] > INPUTS / 2


@pytest.mark.parametrize("name", [name for name, target in TARGETS.items() if target.slow])
def test_damaged_recipient_keys_are_refused(name: str) -> None:
    """Few, since each costs its passphrase's scrypt."""
    outcomes = run_structured(TARGETS[name], 10, seed_value=3)
    assert outcomes[Outcome.REFUSED] > 5


@pytest.mark.parametrize("name", TARGETS)
def test_the_originals_are_taken(name: str) -> None:
    """Refusing everything would keep every promise above."""
    target = TARGETS[name]
    taken = {target.check(original) for original in target.originals}
    assert taken == {Outcome.FORGED if "signed again" in name else Outcome.UNCHANGED}


def test_a_changed_share_that_is_taken_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    package = ROOM.packages[Role.DEVICE]
    monkeypatch.setattr(fuzz_targets, "open_share", lambda *_, **__: package)
    with pytest.raises(Violation, match="a changed file was taken"):
        run_structured(TARGETS["share file of the device"], 50, seed_value=3)


def test_another_error_than_the_documented_one_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(data: bytes) -> None:
        raise IndexError if len(data) % 2 else SharePackageError(PackageProblem.ALTERED)

    monkeypatch.setattr(fuzz_targets, "read_share_header", careless)
    with pytest.raises(Violation, match="IndexError instead of SharePackageError"):
        run_structured(TARGETS["share file of the server"], 50, seed_value=3)


@pytest.mark.parametrize("style", Style)
def test_every_kind_of_edit_does_something(style: Style) -> None:
    """An edit that never changes anything would only count inputs."""
    originals = {
        Style.BYTES: TARGETS["package"].originals[0],
        Style.JSON: TARGETS["manifest"].originals[0],
        Style.CBOR: TARGETS["package"].originals[0],
        Style.SHARE: TARGETS["share file of the device"].originals[0],
    }
    original = originals[style]
    untouched = damaged(original, style, [])
    for kind in BYTE_EDITS if style is Style.BYTES else TREE_EDITS:
        changed = {damaged(original, style, [(kind, at, at * 7 + 3)]) for at in range(0, 200, 3)}
        assert len(changed - {untouched, original}) >= 3, kind


def test_targets_have_names_of_their_own() -> None:
    assert len(TARGETS) == len(fuzz_targets.targets(ROOM)) and all(isinstance(t, Target) for t in TARGETS.values())


def test_the_command_says_if_an_engine_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Half a run must not look like a whole one."""
    monkeypatch.setitem(sys.modules, "atheris", None)
    assert fuzz_provisioning.main(["--count", "1"]) == 2
    shown = capsys.readouterr()
    assert "atheris is not installed" in shown.err and shown.out == ""
