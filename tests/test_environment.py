"""When `.ci/environment.py` trusts a `.venv`, and what it says where none can be made."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

SCRIPTS = Path(__file__).parents[1] / ".ci"


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Give the module, standing in a checkout with locks of its own and a `.venv` that starts."""
    monkeypatch.chdir(tmp_path)
    for name in ("pyproject.toml", "requirements.lock", "requirements-dev.lock"):
        Path(name).write_text(name, encoding="utf-8")
    Path(".venv/bin").mkdir(parents=True)
    Path(".venv/bin/python").symlink_to(sys.executable)
    spec = importlib.util.spec_from_file_location("environment", SCRIPTS / "environment.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def stamp(environment: ModuleType, lock: str) -> None:
    environment.STAMP.write_text(environment.json.dumps(environment.state(lock)), encoding="utf-8")


def test_the_larger_lock_serves_the_smaller_but_not_the_other_way(environment: ModuleType) -> None:
    stamp(environment, "requirements-dev.lock")
    assert environment.differing(environment.state("requirements.lock")) == set()
    stamp(environment, "requirements.lock")
    assert environment.differing(environment.state("requirements-dev.lock")) == {"requirements-dev.lock"}


@pytest.mark.parametrize("name", ["pyproject.toml", "requirements.lock"])
def test_a_changed_file_is_noticed(environment: ModuleType, name: str) -> None:
    stamp(environment, "requirements.lock")
    Path(name).write_text("changed", encoding="utf-8")
    assert environment.differing(environment.state("requirements.lock")) == {name}


def test_a_moved_checkout_is_noticed(environment: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stamp(environment, "requirements.lock")
    moved = tmp_path.rename(tmp_path.with_name("moved to here"))
    monkeypatch.chdir(moved)
    assert environment.differing(environment.state("requirements.lock")) == {"place"}


@pytest.mark.parametrize("damage", ["no stamp", "half a stamp", "no interpreter"])
def test_nothing_is_trusted_of_a_broken_one(environment: ModuleType, damage: str) -> None:
    stamp(environment, "requirements.lock")
    if damage == "no stamp":
        environment.STAMP.unlink()
    elif damage == "half a stamp":
        environment.STAMP.write_text('{"python": ', encoding="utf-8")
    else:
        Path(".venv/bin/python").unlink()
        Path(".venv/bin/python").symlink_to("/nowhere/python3")
    wanted = environment.state("requirements.lock")
    assert environment.differing(wanted) == set(wanted)


def test_too_little_room_is_said_before_anything_is_begun(
    environment: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "NEEDED_BYTES", 2**80)
    with pytest.raises(environment.InstallError, match=r"GiB of free space; the installation needs"):
        environment.main("requirements.lock")
    assert not environment.LOG.exists()


def test_an_unfit_python_is_named(tmp_path: Path) -> None:
    old = tmp_path / "old python"
    old.write_text('#!/bin/sh\ncase "$2" in *platform*) echo 3.9.18 ;; *) exit 1 ;; esac\n', encoding="utf-8")
    old.chmod(0o755)
    asked = subprocess.run(
        ["sh", SCRIPTS / "environment", "requirements.lock"],
        env=os.environ | {"PYTHON": str(old)},
        check=False,
        capture_output=True,
        text=True,
    )
    assert asked.returncode == 1
    assert f"Python 3.11, 3.12 or 3.13 is needed and was not found ({old} is 3.9.18)." in asked.stderr
