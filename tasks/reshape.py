"""Reshape: images of a validated table to sequences (N, T, F) and targets, streaming; seals the receipt.

Not here: proving that every row kept its place (tasks/witness, which shares no code with this module).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from prefect import task

from schemas.configuration import Reshape
from schemas.errors import DataError
from schemas.handles import Handle, Sequences, Station, Table
from schemas.ledger import CountsBrokenError
from schemas.receipt import Receipt, Seal
from schemas.tables import FILE_NAME
from tasks.arrays import TARGETS_FILE, X_FILE
from tasks.mirror import Mirror
from tasks.receipts import keep_receipt, open_receipt
from tasks.scan import scan_order
from tasks.stage import Key, Progress, once, progress_of
from tasks.store import Store
from tasks.table import TableReader
from tasks.witness import prove, wrong_rows

if TYPE_CHECKING:
    from numpy.typing import NDArray


def key_of(
    table: Table,
    receipt: Handle,
    settings: Reshape,
) -> Key[Sequences]:
    """What the sequences of one split depend on: its table and raw files, the receipt, the layout."""
    return Key(
        step=f"reshape {table.split}",
        stage="reshape",
        form=Sequences,
        module=__name__,
        inputs={
            "table": table.table.digest,
            "receipt": receipt.digest,
            "images": table.images.idx.digest,
            "labels": table.labels.idx.digest,
        },
        settings={
            "reshape": settings.model_dump(mode="json"),
            "split": table.split,
            "label_column": table.label_column,
        },
        libraries=("numpy",),
    )


@task(
    name="reshape",
    description="Turns the images of one split into LSTM sequences (N, T, F) with their targets, recomputes from the "
    "raw IDX bytes what every sequence must be, and seals the receipt. Stops when a sample was lost or moved.",
    task_run_name="reshape {table.split}",
    persist_result=True,
    result_serializer="json",
    cache_policy=Mirror(key_of=key_of),
)
def reshape(artifacts: Path, table: Table, receipt: Handle, settings: Reshape, anew: str | None = None) -> Sequences:
    """Reshape one split, or reuse the sequences of the same table."""
    store = Store(artifacts)
    key = key_of(table, receipt, settings)
    return once(store, key, lambda: sealed(store, table, receipt, settings, progress_of(key.step)), anew)


def sealed(store: Store, table: Table, receipt: Handle, settings: Reshape, progress: Progress) -> Sequences:
    """Write the arrays, count them, have them proven, and seal the receipt.

    Raises:
        DataError: the receipt does not cover this table, or a row is not where it belongs.
        CountsBrokenError: sequences and targets differ in number, or samples were lost.
    """
    signed = open_receipt(store, receipt)
    signed.require_table(table.split, table.table.digest)
    form = form_of(settings, table, signed)
    with store.staging() as folder:
        digest = write_arrays(store.open(table.table, FILE_NAME), folder, form, progress)
        if digest != table.table.digest:
            raise DataError(
                f"the {table.split} table read had digest {digest[:12]}…",
                f"{table.table.digest[:12]}…, the one that was validated",
                "The table changed while it was read: rerun",
            )
        counts = measured(folder, form)
        ledger = signed.ledger.entered(table.split, "reshape", counts)
        arrays = folder / X_FILE, folder / TARGETS_FILE
        try:
            ledger.verify()
        except CountsBrokenError as error:  # more is known of it here than its counts
            error.records = (*wrong_rows(store, table, settings, signed.labels, *arrays),)
            raise
        proof = prove(store, table, settings, signed.labels, *arrays)
        x, targets = _commit(store, folder, form)
    seal = Seal(
        split=table.split,
        table=table.table.digest,
        x=x.digest,
        targets=targets.digest,
        shape=x.shape,
        proof=proof,
    )
    return Sequences(
        split=table.split,
        x=x,
        targets=targets,
        receipt=keep_receipt(store, signed.sealed(seal, ledger)),
        labels=signed.labels,
        image_shape=signed.image_shape,
    )


@dataclass(frozen=True)
class Form:
    """The form of one split's sequences.

    Attributes:
        rows: Images of the table.
        group: Images in one sequence: 1 under layout pixels, T under layout frames.
        shape: (N, T, F) of x.
        target_shape: (N,) or (N, T).
        order: (pixels,) positions of an image's pixels in scan order.
        dtype: Of one pixel, as in the IDX file.
        first_label: The label with class index 0.
    """

    rows: int
    group: int
    shape: tuple[int, int, int]
    target_shape: tuple[int, ...]
    order: NDArray[np.intp]
    dtype: np.dtype[np.generic]
    first_label: int

    @property
    def kept(self) -> int:
        """Images that fill whole sequences; the rest is dropped."""
        return self.shape[0] * self.group


def form_of(settings: Reshape, table: Table, receipt: Receipt) -> Form:
    """The form that the settings give this table.

    Raises:
        ConfigurationError: T does not divide the pixels.
        DataError: T does not divide the number of images and the rest may not be dropped, or the rest is all there is.
    """
    rows, item = table.table.rows, table.table.shape[1:]
    shape = settings.sequence_shape(item)
    group = settings.images_per_sequence
    if rows % group and settings.remainder == "error":
        raise DataError(
            f"reshape, {table.split} split: {rows:,} images are no multiple of T = {group}: {rows % group} would be "
            f"left over after {rows // group:,} sequences",
            "a T that divides the number of images of both splits",
            "Choose another reshape.timesteps, or set reshape.remainder = 'drop' to drop the last ones on record",
        )
    if rows < group:
        raise DataError(
            f"reshape, {table.split} split: {rows:,} images are too few for one sequence of T = {group}",
            f"a T of at most {rows:,}",
            "Choose a smaller reshape.timesteps",
        )
    n = rows // group
    grouped = settings.layout == "frames" and settings.targets == "as layout"
    return Form(
        rows=rows,
        group=group,
        shape=(n, *shape),
        target_shape=(n, group) if grouped else (rows // group * group if settings.layout == "frames" else rows,),
        order=scan_order(settings, item),
        dtype=np.dtype(table.table.dtype),
        first_label=receipt.labels.first,
    )


def write_arrays(table: Path, folder: Path, form: Form, progress: Progress) -> str:
    """Write x.npy (rows of pixels, whatever T) and targets.npy; returns the digest of the table as it was read."""
    reader = TableReader(table)
    pixels = form.order.size
    with (
        _NpyWriter(folder / X_FILE, form.dtype, (form.kept, pixels)) as x,
        _NpyWriter(folder / TARGETS_FILE, np.dtype("<i4"), form.target_shape) as targets,
    ):
        identity = bool((form.order == np.arange(pixels)).all())
        for batch in reader.batches():
            keep = min(len(batch.labels), max(0, form.kept - x.rows))
            values = batch.pixels.view(form.dtype)[:keep]
            x.append(values if identity else values[:, form.order], keep)
            targets.append((batch.labels[:keep] - form.first_label).astype("<i4"), keep)
            progress(reader.rows, form.rows, "images")
    return reader.digest


class _NpyWriter:
    """Appends rows to a .npy file of known shape."""

    def __init__(self, path: Path, dtype: np.dtype[np.generic], shape: tuple[int, ...]) -> None:
        self._file = path.open("wb")
        self.rows = 0
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, values: NDArray[np.generic], rows: int) -> None:
        """Append values that are so many rows of the table."""
        self._file.write(np.ascontiguousarray(values).data)
        self.rows += rows


def measured(folder: Path, form: Form) -> dict[Station, int]:
    """The stations' counts, from the bytes on disk and not from what was meant to be written."""
    x_bytes = _content_bytes(folder / X_FILE)
    target_bytes = _content_bytes(folder / TARGETS_FILE)
    image_bytes = form.order.size * form.dtype.itemsize
    images = x_bytes // image_bytes
    labels = target_bytes // 4
    per_target = form.group if len(form.target_shape) == 2 else 1
    return {
        "sequences": images // form.group,
        "targets": labels // per_target,
        "images in sequences": images,
        "labels in targets": labels,
        "dropped": form.rows - form.kept,
    }


def _content_bytes(path: Path) -> int:
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        return path.stat().st_size - file.tell()


def _commit(store: Store, folder: Path, form: Form) -> tuple[Handle, Handle]:
    """Commit the two arrays apart, so that every T of a scan shares one array of pixels."""
    handles: list[Handle] = []
    for kind, name, shape, dtype in (
        ("sequences", X_FILE, form.shape, form.dtype.str),
        ("targets", TARGETS_FILE, form.target_shape, "<i4"),
    ):
        with store.staging() as single:
            (folder / name).rename(single / name)
            digest = _content_digest(single / name)
            handles.append(
                store.commit(single, kind=kind, digest=digest, rows=shape[0], shape=shape, dtype=dtype)  # type: ignore[arg-type]
            )
    return handles[0], handles[1]


def _content_digest(path: Path) -> str:
    """Digest of an array's type, shape and bytes, in constant memory (a mapped file would count as memory)."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        content = hashlib.file_digest(file, "sha256").digest()
    return hashlib.sha256(f"{dtype.str} {shape}".encode() + content).hexdigest()
