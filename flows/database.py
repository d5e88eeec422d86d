"""Prefect's database as a fresh home begins with it: empty, its tables made when the environment was.

Prefect makes them by going through the history of their changes, which takes ten seconds of a first run. Here: where
the empty database is, how it is made (`python -m flows.database`), and that it never takes another one's place. Not
here: what Prefect does with it; it still compares the tables with its history whenever a server starts.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME: Final = "prefect.db"
ELSEWHERE: Final = ("PREFECT_API_URL", "PREFECT_API_DATABASE_", "PREFECT_SERVER_DATABASE_")


def template() -> Path:
    """Where the empty database of the installed version is, if it was made."""
    from importlib.metadata import version  # a third of `stepwise --help`, which needs no database

    return Path(sys.prefix) / "share" / "stepwise" / f"prefect-{version('prefect')}.db"


def begin(home: Path, environment: Mapping[str, str]) -> None:
    """Give a home that has no database a copy of the empty one; does nothing where records are kept elsewhere.

    Raises:
        OSError: the copy cannot be written.
    """
    elsewhere = any(value and name.startswith(ELSEWHERE) for name, value in environment.items())
    if elsewhere or (home / NAME).exists() or not template().exists():
        return
    with tempfile.TemporaryDirectory(dir=home) as beside:
        copy = shutil.copyfile(template(), Path(beside) / NAME)
        with contextlib.suppress(FileExistsError):  # another process began here meanwhile
            os.link(copy, home / NAME)


def make(path: Path) -> None:
    """Have Prefect make an empty database in a home of its own, and keep it under a path.

    Raises:
        subprocess.CalledProcessError: Prefect could not.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as home:
        # Nothing of the user's: their settings may name another database.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "--yes"]
        subprocess.run(command, env=environment | {"PREFECT_HOME": home}, check=True, capture_output=True)
        made = Path(home) / NAME
        with contextlib.closing(sqlite3.connect(made)) as database:
            database.execute("pragma wal_checkpoint(truncate)")
        made.replace(path)


if __name__ == "__main__":
    make(template())
