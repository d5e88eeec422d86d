"""What the tests of the stages share: IDX files committed to a store as download does it, and a dataset of them."""

from __future__ import annotations

import hashlib
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from schemas.catalog import DataFile, Dataset, DrawnSource, SplitFiles
from schemas.handles import Handle, Role, SourceFile, Split, Table
from tasks.idx import write_idx
from tasks.parse import to_table
from tasks.receipts import open_receipt
from tasks.validate import validated

if TYPE_CHECKING:
    from schemas.receipt import Receipt
    from tasks.store import Store

CLASSES = 10
HERE = Path(__file__).parent
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{HERE.parent.parent}:{HERE}"}


def silent(*_: object) -> None:
    """Progress that nobody watches."""


def source_file(store: Store, split: Split, role: Role, array: np.ndarray[Any, Any], *, gz: bool = False) -> SourceFile:
    """Commit an array as an IDX file to the store."""
    name = f"{split}-{role}" + (".gz" if gz else "")
    stored = array.astype(array.dtype.newbyteorder(">"))
    with store.staging() as folder:
        header = write_idx(folder / name, stored, compress=gz)
        payload = struct.pack(f">{array.ndim}I", *array.shape) + stored.tobytes()
        digest = hashlib.sha256(header.encode()[:4] + payload).hexdigest()
        handle = store.commit(
            folder, kind="idx", digest=digest, rows=len(array), shape=array.shape, dtype=header.dtype.str
        )
    name = next(iter(handle.files))
    return SourceFile(split=split, role=role, name=name, idx=handle, verified="recorded", source="a test")


def drawn(n: int, item: tuple[int, ...] = (4, 6), dtype: str = "u1", seed: int = 0) -> np.ndarray[Any, Any]:
    """Images whose rows all differ: the first bytes of each count them."""
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.standard_normal((n, *item)).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max, (n, *item), dtype, endpoint=True)


def labels_of(n: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Labels of all ten classes, in no regular order."""
    return np.random.default_rng(seed + 1).permutation(np.arange(n) % CLASSES).astype("u1")


def parsed(
    store: Store,
    images: np.ndarray[Any, Any],
    labels: np.ndarray[Any, Any],
    split: Split = "train",
    column: int | None = None,
) -> Table:
    """Parse two arrays as one split."""
    files = source_file(store, split, "images", images), source_file(store, split, "labels", labels)
    return to_table(store, split, *files, column, silent)


def both(store: Store, n: int = 120, item: tuple[int, ...] = (4, 6), dtype: str = "u1") -> tuple[Table, Table]:
    """A train and a test split."""
    train = parsed(store, drawn(n, item, dtype), labels_of(n))
    return train, parsed(store, drawn(n // 2, item, dtype, 7), labels_of(n // 2, 7), "test")


def dataset_of(**changes: object) -> Dataset:
    """A tracked dataset of ten classes; what a test states of a split stands in `train` or `test`."""
    splits = {}
    for split in ("train", "test"):
        stated: dict[str, Any] = {"rows": None, **(changes.pop(split, None) or {})}  # type: ignore[dict-item]
        files = {
            role: DataFile.model_validate({"name": f"{split}-{role}", **stated.pop(role, {})})
            for role in ("images", "labels")
        }
        splits[split] = SplitFiles(**files, **stated)
    values = {"name": "small", "title": "Small", "mode": "tracked", "classes": CLASSES, **changes}
    return Dataset.model_validate({**values, "sources": (DrawnSource(recipe="glyphs"),), "splits": splits})


def signed(store: Store, tables: tuple[Table, Table], **changes: object) -> Handle:
    """The receipt of two tables."""
    return validated(store, dataset_of(**changes), tables, silent)


def receipt_of(store: Store, tables: tuple[Table, Table], **changes: object) -> Receipt:
    """The same, opened."""
    return open_receipt(store, signed(store, tables, **changes))


def objects(store: Store, *kinds: str) -> set[str]:
    """The places of what the store holds, of all kinds or of these."""
    found = Path(store.place / "objects").glob("*/*/*")
    return {path.relative_to(store.place).as_posix() for path in found if not kinds or path.parts[-3] in kinds}


def staged(store: Store) -> list[str]:
    """What is left in staging."""
    return [path.name for path in (store.place / "staging").iterdir()]


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def child(code: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True)
