"""The command `stepwise plan`: telling a plan. Not here: how it is foreseen (plan)."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from flows.datasets import resolved
from flows.plan import foreseen, plan_in_short
from flows.runs import print_json
from flows.warm_start import decided, terms_of
from tasks.publish.draft import Subject

if TYPE_CHECKING:
    from pathlib import Path

    from schemas.configuration import RunConfiguration
    from schemas.plan import Planned
    from schemas.policy import Policy


def tell_plan(
    configuration: RunConfiguration,
    data: Path | None,
    catalogs: tuple[Path, ...],
    artifacts: Path,
    policy: Policy,
    *,
    as_json: bool,
) -> None:
    """Print what a run would do, and why."""
    plan = foresee(configuration, data, catalogs, artifacts.absolute(), policy)
    if as_json:
        print_json([planned.model_dump() for planned in plan])
        return
    table = Table("step", "plan", "why", title=plan_in_short(plan), title_justify="left")
    for planned in plan:
        table.add_row(planned.step, planned.verdict, planned.why)
    Console().print(table)


def foresee(
    configuration: RunConfiguration, data: Path | None, catalogs: tuple[Path, ...], artifacts: Path, policy: Policy
) -> list[Planned]:
    """The plan of a run."""
    dataset, configuration = resolved(configuration, data, catalogs)
    subject = Subject.about(dataset, configuration, run="", created=datetime.datetime.now(datetime.UTC))
    terms = terms_of(decided(policy, artifacts, configuration), artifacts, configuration)
    return foreseen(artifacts, dataset, configuration, subject, terms)
