"""A ring for verdicts: a store with a dataset in it, champions, and models that answered its test split."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from manifests import manifest_in
from samples import both, labels_of, receipt_of, signed, silent

from schemas.champion import Champion, Demands
from schemas.configuration import Network, Reshape, RunConfiguration
from schemas.handles import Evaluation, FileSeal, Handle, Sequences, Table, TrainedModel
from schemas.history import History
from tasks.champions import record_of
from tasks.compare import Contest, verdict_on
from tasks.documents import keep_document
from tasks.learned import Learned, digests_of, write_learned
from tasks.measures import measure
from tasks.predictions import PredictionWriter
from tasks.reshape import sealed
from tasks.seals import sha256_file

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from schemas.champion import Verdict
    from schemas.receipt import Receipt
    from tasks.store import Store

N = 600  # test images; ten classes of sixty
RESHAPE = Reshape(timesteps=4)
DEMANDS = Demands()
DIGITS = ", ".join("0123456789")
LOOSE = Demands(calibration_margin=1)  # for tests of the rest


def answers(labels: NDArray[Any], wrong: NDArray[Any] | list[int], sure: float = 0.91) -> NDArray[np.float32]:
    """Probabilities (N, 10) of a model that takes the given rows for the next class, always as sure."""
    chosen = labels.astype(np.int64).copy()
    chosen[wrong] = (chosen[wrong] + 1) % 10
    p = np.full((len(labels), 10), (1 - sure) / 9, np.float32)
    p[np.arange(len(labels)), chosen] = sure
    return p


@dataclass
class Ring:
    """A store with a dataset in it, and models that answered its test split."""

    store: Store
    tables: tuple[Table, Table]
    sequences: Sequences
    receipt: Receipt
    labels: NDArray[Any]

    def evaluation(self, p: NDArray[np.float32]) -> Evaluation:
        metrics = measure(self.labels, p, [str(digit) for digit in range(10)])
        with self.store.staging() as folder:
            with PredictionWriter(folder / "predictions.parquet", self.receipt.labels) as writer:
                writer.write(self.labels.astype(np.int32), p)
            (folder / "metrics.json").write_text(metrics.model_dump_json(), encoding="utf-8")
            digest = writer.digest
            handle = self.store.commit(folder, kind="evaluation", digest=digest, rows=N, shape=(N,), dtype="<f4")
        return Evaluation(evaluation=handle, counts={}, accuracy=metrics.accuracy, interval=metrics.interval)

    def champion(self, p: NDArray[np.float32], name: str = "old", **changes: Any) -> Champion:  # noqa: ANN401
        """A run that was published with these answers; `changes` are of its receipt."""
        evaluation = self.evaluation(p)
        folder = self.store.root / "runs" / name
        folder.mkdir(parents=True)
        for file in ("predictions.parquet", "metrics.json"):
            (folder / file).write_bytes(self.store.open(evaluation.evaluation, file).read_bytes())
        receipt = self.receipt.model_copy(update=changes).signed()
        (folder / "receipt.json").write_text(receipt.model_dump_json())
        configuration = RunConfiguration(reshape=RESHAPE, network=Network())
        (folder / "configuration.json").write_text(configuration.model_dump_json())
        return self.manifested(folder)

    def having_learned(
        self, champion: Champion, rows: slice | list[int], *, whole: bool = True, **facts: str
    ) -> Champion:
        """The same champion, published as one that learned from some of the test images."""
        folder = self.store.root / "runs" / champion.run
        images = np.unique(digests_of(self.store, self.tables[1].table)[rows])
        write_learned(Learned(images, whole), folder / "learned.parquet")
        (folder / "manifest.json").unlink()
        return self.manifested(folder, **facts)

    def manifested(self, folder: Path, **facts: str) -> Champion:
        files = {
            str(path.relative_to(folder)): FileSeal(sha256=sha256_file(path), bytes=path.stat().st_size)
            for path in folder.rglob("*")
            if path.is_file()
        }
        manifest_in(folder, files=files, **facts)
        return record_of(self.store, folder.name)

    def verdict(self, p: NDArray[np.float32], champion: Champion | None, demands: Demands = DEMANDS) -> Verdict:
        return verdict_on(self.store, self.contest(p, champion), demands)

    @property
    def runs(self) -> list[Path]:
        return list((self.store.root / "runs").glob("*"))

    def contest(
        self, p: NDArray[np.float32], champion: Champion | None, weights: str = "b" * 64, start: Champion | None = None
    ) -> Contest:
        """`start` is the run that training began with."""
        handle = Handle.model_construct(digest=weights, place="", files={})
        history = History(
            epochs=(),
            kept=1,
            parameters=1,
            seconds_to_first_step=0,
            engine="",
            started_from=start.weights if start else None,
        )
        kept = keep_document(self.store, "history", "history.json", history, 1)
        trained = TrainedModel(model=handle, history=kept, counts={})
        place = f"runs/{start.run}" if start else ""
        began_with = Handle.model_construct(digest=start.weights, place=place, files={}) if start else None
        return Contest(self.tables, self.sequences, trained, self.evaluation(p), champion, began_with)

    def warm(
        self, p: NDArray[np.float32], champion: Champion | None, rows: slice | list[int], *, whole: bool = True
    ) -> Contest:
        """Of a model that began with a run that had learned from some of the test images."""
        before = self.champion(p, f"before-{len(self.runs)}")
        before = self.having_learned(before, rows, whole=whole, weights="d" * 64)
        return self.contest(p, champion, start=before)


def rows_of(ring: Ring, label: int, count: int) -> list[int]:
    return [int(row) for row in np.flatnonzero(ring.labels == label)[:count]]


def made(store: Store) -> Ring:
    """A ring in an empty store, with no run in it."""
    tables = both(store, 2 * N)
    receipt = signed(store, tables)
    return Ring(
        store, tables, sealed(store, tables[1], receipt, RESHAPE, silent), receipt_of(store, tables), labels_of(N, 7)
    )
