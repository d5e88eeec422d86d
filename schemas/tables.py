"""The table of samples: its columns, its metadata, its digest, and what pandera demands of every row.

Not here: writing it (tasks/parse) and applying the demands (tasks/validate). pandera and pyarrow are imported inside,
since reading a configuration needs neither.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from schemas.handles import Frozen, Sha256

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandera.polars
    import pyarrow as pa

TABLE_FORMAT: Final = 2
FILE_NAME: Final = "samples.parquet"
METADATA_KEY: Final = "stepwise"
INDEX_CHECK: Final = "index is the row's position"
LABEL_CHECK: Final = "label is one of the classes"
MISSING_CHECK: Final = "no value is missing"


class TableFacts(Frozen):
    """What the metadata of a table states about its samples."""

    format_version: int = TABLE_FORMAT
    dtype: str
    item_shape: tuple[int, ...]
    images_payload_sha256: Sha256
    labels_payload_sha256: Sha256 | None


def arrow_schema(item_bytes: int) -> pa.Schema:
    """Columns of the table: index int64, label int32, pixels fixed-size binary of one item's IDX bytes.

    Fixed-size binary keeps a pixel one byte: a list of uint8 is stored by Parquet as 32-bit integers.
    """
    import pyarrow as pa

    fields = [("index", pa.int64()), ("label", pa.int32()), ("pixels", pa.binary(item_bytes))]
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in fields])


def facts_of(metadata: Mapping[bytes, bytes] | None) -> TableFacts | None:
    """The facts in a Parquet file's metadata; None where it is not a table of this project and format."""
    stated = (metadata or {}).get(METADATA_KEY.encode())
    try:
        return TableFacts.model_validate_json(stated) if stated else None
    except ValidationError:
        return None


def table_digest(dtype: str, shape: tuple[int, ...], images: Sha256, labels: Sha256) -> Sha256:
    """Digest of a table's canonical content.

    Args:
        dtype: IDX type of the pixels, as NumPy writes it.
        shape: (N, *shape of an image).
        images: SHA-256 of the IDX file that the pixels make, header included: the digest under which data sets are
            published, so that the table itself is held against it.
        labels: SHA-256 of all labels as little-endian i4.
    """
    content = {"format": TABLE_FORMAT, "dtype": dtype, "shape": shape, "images": images, "labels": labels}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def row_contract(first_label: int, classes: int, offset: int) -> pandera.polars.DataFrameSchema:
    """What every row of a batch that begins at row `offset` must be.

    Index: the row's own position, so that it is unique and in order; label: one of the classes.
    """
    import pandera.polars as pa
    import polars as pl

    in_order = pa.Check(
        lambda data: data.lazyframe.select(pl.col(data.key) == pl.int_range(pl.len(), dtype=pl.Int64) + offset),
        name=INDEX_CHECK,
    )
    last = first_label + classes - 1
    in_classes = pa.Check(  # pandera's own in_range would report itself under a name of its making
        lambda data: data.lazyframe.select(pl.col(data.key).is_between(first_label, last)), name=LABEL_CHECK
    )
    return pa.DataFrameSchema(
        {
            "index": pa.Column(pl.Int64, [in_order], nullable=False),
            "label": pa.Column(pl.Int32, [in_classes], nullable=False),
            "pixels": pa.Column(pl.Binary, nullable=False),
        },
        strict=True,
        ordered=True,
    )
