"""The `stepwise` command: what a person types. Here: options, help, exit codes. Not here: anything a flow or task does.

Imports are kept inside the commands, and help is plain text (its Markdown costs 0.1 s), so that it answers at once.
"""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

from flows.settings import prepare_environment, problem_of_home, require_home
from schemas.errors import ConfigurationError, StepwiseError

if TYPE_CHECKING:
    from schemas.configuration import RunConfiguration

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
ArtifactsOfFile = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--artifacts", help="Folder of outputs, where not the file's.", envvar="STEPWISE_ARTIFACTS"),
]
InstallationFile = Annotated[Path, typer.Option("--file", help="The installation: what is deployed when.")]
AsJson = Annotated[bool, typer.Option("--json", help="Answer with one JSON value on standard output.")]
DEFAULT_ARTIFACTS = Path(__file__).resolve().parents[1] / "artifacts"
STAGES = ("download", "parse", "validate", "reshape", "drift", "train", "evaluate", "compare", "publish", "promote")


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
Start = Annotated[
    str, typer.Option(help="'warm' begins training with the champion's weights, where they fit; or 'cold'.")
]
StartFrom = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(metavar="RUN", help="A warm start from this published run."),
]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="Name of a run, a part of it, or 'latest'.")]


def _with_folder(
    configuration: RunConfiguration, dataset: str | None, data: Path | None
) -> tuple[RunConfiguration, Path | None]:
    """Where a folder is given, it is the dataset, and the run bears its name from the beginning."""
    if data is None:
        return configuration, None
    from schemas.catalog import dataset_of_folder

    if dataset is not None:
        raise ConfigurationError(
            f"--dataset {dataset} and --data {data} were both given", "one of them", "Leave one of them out"
        )
    data = data.absolute()
    return configuration.model_copy(update={"dataset": dataset_of_folder(data).name}), data


