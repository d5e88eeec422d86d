"""The `stepwise` command: what a person types. Here: options, help, exit codes. Not here: anything a flow or task does.

Imports are kept inside the commands, and help is plain text (its Markdown costs 0.1 s), so that it answers at once.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from schemas.errors import StepwiseError

app = typer.Typer(
    name="stepwise",
    help="Retrain LSTM classifiers on IDX image data, with proof that no sample was lost on the way.\n\n"
    "Begin with: stepwise run",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_debug = False

Artifacts = Annotated[
    Path, typer.Option("--artifacts", help="Folder of outputs and published runs.", envvar="STEPWISE_ARTIFACTS")
]
AsJson = Annotated[bool, typer.Option("--json", help="Answer with one JSON value on standard output.")]
DEFAULT_ARTIFACTS = Path(__file__).resolve().parents[1] / "artifacts"


Chosen = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--dataset", help="A dataset of the catalog: mnist, fashion-mnist, glyphs …"),
]
Preset = Annotated[str, typer.Option(help="What to begin with: rows, smoke, question-16x49, answer-frames …")]
Config = Annotated[Optional[Path], typer.Option(help="A TOML file of values over the preset's.")]  # noqa: UP045
Settings = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--set", metavar="KEY=VALUE", help="One value over both, such as training.epochs=3. Repeatable."),
]
Data = Annotated[Optional[Path], typer.Option(help="A folder of IDX files to use in place of a dataset.")]  # noqa: UP045
Catalogs = Annotated[
    Optional[list[Path]],  # noqa: UP045
    typer.Option("--catalog", help="A TOML file with datasets of your own. Repeatable."),
]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="Name of a run, a part of it, or 'latest'.")]


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback where something fails.")] = False,  # noqa: FBT002
) -> None:
    """Options of every command."""
    global _debug  # noqa: PLW0603 - main() has to know it after typer is done
    _debug = debug


@app.command()
def run(  # noqa: PLR0913 - one parameter an option
    dataset: Chosen = None,
    preset: Preset = "rows",
    config: Config = None,
    settings: Settings = None,
    data: Data = None,
    catalog: Catalogs = None,
    artifacts: Artifacts = DEFAULT_ARTIFACTS,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Download, verify, reshape, train, evaluate and publish: the whole workflow.

    What is finished already is reused, so running again after a failure does only what is missing.

    Examples: `stepwise run`, `stepwise run --preset smoke`, `stepwise run --dataset fashion-mnist`,
    `stepwise run --data my-digits/ --set reshape.timesteps=14`, and `stepwise run --preset question-3750` to see how
    a reshape that loses its labels is stopped.
    """
    from schemas.presets import configured

    configuration = configured(preset, config, settings or (), dataset)
    from flows.running import Request, run_and_tell

    run_and_tell(Request(configuration, data, tuple(catalog or ()), artifacts), as_json=as_json)


