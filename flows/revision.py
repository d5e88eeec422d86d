"""Running a run again: which published run the new one revises, and the form of the Prefect UI filled in for it.

Not here: what is done again (retrain), the command that does the same (run_command).
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from prefect.context import FlowRunContext
from prefect.settings import get_current_settings

from schemas.errors import ConfigurationError
from schemas.files import MANIFEST_FILE, RUNS
from schemas.plan import STAGES, differences
from schemas.presets import validated
from schemas.visible import without_user

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from flows.attempts import Attempt, Attempts
    from schemas.plan import Stage

COMPARED: Final = ("configuration", "data", "catalogs")


def revised(attempts: Attempts, artifacts: Path, of: str, parameters: Mapping[str, Any]) -> str | None:
    """The published run that a rerun of a run revises; None where neither it nor what it ran again was published.

    Raises:
        ConfigurationError: there is no such run, or it had another configuration or other data.
    """
    again = next((attempt for attempt in attempts.all() if of in {attempt.run, attempt.flow_run}), None)
    if again is None:
        if (artifacts / RUNS / of / MANIFEST_FILE).is_file():  # its record is gone
            return of
        raise ConfigurationError(
            f"of = '{of}': there is no such run here",
            "the whole name of a run, published or not",
            "See `stepwise runs --all`, or leave `of` empty for a run of its own",
            str(artifacts),
        )
    changed = differences(*({"settings": _compared(given)} for given in (again.parameters, parameters)))
    if changed:
        raise ConfigurationError(
            f"this is no rerun of {again.run}: {'; '.join(changed)}",
            "the configuration and the data of the run that is run again",
            "Fill in the form by the link in that run's artifacts, or leave `of` empty for a run of its own",
        )
    if again.published is None and again.parent:  # it was to do a part of that one again, and did not come to its end
        return revised(attempts, artifacts, again.parent, parameters)
    return again.published


def stages_left(attempt: Attempt, at: Stage | None) -> tuple[tuple[Stage, ...], bool]:
    """What a run that failed at a stage leaves to do again, and whether only those stages.

    Of a rerun: what it was asked for and had not done again yet. Else the stage that failed; the rest follows from it.
    """
    if not attempt.rerun or at is None:
        return attempt.rerun or ((at,) if at else ()), attempt.rerun_only or not attempt.rerun
    reached = STAGES.index(at)
    if attempt.rerun_only:
        return tuple(stage for stage in attempt.rerun if STAGES.index(stage) >= reached) or (at,), True
    return (STAGES[max(reached, min(map(STAGES.index, attempt.rerun)))],), False


def form_filled_in(attempt: Attempt, stages: Sequence[Stage], *, only: bool = False) -> str | None:
    """The address of the form that starts a rerun of this flow run, filled in; None where it has no deployment."""
    settings = get_current_settings()
    pages = settings.ui_url or settings.api.url
    running = FlowRunContext.get()  # not prefect.runtime, which asks the server each time where there is no deployment
    deployment = running.flow_run.deployment_id if running and running.flow_run else None
    if not pages or not deployment:
        return None
    again = {"rerun": list(stages), "rerun_only": only, "of": attempt.run}
    form = f"{without_user(pages).rstrip('/').removesuffix('/api')}/v2/deployments/deployment/{deployment}/run"
    parameters = json.dumps({**attempt.parameters, **again}, separators=(",", ":"))
    return f"{form}?parameters={quote(parameters, safe='')}"


def _compared(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What has to be the same; of a record of an earlier version, what is set today where it says nothing."""
    configuration = validated(parameters["configuration"]).model_dump(mode="json")
    return {**{name: parameters[name] for name in COMPARED}, "configuration": configuration}