def _named(dataset: str) -> RunConfiguration:
    from schemas.configuration import RunConfiguration

    return RunConfiguration(dataset=dataset)


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
    when_unchanged: Annotated[
        str,
        typer.Option(help="'skip' ends the run after the downloads where nothing changed; or 'go on'."),
    ] = "go on",
    start: Start = "cold",
    start_from: StartFrom = None,
    budget_minutes: Annotated[
        Optional[float],  # noqa: UP045
        typer.Option(help="Wall time for training; then it stops at a checkpoint, and the next run goes on."),
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
    from schemas.policy import policy_of
    from schemas.presets import configured

    configuration = configured(preset, config, settings or (), dataset)
    policy = policy_of(when_unchanged=when_unchanged, start=start, start_from=start_from, budget_minutes=budget_minutes)
    configuration, data = _with_folder(configuration, dataset, data)
    require_home()
    from flows.running import Request, run_and_tell

    # Absolute, so that the run can be run again from any folder.
    catalogs = tuple(path.absolute() for path in catalog or ())
    run_and_tell(Request(configuration, data, catalogs, artifacts, policy), as_json=as_json)


@app.command()
def plan(  # noqa: PLR0913 - one parameter an option
    dataset: Chosen = None,
    preset: Preset = "rows",
    config: Config = None,
    settings: Settings = None,
    data: Data = None,
    catalog: Catalogs = None,
    start: Start = "cold",
    start_from: StartFrom = None,
    artifacts: Artifacts = DEFAULT_ARTIFACTS,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Tell what `stepwise run` with the same options would do, step by step, and why; nothing is done or changed.

    run: the output is not there. reuse: it is, whole. follows: an earlier step has to run first, and what it gives
    decides.
    """
    from schemas.policy import policy_of
    from schemas.presets import configured

    configuration = configured(preset, config, settings or (), dataset)
    policy = policy_of(start=start, start_from=start_from)
    configuration, data = _with_folder(configuration, dataset, data)
    from flows.planning import tell_plan

    tell_plan(configuration, data, tuple(catalog or ()), artifacts, policy, as_json=as_json)


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
    require_home()
    from flows.running import rerun_and_tell

    rerun_and_tell(artifacts, run_name, stages, only=only, as_json=as_json)


@app.command()
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


@app.command()
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
    file: InstallationFile = Path("stepwise.toml"),
    artifacts: ArtifactsOfFile = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Remove old runs with all that only they needed: files, outputs in the store, Prefect's rows and results.

    What either rule keeps stays, the newest run of each dataset and preset in any case, and so does unpublished work
    younger than a day. Without --keep-runs and --keep-days the file's `retention` says what is kept. Nothing is removed
    while a run goes on.
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


study = typer.Typer(
    help="Studies: many trainings that answer one question, published as a page.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(study, name="study")


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
    more seed. Measured on training images held out; the test set is never opened.
    """
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
    configuration, data = _with_folder(_named(dataset), None, data)
    require_home()
    from flows.studying import StudyRequest, study_and_tell

    catalogs = tuple(path.absolute() for path in catalog or ())
    request = StudyRequest(configuration.dataset, settings, data, catalogs, artifacts, dask, workers)
    study_and_tell(request, as_json=as_json)


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


champion = typer.Typer(
    help="The champion: the published model that new ones are compared with, and that answers `stepwise predict`.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.add_typer(champion, name="champion")
OfDataset = Annotated[Optional[str], typer.Option("--dataset", help="The dataset whose champion is meant.")]  # noqa: UP045


@champion.command("show")
def champion_show(
    dataset: OfDataset = None,
    artifacts: Artifacts = DEFAULT_ARTIFACTS,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Tell who is champion of each dataset."""
    from flows.champion import show_champions

    show_champions(artifacts, dataset, as_json=as_json)


@champion.command("history")
def champion_history(
    dataset: OfDataset = None,
    artifacts: Artifacts = DEFAULT_ARTIFACTS,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Tell all that was ever decided about the champion's place, and why."""
    from flows.champion import show_history

    show_history(artifacts, dataset, as_json=as_json)


@champion.command("promote")
def champion_promote(
    run_name: RunName,
    reason: Annotated[str, typer.Option(help="Why, for the history.")],
    artifacts: Artifacts = DEFAULT_ARTIFACTS,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Make a published run the champion by hand, whatever its verdict says; recorded as that, with the reason.

    Refused with exit code 6 where the run's files, receipt or counts do not hold.
    """
    from flows.champion import promote_by_hand

    promote_by_hand(artifacts.absolute(), run_name, reason, as_json=as_json)


@champion.command("rollback")
def champion_rollback(
    reason: Annotated[str, typer.Option(help="Why, for the history.")] = "",
    dataset: OfDataset = None,
    artifacts: Artifacts = DEFAULT_ARTIFACTS,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Give the place back to the champion before; again, to the one before that."""
    from flows.champion import roll_back

    roll_back(artifacts.absolute(), dataset, reason, as_json=as_json)


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="Port on this machine.")] = 4200,
    host: Annotated[
        str, typer.Option(help="Address to listen at; others than localhost show it to the network.")
    ] = "127.0.0.1",
    artifacts: Artifacts = DEFAULT_ARTIFACTS,
) -> None:
    """Serve the Prefect UI with all runs made so far, until Ctrl-C; those of the artifacts that died are marked so."""
    from flows.pages import serve_ui

    require_home()
    serve_ui(host, port, artifacts)


@app.command()
def deploy(file: InstallationFile = Path("stepwise.toml")) -> None:
    """Put the installation's work pool, deployments, schedules and limits onto the Prefect server.

    The server is the one at PREFECT_API_URL, else the one of `stepwise ui` and `stepwise run`. Each item is told:
    unchanged, created, or what changed. Again changes nothing.
    """
    require_home()
    from flows.installation.deploy import deploy_and_tell

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
    require_home(database=False)
    from flows.installation.up import up as start

    start(file, host, port)


@app.command()
def doctor(
    deep: Annotated[  # noqa: FBT002
        bool, typer.Option("--deep", help="Compare every byte of every output with its digest, not sizes alone.")
    ] = False,
    file: InstallationFile = Path("stepwise.toml"),
    artifacts: ArtifactsOfFile = None,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Examine this machine, its outputs, its sources and the Prefect server; each finding with its remedy.

    Nothing is changed. Without a file, the defaults are examined. The exit code is 0 where nothing is bad, else that of
    the first bad finding: 2 the installation, its file or the password; 4 the server or a source; 5 outputs or disk;
    1 anything else.
    """
    from flows.doctor import examine_and_tell

    code = examine_and_tell(file, artifacts, DEFAULT_ARTIFACTS, deep=deep, as_json=as_json)
    raise typer.Exit(code)


@app.command()
def watch(file: InstallationFile = Path("stepwise.toml")) -> None:
    """Watch over runs whose worker `stepwise up` did not start, on that worker's machine, until Ctrl-C.

    Dead runs are marked as crashed, crashed ones tried again, missed ones made up for by one, failures told.
    """
    from flows.installation.watchdog import watch as keep_watching

    keep_watching(file)


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
        known = error if isinstance(error, StepwiseError) else problem_of_home() or _unforeseen(error)
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
