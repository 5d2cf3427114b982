"""200 wrong attempts at once on one enrolment, over four worker processes: what reaches the garbler is counted."""

from __future__ import annotations

import base64
import contextlib
import http.client
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from state_machine_databases import database_url
from state_machine_harness import AUTHORITY, KEK, PROFILE, RP_ID, STRANGER, Clock, Phone, Server
from state_machine_thief import crafted_login

from authsvc.policy import Limits
from authsvc.services.context import SignedRequest

ATTEMPTS, WORKERS = 200, 4
BUSY_PAUSE_S = 0.1


@contextlib.contextmanager
def workers(folder: Path) -> Iterator[int]:
    """The port of `authsvc serve --workers 4` over the folder's database; its log is `folder/log`."""
    ready = folder / "ready"
    profile = {name: value for name, value in PROFILE.as_dict().items() if name in ("code_bits", "threshold")}
    settings = {
        "DATA_DIR": str(folder / "data"),
        "DATABASE_URL": database_url(folder).render_as_string(hide_password=False),
        "KEK": base64.b64encode(KEK).decode(),
        "SERVER_ID": AUTHORITY,
        "ALLOWED_RP_IDS": json.dumps([RP_ID]),
        "PROFILES": json.dumps({PROFILE.name: {**profile, "encoder_id": PROFILE.encoder_id}}),
        "LIMITS__FRESHNESS_S": "600",
        "LIMITS__MAX_DELAY_S": "86400",
        "LIMITS__FIRST_DELAY_S": "86400",  # nobody's turn comes again while the test lasts, however slow the machine
        "LOG_LEVEL": "debug",
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TANDEM_")}
    environment |= {f"TANDEM_{name}": value for name, value in settings.items()}
    command = [sys.executable, "-m", "authsvc", "serve", "--port", "0", "--ready-file", str(ready)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--workers", str(WORKERS)], env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        give_up = time.monotonic() + 90
        while not ready.exists():
            assert process.poll() is None and time.monotonic() < give_up, (folder / "log").read_text()
            time.sleep(0.05)
        yield int(ready.read_text().strip().rpartition(":")[2])
    finally:
        process.terminate()
        process.wait(40)


def post(port: int, request: SignedRequest) -> str:
    """The code of the answer; "ok" for message 2."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=90)
    try:
        headers = {**request.headers, "host": AUTHORITY, "content-length": str(len(request.body))}
        connection.putrequest("POST", request.path, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders(request.body)
        answer = connection.getresponse()
        body = answer.read()
        if answer.status == 503:
            assert answer.getheader("retry-after")
        return "ok" if answer.status == 200 else str(json.loads(body)["code"])
    finally:
        connection.close()


def test_of_200_parallel_wrong_attempts_exactly_the_policys_number_reach_the_garbler(
    phone: Phone, folder: Path, clock: Clock
) -> None:
    """Each circuit that leaves is one answer about the template. Counting afterwards would be too late for those that
    were computed side by side.
    """
    allowed = Limits().consecutive_before_delay
    phone.network.clock = Clock(time.time())
    indexes = itertools.count(2)

    def attempt() -> SignedRequest:
        index = next(indexes)
        return crafted_login(phone, ot_index=index, sign_count=index, face=STRANGER)

    first_messages = [attempt() for _ in range(ATTEMPTS)]
    start = threading.Barrier(ATTEMPTS)

    with workers(folder) as port, ThreadPoolExecutor(ATTEMPTS) as pool:

        def insist(request: SignedRequest) -> str:
            start.wait()
            while True:
                code = post(port, request)
                if code == "unavailable":
                    time.sleep(BUSY_PAUSE_S)  # as Retry-After asks, only sooner
                elif code == "stale_index":
                    request = attempt()  # a higher one was counted first; he goes on guessing with a fresh one
                else:
                    return code

        answers = Counter(pool.map(insist, first_messages))

    events = [json.loads(line) for line in (folder / "log").read_text().splitlines() if line.startswith("{")]
    after = Server(folder, clock)
    row, states = after.enrolment(phone.id), after.states(phone.id)
    after.close()
    assert answers == {"ok": allowed, "throttled": ATTEMPTS - allowed}
    assert sum(event["event"] == "garbled" for event in events) == allowed
    assert (row.consecutive_failures, row.template_attempts) == (allowed, 1 + allowed)
    assert states == ["confirmed", *["pending"] * allowed]
    assert sum(event["event"] == "started" for event in events) == WORKERS
