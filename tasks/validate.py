"""Validate: every row of both tables against its contract, all counts against each other; signs the receipt.

All findings are collected, then raised once. Not here: the contract of a row (schemas/tables), the form of the receipt.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from prefect import task

from schemas.catalog import Dataset, SplitFiles
from schemas.errors import BadRecord, DataError
from schemas.handles import Handle, Labels, Split, Station, Table
from schemas.ledger import CountsBrokenError, Ledger
from schemas.receipt import Check, FileStatement, Receipt, TableStatement
from schemas.tables import FILE_NAME, INDEX_CHECK, LABEL_CHECK, MISSING_CHECK, row_contract
from tasks.arrays import unfinite_rows, unfinite_value
from tasks.idx import IdxHeader, form_of
from tasks.mirror import Mirror
from tasks.receipts import keep_receipt
from tasks.repeats import Images, repeated
from tasks.stage import Key, Progress, once, progress_of
from tasks.store import Store
from tasks.table import Batch, TableReader
from tasks.upright import upright
from tasks.wording import counted

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

FIRST_ROWS = 5
MOST_CLASSES = 1000
GAP_CHECK = "labels leave no gap"
FINITE_CHECK = "every pixel is a finite number"
FORM_CHECK = "shapes equal between the splits"
ROW_CHECKS = (INDEX_CHECK, LABEL_CHECK, MISSING_CHECK)


def key_of(
    dataset: Dataset,
    tables: tuple[Table, Table],
) -> Key[Handle]:
    """What the receipt depends on: the tables, what the catalog states, and how far each file is vouched for.

    Where the bytes came from is no part of what is checked, so the sources do not count.
    """
    files = [file for table in tables for file in (table.images, table.labels)]
    return Key(
        step="validate",
        stage="validate",
        form=Handle,
        module=__name__,
        inputs={f"{table.split} table": table.table.digest for table in tables},
        settings={
            "dataset": dataset.statement(),
            "files": {f"{file.split} {file.role}": [file.name, file.idx.digest, file.verified] for file in files},
        },
        libraries=("pandera", "polars"),
    )


@task(
    name="validate",
    description="Checks every row of both tables with pandera, the counts at every station, the split sizes and image "
    "statistics that the catalog states, and signs the receipt that later stages demand. Reports all findings at once.",
    task_run_name="validate",
    persist_result=True,
    result_serializer="json",
    cache_policy=Mirror(key_of=key_of),
)
def validate(artifacts: Path, dataset: Dataset, tables: tuple[Table, Table], anew: str | None = None) -> Handle:
    """Validate both splits; returns the handle of the signed receipt."""
    store = Store(artifacts)
    key = key_of(dataset, tables)
    return once(store, key, lambda: validated(store, dataset, tables, progress_of(key.step)), anew)


@dataclass
class Findings:
    """What was found wrong, and what was checked, in the order of checking."""

    wrong: list[str] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    records: dict[Split, list[BadRecord]] = field(default_factory=dict)

    def check(
        self, name: str, table: Table, rows: int, detail: str, *, holds: bool, found: str = "", file: str | None = None
    ) -> None:
        """Record a check; where it does not hold, what was found, and in which file."""
        self.checks.append(Check(name=name, split=table.split, rows=rows, detail=detail))
        if not holds:
            self.wrong.append(f"{table.split}: {name}: {found} (expected {detail})")
            file = file or _file_of(name, table)
            self.files += [file] if file else []

    def keep_rows(self, name: str, table: Table, rows: list[tuple[int, str]], wrong: str) -> None:
        """Keep the first rows that fail a check, to be shown."""
        file = _file_of(name, table) or f"table of the {table.split} split"
        kept = self.records.setdefault(table.split, [])
        kept += [BadRecord(file, row, value, wrong) for row, value in rows]

    def require_none(self, store: Store, dataset: Dataset, tables: tuple[Table, Table]) -> None:
        """Raise all findings as one error.

        Raises:
            DataError: there is at least one.
        """
        if self.wrong:
            count = f"{len(self.wrong)} finding{'s' if len(self.wrong) > 1 else ''}"
            kept = ((table, self.records.get(table.split, [])) for table in tables)
            raise DataError(
                f"{count} in the data of '{dataset.name}': {'; '.join(self.wrong)}",
                "rows that keep their contract",
                "Mend the files and rerun: nothing was reshaped or trained",
                ", ".join(dict.fromkeys(self.files)) or None,
                [record for table, rows in kept for record in _pictured(store, table, rows, dataset.orientation)],
            )


def validated(store: Store, dataset: Dataset, tables: tuple[Table, Table], progress: Progress) -> Handle:
    """Check both tables and keep the signed receipt.

    Raises:
        DataError: the findings, all at once.
    """
    findings = Findings()
    labels = _labels(findings, store, dataset, tables)
    ledger = Ledger()
    images = {table.split: Images() for table in tables}
    for table in tables:
        counts = _Reading(findings, dataset, labels, table, images[table.split]).read(store, progress)
        ledger = ledger.entered(table.split, "parse", table.counts).entered(table.split, "validate", counts)
    findings.wrong.extend(_broken(ledger))
    train, test = tables
    findings.check(
        FORM_CHECK,
        test,
        test.table.rows,
        f"{_form(train)} as in train",
        holds=(train.table.shape[1:], train.table.dtype) == (test.table.shape[1:], test.table.dtype),
        found=_form(test),
    )
    findings.require_none(store, dataset, tables)
    receipt = _receipt(dataset, tables, labels, ledger, findings)
    found = repeated(images["train"], images["test"])
    return keep_receipt(store, receipt.model_copy(update={"repeated": found}).signed())


def _file_of(check: str, table: Table) -> str | None:
    """The file that a check of rows is about; None: the table itself."""
    if check in {LABEL_CHECK, GAP_CHECK}:
        return table.labels.name
    return table.images.name if check in {FINITE_CHECK, FORM_CHECK} else None


def _form(table: Table) -> str:
    """Shape and type of an image, as people say it."""
    return form_of(table.table.shape[1:], table.table.dtype)


def _broken(ledger: Ledger) -> list[str]:
    try:
        ledger.verify()
    except CountsBrokenError as error:
        return [str(error)]
    return []


class _Reading:
    """One pass over one table."""

    def __init__(self, findings: Findings, dataset: Dataset, labels: Labels, table: Table, images: Images) -> None:
        self.findings, self.dataset, self.labels, self.table = findings, dataset, labels, table
        self.images = images
        self.rows, self.pixel_sum, self.label_sum = 0, 0, 0
        self.label_counts = np.zeros(labels.classes, np.int64)
        self.bad: dict[str, list[tuple[int, str]]] = {}  # the first rows and what stands there, by check
        self.bad_rows: dict[str, int] = {}
        self.dtype = np.dtype(table.table.dtype)
        self.row_checks = (*ROW_CHECKS, FINITE_CHECK) if self.dtype.kind == "f" else ROW_CHECKS

    def read(self, store: Store, progress: Progress) -> dict[Station, int]:
        """Check every row and what is stated of the split; returns what was counted."""
        reader = TableReader(store.open(self.table.table, FILE_NAME))
        for batch in reader.batches():
            self._check_rows(batch)
            self._add(batch)
            progress(self.rows, self.table.table.rows, f"{self.table.split} rows")
        self._conclude(reader)
        return {"table rows": self.rows}

    def _check_rows(self, batch: Batch) -> None:
        found = failing_rows(batch, self.labels, self.rows)
        if FINITE_CHECK in self.row_checks:
            failing = unfinite_rows(batch.pixels.view(self.dtype))  # pandera sees bytes
            found += [(FINITE_CHECK, failing)] if len(failing) else []
        for name, failing in found:
            self.bad_rows[name] = self.bad_rows.get(name, 0) + len(failing)
            kept = self.bad.setdefault(name, [])
            first = failing[: FIRST_ROWS - len(kept)].tolist()
            kept += [(self.rows + row, _value(batch, name, row, self.dtype)) for row in first]

    def _add(self, batch: Batch) -> None:
        self.rows += len(batch.labels)
        self.images.add(batch.pixels, batch.labels)
        index = batch.labels - self.labels.first
        inside = index[(index >= 0) & (index < self.labels.classes)]
        self.label_counts += np.bincount(inside, minlength=self.labels.classes)
        self.label_sum += int(batch.labels.sum(dtype=np.int64))
        if self.dtype.kind in "iu":
            self.pixel_sum += int(batch.pixels.view(self.dtype).sum(dtype=np.int64))

    def _conclude(self, reader: TableReader) -> None:
        table = self.table
        last = self.labels.first + self.labels.classes - 1
        self.findings.check(
            "the split has samples", table, self.rows, "at least one", holds=self.rows > 0, found="none"
        )
        others = self.bad_rows.keys() - {*self.row_checks}  # none is passed over for its name
        for name in (*self.row_checks, *others):
            bad = self.bad.get(name, [])
            found = f"{counted(self.bad_rows.get(name, 0), 'row')}, the first: {_rows_told(bad)}"
            detail = f"{self.labels.first} to {last}" if name == LABEL_CHECK else "every row"
            self.findings.keep_rows(name, table, bad, f"not kept: {name} ({detail})")
            self.findings.check(name, table, self.rows, detail, holds=name not in self.bad_rows, found=found)
        name, expected = "the table holds the content that parse wrote", f"digest {table.table.digest[:12]}…"
        holds, found = reader.digest == table.table.digest, f"digest {reader.digest[:12]}…"
        self.findings.check(name, table, self.rows, expected, holds=holds, found=found)
        self._conclude_stated(self.dataset.splits[table.split])

    def _conclude_stated(self, files: SplitFiles) -> None:
        """Check all that the catalog states of the split."""
        pixel_sum = self.pixel_sum if self.dtype.kind in "iu" else f"none, for {self.dtype.name} are no whole numbers"
        images, labels = self.table.images, self.table.labels
        self._compare("split size", self.rows, files.rows)
        self._compare("rows of each class", tuple(self.label_counts.tolist()), files.label_counts, labels.name)
        self._compare("sum of all pixels", pixel_sum, files.images.sum, images.name)
        self._compare("sum of all labels", self.label_sum, files.labels.sum, labels.name)
        for kind, file, stated in (("an image", images, files.images), ("a label", labels, files.labels)):
            header = IdxHeader(np.dtype(file.idx.dtype), file.idx.shape)
            whole = header.size + header.payload_bytes
            self._compare(f"shape of {kind}", header.item_shape, stated.shape, file.name)
            self._compare(f"bytes of the {file.role} with their header", whole, stated.payload_bytes, file.name)

    def _compare(self, name: str, found: object, stated: object, file: str | None = None) -> None:
        """Check what the catalog states; what it does not state is not checked."""
        if stated is not None:
            holds = found == stated
            self.findings.check(name, self.table, self.rows, str(stated), holds=holds, found=str(found), file=file)


def failing_rows(batch: Batch, labels: Labels, offset: int) -> list[tuple[str, NDArray[np.int64]]]:
    """The contract's checks that rows of this batch fail, with the rows' positions in the batch.

    pandera's switches are held on for the call: a variable in the environment cannot weaken it.
    """
    import pandera.polars as pa
    import polars as pl
    from pandera.config import ValidationDepth, config_context

    rows = pl.DataFrame(pl.from_arrow(batch.arrow))
    contract = row_contract(labels.first, labels.classes, offset)
    with config_context(validation_enabled=True, validation_depth=ValidationDepth.SCHEMA_AND_DATA):
        try:
            contract.validate(rows, lazy=True)
        except pa.errors.SchemaErrors as error:
            cases = error.failure_cases
            names = [_PANDERA_NAMES.get(name, name) for name in cases.get_column("check")]
            places = cases.get_column("index").to_list()
            if None in places:
                raise DataError(
                    f"the columns are not those of a table of samples: {names}", "index, label, pixels", "Rerun parse"
                ) from error
            return [
                (name, np.unique([p for n, p in zip(names, places, strict=True) if n == name]))
                for name in sorted(set(names))
            ]
    return []


_PANDERA_NAMES = {"not_nullable": MISSING_CHECK}


def _value(batch: Batch, check: str, row: int, dtype: np.dtype[Any]) -> str:
    if check == FINITE_CHECK:
        return unfinite_value(batch.pixels[row].view(dtype))
    column = {INDEX_CHECK: "index", LABEL_CHECK: "label"}.get(check)
    return f"{column} {batch.arrow.column(column)[row]}" if column else ""


def _rows_told(rows: list[tuple[int, str]]) -> str:
    return "; ".join(f"row {row} has {value}" if value else f"row {row}" for row, value in rows)


def _pictured(store: Store, table: Table, records: list[BadRecord], orientation: str) -> list[BadRecord]:
    """The records with their images, upright, where these are of bytes."""
    if not records or table.table.dtype != "|u1":
        return records
    found = TableReader(store.open(table.table, FILE_NAME)).pixels_of({record.row for record in records})
    shape = table.table.shape[1:]
    pictures = {row: upright(pixels[None], shape, orientation)[0] for row, pixels in found.items()}
    return [replace(record, picture=pictures.get(record.row)) for record in records]


def _labels(findings: Findings, store: Store, dataset: Dataset, tables: tuple[Table, Table]) -> Labels:
    """The dataset's labels; where the catalog states no classes, from the smallest to the largest label seen."""
    if dataset.classes is not None:
        return _named(dataset, dataset.first_label, dataset.classes)
    stored = [_label_column(store, table) for table in tables]
    ranges = [_label_range(table, column) for table, column in zip(tables, stored, strict=True)]
    first, last = min(low for low, _ in ranges), max(high for _, high in ranges)
    if first == last:
        raise DataError(
            f"every label is {first}, of both splits",
            "labels of two classes or more, for there is nothing to tell apart in one",
            "Check that the label files are the right ones, or state the number of classes in a catalog",
            tables[0].labels.name,
        )
    labels = _named(dataset, first, last - first + 1)
    _check_gaps(findings, labels, tables, stored)
    return labels


