"""The drawn digits: the same bytes everywhere, balanced, legible to a simple judge and not trivial."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from schemas.catalog import load_catalog
from schemas.handles import ROLES, SPLITS
from tasks.download import glyphs
from tasks.idx import read_idx

ROOT = Path(__file__).parents[2]
CATALOG = load_catalog().dataset("glyphs")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("glyphs")
    for split in SPLITS:
        for role in ROLES:
            glyphs.draw_file(split, role, folder / f"{split}-{role}")
    return folder


def test_the_bytes_are_those_of_the_catalog(drawn: Path) -> None:
    for split in SPLITS:
        for role in ROLES:
            content, known = (drawn / f"{split}-{role}").read_bytes(), CATALOG.file(split, role)
            assert hashlib.sha256(content).hexdigest() == known.payload_sha256
            assert len(content) == known.payload_bytes


def test_counts_and_sums_are_those_of_the_catalog(drawn: Path) -> None:
    for split in SPLITS:
        images, labels = (read_idx(drawn / f"{split}-{role}") for role in ROLES)
        files = CATALOG.splits[split]
        assert (images.shape, labels.shape) == ((files.rows, 28, 28), (files.rows,))
        assert tuple(np.bincount(labels)) == files.label_counts
        assert int(images.sum(dtype=np.int64)) == files.images.sum
        assert int(labels.sum(dtype=np.int64)) == files.labels.sum


def test_no_picture_is_there_twice(drawn: Path) -> None:
    pictures = np.concatenate([read_idx(drawn / f"{split}-images").reshape(-1, 784) for split in SPLITS])
    assert len(np.unique(pictures, axis=0)) == len(pictures) == 14_000


def test_the_faces_differ() -> None:
    fields = glyphs._fields()
    assert fields.shape[:2] == (5, 10)
    ink = fields < 1.2  # (faces, classes, side, side)
    for one in range(5):
        for other in range(one):
            shared, either = (ink[one] & ink[other]).sum(axis=(1, 2)), (ink[one] | ink[other]).sum(axis=(1, 2))
            assert (shared / either).mean() < 0.6


def test_a_linear_judge_reads_most_and_not_all(drawn: Path) -> None:
    x, test_x = (read_idx(drawn / f"{split}-images").reshape(-1, 784) / np.float32(255) for split in SPLITS)
    y, test_y = (read_idx(drawn / f"{split}-labels") for split in SPLITS)
    weights = np.zeros((784, 10), np.float32)
    for step in range(300):
        batch = slice(step % 60 * 200, step % 60 * 200 + 200)
        odds = np.exp(x[batch] @ weights)
        error = odds / odds.sum(axis=1, keepdims=True) - np.eye(10, dtype=np.float32)[y[batch]]
        weights -= 0.4 * x[batch].T @ error / 200
    accuracy = (np.argmax(test_x @ weights, axis=1) == test_y).mean()
    assert 0.80 < accuracy < 0.97


@pytest.mark.slow
def test_without_the_processors_extensions_the_bytes_are_the_same() -> None:
    program = (
        "import hashlib; from tasks.download.glyphs import images\n"
        "import numpy; print(hashlib.sha256(images('test').tobytes()).hexdigest())"
    )
    features = "AVX512F AVX512CD AVX512_SKX AVX2 FMA3 AVX F16C"
    digests = set()
    for disabled in ("", features):
        environment = {**os.environ, "NPY_DISABLE_CPU_FEATURES": disabled}
        run = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", program], cwd=ROOT, env=environment, capture_output=True, check=True
        )
        digests.add(run.stdout)
    assert len(digests) == 1
