"""What tests of the stages share as fixtures."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def nothing_left_behind(tmp_path: Path) -> Iterator[None]:
    """The folder holds afterwards what the test put there, and no file stays open."""
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - what counts is the number
    yield
    assert {path.name for path in tmp_path.iterdir()} <= {"file", "link", "other", "folder"}
    assert len(os.listdir("/proc/self/fd")) == descriptors  # noqa: PTH208
