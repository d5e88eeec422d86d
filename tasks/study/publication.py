"""Publishing a study: page, results and manifest under one name that exists whole or not at all. Not here: the page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from prefect import task
from prefect.artifacts import create_markdown_artifact

from schemas.configuration import Scan
from schemas.design import PublishedStudy, StudySubject
from schemas.errors import StorageError
from schemas.files import RESULTS_FILE, STUDIES, STUDY_FILE
from schemas.handles import Sequences, Table
from schemas.study import PointResult
from tasks.arrays import open_arrays
from tasks.drawing import data_uri, grey
from tasks.publish.evidence import environment
from tasks.published import name_for_good, write_manifest
from tasks.receipts import demand_seal
from tasks.stage import log, timed
from tasks.store import Store, writing

if TYPE_CHECKING:
    from numpy.typing import NDArray

MANIFEST_FORMAT: Final = 1


@task(
    name="publish study",
    description="Writes page, results and manifest of a study, and gives it its name by one rename.",
    task_run_name="publish study",
    persist_result=True,
    result_serializer="json",
)
def publish_study(
    artifacts: Path,
    subject: StudySubject,
    table: Table,
    sequences: tuple[tuple[Scan, Sequences], ...],
    results: tuple[PointResult, ...],
) -> PublishedStudy:
    """Publish a study and show it in the Prefect UI."""
    with timed("publish study"):
        published = published_study(Store(artifacts), subject, table, dict(sequences), results)
    show(subject, results, published, table.table.shape[1:])
    return published


def published_study(
    store: Store,
    subject: StudySubject,
    table: Table,
    sequences: dict[Scan, Sequences],
    results: tuple[PointResult, ...],
) -> PublishedStudy:
    """Assemble the study in staging, its manifest last, and name it.

    Raises:
        DataError: the sequences are not those that reshape sealed.
        StorageError: the name is taken, or nothing can be written.
    """
    from tasks.study.page import StudyContents, render

    seals = {scan: demand_seal(store, each).require_seal("train", each.x.digest, each.targets.digest)
             for scan, each in sequences.items()}  # fmt: skip
    final = store.root / STUDIES / subject.study
    with writing(final), store.staging() as folder:
        final.parent.mkdir(exist_ok=True)
        if final.exists():
            raise StorageError(
                f"a study named {subject.study} is published already",
                "a new name",
                "Run again: a name is given once",
                str(final),
            )
        images, labels = first_samples(store, sequences, table.table.shape[1:])
        page = render(StudyContents(subject, table.table.rows, images, labels, results))
        (folder / STUDY_FILE).write_text(page, encoding="utf-8")
        told = {"study": subject.model_dump(mode="json"), "rows": table.table.rows}
        told["points"] = [result.model_dump(mode="json") for result in results]
        (folder / RESULTS_FILE).write_text(json.dumps(told, indent=1), encoding="utf-8")
        manifest = _seal(folder, subject, table, {scan: seal.model_dump(mode="json") for scan, seal in seals.items()})
        name_for_good(folder, final)
    log.info("published %s", final)
    place = f"{STUDIES}/{subject.study}"
    return PublishedStudy(study=subject.study, place=place, page=f"{place}/{STUDY_FILE}", manifest=manifest)


def first_samples(
    store: Store, sequences: dict[Scan, Sequences], item: tuple[int, ...]
) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """The first training images as stored and their classes, put together again from whichever scan there is."""
    from schemas.configuration import Reshape
    from tasks.scan import scan_order
    from tasks.study.sentence import ASKED_T

    scan, sealed = next(iter(sequences.items()))
    x, y = open_arrays(store, sealed)
    order = scan_order(Reshape(timesteps=1, scan=scan), item)
    images = np.empty((min(len(x), ASKED_T), order.size), x.dtype)
    images[:, order] = x[: len(images)].reshape(len(images), -1)
    names = tuple(sealed.labels.names[label] for label in y[: len(images)])
    return grey(images).reshape(-1, *item), names


def show(
    subject: StudySubject, results: tuple[PointResult, ...], published: PublishedStudy, item: tuple[int, ...]
) -> None:
    """Create the artifact `study`."""
    from tasks.study.figures import accuracy_png
    from tasks.study.summary import summary_of
    from tasks.study.words import row_width, why_accuracy_changes

    summary = summary_of(results)
    reasons = why_accuracy_changes(summary, row_width(item)).items()
    said = "\n\n".join(f"### {about}\n" + "\n".join(f"- {each.text}" for each in found) for about, found in reasons)
    picture = data_uri(accuracy_png(summary))
    create_markdown_artifact(
        key="study",
        markdown=f"# Time steps on {subject.dataset}\n\n![Accuracy against T]({picture})\n\n{said}\n\n"
        f"Page: `{published.page}` under the artifacts folder. Measured on training images held out.",
        description=f"{len(results)} points: accuracy against time steps on {subject.dataset}",
    )


def _seal(folder: Path, subject: StudySubject, table: Table, seals: dict[str, Any]) -> str:
    """Write the manifest: digests of all files; a folder without one is no study."""
    facts = {
        "format": MANIFEST_FORMAT,
        "study": subject.study,
        "created": subject.created.isoformat(),
        "dataset": subject.dataset,
        "table": table.table.digest,
        "seals": seals,
        "environment": environment(),
    }
    return write_manifest(folder, facts)
