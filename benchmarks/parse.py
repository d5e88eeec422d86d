"""IDX.gz to validated Parquet: 60,000 images of 28 x 28 and their labels, beside what users would write for it.

All arms run in warm processes and read the same two gzip files. The product decodes, writes and then reads back and
checks every row; the peers (benchmarks/peers.py, in a virtual environment of their own) check counts and labels only.
The floor is decompressing with isal and writing the payload as it is.
"""

from __future__ import annotations

import contextlib
import gzip
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from isal import igzip

from benchmarks.digits import ROWS, digits
from benchmarks.measure import FOLDER, Options, interleaved, report, seconds
from benchmarks.workers import ALONE, Worker, WorkerError, python_with
from schemas.handles import Labels
from tasks.idx import write_idx
from tasks.parse import write_table
from tasks.table import TableReader
from tasks.validate import failing_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

DIGITS = Labels(first=0, classes=10, names=tuple("0123456789"))
PACKAGES = {
    "idx2numpy": ("idx2numpy==1.2.3", "pandas==3.1.1", "pyarrow==26.0.1"),
    "tensorflow_datasets": ("tensorflow-datasets==4.9.10",),
    "datasets": ("datasets==5.2.0",),
}
PEERS = Path(__file__).with_name("peers.py")


def main(options: Options) -> None:
    """Install the peers, measure all arms interleaved, report."""
    FOLDER.mkdir(exist_ok=True)
    data = digits()
    with tempfile.TemporaryDirectory(dir=FOLDER) as name, contextlib.ExitStack() as workers:
        folder = Path(name)
        images, labels = (
            _compressed(folder, role, array) for role, array in zip(("images", "labels"), data, strict=True)
        )
        arms: dict[str, Callable[[], float]] = {
            "isal gunzip + raw write": partial(seconds, partial(_floor, images, labels, folder)),
            "stepwise": partial(seconds, partial(_product, images, labels, folder, data[0].sum(dtype=np.int64))),
        }
        absent = {}
        for peer, packages in PACKAGES.items():
            started = _started(peer, packages, images, labels)
            if isinstance(started, str):
                absent[peer] = started
            else:
                arms[peer] = workers.enter_context(started).ask
        times = interleaved(arms, options.repeat)
    report(
        "parse",
        times,
        "stepwise",
        aim="peers at least 5, the floor at least 0.67",
        data=f"{ROWS} images and labels",
        peers=[package for packages in PACKAGES.values() for package in packages],
        absent=absent,
    )


def _compressed(folder: Path, role: str, array: NDArray[Any]) -> Path:
    plain, target = folder / role, folder / f"{role}.gz"
    write_idx(plain, array)
    target.write_bytes(gzip.compress(plain.read_bytes(), mtime=0))
    return target


def _floor(images: Path, labels: Path, folder: Path) -> None:
    for file in (images, labels):
        (folder / f"{file.stem}.raw").write_bytes(igzip.decompress(file.read_bytes()))  # type: ignore[no-untyped-call]


def _product(images: Path, labels: Path, folder: Path, pixel_sum: int) -> None:
    table = folder / "samples.parquet"
    parsed = write_table(images, labels, table)
    reader, rows, total = TableReader(table), 0, 0
    for batch in reader.batches():
        if failing_rows(batch, DIGITS, rows):
            raise AssertionError("a row breaks its contract")
        rows += len(batch.labels)
        total += int(batch.pixels.sum(dtype=np.int64))
    if (reader.digest, rows, total) != (parsed.digest, ROWS, pixel_sum):
        raise AssertionError("the table does not hold what was parsed")


def _started(peer: str, packages: tuple[str, ...], images: Path, labels: Path) -> Worker | str:
    """A warm process with the peer imported, or why there is none."""
    try:
        worker = Worker(f"parse-{peer}", [python_with(peer, packages), *ALONE, PEERS, peer, images, labels])
        worker.ask()
    except WorkerError as error:
        return str(error)
    return worker


if __name__ == "__main__":
    sys.exit("run: python -m benchmarks parse")
