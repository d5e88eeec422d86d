"""The study of time steps as a flow: the data through the stages, the points side by side on Dask, the page.

Each point is a task with a key of its own in the store; the store is asked first, so that a study that was stopped
goes on where it was, and one more seed costs one more seed. Not here: what a point is (schemas/study) and measures
(tasks/study), the command's own words (study_command).
"""

from __future__ import annotations

import datetime
import logging
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_type_hints

from prefect import flow
from prefect.context import TagsContext
from prefect.futures import as_completed
from prefect.runtime import flow_run

from flows.attempts import UPKEEP, mark_of
from flows.dag import checked, processors
from flows.datasets import dataset_for
from flows.embedded import bind_embedded_server
from flows.index import index_renewed
from flows.prefect_log import make_log_readable
from schemas.catalog import name_of_folder
from schemas.configuration import Reshape, RunConfiguration, Scan
from schemas.design import PublishedStudy, StudySettings, StudySubject, designed, seconds_of
from schemas.errors import StorageError
from schemas.handles import Handle, Sequences, Table
from schemas.study import Point, PointResult
from tasks.download import download
from tasks.reshape import reshape
from tasks.stage import Key, log, remembered
from tasks.store import Store
from tasks.study.point import key_of, measure_point
from tasks.study.publication import publish_study

if TYPE_CHECKING:
    from collections.abc import Sequence

    from prefect import Task
    from prefect.futures import PrefectFuture
    from prefect.task_runners import TaskRunner


WORKER_BYTES: Final = 2 * 2**30  # TensorFlow, the images, and what the gradient of 784 steps keeps
ONE_THREAD: Final = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}

logging.getLogger("stepwise").setLevel(logging.INFO)  # Prefect forwards it to the server
make_log_readable()


def _flow_run_name() -> str:
    given = flow_run.parameters
    name = name_of_folder(Path(given["data"])) if given["data"] else given["dataset"]
    return f"{name} timesteps {_now():%Y-%m-%d} {mark_of(str(flow_run.id))}"


@flow(
    name="study timesteps",
    description="Trains every factorisation T × F of an image's pixels under two recipes, on Dask, and publishes a "
    "page that says what time steps do. Compares on training images held out; no test image is learned from or "
    "measured on.",
    flow_run_name=_flow_run_name,
    persist_result=True,
    result_serializer="json",
)
def study_timesteps(
    dataset: str = "mnist",
    settings: StudySettings = StudySettings(),  # noqa: B008 - frozen
    data: Path | None = None,
    catalogs: tuple[Path, ...] = (),
    artifacts: Path = Path("artifacts"),
    dask: str | None = None,
    workers: int | None = None,
) -> PublishedStudy:
    """Study how accuracy hangs on the number of time steps.

    Args:
        dataset: A name of the dataset catalog.
        settings: Scans, seeds, and how much is trained.
        data: A folder of IDX files to use in place of the named dataset.
        catalogs: Further dataset catalogs of the user's own.
        artifacts: Where outputs and published studies are kept; Dask's workers have to reach it by the same path.
        dask: Address of a Dask scheduler; None: a cluster of this machine's own, for as long as the study runs.
        workers: Processes of that cluster; None: as many as there are processors and memory for.
    """
    artifacts, began = artifacts.absolute(), time.monotonic()
    untagged = TagsContext(current_tags=set())  # for each tag of a task, Prefect asks the server for leave to begin
    with Store(artifacts).lock(UPKEEP, shared=True), untagged:
        chosen = dataset_for(RunConfiguration(dataset=dataset), data, catalogs)
        (table, test), receipt = checked(_done, artifacts, chosen)
        points = designed(settings, math.prod(table.table.shape[1:]), table.table.rows)
        sequences = scanned(artifacts, table, receipt, settings.scans)
        results = measured_points(artifacts, sequences, points, dask, workers or workers_of_this_machine())
        published = publish_study(
            artifacts,
            StudySubject(
                study=f"{_now():%Y%m%d-%H%M%S}-{chosen.name}-timesteps-{mark_of(str(flow_run.id))}",
                created=_now(),
                dataset=chosen.name,
                title=chosen.title,
                orientation=chosen.orientation,
                data=data.absolute() if data else None,
                catalogs=tuple(catalog.absolute() for catalog in catalogs),
                test_images=test.table.rows,
                settings=settings,
                seconds=time.monotonic() - began,
            ),
            table,
            tuple(sequences.items()),
            results,
        )
        index_renewed(artifacts)
        return published


