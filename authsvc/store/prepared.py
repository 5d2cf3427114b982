"""Statements of the login path, compiled once and run on the driver.

SQLAlchemy writes the SQL of whichever database is in use; what is left out is the work around each execution, which
for these small statements costs more than the statements. Values go to the driver as they are, so only columns whose
Python type is the driver's own (bytes, str, int, float, None) may appear.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, Dialect
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql import psycopg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.elements import ClauseElement

from .postgresql_statement import PostgresqlStatement

_Result = tuple[list[tuple[Any, ...]], int]
"""Rows, and how many there are or were touched."""


class Prepared:
    """One statement. Safe to share between threads; rows are plain tuples in column order."""

    __slots__ = ("_by_dialect", "_statement")

    def __init__(self, statement: ClauseElement) -> None:
        self._statement = statement
        self._by_dialect: dict[str, Callable[[Connection, Mapping[str, object]], _Result]] = {}

    def first(self, conn: Connection, parameters: Mapping[str, object]) -> tuple[Any, ...] | None:
        """The first row, or None."""
        rows, _ = self._execute(conn, parameters)
        return rows[0] if rows else None

    def all(self, conn: Connection, parameters: Mapping[str, object]) -> list[tuple[Any, ...]]:
        """All rows."""
        rows, _ = self._execute(conn, parameters)
        return rows

    def run(self, conn: Connection, parameters: Mapping[str, object]) -> int:
        """Execute a change: how many rows it touched. Raises what SQLAlchemy raises (IntegrityError and so on)."""
        _, touched = self._execute(conn, parameters)
        return touched

    def _execute(self, conn: Connection, parameters: Mapping[str, object]) -> _Result:
        dialect = conn.dialect
        execute = self._by_dialect.get(dialect.name)
        if execute is None:
            execute = self._by_dialect[dialect.name] = _COMPILERS[dialect.name](self._statement)
        try:
            return execute(conn, parameters)
        except dialect.loaded_dbapi.Error as error:
            # The values stay out of the exception: they may be key material.
            raise DBAPIError.instance(
                str(self._statement), None, error, dialect.loaded_dbapi.Error, hide_parameters=True, dialect=dialect
            ) from None


def _for_sqlite(statement: ClauseElement) -> Callable[[Connection, Mapping[str, object]], _Result]:
    sql, order, fixed = _compiled(statement, sqlite.dialect())

    def execute(conn: Connection, parameters: Mapping[str, object]) -> _Result:
        values = {**fixed, **parameters}
        cursor = conn.connection.cursor()
        cursor.execute(sql, [values[name] for name in order])
        return list(cursor.fetchall()), cursor.rowcount

    return execute


def _for_postgresql(statement: ClauseElement) -> Callable[[Connection, Mapping[str, object]], _Result]:
    sql, order, fixed = _compiled(statement, _numbered())
    prepared = PostgresqlStatement(sql, order)

    def execute(conn: Connection, parameters: Mapping[str, object]) -> _Result:
        return prepared.execute(conn.connection.driver_connection, {**fixed, **parameters})

    return execute


def _numbered() -> Dialect:
    """PostgreSQL's SQL with $1, $2 …, as libpq takes it."""
    dialect: Any = psycopg.dialect
    numbered: Dialect = dialect(paramstyle="numeric_dollar")
    return numbered


_COMPILERS = {"sqlite": _for_sqlite, "postgresql": _for_postgresql}


def _compiled(statement: ClauseElement, dialect: Dialect) -> tuple[str, tuple[str, ...], Mapping[str, object]]:
    """SQL for one database, its parameters' names in order, and the values that are part of the statement."""
    compiled: Any = statement.compile(dialect=dialect)
    fixed = {name: bind.value for name, bind in compiled.binds.items() if not bind.required}
    return str(compiled), tuple(compiled.positiontup), fixed
