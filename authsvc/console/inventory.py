"""Keys that were dealt in ceremonies, and the recipients to which this server's halves are sealed."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from ..errors import Refused
from ..services import key_revocation, recipients
from ..services.activity import dealt_keys
from .rendering import page
from .visits import Visit, address

STATES: Final = ("provisioned", "paired", "provisional", "active", "revoked", "expired")
PAGE_ROWS: Final = 100


def show(visit: Visit) -> Response:
    """Ceremonies with the number of keys in each state, and recipients."""
    ceremonies, counts = dealt_keys(visit.ctx)
    table: dict[bytes, dict[str, int]] = {row.ceremony_id: dict.fromkeys(STATES, 0) for row in ceremonies}
    for each in counts:
        state = "expired" if each.expired and each.status != "revoked" else each.status
        table.setdefault(each.ceremony_id, dict.fromkeys(STATES, 0))[state] += each.count
    totals = {state: sum(row[state] for row in table.values()) for state in STATES}
    return page(
        visit,
        "keys.html",
        ceremonies={row.ceremony_id: row for row in ceremonies},
        table=table,
        totals=totals,
        states=STATES,
        recipients=recipients.every(visit.ctx),
    )


def show_ceremony(visit: Visit) -> Response:
    """The keys of one ceremony."""
    ceremony_id = visit.id_param("ceremony_id")
    rows = key_revocation.inventory(visit.ctx, ceremony_id)
    if not rows:
        raise Refused("not_found")
    told = visit.query.get("from", "0")
    start = int(told) if told.isascii() and told.isdigit() and len(told) <= 9 else 0
    here = address(f"/keys/{ceremony_id.hex()}")
    after = start + PAGE_ROWS
    return page(
        visit,
        "ceremony.html",
        ceremony_id=ceremony_id.hex(),
        rows=rows[start:after],
        count=len(rows),
        is_first=start == 0,
        first=here,
        next=f"{here}?from={after}" if after < len(rows) else None,
    )