def _named(dataset: Dataset, first: int, classes: int) -> Labels:
    names = dataset.class_names or tuple(str(label) for label in range(first, first + classes))
    return Labels(first=first, classes=classes, names=names)


def _check_gaps(findings: Findings, labels: Labels, tables: tuple[Table, Table], stored: list[Any]) -> None:
    """Where nobody stated the classes, a number that no sample has, between two labels, is a sign of wrong labels.

    The rows that are named are those on the rarer side of the first gap.
    """
    columns = [column.fill_null(labels.first).to_numpy() for column in stored]
    seen = np.unique(np.concatenate(columns))
    gaps = np.flatnonzero(np.diff(seen) > 1)
    edge = seen[gaps[0]] if len(gaps) else seen[-1]
    beyond = seen[gaps[0] + 1] - 1 if len(gaps) else edge + 1
    gap = f"no sample has label {edge + 1}" + (f" to {beyond}" if beyond > edge + 1 else "")
    above = [column > edge for column in columns]
    rarer_above = 2 * sum(map(np.count_nonzero, above)) <= sum(map(len, columns))
    for table, column, beyond in zip(tables, columns, above, strict=True):
        rows = np.flatnonzero(beyond == rarer_above) if len(gaps) else gaps
        first = [(row, f"label {column[row]}") for row in rows[:FIRST_ROWS].tolist()]
        findings.keep_rows(GAP_CHECK, table, first, f"across a gap: {gap}")
        findings.check(
            GAP_CHECK,
            table,
            len(column),
            f"each of {labels.first} to {seen[-1]}, unless a catalog states the number of classes",
            holds=not len(rows),
            found=f"{gap}; across this gap: {counted(len(rows), 'row')}, the first: {_rows_told(first)}",
        )


