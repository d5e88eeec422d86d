"""Commands that retrain: run, plan, rerun."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from flows.commands.data import with_folder
from flows.commands.options import (
    DEFAULT_ARTIFACTS,
    Artifacts,
    AsJson,
    Catalogs,
    Chosen,
    Config,
    Data,
    Preset,
    RunName,
    Settings,
    Start,
    StartFrom,
)
from flows.embedded import begin_embedded_server
from flows.settings import require_home


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
    from schemas.policy import asked
    from schemas.presets import configured

    configuration = configured(preset, config, settings or (), dataset)
    policy = asked(when_unchanged=when_unchanged, start=start, start_from=start_from, budget_minutes=budget_minutes)
    configuration, data = with_folder(configuration, dataset, data)
    require_home()
    begin_embedded_server()
    from flows.run_command import Request, run_and_tell

    # Absolute, so that the run can be run again from any folder.
    catalogs = tuple(path.absolute() for path in catalog or ())
    run_and_tell(Request(configuration, data, catalogs, artifacts, policy), as_json=as_json)


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
    from schemas.policy import asked
    from schemas.presets import configured

    configuration = configured(preset, config, settings or (), dataset)
    policy = asked(start=start, start_from=start_from)
    configuration, data = with_folder(configuration, dataset, data)
    from flows.plan_command import tell_plan

    tell_plan(configuration, data, tuple(catalog or ()), artifacts, policy, as_json=as_json)


def rerun(
    run_name: RunName,
    task: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Option(
            metavar="STAGE",
            help="A stage to do again although its output is there, and what hangs on it: download, parse, validate, "
            "reshape, drift, train, evaluate, compare, publish or promote. Repeatable.",
        ),
    ] = None,
    only: Annotated[  # noqa: FBT002
        bool, typer.Option("--only", help="Those stages alone; what follows only if they give something else.")
    ] = False,
    artifacts: Artifacts = DEFAULT_ARTIFACTS,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Run a run again, published or failed, with its own configuration and data.

    Without --task, what failed is done and all that was finished is reused. With --task evaluate, the evaluation and
    what hangs on it are done again; a published run is never changed: the new one names it as its parent.
    """
    from flows.attempts import Attempts
    from schemas.plan import stages_named

    stages = stages_named(task or ())
    Attempts(artifacts).find(run_name)  # a name that nobody knows is told before Prefect starts
    require_home()
    begin_embedded_server()
    from flows.run_command import rerun_and_tell

    rerun_and_tell(artifacts, run_name, stages, only=only, as_json=as_json)
