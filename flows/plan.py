"""Foreseeing a run: for each step, run or reuse, and why, without doing or changing anything.

Where a step has to run, what it will give is known only if the store remembers it for the same key (the output was
lost, or is demanded anew): equal keys give equal outputs. Else the steps after it follow: what it gives decides.
"""

from __future__ import annotations

import dataclasses
import inspect
from typing import TYPE_CHECKING, Any, Final

from flows.dag import chain
from schemas.plan import Planned, Verdict, differences
from tasks.mirror import Mirror
from tasks.stage import understood
from tasks.store import Store, handles_in
from tasks.wording import as_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from prefect import Task

    from schemas.catalog import Dataset
    from schemas.configuration import RunConfiguration
    from schemas.handles import Split
    from tasks.publish.draft import Subject
    from tasks.stage import Key
    from tasks.store import Record
    from tasks.train import Terms

MOST_REASONS: Final = 3
NEVER: Final = "never made before"


@dataclasses.dataclass(frozen=True)
class Unknown:
    """A result that is not known before its step ran."""

    step: str
    split: Split | None


def foreseen(
    artifacts: Path,
    dataset: Dataset,
    configuration: RunConfiguration,
    subject: Subject,
    terms: Terms,
    demands: Callable[[str], str | None] = lambda _: None,
) -> list[Planned]:
    """What a run would do, step by step, given which stages are demanded anew."""
    foresight = Foresight(demands)
    chain(foresight, artifacts, dataset, configuration, subject, terms=terms)
    return foresight.planned


class Foresight:
    """Goes through the DAG in place of a run, and writes down what would happen."""

    def __init__(self, demands: Callable[[str], str | None] = lambda _: None) -> None:
        self.planned: list[Planned] = []
        self._demands = demands
        self._coming: set[str] = set()  # places of outputs that will be there once their step has been reached

    def __call__(self, task: Task[..., Any], *arguments: object) -> Any:  # noqa: ANN401 - a result or Unknown
        """Foresee one step."""
        bound = inspect.signature(task.fn).bind(*arguments, anew=self._demands(task.name))
        bound.apply_defaults()
        given: dict[str, Any] = bound.arguments
        step = str(task.task_run_name).format(**given)
        waits = _unknown_in(arguments)
        if waits:
            self._note(step, *self._following(Store(given["artifacts"]), task.name, waits))
            return Unknown(step, _split_of(given))
        policy = task.cache_policy
        assert isinstance(policy, Mirror), f"{task.name} does not mirror the store"  # noqa: S101 - a mistake of ours
        key = policy.key(given)
        if key is None:
            self._note(step, "run", policy.always)
            told = policy.told(given)
            if told is None:
                return Unknown(step, _split_of(given))
            self._coming |= {handle.place for handle in handles_in(told.model_dump(mode="json"))}
            return told
        return self._judged(Store(given["artifacts"]), key, given["anew"]) or Unknown(step, _split_of(given))

    def _judged(self, store: Store, key: Key[Any], anew: str | None) -> Any:  # noqa: ANN401 - the stage's form
        """What the step will give where that is known, else None."""
        output = understood(key, store.foretell(key.stage, key.digest, self._coming))
        record = store.record(key.stage, key.digest)
        demanded = anew is not None and not store.was_met(anew, key.step)
        if output is not None and not demanded:
            self._note(key.step, "reuse", "nothing changed")
        elif demanded:
            self._note(key.step, "run", "demanded anew")
        elif record is not None:
            self._note(key.step, "run", "its output is missing or damaged")
        else:
            self._note(key.step, "run", why(key, store.records(key.stage)))
        if record is not None:
            self._coming |= {handle.place for handle in record.handles}
        return output or understood(dataclasses.replace(key, stands=lambda _: True), record.value if record else None)

    def _following(self, store: Store, stage: str, waits: Unknown) -> tuple[Verdict, str]:
        if not store.records(stage):  # whatever the earlier steps give
            return "run", NEVER
        return "follows", f"depends on what {waits.step} gives"

    def _note(self, step: str, verdict: Verdict, reason: str) -> None:
        self.planned.append(Planned(step=step, verdict=verdict, why=reason))


def why(key: Key[Any], records: Sequence[Record]) -> str:
    """What tells a key from the nearest of those that led to an output; of equally near ones the newest counts."""
    earlier = [record for record in records if record.step == key.step]
    if not earlier:
        return NEVER
    changed = min((differences(record.components, key.components) for record in earlier), key=len)
    more = f" and {len(changed) - MOST_REASONS} more" if len(changed) > MOST_REASONS else ""
    return "; ".join(changed[:MOST_REASONS]) + more


def _unknown_in(value: object) -> Unknown | None:
    """The first unknown result inside arguments, however deep in tuples and records."""
    if isinstance(value, Unknown):
        return value
    parts: Sequence[object] = ()
    if isinstance(value, (tuple, list)):
        parts = value
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = [getattr(value, part.name) for part in dataclasses.fields(value)]
    return next((found for found in map(_unknown_in, parts) if found), None)


def _split_of(arguments: dict[str, Any]) -> Split | None:
    values = (arguments.get("split"), *(getattr(value, "split", None) for value in arguments.values()))
    return next((value for value in values if value), None)


def plan_card(plan: Sequence[Planned], actual: dict[str, bool]) -> str:
    """A plan in markdown, with what happened where it has happened."""
    happened = {step: "reused" if reused else "ran" for step, reused in actual.items()}
    lines = [
        "| Step | Plan | Why |" + (" Happened |" if actual else ""),
        "| --- | --- | --- |" + " --- |" * bool(actual),
    ]
    for planned in plan:
        row = f"| {planned.step} | {planned.verdict} | {as_text(planned.why)} |"
        lines.append(row + (f" {happened.get(planned.step, 'did not begin')} |" if actual else ""))
    return "\n".join(lines)


def plan_in_short(plan: Sequence[Planned]) -> str:
    """A plan in one line."""
    counts = {verdict: sum(planned.verdict == verdict for planned in plan) for verdict in ("run", "follows", "reuse")}
    return f"{counts['run']} to run, {counts['follows']} that follow from them, {counts['reuse']} to reuse"
