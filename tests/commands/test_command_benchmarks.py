"""`make bench` runs and gives the figures that programs read. What they are is for people to judge."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

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
