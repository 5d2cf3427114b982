"""`make bench` runs and gives the figures that programs read. What they are is for people to judge."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.cpu_clocks import FamilyClock, process_cpu_s
from benchmarks.databases import postgresql_is_reachable

COLUMNS = {
    "profile",
    "code_bits",
    "modulus_bits",
    "server_cpu_ms",
    "device_cpu_ms",
    "wall_ms",
    "powmod_sec_ms",
    "server_ratio",
    "server_mpc_ratio",
    "wall_ratio",
    "bytes_up",
    "bytes_down",
    "round_trips",
}


@pytest.mark.skipif(sys.platform != "linux", reason="the benchmark reads another process's CPU time: Linux only")
def test_a_short_run_gives_table_picture_and_figures(tmp_path: Path) -> None:
    figures, picture = tmp_path / "out.json", tmp_path / "out.png"

    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "--only=512/2048", "--logins=3", f"--json={figures}", f"--plot={picture}"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(figures.read_text())
    [row] = document["rows"]
    assert set(row) >= COLUMNS
    assert (row["profile"], row["code_bits"], row["modulus_bits"], row["round_trips"]) == ("sim-512", 512, 2048, 1)
    assert all(row[name] > 0 for name in COLUMNS - {"profile"})
    assert document["machine"]
    assert "server CPU" in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_dealing_is_measured_against_bare_key_generation(tmp_path: Path) -> None:
    figures = tmp_path / "out.json"

    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.provisioning", "--count=8", "--rounds=2", f"--json={figures}"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(figures.read_text())
    assert (document["keys"], document["bits"]) == (8, 2048)
    assert all(document[name] > 0 for name in ("bare_rate", "dealt_rate", "ratio", "ratio_with_verify"))
    assert "tandem-keys verify" in done.stdout


LOAD_FIGURES = {
    "logins_per_s",
    "p50_ms",
    "p95_ms",
    "p99_ms",
    "server_cpu_ms",
    "client_cpu_ms",
    "powmod_sec_ms",
    "ratio",
}
BACKENDS = ["sqlite", "postgresql"] if postgresql_is_reachable() else ["sqlite"]


@pytest.mark.skipif(sys.platform != "linux", reason="the benchmark reads another process's CPU time: Linux only")
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_server_under_load_is_measured_with_its_database(tmp_path: Path, backend: str) -> None:
    """Without the backends' CPU a server could look better by moving its work into the database."""
    figures, picture = tmp_path / "out.json", tmp_path / "out.png"
    size = ["--logins=8", "--clients=2", "--devices=1", "--workers", "1", "--backend", backend]

    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load", *size, f"--json={figures}", f"--plot={picture}"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    [row] = json.loads(figures.read_text())["rows"]
    assert (row["backend"], row["workers"], row["logins"], row["processes_ended"]) == (backend, 1, 8, 0)
    assert all(row[name] > 0 for name in LOAD_FIGURES)
    assert row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
    if backend == "postgresql":
        assert 0 < row["ratio_with_database"] < row["ratio"]
    else:
        assert row["ratio_with_database"] is None
    assert "ratio: authsvc" in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_clock_of_a_family_counts_its_children_and_tells_who_ended() -> None:
    """A server's workers are its children: without them nearly all of its CPU would be missing."""
    spin = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'sum(range(10**7)); input()'])"
    with subprocess.Popen([sys.executable, "-c", spin], stdin=subprocess.PIPE) as parent:
        clock = FamilyClock(parent.pid)
        give_up = time.monotonic() + 60
        while clock.read_s() < process_cpu_s(parent.pid) + 0.1:
            assert time.monotonic() < give_up
            time.sleep(0.01)
        used = clock.read_s()
        assert not clock.ended
        parent.communicate(b"\n")
    assert clock.read_s() >= used
    assert len(clock.ended) >= 1
