"""Download: one file of a dataset from the first source that gives its bytes, verified before it gets its name.

Here: the order of asking, the verification, what is reused. Not here: the kinds of sources (a module each), and what
the rows mean. Only the task at the end knows Prefect.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from prefect import task

from schemas.catalog import (
    DataFile,
    Dataset,
    DebianSource,
    FolderSource,
    HttpSource,
    NpmSource,
    Source,
)
from schemas.errors import DataError, SourceError
from schemas.handles import ROLES, SPLITS, FileSeal, Handle, Role, SourceFile, Split, Verification
from tasks.download.archives import require_published
from tasks.download.debian import fetch_debian
from tasks.download.errand import Errand, Hosts, SourceFailure
from tasks.download.glyphs import draw_file
from tasks.download.http import fetch_http
from tasks.download.local import fetch_local, local_path, version_of
from tasks.download.npm import fetch_npm
from tasks.idx import IdxHeader, open_idx
from tasks.mirror import Mirror
from tasks.stage import Key, Progress, log, once, progress_of, timed
from tasks.store import Store, place_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from prefect.client.schemas.objects import State, TaskRun
    from prefect.tasks import Task

_CHUNK: Final = 1 << 20
_SUFFIX: Final = {"raw": "", "gzip": ".gz", "xz": ".xz", "zip": ".zip"}
_HOSTS: Final = Hosts()


class NoSourceError(SourceError):
    """Every source of a file was asked in vain. `answers` has each one's, `may_heal` whether waiting may help."""

    def __init__(
        self,
        found: str,
        expected: str,
        remedy: str,
        file: str | None = None,
        answers: tuple[str, ...] = (),
        may_heal: bool = False,  # noqa: FBT001, FBT002 - the same
    ) -> None:
        super().__init__(found, expected, remedy, file)
        self.args = (found, expected, remedy, file, answers, may_heal)
        self.answers = answers
        self.may_heal = may_heal


@dataclass(frozen=True)
class _Verified:
    """A received file that is what it should be."""

    path: Path
    header: IdxHeader
    digest: str
    suffix: str
    verified: Verification


def fetch(
    dataset: Dataset,
    split: Split,
    role: Role,
    store: Store,
    progress: Progress,
    hosts: Hosts = _HOSTS,
    anew: str | None = None,
) -> SourceFile:
    """One file of a dataset, from the store where it is there already, else from its first source that works.

    The file is kept as it was received, compressed or not. A tracked dataset's file is always fetched, since it may
    have changed.

    Args:
        dataset: Its catalog entry.
        split: Which split.
        role: Images or labels.
        store: Where files are kept.
        progress: Told of bytes done, their total (None where nobody knows) and what is going on.
        hosts: Remembers hosts that could not be reached, for the run's other files.
        anew: A demand to fetch it again even where it is whole.

    Returns:
        Its place in the store, with the shape (N, …) and dtype of its header and how far its bytes are vouched for.

    Raises:
        NoSourceError: no source gave the bytes; what each answered is in it.
    """

    def make() -> SourceFile:
        return _from_sources(dataset, split, role, store, progress, hosts)

    key = key_of(dataset, split, role)
    if key is None:
        with timed(step_of(split, role)):
            return _compared(make(), dataset, store)
    return once(store, key, make, anew)


def _compared(seen: SourceFile, dataset: Dataset, store: Store) -> SourceFile:
    """A tracked file with the digest it had when it was last seen; this digest is recorded for the next time."""
    before = store.noted("seen", f"{dataset.name}-{seen.split}-{seen.role}", seen.idx.digest)
    if before not in {None, seen.idx.digest}:
        log.warning(
            "%s has changed since it was last seen: sha256 %.12s… was %.12s…", seen.name, seen.idx.digest, before
        )
    return seen.model_copy(update={"previous": before})


def require_one_moment(dataset: Dataset, files: Iterable[SourceFile]) -> None:
    """Make sure that files of this machine, which nobody vouches for, still lie where they were copied from.

    Images of one day beside labels of another can be as many as these, and nothing later would tell.

    Raises:
        DataError: one was written or replaced since.
    """
    if dataset.mode != "tracked":
        return
    for file in files:
        source = dataset.sources_of(dataset.file(file.split, file.role))[0]
        if file.version is not None and isinstance(source, FolderSource) and version_of(source) != file.version:
            raise DataError(
                f"the {file.split} {file.role} were written or replaced while the files were copied",
                "four files that belong together and stay while they are read",
                "Wait until whoever writes them is done, and run again: nothing was parsed or trained",
                str(source),
            )


