"""One run: a server with two workers, devices, faults, and what is true afterwards."""

from __future__ import annotations

import multiprocessing
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from multiprocessing import connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.databases import Backends, new_database
from benchmarks.load_server import enrolment_codes, serving
from tests.soak import soak_device
from tests.soak.soak_checks import findings
from tests.soak.soak_device import read_record
from tests.soak.soak_faults import Faults, kill_a_worker

WORKERS = 2
_AT_ONCE = 4
_STUCK_S = 180.0
# Children are forked from a small process without threads that has the imports done.
_PROCESSES = multiprocessing.get_context("forkserver")
_PROCESSES.set_forkserver_preload(["tests.soak.soak_device"])


@dataclass(frozen=True, slots=True)
class Soak:
    """What is run. gaps: logins between two faults of a kind, on average, and fewer in a short run."""

    backend: str
    logins: int
    devices: int
    seed: int
    think_s: float = 0.5
    device_gap: float = 12.0
    worker_gap: float = 50.0
    connection_gap: float = 20.0

    def gap(self, usual: float) -> float:
        return min(usual, max(1.0, self.logins / 4))


@dataclass(frozen=True, slots=True)
class Result:
    """As JSON. What is None could not be found out. See `Findings` for what the counts mean.

    stranded: users whose surviving vault could not log in after the faults.
    """

    backend: str
    logins: int
    confirmed: int
    kills: int
    stranded: int
    index_reused: int
    uncounted: int
    audit_missing: int | None
    ok: bool
    kills_of: dict[str, int]
    quarantined: int
    audit_verified: bool
    faults_seen: dict[str, int]
    """By code: what devices met and went on from."""
    devices: int
    seed: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def run_soak(soak: Soak, directory: Path, advance: Callable[[int], None], tell: Callable[[str], None]) -> Result:
    """`advance` is told of logins, `tell` what goes on. RuntimeError if the run itself fails."""
    rng, started = random.Random(soak.seed), time.monotonic()
    folders = [directory / f"device-{number}" for number in range(soak.devices)]
    with new_database(soak.backend, directory) as url:
        with ExitStack() as stack:
            server = stack.enter_context(serving(directory / "server", url, WORKERS))
            tell("enrolling")
            _enrol(server.url, enrolment_codes(directory / "server", url, soak.devices), folders)
            tell("faults")
            crowd = stack.enter_context(_Crowd(soak, server.url, folders))
            ways: dict[str, tuple[float, Callable[[], bool]]] = {
                "devices": (soak.gap(soak.device_gap), lambda: crowd.kill_one(rng)),
                "workers": (soak.gap(soak.worker_gap), lambda: kill_a_worker(rng, server.pid)),
            }
            if soak.backend == "postgresql":
                backends = Backends(url)
                stack.callback(backends.close)
                ways["connections"] = (soak.gap(soak.connection_gap), lambda: _cut(rng, backends))
            faults = Faults(rng, ways)
            _until_done(soak, crowd, faults, advance)
            faults.done["devices"] += crowd.kill_all()
            tell("last logins")
            stranded = _last_logins(server.url, folders)
        tell("checking")
        verified = server.succeeds("authsvc", "audit", "verify", "--json")
        found = findings(url, folders)
    seen = Counter(line["code"] for folder in folders for line in read_record(folder) if line["what"] == "fault")
    wrong = (stranded, found.index_reused, found.uncounted, found.audit_missing, found.quarantined)
    return Result(
        backend=soak.backend,
        logins=found.released,
        confirmed=found.confirmed,
        kills=faults.done.total(),
        stranded=stranded,
        index_reused=found.index_reused,
        uncounted=found.uncounted,
        audit_missing=found.audit_missing,
        # A run in which something was never killed shows nothing about it.
        ok=verified and not any(wrong) and all(faults.done.values()) and found.released >= soak.logins,
        kills_of=dict(faults.done),
        quarantined=found.quarantined,
        audit_verified=verified,
        faults_seen=dict(seen),
        devices=soak.devices,
        seed=soak.seed,
        seconds=round(time.monotonic() - started, 1),
    )


