"""The images of a table as a model reads them. A foundation of compare and drift, which ask models about tables.

Not here: the sequences that training and evaluation read, which reshape makes, proves and seals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from schemas.tables import FILE_NAME
from tasks.scan import as_sequences, scan_order
from tasks.table import TableReader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from schemas.configuration import Reshape
    from schemas.handles import Table
    from tasks.store import Store


def sequences_of(
    store: Store, table: Table, reshape: Reshape, batch: int
) -> Iterator[tuple[NDArray[Any], NDArray[np.int32]]]:
    """Batches (n, T, F) of a table's images in their own type, with the labels of the images in them, in order.

    Args:
        store: Where the table is.
        table: Under layout frames its rows are a multiple of T.
        reshape: How the model reads images.
        batch: Sequences in a batch; the last one may have fewer.
    """
    item = table.table.shape[1:]
    order, shape = scan_order(reshape, item), reshape.sequence_shape(item)
    for part in TableReader(store.open(table.table, FILE_NAME)).batches(batch * reshape.images_per_sequence):
        yield as_sequences(part.pixels.view(np.dtype(table.table.dtype)), order, shape), part.labels
