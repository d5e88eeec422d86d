"""The `stepwise` command: what a person types. Here: options, help, exit codes. Not here: anything a flow or task does.

Imports are kept inside the commands, and help is plain text (its Markdown costs 0.1 s), so that it answers at once.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import Annotated, Optional

import typer

from flows.settings import prepare_environment, require_home
from schemas.errors import ConfigurationError, StepwiseError

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
STAGES = ("download", "parse", "validate", "reshape", "train", "evaluate", "publish")


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback where something fails.")] = False,  # noqa: FBT002
) -> None:
    """Options of every command."""
    global _debug  # noqa: PLW0603 - main() has to know it after typer is done
    _debug = debug


@app.command()
def run(  # noqa: PLR0913 - one parameter an option
    dataset: Annotated[
        str | None, typer.Option(help="A dataset of the catalog: mnist, fashion-mnist, glyphs …")
    ] = None,
    preset: Annotated[
        str, typer.Option(help="What to begin with: rows, smoke, question-16x49, answer-frames …")
    ] = "rows",
    config: Annotated[Optional[Path], typer.Option(help="A TOML file of values over the preset's.")] = None,  # noqa: UP045
    settings: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option("--set", metavar="KEY=VALUE", help="One value over both, such as training.epochs=3. Repeatable."),
    ] = None,
    data: Annotated[Optional[Path], typer.Option(help="A folder of IDX files to use in place of a dataset.")] = None,  # noqa: UP045
    catalog: Annotated[
        Optional[list[Path]],  # noqa: UP045
        typer.Option(help="A TOML file with datasets of your own. Repeatable."),
    ] = None,
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
    if data is not None:
        from schemas.catalog import dataset_of_folder

        if dataset is not None:
            raise ConfigurationError(
                f"--dataset {dataset} and --data {data} were both given", "one of them", "Leave one of them out"
            )
        data = data.absolute()  # the command that a failed run leaves behind works from any folder
        # The run bears the folder's name from its beginning, in the Prefect UI too.
        configuration = configuration.model_copy(update={"dataset": dataset_of_folder(data).name})
    require_home()
    from flows.running import run_and_tell

    catalogs = tuple(path.absolute() for path in catalog or ())
    run_and_tell(configuration, data, catalogs, artifacts, as_json=as_json)


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

    require_home()
    serve_ui(host, port)


def main() -> None:
    """Run the command; errors for people become one paragraph and an exit code, for programs one JSON value as well."""
    prepare_environment(debug="--debug" in sys.argv)
    try:
        sys.exit(app(standalone_mode=False))
    except typer.TyperException as error:  # the command line itself is wrong
        error.show()  # type: ignore[attr-defined] # whatever typer raises has it
        _answer(StepwiseError(error.format_message(), "", "See `stepwise --help`"), error, error.exit_code)
        sys.exit(error.exit_code)
    except Exception as error:
        known = error if isinstance(error, StepwiseError) else _unforeseen(error)
        _answer(known, error, known.exit_code)
        if _debug:
            raise
        typer.echo(f"stepwise: {known}", err=True)
        sys.exit(known.exit_code)


def _unforeseen(error: Exception) -> StepwiseError:
    return StepwiseError(f"{type(error).__name__}: {error}", "", "Run `stepwise --debug …` for a traceback")


def _answer(error: StepwiseError, raised: Exception, exit_code: int) -> None:
    """Give a program that asked for JSON the failure as one value on standard output."""
    if "--json" not in sys.argv:
        return
    from flows.runs import print_json

    texts = {name: getattr(error, name) or None for name in ("found", "expected", "remedy", "file")}
    print_json({"error": {**texts, "stage": stage_of(raised), "exit_code": exit_code}})


def stage_of(error: BaseException) -> str | None:
    """The stage in whose code an error arose; None where it was in none."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        package, _, rest = str(frame.f_globals.get("__name__", "")).partition(".")
        if package == "tasks" and (stage := rest.partition(".")[0]) in STAGES:
            return stage
    return None


if __name__ == "__main__":
    main()
