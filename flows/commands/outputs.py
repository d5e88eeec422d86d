"""Commands about what runs left: runs, show, clean, predict."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from flows.commands.options import DEFAULT_ARTIFACTS, DEFAULT_FILE, Artifacts, ArtifactsOfFile, AsJson, InstallationFile
from flows.settings import require_home


def runs(
    every: Annotated[bool, typer.Option("--all", help="Failed ones too, and those that found nothing to do.")] = False,  # noqa: FBT002
    html: Annotated[bool, typer.Option("--html", help="Make the page of all runs anew and say where it is.")] = False,  # noqa: FBT002
    artifacts: Artifacts = DEFAULT_ARTIFACTS,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """List the published runs, the newest first; with --all everything that was tried; with --html as a page."""
    from flows.runs import list_attempts, list_runs, write_page

    listed = write_page if html else list_attempts if every else list_runs
    listed(artifacts, as_json=as_json)


def show(
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="Name of a run, a part of it, or 'latest'.")],
    artifacts: Artifacts = DEFAULT_ARTIFACTS,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Show one published run: its result, its ledger, its files; damaged files are named, and end it with code 5."""
    from flows.runs import show_one
    from schemas.errors import StorageError

    if not show_one(artifacts, run_name, as_json=as_json):
        raise typer.Exit(StorageError.exit_code)


def clean(
    keep_runs: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=1, help="Keep so many published runs of each dataset and preset."),
    ] = None,
    keep_days: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(min=0, help="Keep those younger than so many days."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it, only say what would go.")] = False,  # noqa: FBT002
    file: InstallationFile = DEFAULT_FILE,
    artifacts: ArtifactsOfFile = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Remove old runs with all that only they needed: files, outputs in the store, Prefect's rows and results.

    What either rule keeps stays, the newest run of each dataset and preset in any case, champions and those before
    them, runs whose weights another began with, unpublished work younger than a day, checkpoints of two weeks, studies
    and what their points measured. Without --keep-runs and --keep-days the file's `retention` says what is kept. While
    a run goes on nothing is listed or removed (exit code 5).
    """
    require_home()
    from flows.clean import Keeping
    from flows.clean import clean as removed
    from schemas.installation import Installation, load_installation

    installed = load_installation(file) if file.exists() else Installation(artifacts=DEFAULT_ARTIFACTS)
    keep = installed.retention
    given = keep_runs is not None or keep_days is not None
    keeping = Keeping(keep_runs, keep_days) if given else Keeping(keep.keep_runs, keep.keep_days)
    removed(artifacts or installed.artifacts, keeping, really=yes, as_json=as_json)


def predict(
    images: Annotated[Path, typer.Argument(help="IDX file of images.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The Parquet file to write.")],
    run_name: Annotated[
        str, typer.Option("--run", help="The run whose model answers: its name, 'champion' or 'latest'.")
    ] = "champion",
    dataset: Annotated[Optional[str], typer.Option(help="Whose champion, where several datasets have one.")] = None,  # noqa: UP045
    artifacts: Artifacts = DEFAULT_ARTIFACTS,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Let the champion, or another published model, answer every image of an IDX file.

    The table has index, predicted and probabilities, a row an image.
    """
    from flows.champion import answering_run
    from flows.predict import predict_file

    predict_file(artifacts, images, output, answering_run(artifacts, run_name, dataset), as_json=as_json)