@app.command()
def plan(  # noqa: PLR0913 - one parameter an option
    dataset: Chosen = None,
    preset: Preset = "rows",
    config: Config = None,
    settings: Settings = None,
    data: Data = None,
    catalog: Catalogs = None,
    artifacts: Artifacts = DEFAULT_ARTIFACTS,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Tell what `stepwise run` with the same options would do, step by step, and why; nothing is done or changed.

    run: the output is not there. reuse: it is, whole. follows: an earlier step has to run first, and what it gives
    decides.
    """
    from schemas.presets import configured

    configuration = configured(preset, config, settings or (), dataset)
    from flows.planning import tell_plan

    tell_plan(configuration, data, tuple(catalog or ()), artifacts, as_json=as_json)


@app.command()
def rerun(
    run_name: RunName,
    task: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(help="A stage to do again although its output is there, and what hangs on it. Repeatable."),
    ] = None,
    only: Annotated[  # noqa: FBT002
        bool, typer.Option("--only", help="That stage alone; what follows only if it gives something else.")
    ] = False,
    artifacts: Artifacts = DEFAULT_ARTIFACTS,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Run a run again, published or failed, with its own configuration and data.

    Without --task, what failed is done and all that was finished is reused. With --task evaluate, the evaluation and
    what hangs on it are done again; a published run is never changed: the new one names it as its parent.
    """
    from schemas.plan import stages_named

    stages = stages_named(task or ())
    from flows.running import rerun_and_tell

    rerun_and_tell(artifacts, run_name, stages, only=only, as_json=as_json)


@app.command()
def runs(artifacts: Artifacts = DEFAULT_ARTIFACTS, as_json: AsJson = False) -> None:  # noqa: FBT002
    """List the published runs, the newest first."""
    from flows.runs import list_runs

    list_runs(artifacts, as_json=as_json)


@app.command()
def show(
    run_name: Annotated[str, typer.Argument(metavar="RUN", help="Name of a run, a part of it, or 'latest'.")],
    artifacts: Artifacts = DEFAULT_ARTIFACTS,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Show one published run: its result, its ledger, its files; damaged files are named."""
    from flows.runs import show_one

    show_one(artifacts, run_name, as_json=as_json)


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(help="The file: plain, gzip, xz or zip.")],
    member: Annotated[Optional[str], typer.Option(help="The file inside, where it is a zip.")] = None,  # noqa: UP045
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Tell what an IDX file is: type, shape, digests, values; or what it is instead."""
    from flows.files import inspect_file

    inspect_file(file, member, as_json=as_json)


@app.command()
def convert(
    images: Annotated[Path, typer.Argument(help="IDX file of images.")],
    labels: Annotated[Optional[Path], typer.Argument(help="IDX file of their labels.")] = None,  # noqa: UP045
    output: Annotated[Path, typer.Option("--output", "-o", help="The Parquet file to write.")] = Path(
        "samples.parquet"
    ),
) -> None:
    """Convert IDX files to one Parquet table, streaming: index, label, pixels."""
    from flows.files import convert_files

    convert_files(images, labels, output)


@app.command()
def predict(
    images: Annotated[Path, typer.Argument(help="IDX file of images.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The Parquet file to write.")],
    run_name: Annotated[str, typer.Option("--run", help="The run whose model answers.")] = "latest",
    artifacts: Artifacts = DEFAULT_ARTIFACTS,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Let a published model answer every image of an IDX file: index, predicted, probabilities."""
    from flows.predict import predict_file

    predict_file(artifacts, images, output, run_name, as_json=as_json)


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="Port on this machine.")] = 4200,
    host: Annotated[
        str, typer.Option(help="Address to listen at; others than localhost show it to the network.")
    ] = "127.0.0.1",
) -> None:
    """Serve the Prefect UI with all runs made so far, until Ctrl-C."""
    from flows.server import serve_ui

    serve_ui(host, port)


InstallationFile = Annotated[Path, typer.Option("--file", help="The installation: what is deployed when.")]


@app.command()
def deploy(file: InstallationFile = Path("stepwise.toml")) -> None:
    """Put the installation's work pool, deployments, schedules and limits onto the Prefect server.

    The server is the one at PREFECT_API_URL, else the one of `stepwise ui` and `stepwise run`. Each item is told:
    unchanged, created, or what changed. Again changes nothing.
    """
    from flows.deploy import deploy_and_tell

    deploy_and_tell(file)


@app.command()
def up(
    file: InstallationFile = Path("stepwise.toml"),
    port: Annotated[int, typer.Option(help="Port of the server.")] = 4200,
    host: Annotated[
        str, typer.Option(help="Address to listen at; others than localhost show it to the network.")
    ] = "127.0.0.1",
) -> None:
    """Start everything on this machine and keep it running: server, deployments, worker, watchdog. Ctrl-C stops all.

    The database is SQLite, or Postgres where database_url of the file or PREFECT_SERVER_DATABASE_CONNECTION_URL names
    one; PREFECT_SERVER_API_AUTH_STRING=user:password asks everybody for a password.
    """
    from flows.up import up as start

    start(file, host, port)


@app.command()
def watch(file: InstallationFile = Path("stepwise.toml")) -> None:
    """Watch over runs whose worker `stepwise up` did not start, on that worker's machine, until Ctrl-C.

    Dead runs are marked as crashed, crashed ones tried again, missed ones made up for by one, failures told.
    """
    from flows.watchdog import watch as keep_watching

    keep_watching(file)


def main() -> None:
    """Run the command; errors for people become one paragraph and an exit code."""
    from flows.settings import prepare_environment

    prepare_environment(debug="--debug" in sys.argv)
    try:
        app()
    except StepwiseError as error:
        if _debug:
            raise
        typer.echo(f"stepwise: {error}", err=True)
        sys.exit(error.exit_code)
    except Exception as error:
        if _debug:
            raise
        typer.echo(f"stepwise: {type(error).__name__}: {error}. Run `stepwise --debug …` for a traceback.", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
