"""One prepared statement of the login path, run on libpq.

psycopg's cursor goes through a generator, an event loop and its adaptation for each execution, which for these
statements costs several times what the statement does. Here the statement is prepared once a connection and executed
with `psycopg.pq`, the driver's own documented wrapper of libpq, which gives up the interpreter's lock while it waits.
The connection must not prepare statements by itself (`prepare_threshold` None): the driver would deallocate ours.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from typing import Any
from weakref import WeakSet

from psycopg import errors, pq

_BINARY = pq.Format.BINARY
_NAMES: Iterator[int] = count()
_UTF8 = "utf-8"


class PostgresqlStatement:
    """Safe to share between threads."""

    __slots__ = ("_loaders", "_name", "_order", "_prepared_on", "_sql")

    def __init__(self, sql: str, order: tuple[str, ...]) -> None:
        """sql: with $1, $2 …; order: the names of their values."""
        self._sql, self._order = sql.encode(_UTF8), order
        self._name = b"tandem_%d" % next(_NAMES)
        self._prepared_on: WeakSet[Any] = WeakSet()
        self._loaders: list[Callable[[bytes], Any]] | None = None  # known from the first result, and always the same

    def execute(self, driver: Any, parameters: Mapping[str, object]) -> tuple[list[tuple[Any, ...]], int]:
        """(rows, how many rows it gave or touched). driver: psycopg's connection. Raises psycopg.Error."""
        server: pq.abc.PGconn = driver.pgconn
        if driver not in self._prepared_on:
            _checked(server.prepare(self._name, self._sql))
            self._prepared_on.add(driver)
        values: list[Any] = []  # None is a NULL, which the driver's annotations leave out
        formats = []
        for name in self._order:
            value, form = _sent(parameters[name])
            values.append(value)
            formats.append(form)
        result = _checked(server.exec_prepared(self._name, values, formats, _BINARY))
        if not result.nfields:
            return [], result.command_tuples or 0
        loaders = self._loaders
        if loaders is None:
            loaders = self._loaders = [_LOADERS[result.ftype(column)] for column in range(result.nfields)]
        get = result.get_value
        rows = [
            tuple([_read(load, get(row, column)) for column, load in enumerate(loaders)])
            for row in range(result.ntuples)
        ]
        return rows, result.ntuples


def _sent(value: object) -> tuple[bytes | None, int]:
    """A value as libpq takes it, and its format. Numbers go as text, which fits a column of any width."""
    match value:
        case None:
            return None, pq.Format.TEXT
        case bytes():
            return value, pq.Format.BINARY
        case str():
            return value.encode(_UTF8), pq.Format.BINARY  # text in binary form is the same bytes, and may not hold NUL
        case bool():
            raise TypeError("no column of the login path is a truth value")
        case int():
            return b"%d" % value, pq.Format.TEXT
        case float():
            return repr(value).encode("ascii"), pq.Format.TEXT  # the shortest text that reads back as the same double
        case _:
            raise TypeError("a value of a type that the driver does not take as it is")


def speak(driver: Any, text: str) -> None:
    """One or several statements without parameters, whose rows nobody wants. Raises psycopg.Error."""
    _checked(driver.pgconn.exec_(text.encode(_UTF8)))


def _checked(result: pq.abc.PGresult) -> pq.abc.PGresult:
    if result.status not in (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK):
        if result.error_field(pq.DiagnosticField.SQLSTATE) is None:  # not from the server: it is gone
            raise errors.OperationalError("the connection to the database broke off")
        raise errors.error_from_result(result, encoding=_UTF8)
    return result


def _read(load: Callable[[bytes], Any], raw: bytes | None) -> Any:
    return None if raw is None else load(raw)


def _integer(raw: bytes) -> int:
    return int.from_bytes(raw, "big", signed=True)


def _double(raw: bytes) -> float:
    value: float = struct.unpack(">d", raw)[0]
    return value


_LOADERS: Mapping[int, Callable[[bytes], Any]] = {
    17: bytes,  # bytea
    20: _integer,  # int8
    21: _integer,  # int2
    23: _integer,  # int4
    25: lambda raw: raw.decode(_UTF8),  # text
    701: _double,  # float8
}
"""By the type's number in PostgreSQL, which is the same in all versions. Others are not part of the login path."""
