"""Commands about the champion: show, history, promote, rollback. Not here: what they do (flows/champion)."""

from __future__ import annotations

from typing import Annotated, Optional

import typer

from flows.commands.options import DEFAULT_ARTIFACTS, Artifacts, AsJson, RunName

champion = typer.Typer(
    help="The champion: the published model that new ones are compared with, and that answers `stepwise predict`.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
OfDataset = Annotated[Optional[str], typer.Option("--dataset", help="The dataset whose champion is meant.")]  # noqa: UP045


@champion.command("show")
def show(
    dataset: OfDataset = None,
    artifacts: Artifacts = DEFAULT_ARTIFACTS,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Tell who is champion of each dataset."""
    from flows.champion import show_champions

    show_champions(artifacts, dataset, as_json=as_json)


@champion.command("history")
def history(
    dataset: OfDataset = None,
    artifacts: Artifacts = DEFAULT_ARTIFACTS,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Tell all that was ever decided about the champion's place, and why."""
    from flows.champion import show_history

    show_history(artifacts, dataset, as_json=as_json)


@champion.command("promote")
def promote(
    run_name: RunName,
    reason: Annotated[str, typer.Option(help="Why, for the history.")],
    artifacts: Artifacts = DEFAULT_ARTIFACTS,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Make a published run the champion by hand, whatever its verdict says; recorded as that, with the reason.

    Refused with exit code 6 where the run's files, receipt or counts do not hold, or where its model, tried again in a
    fresh process, answers otherwise than it did.
    """
    from flows.champion import promote_by_hand

    promote_by_hand(artifacts.absolute(), run_name, reason, as_json=as_json)


@champion.command("rollback")
def rollback(
    reason: Annotated[str, typer.Option(help="Why, for the history.")] = "",
    dataset: OfDataset = None,
    artifacts: Artifacts = DEFAULT_ARTIFACTS,
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Give the place back to the champion before; again, to the one before that."""
    from flows.champion import roll_back

    roll_back(artifacts.absolute(), dataset, reason, as_json=as_json)
