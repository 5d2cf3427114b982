"""One row: logins, bare exponentiations, plain signatures and logins taken apart, in turn.

In turn, so that whatever else the machine does falls on all of them alike.
"""

from __future__ import annotations

import secrets
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from authsvc.services import administration
from authsvc.services.context import ServiceContext
from benchmarks import parts, plain_rsa_server
from benchmarks.people import Person, enrolled
from benchmarks.powmod import Powmod
from benchmarks.processes import ServerProcess
from benchmarks.rows import Combination, Row
from benchmarks.stopwatch import REST, Stopwatch
from benchmarks.transports import GatedTransport, InProcessTransport
from device_sdk import HttpTransport
from device_sdk.ceremony_report import CeremonyReport
from device_sdk.errors import NoMatch
from device_sdk.transport import RequestKey, signing_key_id

BLOCK = 10
_WARM_UP = 5
_APART_A_BLOCK = 4
_LOGINS_AN_ENROLMENT = 180
"""A server allows 200 attempts a day; registration, warm-up and what does not match count too."""
_SETTLE_S = 0.003
"""After an answer: time for the server to put its things away, so that this is not counted for the next."""


@dataclass(frozen=True, slots=True)
class Bench:
    """What is shared by all rows. `context`: a second server's tools, for logins without a network."""

    server: ServerProcess
    plain: ServerProcess
    plain_key: RequestKey
    context: ServiceContext
    directory: Path


@dataclass(slots=True)
class _Tally:
    """Sums and samples of the logins over HTTP. Times in milliseconds."""

    wall: list[float] = field(default_factory=list)
    steps: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    server_login: float = 0.0
    server_confirmation: float = 0.0
    device_login: float = 0.0
    device_all: float = 0.0
    no_matches: int = 0
    report: CeremonyReport | None = None


def measure(bench: Bench, combination: Combination, logins: int, advance: Callable[[int], None]) -> Row:
    """Run one row. `advance` is told how many logins were done since."""
    tally, watch, powmods, plain = _Tally(), Stopwatch(), Powmod(combination.modulus_bits), _Plain(bench, combination)
    apart = _person_without_network(bench, combination, watch)
    done, calls_apart, seed = 0, 0, 0
    gate = GatedTransport(HttpTransport(bench.server.url))
    person: Person | None = None
    while done < logins:
        if person is None or done % _LOGINS_AN_ENROLMENT == 0:
            if person is not None:
                person.device.close()
                gate = GatedTransport(HttpTransport(bench.server.url))
            seed += 1
            code = bench.server.run("authsvc", "code", "--label", f"benchmark {combination}")
            person = enrolled(
                combination,
                server=bench.server.url,
                code=code,
                transport=gate,
                directory=bench.directory,
                seed=seed,
            )
            for _ in range(_WARM_UP):
                _login_quietly(person)
            _login_quietly(apart)
            if not done:
                plain.block(_WARM_UP)
                plain.reset()
                bench.plain.note_idle_share()
            bench.server.note_idle_share()
        count = min(BLOCK, logins - done, _LOGINS_AN_ENROLMENT - done % _LOGINS_AN_ENROLMENT)
        for _ in range(count):
            # Before each login, so that both meet the same clock speed and the same neighbours.
            powmods.one()
            _measured_login(bench.server, gate, person, tally)
        plain.block(count)
        if calls_apart < _LOGINS_AN_ENROLMENT:
            with parts.attached(watch):
                for _ in range(_APART_A_BLOCK):
                    _login_apart(apart, watch)
            calls_apart += _APART_A_BLOCK
        done += count
        advance(count)
    assert person is not None
    person.device.close()
    apart.device.close()
    plain.close()
    return _row(combination, logins, tally, powmods, plain, gate, watch, calls_apart)


def _measured_login(server: ServerProcess, gate: GatedTransport, person: Person, tally: _Tally) -> None:
    capture, options = person.capture(), person.options()
    gate.hold_confirmations()
    time.sleep(_SETTLE_S)
    started, server_start = time.monotonic(), server.cpu_s()
    process_start, thread_start, wall_start = time.process_time(), time.thread_time(), time.perf_counter()
    try:
        person.login(options, capture)
    except NoMatch:
        tally.no_matches += 1
    else:
        # A refusal stops short of the signature, so only whole logins count for latency.
        tally.wall.append((time.perf_counter() - wall_start) * 1000)
    tally.device_login += (time.thread_time() - thread_start) * 1000
    time.sleep(_SETTLE_S)
    between, server_between = time.monotonic(), server.cpu_s()
    gate.let_confirmations_through()
    person.wait_for_confirmation()
    tally.device_all += (time.process_time() - process_start) * 1000
    time.sleep(_SETTLE_S)
    ended, server_end = time.monotonic(), server.cpu_s()
    tally.server_login += server.cpu_of_work_s(server_between - server_start, between - started) * 1000
    tally.server_confirmation += server.cpu_of_work_s(server_end - server_between, ended - between) * 1000
    report = person.device.last_ceremony
    assert report is not None
    tally.report = report
    for name, spent_ms in report.steps:
        tally.steps[name] += spent_ms


def _login_quietly(person: Person) -> None:
    with suppress(NoMatch):
        person.login(person.options(), person.capture())
    person.wait_for_confirmation()


def _login_apart(person: Person, watch: Stopwatch) -> None:
    """One login and its confirmation under the stopwatch."""
    options, capture = person.options(), person.capture()
    with suppress(NoMatch), watch.span(REST, whole=parts.DEVICE_LOGIN):
        person.login(options, capture)
    person.wait_for_confirmation()


