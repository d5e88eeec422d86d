"""Events at the stations of a run, for the server's event feed and for automations of the user's own.

Here: their names and what they are about. Not here: when they are told (retrain), alerts (flows/installation/alerts).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from prefect.events import emit_event

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flows.attempts import Attempt

Name = Literal[
    "stepwise.data.verified",
    "stepwise.counts.broken",
    "stepwise.data.drifted",
    "stepwise.run.skipped",
    "stepwise.model.published",
    "stepwise.champion.promoted",
    "stepwise.champion.kept",
]


def tell(name: Name, attempt: Attempt, payload: Mapping[str, Any]) -> None:
    """Have the server know; it goes out beside the run, which neither waits for it nor fails with it.

    Args:
        name: What happened.
        attempt: In which run; inside of a flow run Prefect adds that, its deployment and its tags.
        payload: What there is to say about it, as JSON.
    """
    resource = {
        "prefect.resource.id": f"stepwise.run.{attempt.run}",
        "prefect.resource.name": attempt.run,
        "stepwise.dataset": attempt.dataset,
        "stepwise.preset": attempt.preset,
    }
    emit_event(name, resource, payload=dict(payload))
