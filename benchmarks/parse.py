"""IDX.gz to validated Parquet: 60,000 images of 28 x 28 and their labels, beside what users would write for it.

All arms run in warm processes and read the same two gzip files. The product decodes, writes and then reads back and
checks every row; the peers (benchmarks/peers.py, in a virtual environment of their own) check counts and labels only.
The floor is decompressing with isal and writing the payload as it is.
"""

from __future__ import annotations

import gzip
import subprocess
import sys
import tempfile
import venv
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np
from isal import igzip

from benchmarks.measure import FOLDER, interleaved, report, seconds
from schemas.catalog import load_catalog
from schemas.errors import SourceError
from schemas.receipt import Labels
from tasks.download import fetch
from tasks.idx import read_idx, write_idx
from tasks.parse import write_table
from tasks.store import Store
from tasks.table import TableReader
from tasks.validate import failing_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from schemas.handles import Role

ROWS = 60_000
DIGITS = Labels(first=0, classes=10, names=tuple("0123456789"))
PACKAGES = {
    "idx2numpy": ("idx2numpy==1.2.3", "pandas==3.1.1", "pyarrow==26.0.1"),
    "tensorflow_datasets": ("tensorflow-datasets==4.9.10",),
    "datasets": ("datasets==5.2.0",),
}
PEERS = Path(__file__).with_name("peers.py")


def main(repeat: int, _preset: str) -> None:
    """Install the peers, measure all arms interleaved, report."""
    FOLDER.mkdir(exist_ok=True)
    data = _samples()
    with tempfile.TemporaryDirectory(dir=FOLDER) as name:
        folder = Path(name)
        images, labels = (
            _compressed(folder, role, array) for role, array in zip(("images", "labels"), data, strict=True)
        )
        arms = {
            "isal gunzip + raw write": partial(seconds, partial(_floor, images, labels, folder)),
            "stepwise": partial(seconds, partial(_product, images, labels, folder, data[0].sum(dtype=np.int64))),
        }
        absent, workers = {}, []
        for peer, packages in PACKAGES.items():
            started = _started(peer, packages, images, labels)
            if isinstance(started, str):
                absent[peer] = started
            else:
                workers.append(started)
                arms[peer] = partial(_asked, started)
        try:
            times = interleaved(arms, repeat)
        finally:
            for worker in workers:
                cast("IO[str]", worker.stdin).close()
                worker.wait()
    report(
        "parse",
        times,
        "stepwise",
        aim="peers at least 5, the floor at least 0.67",
        data=f"{ROWS} images and labels",
        peers=[package for packages in PACKAGES.values() for package in packages],
        absent=absent,
    )


def _samples() -> tuple[NDArray[Any], NDArray[Any]]:
    """MNIST's training split; where no source answers, the drawn digits, repeated to its size."""
    catalog, store = load_catalog(), Store(FOLDER / "artifacts")

    def of(name: str, role: Role) -> NDArray[Any]:
        file = fetch(catalog.dataset(name), "train", role, store, lambda *_: None)
        return read_idx(store.open(file.idx, file.name))

    try:
        return of("mnist", "images"), of("mnist", "labels")
    except SourceError as error:
        print(f"parse: drawn digits in place of MNIST: {error}")
        images, labels = of("glyphs", "images"), of("glyphs", "labels")
        return np.resize(images, (ROWS, *images.shape[1:])), np.resize(labels, ROWS)


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


def _started(peer: str, packages: tuple[str, ...], images: Path, labels: Path) -> subprocess.Popen[str] | str:
    """A warm process with the peer imported, or why there is none."""
    place = FOLDER / f"peer-{peer}"
    python = place / "bin" / "python"
    if not python.exists():
        venv.create(place, with_pip=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *packages]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"cannot be installed: {done.stderr.strip().splitlines()[-1]}"
    worker = subprocess.Popen(
        [str(python), str(PEERS), peer, str(images), str(labels)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        _asked(worker)
    except ValueError as error:
        return str(error)
    return worker


def _asked(worker: subprocess.Popen[str]) -> float:
    """Seconds of one repetition in the peer's process."""
    asked, answers = cast("IO[str]", worker.stdin), cast("IO[str]", worker.stdout)
    asked.write("once more\n")
    asked.flush()
    answer = answers.readline()
    if not answer:
        raise ValueError(f"its process ended with status {worker.wait()}; what it said stands above")
    return float(answer)


if __name__ == "__main__":
    sys.exit("run: python -m benchmarks parse")
