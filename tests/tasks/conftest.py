"""What tests of the stages share as fixtures."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ring import Ring

    from schemas.history import History
    from schemas.metrics import Metrics

    Draw = Callable[[History | Metrics], str]


@pytest.fixture(scope="module")
def measures_drawn_once() -> Iterator[None]:
    """Reports of equal measures share their curves, for tests of what else is in a report: a second less each."""
    from tasks.publish import figures

    with pytest.MonkeyPatch.context() as patch:
        for name in ("learning_curves", "confusion", "reliability"):
            patch.setattr(figures, name, remembered(getattr(figures, name)))
        yield


def remembered(draw: Draw) -> Draw:
    """A figure of a document, drawn once for equal documents."""
    drawn: dict[str, str] = {}

    def recalled(document: History | Metrics) -> str:
        key = document.model_dump_json()
        if key not in drawn:
            drawn[key] = draw(document)
        return drawn[key]

    return recalled


@pytest.fixture
def nothing_left_behind(tmp_path: Path) -> Iterator[None]:
    """The folder holds afterwards what the test put there, and no file stays open."""
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - what counts is the number
    yield
    assert {path.name for path in tmp_path.iterdir()} <= {"file", "link", "other", "folder"}
    assert len(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Ring:
    """A ring for all tests of a module."""
    from ring import made

    from tasks.store import Store

    return made(Store(tmp_path_factory.mktemp("ring")))


@pytest.fixture
def ring(prepared: Ring, tmp_path: Path) -> Ring:
    """The same with no run in it."""
    runs = prepared.store.root / "runs"
    if runs.exists():
        runs.rename(tmp_path / "runs")
    return prepared
