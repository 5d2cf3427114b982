"""Statements of the login path, compiled once and run on the driver.

SQLAlchemy writes the SQL of whichever database is in use; what is left out is the work around each execution, which
for these small statements costs more than the statements. Values go to the driver as they are, so only columns whose
Python type is the driver's own (bytes, str, int, float, None) may appear.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Dialect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.elements import ClauseElement


@dataclass(frozen=True, slots=True)
class _Compiled:
    """SQL for one database; parameter names in order, or None where the driver takes them by name; fixed values."""

    sql: str
    order: tuple[str, ...] | None
    fixed: Mapping[str, object] = field(repr=False)


class Prepared:
    """One statement. Safe to share between threads; rows are plain tuples in column order."""

    __slots__ = ("_by_dialect", "_statement")

    def __init__(self, statement: ClauseElement) -> None:
        self._statement = statement
        self._by_dialect: dict[str, _Compiled] = {}

    def first(self, conn: Connection, parameters: Mapping[str, object]) -> tuple[Any, ...] | None:
        """The first row, or None."""
        row: tuple[Any, ...] | None = self._execute(conn, parameters).fetchone()
        return row

    def all(self, conn: Connection, parameters: Mapping[str, object]) -> list[tuple[Any, ...]]:
        """All rows."""
        rows: list[tuple[Any, ...]] = self._execute(conn, parameters).fetchall()
        return rows

    def run(self, conn: Connection, parameters: Mapping[str, object]) -> int:
        """Execute a change: how many rows it touched. Raises what SQLAlchemy raises (IntegrityError and so on)."""
        return int(self._execute(conn, parameters).rowcount)

    def _execute(self, conn: Connection, parameters: Mapping[str, object]) -> Any:
        dialect = conn.dialect
        compiled = self._by_dialect.get(dialect.name)
        if compiled is None:
            compiled = self._by_dialect[dialect.name] = _compiled(self._statement, dialect)
        values = {**compiled.fixed, **parameters} if compiled.fixed else parameters
        cursor = conn.connection.cursor()
        driver: Any = dialect.dbapi
        try:
            cursor.execute(
                compiled.sql, values if compiled.order is None else [values[name] for name in compiled.order]
            )
        except driver.Error as error:
            # The values stay out of the exception: they may be key material.
            raise DBAPIError.instance(
                compiled.sql, None, error, driver.Error, hide_parameters=True, dialect=dialect
            ) from None
        return cursor


def _compiled(statement: ClauseElement, dialect: Dialect) -> _Compiled:
    compiled: Any = statement.compile(dialect=dialect)
    order = compiled.positiontup
    return _Compiled(
        sql=str(compiled),
        order=None if order is None else tuple(order),
        fixed={name: bind.value for name, bind in compiled.binds.items() if not bind.required},
    )
