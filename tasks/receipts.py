"""Keeping and opening receipts in the store. A foundation: validate signs, reshape seals, train and evaluate demand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.files import RECEIPT_FILE
from schemas.receipt import Receipt

if TYPE_CHECKING:
    from schemas.handles import Handle, Sequences
    from tasks.store import Store


def keep_receipt(store: Store, receipt: Receipt) -> Handle:
    """Commit a signed receipt."""
    with store.staging() as folder:
        (folder / RECEIPT_FILE).write_text(receipt.model_dump_json(indent=1), encoding="utf-8")
        rows = sum(table.rows for table in receipt.tables)
        return store.commit(folder, kind="receipt", digest=receipt.signature, rows=rows, shape=(rows,), dtype="receipt")


def open_receipt(store: Store, handle: Handle) -> Receipt:
    """The receipt behind a handle, its signature verified.

    Raises:
        StorageError: its bytes are damaged.
        DataError: its content is not what was signed.
    """
    receipt = Receipt.model_validate_json(store.open(handle, RECEIPT_FILE).read_bytes())
    receipt.verify_signature()
    return receipt


def demand_seal(store: Store, sequences: Sequences) -> Receipt:
    """The receipt of sequences, once its seal was compared with exactly these arrays.

    Raises:
        DataError: the arrays are not the ones whose rows were proven.
    """
    receipt = open_receipt(store, sequences.receipt)
    receipt.require_seal(sequences.split, sequences.x.digest, sequences.targets.digest)
    return receipt