study_timesteps.fn.__annotations__ = get_type_hints(study_timesteps.fn)


def scanned(artifacts: Path, train: Table, receipt: Handle, scans: Sequence[Scan]) -> dict[Scan, Sequences]:
    """The sealed training sequences in each scan: one array of pixels, for every T."""
    sequences = {}
    for scan in scans:
        log.info("study: the images in the order of scan %s", scan)
        # T = 1 divides any number of pixels, and the bytes are those of every other T.
        sequences[scan] = reshape(artifacts, train, receipt, Reshape(timesteps=1, scan=scan))
    return sequences


def _done(task: Task[..., Any], *arguments: object) -> Any:  # noqa: ANN401 - a future or a result
    return task.submit(*arguments) if task is download else task(*arguments)


def measured_points(
    artifacts: Path, sequences: dict[Scan, Sequences], points: Sequence[Point], dask: str | None, workers: int
) -> tuple[PointResult, ...]:
    """What every point measured: from the store where it is there, the rest on Dask.

    Raises:
        Exception: what stopped the first point that failed, once all others are done and kept.
    """
    store = Store(artifacts)
    missing = missing_points(store, sequences, points)
    minutes = sum(map(seconds_of, missing)) / 60
    log.info(
        "study: %d points, %d of them there already; the others should take about %s",
        *(len(points), len(points) - len(missing)),
        f"{math.ceil(minutes)} min of work, among the workers of {dask}"
        if dask
        else f"{math.ceil(minutes / workers)} min on {workers} processors",
    )
    if missing:
        bind_embedded_server()  # else each of the workers starts one of its own
        run_batches(artifacts, sequences, points, dask, workers)
    results = {point: _known(store, sequences, point) for point in points}
    require_kept(artifacts, [point for point, result in results.items() if result is None])
    return tuple(result for result in results.values() if result)


def run_batches(
    artifacts: Path,
    sequences: dict[Scan, Sequences],
    points: Sequence[Point],
    dask: str | None,
    workers: int,
) -> None:
    """Measure what is missing, batch after batch; a point that fails leaves the others going.

    Where nothing at all of a seed and scan is there when its batch has failed, nothing can be measured: that ends all.
    A batch of what failed before may well fail again, and says nothing of those after it.

    Raises:
        Exception: what stopped the first point that failed, once all others are done and kept.
    """
    store, failures = Store(artifacts), []
    whole = {_batch_of(batch[0]): batch for batch in batches(points)}
    for batch in batches(missing_points(store, sequences, points)):
        runner = dask_runner(dask, min(workers, len(batch)))
        try:
            run_points.with_options(task_runner=runner)(artifacts, sequences, batch)
        except Exception as error:  # noqa: BLE001 - it is raised when all others are done
            if not missing_points(store, sequences, batch):
                log.warning("these points are measured, but their cluster did not end as it should: %r", error)
                continue
            failures.append(_too_late(artifacts) if isinstance(error, TimeoutError) else error)
            wanted = whole[_batch_of(batch[0])]
            if missing_points(store, sequences, wanted) == wanted:
                break
        else:
            require_kept(artifacts, missing_points(store, sequences, batch))
    if failures:
        raise failures[0]


def _too_late(artifacts: Path) -> StorageError:
    """What Dask's time-outs mean, which say nothing themselves."""
    return StorageError(
        "Dask's scheduler or its workers did not answer in time",
        "answers within Dask's time-outs, half a minute",
        "See what else keeps the machine busy, then give the same command again: every point that was finished is kept",
        str(artifacts),
    )


def require_kept(artifacts: Path, lost: Sequence[Point]) -> None:
    """Raise StorageError where points were measured and are not there: what follows would be lost as well."""
    if lost:
        raise StorageError(
            f"{len(lost)} points are not in the store although they were measured: {lost[0].label}, …",
            "the workers' results in the store of this machine, under the keys of this command's code",
            "Give Dask's workers the same artifacts folder under the same path, and leave the code alone meanwhile; "
            "then run the study again",
            str(artifacts),
        )