def tell_of_halves(files: Iterable[SourceFile]) -> None:
    """Warn where the images of a split are others than last time and its labels the same, or the other way round."""
    changed = {(file.split, file.role): file.changed for file in files if file.previous is not None}
    for split in SPLITS:
        images, labels = (changed.get((split, role)) for role in ROLES)
        if None not in {images, labels} and images != labels:
            new, old = ("images", "labels") if images else ("labels", "images")
            told = "%s: the %s are others than last time and the %s are not: do they belong together?"
            log.warning(told, split, new, old)


def step_of(split: Split, role: Role) -> str:
    """The name of a file's download, for people."""
    return f"download {split} {role}"


def key_of(dataset: Dataset, split: Split, role: Role) -> Key[SourceFile] | None:
    """The key of a file whose digest is known; None for a tracked one, which is looked at anew each time.

    Its bytes are the same whatever code fetched them.
    """
    if dataset.mode == "tracked":
        return None
    return Key(
        step=step_of(split, role),
        stage="download",
        form=SourceFile,
        module=None,
        inputs=_identity(dataset.file(split, role)),
        adapt=lambda known: known.model_copy(update={"split": split, "role": role}),
    )


def _identity(file: DataFile) -> dict[str, str]:
    """The digests that say which bytes a file has; the payload's alone where it is known."""
    if file.payload_sha256 is not None:
        return {"payload": file.payload_sha256}
    containers = sorted(container.sha256 or container.md5 or "" for container in file.containers)
    compared = {"compared": "by whoever takes a member"} if file.member else {}  # it was not, by earlier versions
    return {"containers": " ".join(containers), "member": file.member or "", **compared}


def _from_sources(
    dataset: Dataset, split: Split, role: Role, store: Store, progress: Progress, hosts: Hosts
) -> SourceFile:
    file = dataset.file(split, role)
    failures: list[tuple[Source, SourceFailure]] = []
    for source in dataset.sources_of(file):
        with store.staging() as staging:
            (staging / "work").mkdir()
            siblings = tuple(sibling.name for sibling in dataset.files())
            errand = Errand(file, siblings, store, staging / "work", progress, hosts)
            version = version_of(source) if isinstance(source, FolderSource) else None  # before it is read
            try:
                verified = _verify(_received(source, errand, split, role), file, role)
            except SourceFailure as failure:
                log.warning("%s: %s: %s", file.name, source, failure)
                failures.append((source, failure))
                continue
            return _committed(verified, source, file, split, role, store, staging).model_copy(
                update={"version": version}
            )
    raise _no_source(dataset, file, failures)


def _received(source: Source, errand: Errand, split: Split, role: Role) -> Path:
    match source:
        case HttpSource():
            return fetch_http(source, errand)
        case NpmSource():
            return fetch_npm(source, errand)
        case DebianSource():
            return fetch_debian(source, errand)
        case FolderSource():
            return fetch_local(source, errand)
        case _:
            return draw_file(split, role, errand.staging / "received")


def _verify(path: Path, file: DataFile, role: Role) -> _Verified:
    """Compare a received file with what the catalog knows of it.

    Raises:
        SourceFailure: it is not IDX, or not the bytes it should be.
    """
    verified = _container_verification(path, file) if file.payload_sha256 is None else "payload sha256"
    expect = role if role == "images" or file.label_column is None else None
    try:
        with open_idx(path, expect=expect) as reader:
            for _ in reader.chunks(_CHUNK):
                pass
            digest = reader.payload_sha256()
    except DataError as error:
        raise SourceFailure(f"gave {error.found}", wrong_bytes=True) from error
    if file.payload_sha256 not in {None, digest}:
        answer = f"gave other bytes: payload sha256 {digest} instead of {file.payload_sha256}"
        raise SourceFailure(answer, wrong_bytes=True)
    return _Verified(path, reader.header, digest, _SUFFIX[reader.container], verified)


