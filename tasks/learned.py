"""Which images a model has learned from, by digests of their bytes. A foundation: publish keeps them, compare asks.

They are all rows of its training split, those held out from training too, since they chose when it was best, and all
that the run learned from whose weights it began with. Not here: what follows for a comparison (tasks/compare/seen).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from schemas.errors import StepwiseError
from schemas.files import LEARNED_FILE, MANIFEST_FILE, RECEIPT_FILE
from schemas.manifest import Manifest
from schemas.receipt import Receipt
from schemas.tables import FILE_NAME
from tasks.published import seals_in
from tasks.repeats import Images
from tasks.seals import compared
from tasks.table import TableReader

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from schemas.handles import Handle
    from tasks.store import Store

_DIGEST: Final = "S16"  # compared as bytes; zeros at its end are no less equal for being taken for padding
UNKNOWN: Final = "not on record"
_WHOLE: Final = b"stepwise.whole"


@dataclass(frozen=True)
class Learned:
    """Images that were learned from.

    Attributes:
        images: (K,) S16, the first 16 bytes of the SHA-256 of each image's bytes, ascending, each once.
        whole: Whether these are all; not where that is not on record of a run that it goes back to.
    """

    images: NDArray[np.bytes_]
    whole: bool

    def among(self, images: NDArray[np.bytes_]) -> NDArray[np.bool_]:
        """(N,): which of (N,) digests are of images that were learned from."""
        found: NDArray[np.bool_] = np.isin(images, self.images)
        return found


def digests_of(store: Store, table: Handle) -> NDArray[np.bytes_]:
    """(N,) S16: the digests of a table's images, in the order of its rows."""
    images = Images()
    for batch in TableReader(store.open(table, FILE_NAME)).batches():
        images.add(batch.pixels, batch.labels)
    return images.digests.view(_DIGEST).reshape(-1)


def learned_from(store: Store, train: Handle, began_with: Path | None) -> Learned:
    """What a model learned from.

    Args:
        store: Where the table is.
        train: The table of its training split.
        began_with: Folder of the run whose weights it began with; None: weights drawn by the seed.
    """
    own = Learned(np.unique(digests_of(store, train)), whole=True)
    if began_with is None:
        return own
    before = learned_in(store, began_with)
    return Learned(np.union1d(own.images, before.images), before.whole)


def learned_in(store: Store, run: Path) -> Learned:
    """What a published run's model learned from, as far as that is on record."""
    import pyarrow.parquet as pq

    record = record_in(store, run)
    if record == UNKNOWN:
        return Learned(np.empty(0, _DIGEST), whole=False)
    if table := store.find("table", record):
        return learned_from(store, table, None)
    rows = pq.read_table(run / LEARNED_FILE)
    column: Any = rows["image"].combine_chunks()
    stored = memoryview(column.buffers()[1])
    images = np.frombuffer(stored, _DIGEST, len(column), 16 * column.offset)
    return Learned(images, rows.schema.metadata[_WHOLE] == b"yes")


def record_in(store: Store, run: Path) -> str:
    """What says what a published run learned from, for keys: the SHA-256 of its file, where it is as published.

    A run of a version that kept none has the digest of its training table, where it began with no other run and the
    table is still there; else it is `UNKNOWN`.
    """
    try:
        content = (run / MANIFEST_FILE).read_bytes()
        seal = seals_in(content).get(LEARNED_FILE)
        if seal:
            return UNKNOWN if compared(run / LEARNED_FILE, seal) else seal.sha256
        receipt = Receipt.model_validate_json((run / RECEIPT_FILE).read_bytes())
        receipt.verify_signature()
        cold = Manifest.model_validate_json(content).started_from is None
    except (OSError, ValueError, StepwiseError):
        return UNKNOWN
    table = store.find("table", receipt.table_digest("train")) if cold else None
    return table.digest if table else UNKNOWN


def write_learned(learned: Learned, path: Path) -> None:
    """Write the file that `learned_in` reads: one column, `image`, of 16 bytes a row."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    stored = pa.py_buffer(learned.images.tobytes())
    column = pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(learned.images), [None, stored])
    metadata: dict[bytes | str, bytes | str] = {_WHOLE: b"yes" if learned.whole else b"no"}
    schema = pa.schema([pa.field("image", pa.binary(16), nullable=False)], metadata)
    # Digests are as good as drawn: nothing repeats and nothing can be made smaller.
    pq.write_table(pa.Table.from_arrays([column], schema=schema), path, compression="none", use_dictionary=False)
