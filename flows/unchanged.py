"""Whether anything changed since the last published run. Here: the comparison; not here: what is done about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pydantic import ValidationError

from flows.runs import published
from schemas.configuration import RunConfiguration
from schemas.files import CONFIGURATION_FILE, RECEIPT_FILE, RUNS
from schemas.receipt import Receipt
from tasks.champions import Champions
from tasks.published import manifest_digest, stands, unsound
from tasks.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from schemas.catalog import Dataset
    from schemas.handles import SourceFile


JUDGING: Final = ("promotion", "drift")  # parts of a configuration that judge what is made, and make nothing


class NothingChangedError(Exception):
    """No file's digest and no setting changed: the run named stands. Ends the DAG early; no failure."""

    def __init__(self, run: str) -> None:
        super().__init__(run)
        self.run = run


def require_change(
    artifacts: Path, configuration: RunConfiguration, dataset: Dataset, files: Iterable[SourceFile]
) -> None:
    """Return where something changed since the last published run of this dataset and preset, or is left to do.

    What the catalog states of the data counts as they do: the same bytes may have other classes by now. Left to do is
    something where that run is damaged or was never judged, or where the champion is damaged.

    Raises:
        NothingChangedError: every digest and every setting is as it was then.
    """
    known, unreadable = published(artifacts)
    if unreadable:  # one of them may be the last
        return
    kind = (configuration.dataset, configuration.preset)
    for folder, manifest in known:
        if (manifest.dataset, manifest.preset) != kind:
            continue
        if manifest.stated not in {None, dataset.stated}:  # runs of earlier versions do not say
            return
        whole = not unsound(Store(artifacts), f"{RUNS}/{folder.name}", manifest_digest(folder))
        if whole and _same(folder, configuration, files) and _judged(artifacts, folder, configuration):
            raise NothingChangedError(folder.name)
        return


def _same(folder: Path, configuration: RunConfiguration, files: Iterable[SourceFile]) -> bool:
    """Whether a whole run was made from these files, with these settings but for those that judge."""
    receipt = Receipt.model_validate_json((folder / RECEIPT_FILE).read_bytes())
    before = {(file.split, file.role): file.payload_sha256 for file in receipt.files}
    try:
        settings = RunConfiguration.model_validate_json((folder / CONFIGURATION_FILE).read_bytes())
    except ValidationError:  # of a version that knew other settings
        return False
    if before != {(file.split, file.role): file.idx.digest for file in files}:
        return False
    as_today = settings.model_copy(update={name: getattr(configuration, name) for name in JUDGING})
    data = receipt.image_shape, receipt.ledger.count("train", "fitted") or 1
    return as_today.resolved(*data) == configuration.resolved(*data)


def _judged(artifacts: Path, folder: Path, configuration: RunConfiguration) -> bool:
    """Whether what the history last says of a run stands: else a run goes on, reuses everything and is judged.

    Not where the run ended before it was judged, where another became champion while it was, where the champion is no
    longer as it was when it became that, or where promotion is demanded and was refused.
    """
    history = Champions(artifacts, configuration.dataset).history()
    about = [entry for entry in history if entry.run == folder.name]
    if not about:
        return False
    record = history[-1].record
    if record and not stands(Store(artifacts), f"{RUNS}/{record.run}", record.manifest):
        return False
    if about[-1].refused and configuration.promotion.demanded:
        return False
    kept, verdict = about[-1].decision in {"kept", "undecided"}, about[-1].verdict
    return not (kept and verdict and verdict.champion != about[-1].was)