def _person_without_network(bench: Bench, combination: Combination, watch: Stopwatch) -> Person:
    code = administration.issue_code(bench.context, label=f"benchmark {combination}").code
    transport = InProcessTransport(bench.context, watch)
    directory = bench.directory / "apart"
    directory.mkdir(exist_ok=True)
    person = enrolled(
        combination, server="http://127.0.0.1", code=code, transport=transport, directory=directory, seed=1
    )
    for _ in range(_WARM_UP):
        _login_quietly(person)
    watch.reset()
    return person


class _Plain:
    """Round trips for a plain RSA signature, by the SDK's own transport with its request signatures."""

    def __init__(self, bench: Bench, combination: Combination) -> None:
        self._server = bench.plain
        self._key = bench.plain_key
        self._transport = HttpTransport(bench.plain.url)
        self._path = plain_rsa_server.path(combination.modulus_bits)
        self.reset()

    def reset(self) -> None:
        self.wall_ms: list[float] = []
        self._server_cpu_ms = 0.0

    def block(self, count: int) -> None:
        started, cpu_start = time.monotonic(), self._server.cpu_s()
        for _ in range(count):
            body = secrets.token_bytes(plain_rsa_server.HASH_BYTES)
            start = time.perf_counter()
            self._transport.post_cbor(self._path, body, self._key, signing_key_id(enrolment_id=bytes(16)))
            self.wall_ms.append((time.perf_counter() - start) * 1000)
            time.sleep(_SETTLE_S)
        used, elapsed = self._server.cpu_s() - cpu_start, time.monotonic() - started
        self._server_cpu_ms += self._server.cpu_of_work_s(used, elapsed) * 1000

    @property
    def server_cpu_ms(self) -> float:
        return self._server_cpu_ms / len(self.wall_ms)

    def close(self) -> None:
        self._transport.close()


def _row(
    combination: Combination,
    logins: int,
    tally: _Tally,
    powmods: Powmod,
    plain: _Plain,
    gate: GatedTransport,
    watch: Stopwatch,
    calls_apart: int,
) -> Row:
    assert tally.report is not None
    if not tally.wall:
        raise RuntimeError("no login matched, so there is no latency to report")
    # A mean, like the server's CPU over all logins divided: on a machine that changes speed a median is another unit.
    powmod, wall = powmods.mean_ms, statistics.median(tally.wall)
    plain_wall = statistics.median(plain.wall_ms)
    server_login, server_confirmation = tally.server_login / logins, tally.server_confirmation / logins
    server, device = server_login + server_confirmation, tally.device_all / logins
    apart = {whole: watch.parts_ms(whole, calls_apart) for whole in _WHOLES}
    server_parts = _with_difference(
        parts.SERVER_PARTS, (apart[parts.SERVER_LOGIN], apart[parts.SERVER_CONFIRMATION]), server
    )
    mpc = sum(apart[parts.SERVER_LOGIN].get(part, 0.0) for part in parts.MPC_PARTS)
    return Row(
        profile=combination.profile,
        code_bits=combination.code_bits,
        modulus_bits=combination.modulus_bits,
        logins=logins,
        no_matches=tally.no_matches,
        powmod_sec_ms=powmod,
        powmod_sec_median_ms=powmods.median_ms,
        server_cpu_ms=server,
        server_login_cpu_ms=server_login,
        server_confirmation_cpu_ms=server_confirmation,
        server_mpc_ms=mpc,
        device_cpu_ms=device,
        device_login_cpu_ms=tally.device_login / logins,
        device_confirmation_cpu_ms=(tally.device_all - tally.device_login) / logins,
        wall_ms=wall,
        wall_p95_ms=_p95(tally.wall),
        plain_rsa_wall_ms=plain_wall,
        plain_rsa_server_cpu_ms=plain.server_cpu_ms,
        server_ratio=server / powmod,
        server_mpc_ratio=mpc / powmod,
        wall_powmods=wall / powmods.median_ms,
        wall_ratio=wall / plain_wall,
        bytes_up=tally.report.bytes_up,
        bytes_down=tally.report.bytes_down,
        round_trips=tally.report.requests,
        confirmation_bytes_up=gate.confirmation_bytes[0],
        confirmation_bytes_down=gate.confirmation_bytes[1],
        server_parts_ms=server_parts,
        device_parts_ms=_with_difference(
            parts.DEVICE_PARTS, (apart[parts.DEVICE_LOGIN], apart[parts.DEVICE_CONFIRMATION]), device
        ),
        server_confirmation_parts_ms=_with_difference(
            parts.SERVER_PARTS, (apart[parts.SERVER_CONFIRMATION],), server_confirmation
        ),
        wall_parts_ms={name: spent / logins for name, spent in tally.steps.items()},
    )


_WHOLES = (parts.SERVER_LOGIN, parts.SERVER_CONFIRMATION, parts.DEVICE_LOGIN, parts.DEVICE_CONFIRMATION)


def _with_difference(names: Sequence[str], wholes: Sequence[dict[str, float]], measured_ms: float) -> dict[str, float]:
    """Parts in order; HTTP is what the process used beyond the same calls without HTTP."""
    summed = {name: sum(whole.get(name, 0.0) for whole in wholes) for name in names}
    summed[parts.HTTP] = max(0.0, measured_ms - sum(summed.values()))
    return {name: spent for name, spent in summed.items() if spent > 0.0}


def _p95(samples: list[float]) -> float:
    return statistics.quantiles(samples, n=20)[-1] if len(samples) > 1 else samples[0]
