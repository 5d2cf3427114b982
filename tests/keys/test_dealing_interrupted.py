"""A ceremony that is cut off: nothing or everything remains, nobody goes on in the background, a rerun finishes."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from dealers_room import Room, checkout, command, holder, remains_of, run, run_process, signer_of, succeeds
from killed_dealer import killed_before_change

from mpc.threshold_rsa.share_package import Role


def nothing_or_complete(out: Path) -> bool:
    """Whether the ceremony is there; if it is, it must be whole."""
    if not out.exists():
        return False
    succeeds("verify", str(out))
    return True


def sweep(out_folder: Path, arguments: list[str]) -> tuple[int, int]:
    """Kill a run before each of its changes, and let a rerun finish each; (killed runs, of these complete ones)."""
    complete = 0
    number = 0
    while True:
        number += 1
        out = out_folder / f"run{number}"
        here = [*arguments, "--out", str(out)]
        if not killed_before_change(number, out_folder, here):
            succeeds("verify", str(out))
            return number - 1, complete
        if nothing_or_complete(out):
            complete += 1
            assert remains_of(out) == [out.name]
        else:
            assert remains_of(out) in ([], [f".{out.name}.part"])
            succeeds(*here)
            succeeds("verify", str(out))
            assert remains_of(out) == [out.name]


def test_generate_killed_before_any_of_its_changes_leaves_nothing_or_all(tmp_path: Path) -> None:
    """The power may fail at any moment; half a ceremony would be taken for a whole one."""
    room = Room.furnish(tmp_path / "room")
    (tmp_path / "work").mkdir()

    arguments = ["generate", *room.options()[:-2]]
    killed, complete = sweep(tmp_path / "work", arguments)

    # .part, its lock, three folders and five files to make, six folders to force to disk, the rename.
    assert killed >= 15
    assert complete == 1, "only a kill after the rename finds it complete"


def test_rewrap_killed_before_any_of_its_changes_leaves_nothing_or_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for the next revision; and the ceremony before stays as it was."""
    # The key file is opened some forty times here; the lowest cost that is accepted does.
    monkeypatch.setattr("mpc.provisioning.passphrase_lock._LOG2_N", 15)
    room = Room.furnish(tmp_path / "room")
    succeeds("generate", *room.options())
    new = holder(tmp_path / "room" / "server2.json", Role.SERVER)
    (tmp_path / "work").mkdir()
    arguments = ["rewrap", str(room.out), "--key", str(room.server.key_file()), "--to", str(new.file)]
    arguments += ["--passphrase-file", str(room.passphrase_file()), "--not-compared"]
    arguments += ["--ceremony-key-fingerprint", signer_of(room.out)]

    killed, complete = sweep(tmp_path / "work", arguments)

    assert killed >= 15
    assert complete == 1
    succeeds("verify", str(room.out))


def started(arguments: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*arguments),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=checkout(),
        start_new_session=True,
    )


def group_ends(group: int) -> bool:
    """Whether all processes of the group are gone soon."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def wait_for_shares(out: Path, count: int, process: subprocess.Popen[str]) -> None:
    part = out.with_name(f".{out.name}.part")
    deadline = time.monotonic() + 60
    while not part.exists() or len(list(part.glob("server/*.share"))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("shares", [0, 2, 9])
def test_generate_with_workers_killed_while_it_writes_leaves_nothing_that_counts(tmp_path: Path, shares: int) -> None:
    """Only the parent is killed: its workers must not go on as orphans, which would hold keys."""
    room = Room.furnish(tmp_path)
    arguments = ["generate", *room.options(), "--count", "24", "--processes", "2"]

    process = started(arguments)
    wait_for_shares(room.out, shares, process)
    process.kill()
    process.communicate()

    assert process.returncode == -signal.SIGKILL, "it was still at work"
    assert group_ends(process.pid)
    assert remains_of(room.out) == [".ceremony.part"]
    succeeds(*arguments)
    succeeds("verify", str(room.out))
    assert remains_of(room.out) == ["ceremony"]


@pytest.mark.parametrize("shares", [0, 1, 20])
def test_ctrl_c_cleans_up_and_says_so_in_one_line(tmp_path: Path, shares: int) -> None:
    """A terminal sends it to the workers too; neither they nor the parent may show a traceback."""
    room = Room.furnish(tmp_path)
    process = started(["generate", *room.options(), "--count", "2000", "--processes", "2"])

    wait_for_shares(room.out, shares, process)
    if shares == 0:
        time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    output, errors = process.communicate(timeout=60)

    assert process.returncode == 130
    assert errors.strip().splitlines()[-1] == "tandem-keys: interrupted; nothing was made"
    assert "Traceback" not in errors and not output
    assert not remains_of(room.out)
    assert group_ends(process.pid)


def test_a_result_that_is_there_is_not_denied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C just after the rename: who reads that nothing was made would deal the keys again."""
    room = Room.furnish(tmp_path)
    rename = os.rename

    def rename_and_interrupt(source: Path, target: Path) -> None:
        rename(source, target)
        raise KeyboardInterrupt

    monkeypatch.setattr("os.rename", rename_and_interrupt)
    result = run("generate", *room.options())

    assert result.exit_code == 130
    assert "nothing was made" not in result.stderr and "tandem-keys verify" in result.stderr
    succeeds("verify", str(room.out))


def test_a_lost_worker_ends_the_ceremony_with_a_sentence(tmp_path: Path) -> None:
    """A worker that the system killed for lack of memory must not leave its key out unnoticed."""
    room = Room.furnish(tmp_path)
    process = started(["generate", *room.options(), "--count", "2000", "--processes", "2"])

    wait_for_shares(room.out, 1, process)
    os.kill(_workers(process.pid)[0], signal.SIGKILL)
    output, errors = process.communicate(timeout=60)

    assert process.returncode == 1
    assert "a worker process was killed" in errors and "Traceback" not in errors and not output
    assert not remains_of(room.out)
    assert group_ends(process.pid)


def _workers(parent: int) -> list[int]:
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii").split()
    return [int(pid) for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """The system refuses to write a file longer than this; the sentence tells, and the half-made folder goes."""
    room = Room.furnish(tmp_path)

    done = run_process("generate", *room.options(), cwd=checkout(), preexec_fn=_tiny_files)

    assert done.returncode == 1
    assert "nothing was made" in done.stderr and "Traceback" not in done.stderr
    assert not remains_of(room.out)


def _tiny_files() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
