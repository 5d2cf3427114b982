"""Values between Python and PostgreSQL on the login path, which does its own sending and reading."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Double, Integer, LargeBinary, MetaData, Table, Text, bindparam, insert, select
from sqlalchemy.exc import DataError, IntegrityError
from state_machine_databases import database_url, new_database, postgresql_is_reachable

from authsvc.store.engine import Store, StoreUnavailable
from authsvc.store.prepared import Prepared

pytestmark = pytest.mark.skipif(not postgresql_is_reachable(), reason="PostgreSQL not reachable")

TABLE = Table(
    "values_sent",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("number", Integer),
    Column("raw", LargeBinary),
    Column("words", Text),
    Column("at", Double),
)
KEEP = Prepared(insert(TABLE))
READ = Prepared(select(TABLE).where(TABLE.c.id == bindparam("wanted")))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder: Path = tmp_path_factory.mktemp("values")
    new_database(folder, "postgresql")
    opened = Store(database_url(folder))
    with opened.write() as conn:
        TABLE.create(conn)
    yield opened
    opened.close()


ROWS = st.fixed_dictionaries(
    {
        "number": st.none() | st.integers(-(2**31), 2**31 - 1),
        "raw": st.none() | st.binary(max_size=300),
        "words": st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=50),
        "at": st.none() | st.floats(allow_nan=False),
    }
)


@given(ROWS)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_stored_is_what_comes_back(store: Store, row: dict[str, Any]) -> None:
    """A time that lost its last digits, or a byte string that was text for a moment, would not compare equal later."""
    wanted = {"id": 1, **{column.name: row[column.name] for column in list(TABLE.c)[1:]}}
    with pytest.raises(RuntimeError, match="undo"), store.write() as conn:
        assert KEEP.run(conn, wanted) == 1
        assert READ.all(conn, {"wanted": 1}) == [tuple(wanted.values())]
        found = READ.first(conn, {"wanted": 1})
        assert found is not None and (found[4] is None or math.copysign(1, found[4]) == math.copysign(1, wanted["at"]))
        assert READ.first(conn, {"wanted": 2}) is None
        raise RuntimeError("undo")


def test_a_violated_constraint_has_its_own_type_and_tells_no_values(store: Store) -> None:
    """The index of a login that is used already is told apart by this type; and rows hold key material."""
    row = {"id": 7, "number": 1, "raw": b"secret-half", "words": "secret-words", "at": 0.5}
    with pytest.raises(IntegrityError) as caught, store.write() as conn:
        KEEP.run(conn, row)
        KEEP.run(conn, row)
    assert "secret" not in f"{caught.value!r} {caught.value}" and "7" not in str(caught.value.orig)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_a_value_that_the_column_cannot_hold_is_an_error_of_the_database(store: Store) -> None:
    row = {"id": 8, "number": 2**40, "raw": None, "words": None, "at": None}
    with pytest.raises(DataError), store.write() as conn:
        KEEP.run(conn, row)
    for wrong in (True, 1 + 2j, ["x"]):
        with pytest.raises(TypeError), store.write() as conn:
            KEEP.run(conn, {**row, "number": wrong})


def test_a_backend_that_is_cut_off_between_statements_is_the_database_being_away(store: Store) -> None:
    """Then nothing of the transaction remains, and the next one has a new connection with statements of its own."""
    row = {"id": 9, "number": 1, "raw": None, "words": None, "at": None}
    with pytest.raises(StoreUnavailable), store.write() as conn:
        KEEP.run(conn, row)
        driver: Any = conn.connection.driver_connection
        with store.engine.connect() as other:
            other.exec_driver_sql("SELECT pg_terminate_backend(%s)", (driver.info.backend_pid,))
        READ.first(conn, {"wanted": 9})
    with store.read() as conn:
        assert READ.first(conn, {"wanted": 9}) is None
