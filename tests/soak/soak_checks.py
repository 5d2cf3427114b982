"""What is true after the faults: the server's rows and its audit log against what the devices say that they sent."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.engine import make_url

from authsvc.store.engine import Store
from authsvc.store.tables import enrolments, events, logins
from tests.soak.soak_device import enrolment_of, read_record

Login = tuple[bytes, int]
"""An enrolment's id and the index of a login."""


@dataclass(frozen=True, slots=True)
class Findings:
    """Counts; all but the first two must be 0.

    released: logins that a relying party accepted. confirmed: those that the server has as confirmed.
    index_reused: indices under which two different messages went out, or whose row is of a message that the device did
    not send. uncounted: messages that were answered and have no row of their own, logins that were released and are not
    confirmed, and attempts that an enrolment's counter has lost. audit_missing: confirmed or released logins that the
    audit log does not tell. quarantined: enrolments that are not in service.
    """

    released: int
    confirmed: int
    index_reused: int
    uncounted: int
    audit_missing: int
    quarantined: int


@dataclass(frozen=True, slots=True)
class _Sent:
    """What all devices' records say."""

    requests: Mapping[Login, Set[str]]
    """Hashes of the messages that went out under each index."""
    answered: Mapping[Login, str]
    released: Set[Login]


def findings(url: str, folders: Sequence[Path]) -> Findings:
    """Read everything. Nobody is writing any more."""
    sent = _sent(folders)
    store = Store(make_url(url))
    try:
        with store.read() as conn:
            rows = {
                (row.enrolment_id, row.ot_index): row
                for row in conn.execute(
                    select(
                        logins.c.enrolment_id, logins.c.ot_index, logins.c.state, logins.c.kind, logins.c.request_hash
                    )
                )
            }
            counters = conn.execute(select(enrolments.c.id, enrolments.c.status, enrolments.c.template_attempts)).all()
            told = {
                (row.enrolment_id, json.loads(row.detail)["ot_index"])
                for row in conn.execute(select(events).where(events.c.name == "login_confirmed"))
            }
    finally:
        store.close()
    confirmed = {login for login, row in rows.items() if row.state == "confirmed"}
    of_enrolment: dict[bytes, int] = defaultdict(int)
    for enrolment_id, _ in rows:
        of_enrolment[enrolment_id] += 1
    return Findings(
        released=len(sent.released),
        confirmed=sum(rows[login].kind == "get" for login in confirmed),
        index_reused=sum(len(hashes) > 1 for hashes in sent.requests.values())
        + sum(row.request_hash.hex() not in sent.requests.get(login, ()) for login, row in rows.items()),
        uncounted=sum(
            login not in rows or rows[login].request_hash.hex() != request for login, request in sent.answered.items()
        )
        + len(sent.released - confirmed)
        + sum(abs(row.template_attempts - of_enrolment[row.id]) for row in counters),
        audit_missing=len((confirmed | sent.released) - told),
        quarantined=sum(row.status != "active" for row in counters),
    )


def _sent(folders: Sequence[Path]) -> _Sent:
    requests: dict[Login, set[str]] = defaultdict(set)
    answered: dict[Login, str] = {}
    released: set[Login] = set()
    for folder in folders:
        enrolment_id = enrolment_of(folder)
        for line in read_record(folder):
            if line["what"] == "sent":
                # The nonce too: two messages that differ in nothing else are two messages.
                requests[enrolment_id, line["index"]].add(line["request"])
            elif line["what"] == "answered":
                answered[enrolment_id, line["index"]] = line["request"]
            elif line["what"] == "released":
                released.add((enrolment_id, line["index"]))
    return _Sent(requests, answered, released)
