"""Commands of studies: timesteps. Not here: the study (flows/study)."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from flows.commands.data import with_folder
from flows.commands.options import DEFAULT_ARTIFACTS, Artifacts, AsJson, Catalogs, Data
from flows.embedded import begin_embedded_server
from flows.settings import require_home

study = typer.Typer(
    help="Studies: many trainings that answer one question, published as a page.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@study.command()
def timesteps(  # noqa: PLR0913 - one parameter an option
    dataset: Annotated[str, typer.Option(help="A dataset of the catalog: mnist, fashion-mnist, glyphs …")] = "mnist",
    data: Data = None,
    catalog: Catalogs = None,
    seeds: Annotated[int, typer.Option(min=1, help="How often each setting is trained.")] = 3,
    scan: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="rows, columns or permuted; all three unless named. Repeatable."),
    ] = None,
    timestep: Annotated[
        Optional[list[int]],  # noqa: UP045
        typer.Option("--timesteps", help="Only this T; every divisor of the pixels unless named. Repeatable."),
    ] = None,
    budget_minutes: Annotated[
        float, typer.Option(help="Sizes the subset: so long should three seeds of all scans take on two cores.")
    ] = 120.0,
    everything: Annotated[bool, typer.Option("--all", help="All images, all epochs of the question.")] = False,  # noqa: FBT002
    images: Annotated[Optional[int], typer.Option(min=1, help="No more training images than this.")] = None,  # noqa: UP045
    epochs: Annotated[Optional[int], typer.Option(min=1, help="So many epochs.")] = None,  # noqa: UP045
    dask: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(metavar="ADDRESS", help="A Dask scheduler to join; else workers on this machine."),
    ] = None,
    workers: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Workers on this machine; as many as processors and memory allow unless named."),
    ] = None,
    artifacts: Artifacts = DEFAULT_ARTIFACTS,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Train every split of an image's pixels into T steps of F, under two recipes, and publish a page that explains.

    Every point is kept as soon as it is measured: the same command goes on after a stop, and one more seed costs one
    more seed. Measured on training images held out; no test image is learned from or
    measured on.
    """
    from schemas.configuration import RunConfiguration
    from schemas.design import settings_of

    settings = settings_of(
        scans=tuple(scan or ()) or None,
        seeds=seeds,
        timesteps=tuple(sorted(set(timestep or ()))),
        everything=everything,
        budget_minutes=budget_minutes,
        images=images,
        epochs=epochs,
    )
    configuration, data = with_folder(RunConfiguration(dataset=dataset), None, data)
    require_home()
    begin_embedded_server()
    from flows.study_command import StudyRequest, study_and_tell

    catalogs = tuple(path.absolute() for path in catalog or ())
    request = StudyRequest(configuration.dataset, settings, data, catalogs, artifacts, dask, workers)
    study_and_tell(request, as_json=as_json)