class _Crowd:
    """The device processes. One that was killed is started again, on the vault that it left."""

    def __init__(self, soak: Soak, url: str, folders: Sequence[Path]) -> None:
        self._soak, self._url, self._folders = soak, url, folders
        self._alive: dict[connection.Connection, tuple[int, ForkServerProcess]] = {}

    def kill_one(self, rng: random.Random) -> bool:
        """Kill a living device at random; it is started again when its end is seen."""
        if not self._alive:
            return False
        _, process = rng.choice(list(self._alive.values()))
        process.kill()
        return True

    def kill_all(self) -> int:
        """Kill all for good; how many there were."""
        for _, process in self._alive.values():
            process.kill()
        for pipe, (_, process) in self._alive.items():
            process.join()
            pipe.close()
        killed = len(self._alive)
        self._alive.clear()
        return killed

    def logins_within(self, seconds: float) -> int:
        """Wait at most that long; how many logins were done. Who has ended is started again, unless it gave up."""
        done = 0
        for pipe in connection.wait(list(self._alive), timeout=seconds):
            assert isinstance(pipe, connection.Connection)
            try:
                pipe.recv_bytes()
                done += 1
            except EOFError:
                number, process = self._alive.pop(pipe)
                pipe.close()
                process.join()
                if process.exitcode == -signal.SIGKILL:
                    self._start(number)
        return done

    @property
    def is_empty(self) -> bool:
        return not self._alive

    def _start(self, number: int) -> None:
        ours, theirs = _PROCESSES.Pipe(duplex=False)
        arguments = (str(self._folders[number]), self._url, number, self._soak.think_s, theirs)
        process = _PROCESSES.Process(target=soak_device.log_in_until_killed, args=arguments, daemon=True)
        process.start()
        theirs.close()
        self._alive[ours] = (number, process)

    def __enter__(self) -> _Crowd:
        for number in range(len(self._folders)):
            self._start(number)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill_all()


def _until_done(soak: Soak, crowd: _Crowd, faults: Faults, advance: Callable[[int], None]) -> None:
    done, last = 0, time.monotonic()
    # Beyond the number asked for until everything has been killed once: a short run may need a few more.
    while done < soak.logins or not all(faults.done.values()):
        count = crowd.logins_within(0.05)
        for _ in range(count):
            faults.login_done()
        faults.strike()
        done += count
        advance(count)
        last = time.monotonic() if count else last
        if crowd.is_empty or time.monotonic() > last + _STUCK_S:
            raise RuntimeError(f"after {done} logins nobody logs in any more")


def _enrol(url: str, codes: Sequence[str], folders: Sequence[Path]) -> None:
    tasks = []
    for number, (folder, code) in enumerate(zip(folders, codes, strict=True)):
        folder.mkdir()
        tasks.append((soak_device.enrol_and_register, (str(folder), url, number, code)))
    if _failures(tasks):
        raise RuntimeError("a device could not enrol, before anything was killed")


def _last_logins(url: str, folders: Sequence[Path]) -> int:
    """How many users cannot log in."""
    tasks = [(soak_device.log_in_once, (str(folder), url, number)) for number, folder in enumerate(folders)]
    return _failures(tasks)


def _failures(tasks: Sequence[tuple[Callable[..., None], tuple[Any, ...]]]) -> int:
    """Run each in a process of its own, a few at a time; how many did not end well."""
    failed, waiting, running = 0, list(tasks), []
    while waiting or running:
        while waiting and len(running) < _AT_ONCE:
            target, arguments = waiting.pop(0)
            process = _PROCESSES.Process(target=target, args=arguments, daemon=True)
            process.start()
            running.append(process)
        connection.wait([process.sentinel for process in running])
        for process in [one for one in running if one.exitcode is not None]:
            running.remove(process)
            failed += process.exitcode != 0
    return failed


def _cut(rng: random.Random, backends: Backends) -> bool:
    """Any connection of the database, whatever it is doing."""
    pids = backends.pids()
    return bool(pids) and backends.terminate(rng.choice(pids))
