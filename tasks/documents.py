"""Outputs that are one JSON document: kept in the store and opened again in their form. A foundation."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from pydantic import BaseModel

    from schemas.handles import Handle, Kind, Sha256
    from tasks.store import Store

    Form = TypeVar("Form", bound=BaseModel)


def keep_document(
    store: Store, kind: Kind, file: str, document: BaseModel, rows: int, digest: Sha256 | None = None
) -> Handle:
    """Commit a document under its kind.

    Args:
        store: Where it is kept.
        kind: Of the output.
        file: The document's name in it.
        document: What it says.
        rows: What it is about, counted.
        digest: By which it is known; None: the SHA-256 of its text.
    """
    content = document.model_dump_json(indent=1)
    known_by = digest or hashlib.sha256(content.encode()).hexdigest()
    with store.staging() as folder:
        (folder / file).write_text(content, encoding="utf-8")
        return store.commit(folder, kind=kind, digest=known_by, rows=rows, shape=(rows,), dtype=kind)


def open_document(store: Store, handle: Handle, file: str, form: type[Form]) -> Form:
    """A document behind a handle, in its form.

    Raises:
        StorageError: its bytes are damaged.
    """
    return form.model_validate_json(store.open(handle, file).read_bytes())
