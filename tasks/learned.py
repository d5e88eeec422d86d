"""Which images a model has learned from, by digests of their bytes. A foundation: publish keeps them, compare asks.

They are all rows of its training split, those held out from training too, since they chose when it was best, and all
that the run learned from whose weights it began with. Not here: what follows for a comparison (tasks/compare/seen).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from schemas.files import LEARNED_FILE, MANIFEST_FILE
from schemas.tables import FILE_NAME
from tasks.published import seals_in
from tasks.repeats import Images
from tasks.seals import compared
from tasks.table import TableReader

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from schemas.handles import Table
    from tasks.store import Store

_DIGEST: Final = "S16"  # compared as bytes; zeros at its end are no less equal for being taken for padding
NONE: Final = "none"
_WHOLE: Final = b"stepwise.whole"


@dataclass(frozen=True)
class Learned:
    """Images that were learned from.

    Attributes:
        images: (K,) S16, the first 16 bytes of the SHA-256 of each image's bytes, ascending, each once.
        whole: Whether these are all; not where a run that it goes back to was published without them.
    """

    images: NDArray[np.bytes_]
    whole: bool

    def among(self, images: NDArray[np.bytes_]) -> NDArray[np.bool_]:
        """(N,): which of (N,) digests are of images that were learned from."""
        found: NDArray[np.bool_] = np.isin(images, self.images)
        return found


def digests_of(store: Store, table: Table) -> NDArray[np.bytes_]:
    """(N,) S16: the digests of a table's images, in the order of its rows."""
    images = Images()
    for batch in TableReader(store.open(table.table, FILE_NAME)).batches():
        images.add(batch.pixels, batch.labels)
    return images.digests.view(_DIGEST).reshape(-1)


def learned_from(store: Store, train: Table, began_with: Path | None) -> Learned:
    """What a model learned from.

    Args:
        store: Where the table is.
        train: Its training split.
        began_with: Folder of the run whose weights it began with; None: weights drawn by the seed.
    """
    own = Learned(np.unique(digests_of(store, train)), whole=True)
    if began_with is None:
        return own
    before = learned_in(began_with)
    return Learned(np.union1d(own.images, before.images), before.whole)


def learned_in(run: Path) -> Learned:
    """What a published run says that its model learned from: nothing is known where its file is not as published."""
    import pyarrow.parquet as pq

    if record_in(run) == NONE:
        return Learned(np.empty(0, _DIGEST), whole=False)
    table = pq.read_table(run / LEARNED_FILE)
    column: Any = table["image"].combine_chunks()
    stored = memoryview(column.buffers()[1])
    images = np.frombuffer(stored, _DIGEST, len(column), 16 * column.offset)
    return Learned(images, table.schema.metadata[_WHOLE] == b"yes")


def record_in(run: Path) -> str:
    """SHA-256 of the file that a published run has of this, for keys; "none" where it is not there as published."""
    try:
        seal = seals_in((run / MANIFEST_FILE).read_bytes()).get(LEARNED_FILE)
    except (OSError, ValueError):
        return NONE
    return seal.sha256 if seal and not compared(run / LEARNED_FILE, seal) else NONE


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
