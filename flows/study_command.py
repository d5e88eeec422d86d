"""The study from the command: its lines while it runs, the path of its page after it. Not here: the flow (study)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prefect import tags
from rich.console import Console

from flows.console_log import logged
from flows.datasets import dataset_for
from flows.embedded import bind_embedded_server
from flows.runs import print_json
from flows.shutdown import end_in_time
from flows.study import study_timesteps
from schemas.configuration import RunConfiguration

if TYPE_CHECKING:
    from pathlib import Path

    from schemas.design import StudySettings


@dataclass(frozen=True)
class StudyRequest:
    """What a study is asked for: the flow's parameters."""

    dataset: str
    settings: StudySettings
    data: Path | None
    catalogs: tuple[Path, ...]
    artifacts: Path
    dask: str | None
    workers: int | None


def study_and_tell(request: StudyRequest, *, as_json: bool) -> None:
    """Run the study; a line for each point, and in the end where the page is."""
    dataset_for(RunConfiguration(dataset=request.dataset), request.data, request.catalogs)  # before Prefect starts
    end_in_time()
    bind_embedded_server()
    console = Console(stderr=as_json)
    with logged(console, logging.INFO), tags(request.dataset, "study"):
        published = study_timesteps(**vars(request))
    folder = request.artifacts.absolute() / published.place
    if as_json:
        print_json({**published.model_dump(mode="json"), "folder": str(folder)})
        return
    console.print(f"study: {published.study}", highlight=False, soft_wrap=True)
    console.print(f"page: {folder / 'study.html'}", highlight=False, soft_wrap=True)
