"""The file of answers: every row in order, whatever the batches, in few row groups."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.handles import Labels
from tasks.predictions import ROW_GROUP_BYTES, PredictionWriter, rows_written

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

DIGITS = Labels(first=0, classes=10, names=tuple("0123456789"))
ROW_BYTES = 8 + 4 + 4 + 10 * 4


def probabilities(rows: int) -> NDArray[np.float32]:
    return np.random.default_rng(rows).dirichlet(np.ones(10), rows).astype(np.float32)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sizes=st.lists(st.integers(0, 3_000), max_size=5))
def test_rows_come_back_in_order_whatever_the_batches(sizes: list[int], tmp_path: Path) -> None:
    p = probabilities(sum(sizes))
    with pytest.MonkeyPatch.context() as patch, PredictionWriter(tmp_path / "answers.parquet", DIGITS) as writer:
        patch.setattr("tasks.predictions.ROW_GROUP_BYTES", 1_000 * ROW_BYTES)
        for batch in np.split(p, np.cumsum(sizes)[:-1]) if sizes else []:
            writer.write(None, batch)

    assert rows_written(tmp_path / "answers.parquet") == len(p)
    table = pq.read_table(tmp_path / "answers.parquet")
    assert table["index"].to_pylist() == list(range(len(p)))
    assert table["predicted"].to_pylist() == p.argmax(1).tolist()
    assert np.array_equal(table["probabilities"].combine_chunks().flatten().to_numpy(), p.reshape(-1))


def test_row_groups_grow_with_bytes_and_not_with_batches(tmp_path: Path) -> None:
    rows, batch = 200_000, 1_000
    p = probabilities(rows)
    with PredictionWriter(tmp_path / "answers.parquet", DIGITS) as writer:
        for start in range(0, rows, batch):
            writer.write(np.zeros(batch, np.int32), p[start : start + batch])

    groups = pq.ParquetFile(tmp_path / "answers.parquet").metadata.num_row_groups
    assert rows * ROW_BYTES // ROW_GROUP_BYTES <= groups <= rows * ROW_BYTES / ROW_GROUP_BYTES + 1


FILE_LIMIT = """
import resource, sys
from pathlib import Path
import numpy as np
from schemas.errors import StorageError
from schemas.handles import Labels
from tasks.predictions import PredictionWriter
from tasks.store import writing
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
p, path = np.random.default_rng(0).dirichlet(np.ones(10), 50_000).astype(np.float32), Path(sys.argv[1])
try:
    with writing(path), PredictionWriter(path, Labels(first=0, classes=10, names=())) as writer:
        for _ in range(4):
            writer.write(None, p)
except StorageError as error:
    print(error.exit_code, error)
"""


def test_answers_that_cannot_be_written_say_why(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FILE_LIMIT, tmp_path / "answers.parquet"]
    told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout.startswith(f"5 {tmp_path / 'answers.parquet'}: cannot write: File too large."), told