def _container_verification(path: Path, file: DataFile) -> Verification:
    if not file.containers:
        return "recorded"
    if file.member is not None:  # the zip was compared before the member was taken from it
        return "container sha256" if all(container.sha256 for container in file.containers) else "container md5"
    return "container sha256" if require_published(path, file.containers).sha256 else "container md5"


def _committed(
    verified: _Verified, source: Source, file: DataFile, split: Split, role: Role, store: Store, staging: Path
) -> SourceFile:
    output = staging / "output"
    output.mkdir()
    verified.path.rename(output / f"{file.name}{verified.suffix}")
    header = verified.header
    handle = store.commit(
        output, kind="idx", digest=verified.digest, rows=header.items, shape=header.shape, dtype=header.dtype.str
    )
    return SourceFile(
        split=split,
        role=role,
        name=next(iter(handle.files)),  # another name, where another dataset brought the same payload before
        idx=handle,
        verified=verified.verified,
        source=str(source),
    )


def _no_source(
    dataset: Dataset, file: DataFile, failures: list[tuple[Source, SourceFailure]]
) -> NoSourceError | DataError:
    """The error of a file that no source gave; where it lies on this machine and is wrong, the data are wrong."""
    answers = tuple(f"{source}: {failure}" for source, failure in failures)
    listed = "; ".join(f"({number}) {answer}" for number, answer in enumerate(answers, 1))
    expected = f"payload sha256 {file.payload_sha256}" if file.payload_sha256 else "an IDX file of what its name says"
    if file.containers and not file.payload_sha256:
        expected = "the published file by its digest"
    remedy = "Check the network and the proxy settings, or put the four files into a folder and give it with --data"
    if failures and all(isinstance(source, FolderSource) for source, _ in failures):
        remedy = "Put the right file there, and run again"
        if any(failure.wrong_bytes for _, failure in failures):
            return DataError(
                f"the {file.name} of {dataset.name} is not the one to use: {listed}", expected, remedy, file.name
            )
    return NoSourceError(
        f"no source gave {file.name} of {dataset.name}: {listed}",
        expected,
        remedy,
        file.name,
        answers,
        may_heal=any(failure.may_heal for _, failure in failures),
    )


def foreseen(
    artifacts: Path,
    dataset: Dataset,
    split: Split,
    role: Role,
) -> SourceFile | None:
    """What a tracked file on this machine is now, without keeping it; None for one that has to be fetched first."""
    file = dataset.file(split, role)
    source = dataset.sources_of(file)[0]
    if not isinstance(source, FolderSource) or file.member is not None:
        return None
    try:
        verified = _verify(local_path(source), file, role)
    except SourceFailure:
        return None
    name = f"{file.name}{verified.suffix}"
    kept = Store(artifacts).find("idx", verified.digest) or Handle(
        kind="idx",
        place=place_of("idx", verified.digest),
        digest=verified.digest,
        rows=verified.header.items,
        shape=verified.header.shape,
        dtype=verified.header.dtype.str,
        files={name: FileSeal(sha256="", bytes=0)},
    )
    return SourceFile(
        split=split, role=role, name=next(iter(kept.files)), idx=kept, verified=verified.verified, source=str(source)
    )


async def _waiting_may_help(_: Task[..., Any], __: TaskRun, state: State[Any]) -> bool:
    """A second round only after failures that pass: servers in trouble, broken connections."""
    error = await state.aresult(raise_on_failure=False)
    return isinstance(error, NoSourceError) and error.may_heal


@task(
    name="download",
    description="Fetches one IDX file from the first of its sources that gives the right bytes, and verifies them by "
    "SHA-256 before the file gets its name. What is there already is not fetched again.",
    task_run_name="download {split} {role}",
    retries=1,
    retry_delay_seconds=10,
    retry_condition_fn=_waiting_may_help,
    persist_result=True,
    result_serializer="json",
    cache_policy=Mirror(key_of=key_of, foreseen=foreseen),
)
def download(artifacts: Path, dataset: Dataset, split: Split, role: Role, anew: str | None = None) -> SourceFile:
    """Fetch one file of a dataset into the store below the artifacts root."""
    return fetch(dataset, split, role, Store(artifacts), progress_of(step_of(split, role)), anew=anew)
