"""Keeping and opening receipts in the store. A foundation: validate signs, reshape seals, train and evaluate demand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.files import RECEIPT_FILE
from schemas.receipt import Receipt
from tasks.documents import keep_document, open_document

if TYPE_CHECKING:
    from schemas.handles import Handle, Sequences
    from tasks.store import Store


def keep_receipt(store: Store, receipt: Receipt) -> Handle:
    """Commit a signed receipt."""
    rows = sum(table.rows for table in receipt.tables)
    return keep_document(store, "receipt", RECEIPT_FILE, receipt, rows, digest=receipt.signature)


def open_receipt(store: Store, handle: Handle) -> Receipt:
    """The receipt behind a handle, its signature verified.

    Raises:
        StorageError: its bytes are damaged.
        DataError: its content is not what was signed.
    """
    receipt = open_document(store, handle, RECEIPT_FILE, Receipt)
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
