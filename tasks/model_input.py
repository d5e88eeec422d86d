"""Images as a model reads them. A foundation of what asks published models: compare and drift about tables, predict.

Not here: the sequences that training and evaluation read, which reshape makes, proves and seals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from schemas.files import TRIAL, TRIAL_IMAGES_FILE, TRIAL_SEQUENCES_FILE
from schemas.tables import FILE_NAME
from tasks.scan import as_sequences, scan_order
from tasks.table import TableReader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


READS_OTHERWISE: Final = "it learned sequences that this version does not make of the same images"


def objection_to_input(folder: Path, reshape: Reshape) -> str:
    """Why a published model must not be asked today, as a person would say it; empty where it reads as it learned to.

    The images that it was asked when it was published stand in its run beside the sequences that it read then; code
    that makes others of them would ask it about pixels in an order that it never learned.

    Args:
        folder: The run; one of before what was asked was kept is taken at its word.
        reshape: How the model reads images.
    """
    asked = folder / TRIAL
    if not asked.is_dir():
        return ""
    images, sequences = (
        np.load(asked / name, allow_pickle=False) for name in (TRIAL_IMAGES_FILE, TRIAL_SEQUENCES_FILE)
    )
    item = images.shape[1:]
    read = as_sequences(images, scan_order(reshape, item), reshape.sequence_shape(item))
    return "" if np.array_equal(read, sequences) else READS_OTHERWISE