def missing_points(store: Store, sequences: dict[Scan, Sequences], points: Sequence[Point]) -> tuple[Point, ...]:
    """The points that nobody has measured yet."""
    return tuple(point for point in points if _known(store, sequences, point) is None)


def batches(points: Sequence[Point]) -> list[tuple[Point, ...]]:
    """The points by seed and scan, each batch for a cluster of its own: TensorFlow gives back nothing it compiled.

    The longest first, so that none of them is left to one worker alone while the others wait (Graham 1969).
    """
    grouped: dict[tuple[int, Scan], list[Point]] = {}
    for point in points:
        grouped.setdefault(_batch_of(point), []).append(point)
    return [tuple(sorted(batch, key=seconds_of, reverse=True)) for batch in grouped.values()]


def _batch_of(point: Point) -> tuple[int, Scan]:
    return point.seed, point.scan


def _points_run_name() -> str:
    first = flow_run.parameters["points"][0]
    return f"points of seed {first.seed}, scan {first.scan}"


@flow(name="points", description="Points of a study, side by side.", flow_run_name=_points_run_name)
def run_points(artifacts: Path, sequences: dict[Scan, Sequences], points: tuple[Point, ...]) -> None:
    """Measure points side by side; each is in the store as soon as it is measured."""
    futures: dict[PrefectFuture[Any], Point] = {
        measure_point.submit(artifacts, sequences[point.scan], point): point for point in points
    }
    store, failures = Store(artifacts), []
    try:
        for done, future in enumerate(as_completed(list(futures)), 1):
            point, which = futures[future], f"point {done} of {len(futures)}"
            key = key_of(sequences[point.scan], point)
            failures.append(_failure_of(future, store, which, key))
    except KeyboardInterrupt:  # here, for closing the cluster may take longer than this process has left
        log.warning("Stopped. Every point that was finished is kept; the same command goes on.")
        raise
    if failure := next(filter(None, failures), None):
        raise failure


def _failure_of(future: PrefectFuture[Any], store: Store, which: str, key: Key[PointResult]) -> Exception | None:
    """Tell how a point ended; gives why, where it failed: the others go on."""
    future.wait()  # takes its last state; the server may not know it yet
    # A worker may keep Prefect's results where this process cannot read; the store is the truth in any case.
    result = remembered(store, key) if future.state.is_completed() else None
    if result:
        told = f"{result.accuracy:.2%} of {result.counts.answered:,} held out, {result.seconds:.0f} s"
        log.info("%s: %s: %s", which, result.point.label, told)
        return None
    try:
        future.result()
    except Exception as error:  # noqa: BLE001 - it is raised when the others have ended
        log.warning("%s failed: %s: %s", which, key.step, error)
        return error
    return None


def dask_runner(address: str | None, workers: int) -> TaskRunner[Any]:
    """Prefect's runner on Dask: a cluster that exists, or processes of one thread each on this machine."""
    from prefect_dask.task_runners import DaskTaskRunner  # nobody but the study waits for it

    if address:
        return DaskTaskRunner(address=address)
    local = {
        "n_workers": workers,
        "threads_per_worker": 1,
        "processes": True,
        "security": True,  # what its processes tell each other is encrypted, and nobody else of this machine joins them
        "dashboard_address": "127.0.0.1:0",  # any free port, for this machine alone
        "memory_limit": 0,
        "env": ONE_THREAD,
        "preload": ["flows.dask_preload"],
    }
    return DaskTaskRunner(cluster_kwargs=local)


def workers_of_this_machine() -> int:
    """As many as there are processors, and no more than there is memory for."""
    try:
        told = Path("/proc/meminfo").read_text(encoding="utf-8")
    except OSError:  # a system that does not tell
        return processors()
    free = next((int(line.split()[1]) << 10 for line in told.splitlines() if line.startswith("MemAvailable:")), 0)
    return max(1, min(processors(), free // WORKER_BYTES))


def _known(store: Store, sequences: dict[Scan, Sequences], point: Point) -> PointResult | None:
    return remembered(store, key_of(sequences[point.scan], point))


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
