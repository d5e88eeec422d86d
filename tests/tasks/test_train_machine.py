"""What of a machine is in the key of a training: all that its bytes hang on, and nothing that they do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tasks.train import machine
from tasks.train.machine import FLAGS, GPU_FLAGS, replicas_on, traits

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def no_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*FLAGS, *GPU_FLAGS):
        monkeypatch.delenv(name, raising=False)


def test_equal_on_the_same_machine() -> None:
    assert traits(2) == traits(2)
    assert traits(2)["processor"]


@pytest.mark.parametrize(("one", "other"), [(1, 2), (2, 8), (8, 16)])
def test_more_threads_share_out_products_otherwise(one: int, other: int) -> None:
    assert traits(one) != traits(other)


@pytest.mark.parametrize("name", FLAGS)
def test_flags_that_tensorflow_reads_are_told_with_their_value(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without = traits(2)
    monkeypatch.setenv(name, "1")
    once = traits(2)
    monkeypatch.setenv(name, "2")

    assert (without["flags"], once["flags"]) == ("", f"{name}=1")
    assert once != traits(2)


@pytest.mark.parametrize("name", GPU_FLAGS)
def test_flags_of_gpus_count_where_there_is_one(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "GPUS", "no such folder/*")
    without = traits(2)
    monkeypatch.setenv(name, "1")
    assert traits(2) == without

    (tmp_path / "0000:01:00.0").mkdir()
    (tmp_path / "0000:01:00.0" / "information").touch()
    monkeypatch.setattr(machine, "GPUS", f"{tmp_path.relative_to('/')}/*/information")
    assert (traits(2)["GPU"], traits(2)["flags"]) == ("0000:01:00.0", f"{name}=1")


def test_an_unrelated_variable_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = traits(2)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    assert traits(2) == before


def test_two_replicas_at_most() -> None:
    assert [replicas_on(n) for n in (1, 2, 3, 64)] == [1, 2, 2, 2]
