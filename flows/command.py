"""The `stepwise` command: its commands, exit codes and errors. Not here: what a command takes (commands), or does.

What a command does is imported when it is called, and help is plain text (its Markdown costs 0.1 s), so that it answers
at once.
"""

from __future__ import annotations

import sys
import traceback
from typing import Annotated

import typer

from flows.commands import champions, files, installing, outputs, retraining, studies
from flows.embedded import gone
from flows.settings import prepare_environment, problem_of_home
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
COMMANDS = (
    *(retraining.run, retraining.plan, retraining.rerun),
    *(outputs.runs, outputs.show, outputs.predict, outputs.clean),
    *(files.inspect, files.convert),
    *(installing.ui, installing.up, installing.deploy, installing.watch, installing.doctor),
)
for command in COMMANDS:
    app.command()(command)
app.add_typer(champions.champion, name="champion")
app.add_typer(studies.study, name="study")
_debug = False


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback where something fails.")] = False,  # noqa: FBT002
) -> None:
    """Options of every command."""
    global _debug  # noqa: PLW0603 - main() has to know it after typer is done
    _debug = debug


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
        known = error if isinstance(error, StepwiseError) else problem_of_home() or gone() or _unforeseen(error)
        _answer(known, error, known.exit_code)
        if _debug:
            raise
        typer.echo(f"stepwise: {known}", err=True)
        sys.exit(known.exit_code)


def _unforeseen(error: Exception) -> StepwiseError:
    if isinstance(error, OSError) and error.strerror and isinstance(error.filename, str):
        words = error.strerror[0].lower() + error.strerror[1:]
        remedy = "Check the path and who may use it; `stepwise --debug …` shows where this happened"
        return StepwiseError(words, "a path that can be used", remedy, error.filename)
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
    from schemas.plan import STAGES

    for frame, _ in traceback.walk_tb(error.__traceback__):
        package, _, rest = str(frame.f_globals.get("__name__", "")).partition(".")
        if package == "tasks" and (stage := rest.partition(".")[0]) in STAGES:
            return stage
    return None


if __name__ == "__main__":
    main()
