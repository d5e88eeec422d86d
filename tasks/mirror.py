"""Prefect's cache as a mirror of the store. A foundation: the policy that every stage's task carries.

The store is the truth about what exists. Before a task runs, Prefect asks its policy for a key; this one looks into the
store, and only where the output is there and whole does it give a key, under which it has just put a copy of what the
store remembers. So a task shows as Cached exactly when its output stands, a lost record of Prefect's loses nothing, and
a record of Prefect's alone never answers for bytes that are gone.
"""

from __future__ import annotations

import inspect
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prefect.cache_policies import CachePolicy
from prefect.results import get_result_store

from tasks.stage import Key, remembered, tell_finished
from tasks.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from prefect.context import TaskRunContext
    from pydantic import BaseModel


@dataclass
class Mirror(CachePolicy):
    """Gives a key for what the store holds whole, and none for anything else.

    Attributes:
        key_of: The stage's key, from those of the task's arguments that it names; None: always looked at anew.
        foreseen: What the task would return, from those that it names, where its key alone does not tell.
        always: Why the task runs where it has no key, for the plan.
    """

    key_of: Callable[..., Key[Any] | None] = lambda **_: None
    foreseen: Callable[..., BaseModel | None] = lambda **_: None
    always: str = "tracked data is looked at each time"

    def key(self, given: Mapping[str, Any]) -> Key[Any] | None:
        """The key of a task with these arguments."""
        return self.key_of(**_named_by(self.key_of, given))

    def told(self, given: Mapping[str, Any]) -> BaseModel | None:
        """What is foreseen of a task with these arguments."""
        return self.foreseen(**_named_by(self.foreseen, given))

    def compute_key(
        self,
        task_ctx: TaskRunContext,  # noqa: ARG002 - Prefect's signature
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],  # noqa: ARG002
        **_: Any,  # noqa: ANN401
    ) -> str | None:
        """The key of Prefect's copy of an output, or None where the task has to run."""
        began = time.monotonic()
        key = self.key(inputs)
        output = None if key is None else remembered(Store(inputs["artifacts"]), key, inputs.get("anew"))
        if key is None or output is None:
            return None
        name = f"stepwise-{key.stage}-{key.digest}"
        get_result_store().write(output, key=name)
        tell_finished(key.step, time.monotonic() - began, reused=True)
        return name


def _named_by(function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: given[name] for name in inspect.signature(function).parameters if name in given}
