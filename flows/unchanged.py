"""Whether anything changed since the last published run. Here: the comparison; not here: what is done about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from flows.runs import manifests
from schemas.configuration import RunConfiguration
from schemas.files import CONFIGURATION_FILE, RECEIPT_FILE
from schemas.receipt import Receipt
from tasks.published import manifest_digest, unsound
from tasks.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from schemas.handles import SourceFile


JUDGING: Final = ("promotion", "drift")  # parts of a configuration that judge what is made, and make nothing


class NothingChangedError(Exception):
    """No file's digest and no setting changed: the run named stands. Ends the DAG early; no failure."""

    def __init__(self, run: str) -> None:
        super().__init__(run)
        self.run = run


def require_change(artifacts: Path, configuration: RunConfiguration, files: Iterable[SourceFile]) -> None:
    """Return where something changed since the last published run of this dataset and preset, or it is damaged.

    Raises:
        NothingChangedError: every digest and every setting is as it was then.
    """
    now = {(file.split, file.role): file.idx.digest for file in files}
    for folder, manifest in manifests(artifacts):
        if (manifest["dataset"], manifest["preset"]) != (configuration.dataset, configuration.preset):
            continue
        receipt = Receipt.model_validate_json((folder / RECEIPT_FILE).read_bytes())
        before = {(file.split, file.role): file.payload_sha256 for file in receipt.files}
        settings = RunConfiguration.model_validate_json((folder / CONFIGURATION_FILE).read_bytes())
        same = settings.model_copy(update={name: getattr(configuration, name) for name in JUDGING}) == configuration
        if before == now and same and not unsound(Store(artifacts), f"runs/{folder.name}", manifest_digest(folder)):
            raise NothingChangedError(folder.name)
        return