def _label_column(store: Store, table: Table) -> pa.ChunkedArray[Any]:
    import pyarrow.parquet as pq

    return pq.read_table(store.open(table.table, FILE_NAME), columns=["label"]).column("label")


def _label_range(table: Table, column: pa.ChunkedArray[Any]) -> tuple[int, int]:
    import pyarrow.compute as pc

    low, high = (value.as_py() for value in pc.min_max(column).values())
    if low is None:
        raise DataError(
            f"the {table.split} split has no samples", "at least one", "Give files that hold data", table.labels.name
        )
    if low < 0 or high - low >= MOST_CLASSES:
        raise DataError(
            f"the {table.split} labels run from {low:,} to {high:,}",
            f"class labels from 0 on, at most {MOST_CLASSES:,} classes",
            "Check that the label file is the right one",
            table.labels.name,
        )
    return low, high


def _receipt(
    dataset: Dataset, tables: tuple[Table, Table], labels: Labels, ledger: Ledger, findings: Findings
) -> Receipt:
    return Receipt(
        dataset=dataset.name,
        mode=dataset.mode,
        labels=labels,
        image_shape=tables[0].table.shape[1:],
        image_dtype=tables[0].table.dtype,
        files=tuple(
            FileStatement(
                split=table.split,
                role=file.role,
                name=file.name,
                payload_sha256=file.idx.digest,
                verified=file.verified,
            )
            for table in tables
            for file in (table.images, table.labels)
        ),
        tables=tuple(
            TableStatement(split=table.split, digest=table.table.digest, rows=table.table.rows) for table in tables
        ),
        checks=tuple(findings.checks),
        ledger=ledger,
    )
