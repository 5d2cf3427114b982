"""Commands about tokens of the admin API."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer
from rich.table import Column, Table

from ..api.admin_documents import token_document
from ..services import api_tokens
from ..tokens import Scope
from .shell import OUT, AsJson, context, id_of_16_bytes, local_time, without_markup

_token = typer.Typer(help="Issue and revoke tokens of the admin API.", no_args_is_help=True)


def add_commands(app: typer.Typer) -> None:
    """Put the commands of this file into the application."""
    app.add_typer(_token, name="token")
    app.command("tokens")(tokens)


@_token.command()
def issue(
    name: Annotated[str, typer.Option(help="Whose token it is, for the list and nobody else.")],
    scope: Annotated[list[Scope], typer.Option(help="What it may do; may be repeated.")],
    lifetime_days: Annotated[int, typer.Option(help="Days until it expires, 730 at most.")] = (
        api_tokens.DEFAULT_LIFETIME_DAYS
    ),
) -> None:
    """Issue a token and print it, this once: only its hash is kept. Its id goes to standard error."""
    with context() as ctx:
        issued = api_tokens.issue_token(ctx, name=name, scopes=scope, lifetime_days=lifetime_days)
    print(f"id: {issued.id.hex()}, until {local_time(issued.expires_at)}", file=sys.stderr)
    OUT.print(issued.text, markup=False)


@_token.command()
def revoke(token_id: Annotated[str, typer.Argument(help="The token's id, 32 hexadecimal digits.")]) -> None:
    """End a token at once."""
    with context() as ctx:
        api_tokens.revoke_token(ctx, id_of_16_bytes(token_id, "token_id"))
    OUT.print("revoked")


def tokens(as_json: AsJson = False) -> None:
    """List the tokens of the admin API, oldest first."""
    with context() as ctx:
        documents = [token_document(row, ctx.clock()) for row in api_tokens.every_token(ctx)]
    if as_json:
        OUT.print(json.dumps({"tokens": documents}, indent=2), markup=False)
        return
    table = Table(Column("id", no_wrap=True, min_width=32), "name", "scopes", "status", "expires", "last used")
    for item in documents:
        table.add_row(
            item["id"],
            without_markup(item["name"]),
            ", ".join(item["scopes"]),
            item["status"],
            local_time(item["expires_at"]),
            local_time(item["last_used_at"]),
        )
    OUT.print(table)
