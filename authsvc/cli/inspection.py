"""Commands that look: enrolments and open codes. Long lists come in pages."""

from __future__ import annotations

import json
import sys
from datetime import datetime
from typing import Annotated, Any, get_args

import typer
from rich.table import Column, Table

from ..api.admin_documents import code_document, credential_document, enrolment_document, event_document
from ..errors import Refused
from ..services import administration
from ..services import inspection as looking
from ..store.enrolment_search import EnrolmentFilter
from ..store.enrolments import EnrolmentStatus
from .shell import OUT, AsJson, EnrolmentId, context, id_of_16_bytes, local_time, without_markup

Limit = Annotated[int, typer.Option(help="At most so many, 500 at most.")]
Cursor = Annotated[str | None, typer.Option(help="Go on behind a page, with the value it ended with.")]


def add_commands(app: typer.Typer) -> None:
    """Put the commands of this file into the application."""
    app.command()(enrolments)
    app.command()(enrolment)
    app.command()(codes)
    app.command()(withdraw_code)


def enrolments(
    label: Annotated[str | None, typer.Option(help="Part of the label.")] = None,
    status: Annotated[str | None, typer.Option(help="active, enrolling, quarantined, recovering or revoked.")] = None,
    profile: Annotated[str | None, typer.Option(help="Name of the matching profile.")] = None,
    rp_id: Annotated[str | None, typer.Option(help="With a credential for this relying party.")] = None,
    created_from: Annotated[datetime | None, typer.Option(help="Local time.")] = None,
    created_to: Annotated[datetime | None, typer.Option(help="Local time, not included.")] = None,
    last_attempt_from: Annotated[datetime | None, typer.Option(help="Local time.")] = None,
    last_attempt_to: Annotated[datetime | None, typer.Option(help="Local time, not included.")] = None,
    limit: Limit = looking.DEFAULT_PAGE,
    cursor: Cursor = None,
    as_json: AsJson = False,
) -> None:
    """List and search enrolments, oldest first."""
    with context() as ctx:
        wanted = EnrolmentFilter(
            label,
            _status(status),
            profile,
            rp_id,
            _unix(created_from),
            _unix(created_to),
            _unix(last_attempt_from),
            _unix(last_attempt_to),
        )
        page = looking.find_enrolments(ctx, wanted, limit=limit, cursor=cursor)
    documents = [enrolment_document(row) for row in page.rows]
    following = None if page.next is None else page.next.cursor()
    if as_json:
        _print_json({"enrolments": documents, "next_cursor": following})
        return
    table = Table(Column("id", no_wrap=True, min_width=32), "label", "status", "reason", "profile")
    for heading in ("epoch", "failures in a row", "last attempt"):
        table.add_column(heading)
    for item in documents:
        table.add_row(
            item["id"],
            without_markup(item["label"]),
            item["status"],
            item["status_reason"] or "",
            item["profile"],
            str(item["epoch"]),
            str(item["consecutive_failures"]),
            local_time(item["last_attempt_at"]),
        )
    OUT.print(table)
    _tell_more("--cursor", following)


def enrolment(enrolment_id: EnrolmentId) -> None:
    """Show one enrolment with its credentials and latest events, as JSON."""
    with context() as ctx:
        detail = administration.enrolment_detail(ctx, id_of_16_bytes(enrolment_id, "enrolment_id"))
    _print_json(
        {
            **enrolment_document(detail.enrolment),
            "credentials": [credential_document(row) for row in detail.credentials],
            "events": [event_document(row) for row in detail.events],
        }
    )


def codes(limit: Limit = looking.DEFAULT_PAGE, cursor: Cursor = None, as_json: AsJson = False) -> None:
    """List the one-time codes that can still be used, by their ids: the codes themselves are not kept."""
    with context() as ctx:
        page = looking.open_codes(ctx, limit=limit, cursor=cursor)
    documents = [code_document(row) for row in page.rows]
    following = None if page.next is None else page.next.cursor()
    if as_json:
        _print_json({"codes": documents, "next_cursor": following})
        return
    table = Table(Column("id", overflow="fold", min_width=16), "purpose", "label", Column("enrolment", overflow="fold"))
    table.add_column("expires", min_width=11)
    for item in documents:
        row = (without_markup(item["label"]), item["enrolment_id"] or "", local_time(item["expires_at"]))
        table.add_row(item["id"], item["purpose"], *row)
    OUT.print(table)
    _tell_more("--cursor", following)


def withdraw_code(code_id: Annotated[str, typer.Argument(help="The code's id, 64 hexadecimal digits.")]) -> None:
    """Make a code useless that was given out and is not used yet."""
    with context() as ctx:
        try:
            value = bytes.fromhex(code_id)
        except ValueError:
            raise Refused("malformed", field="code_id") from None
        looking.withdraw(ctx, value)
    OUT.print("withdrawn")


def _status(text: str | None) -> EnrolmentStatus | None:
    for known in get_args(EnrolmentStatus):
        if known == text:
            status: EnrolmentStatus = known
            return status
    if text is not None:
        raise Refused("malformed", field="status")
    return None


def _unix(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()


def _tell_more(option: str, value: object) -> None:
    if value is not None:
        print(f"there are more: {option} {value}", file=sys.stderr)


def _print_json(document: dict[str, Any]) -> None:
    OUT.print(json.dumps(document, indent=2), markup=False)
