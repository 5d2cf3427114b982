"""The chain of an enrolment's events, and the messages that show it to the device."""

from __future__ import annotations

import struct

from interop.enrolled import CREDENTIAL_ID, ENROLMENT_ID, RP_ID
from interop.notation import Json, message, topic
from mpc.login.history import (
    LOGIN_ANSWERED,
    LOGIN_CONFIRMED,
    NO_HASH,
    TEMPLATE_ROTATED,
    HistoryEvent,
    HistoryPage,
    HistoryRequest,
    LoginDetail,
    event_hash,
    write_detail,
)

_BEGUN = 1_800_000_000.25


def vectors() -> Json:
    login = LoginDetail(1, 0, "create", CREDENTIAL_ID, RP_ID).as_detail()
    events = [
        HistoryEvent(_BEGUN, "enrolled", write_detail({"code_id": "ab" * 32})),
        HistoryEvent(_BEGUN + 3.5, LOGIN_ANSWERED, write_detail(login)),
        HistoryEvent(_BEGUN + 4, LOGIN_CONFIRMED, write_detail(login)),
        HistoryEvent(_BEGUN + 86_400, TEMPLATE_ROTATED, write_detail({"epoch": 2})),
    ]
    chain, previous = [], NO_HASH
    for seq, event in enumerate(events, start=1):
        previous = event_hash(previous, seq, event.at, ENROLMENT_ID, event.name, event.detail)
        chain.append(
            {
                "n": seq,
                "time": event.at,
                "time, binary64": struct.pack(">d", event.at).hex(),
                "name": event.name,
                "detail": event.detail,
                "h(n)": previous.hex(),
            }
        )
    page = HistoryPage(tuple(events), len(events), previous)
    return topic(
        "History",
        "Event n has the hash of event n − 1 in its own. The chain is this enrolment's only.",
        ["docs/protocol.md 15"],
        {
            "enrolment_id": ENROLMENT_ID.hex(),
            "h(0)": NO_HASH.hex(),
            "events": chain,
            "messages": [
                message("HistoryRequest", "device", "POST /v1/history", HistoryRequest(ENROLMENT_ID).encode()),
                message("HistoryPage", "server", "answer to POST /v1/history", page.encode()),
                message(
                    "HistoryRequest, nothing new",
                    "device",
                    "POST /v1/history",
                    HistoryRequest(ENROLMENT_ID, len(events)).encode(),
                ),
                message(
                    "HistoryPage, nothing new",
                    "server",
                    "answer to POST /v1/history",
                    HistoryPage((), len(events), previous).encode(),
                ),
            ],
        },
    )
