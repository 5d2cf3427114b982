"""Server processes of our own, and how much CPU they have used."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from benchmarks.cpu_clocks import process_cpu_s

_START_TIMEOUT_S = 180.0
_STOP_TIMEOUT_S = 15.0
_IDLE_SAMPLE_S = 1.0


class ServerProcess:
    """`python -m MODULE …` that writes its URL into a ready file; running inside the `with` block.

    `directory`: its own, for data and log. Settings of the calling environment do not reach it, only these `settings`.
    """

    def __init__(self, arguments: Sequence[str], directory: Path, settings: Mapping[str, str] | None = None) -> None:
        self._directory = directory
        kept = {name: text for name, text in os.environ.items() if not name.startswith("TANDEM_")}
        self._environment = {**kept, "TANDEM_DATA_DIR": str(directory / "data"), **(settings or {})}
        self._ready = directory / "ready"
        self._log = directory / "log"
        self._command = [sys.executable, "-m", *arguments, "--ready-file", str(self._ready)]
        self._process: subprocess.Popen[bytes] | None = None
        self._idle_share = 0.0

    @property
    def url(self) -> str:
        return self._ready.read_text(encoding="utf-8").strip()

    def run(self, *arguments: str) -> str:
        """Standard output of `python -m …` in the same environment, stripped."""
        command = [sys.executable, "-m", *arguments]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def succeeds(self, *arguments: str) -> bool:
        """Whether `python -m …` in the same environment ends with exit code 0."""
        command = [sys.executable, "-m", *arguments]
        return subprocess.run(command, env=self._environment, capture_output=True, check=False).returncode == 0

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def cpu_s(self) -> float:
        """CPU seconds of all its threads since it started."""
        return process_cpu_s(self.pid)

    def note_idle_share(self) -> None:
        """Sample what it uses while nobody asks anything. Call once it has warmed up."""
        start, used = time.monotonic(), self.cpu_s()
        time.sleep(_IDLE_SAMPLE_S)
        self._idle_share = (self.cpu_s() - used) / (time.monotonic() - start)

    def cpu_of_work_s(self, used_s: float, elapsed_s: float) -> float:
        """CPU without what an idle server would have used in that time."""
        return max(0.0, used_s - self._idle_share * elapsed_s)

    def __enter__(self) -> ServerProcess:
        self._directory.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, env=self._environment, stdout=log, stderr=log)
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self._ready.exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self._stop()
                raise RuntimeError(f"a server did not start:\n{self._log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            self._process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
