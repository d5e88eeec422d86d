"""The empty database that a fresh home begins with."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING

import pytest

from flows.database import NAME, begin, make, template

if TYPE_CHECKING:
    from pathlib import Path


def tables_of(path: Path) -> dict[str, list[tuple[object, ...]]]:
    """Everything named in a sound database, tables with their columns; the order of constraints is nobody's."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
        names = [name for (name,) in database.execute("select name from sqlite_master where name not like 'sqlite_%'")]
        return {name: database.execute(f"pragma table_info('{name}')").fetchall() for name in sorted(names)}


def rows_of(path: Path) -> dict[str, int]:
    """The rows of each table that has any."""
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        names = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
        counts = {name: database.execute(f'select count(*) from "{name}"').fetchone()[0] for name in names}  # noqa: S608
        return {name: count for name, count in counts.items() if count}


def test_a_fresh_home_begins_with_the_empty_database_of_this_environment(tmp_path: Path) -> None:
    begin(tmp_path, {"PREFECT_HOME": str(tmp_path)})
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
    assert tables_of(tmp_path / NAME) == tables_of(template())
    assert rows_of(tmp_path / NAME) == {"alembic_version": 1}


@pytest.mark.parametrize(
    "name", ["PREFECT_API_URL", "PREFECT_API_DATABASE_CONNECTION_URL", "PREFECT_SERVER_DATABASE_HOST"]
)
def test_where_records_are_kept_elsewhere_there_is_no_copy(tmp_path: Path, name: str) -> None:
    begin(tmp_path, {name: "elsewhere"})
    assert list(tmp_path.iterdir()) == []


def test_a_database_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"records")
    begin(tmp_path, {})
    assert (tmp_path / NAME).read_bytes() == b"records"


@pytest.mark.slow
def test_it_is_what_prefect_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the user's settings say, which may name another database."""
    monkeypatch.setenv("PREFECT_API_DATABASE_CONNECTION_URL", "postgresql+asyncpg://nowhere/nothing")
    make(tmp_path / "made.db")
    assert [path.name for path in tmp_path.iterdir()] == ["made.db"]
    assert tables_of(tmp_path / "made.db") == tables_of(template())
