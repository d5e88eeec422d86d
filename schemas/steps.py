"""The steps of the DAG by name, in its order. Here: names and order; not here: what a step does, or when it ends."""

from __future__ import annotations

from typing import Final

from schemas.handles import ROLES, SPLITS

STEPS: Final = (
    *(f"download {split} {role}" for split in SPLITS for role in ROLES),
    *(f"parse {split}" for split in SPLITS),
    "validate",
    *(f"reshape {split}" for split in SPLITS),
    "drift",
    "train",
    "evaluate",
    "compare",
    "publish",
    "promote",
)


def place(step: str) -> int:
    """Where a step stands in the DAG; whatever is no step of it stands last."""
    return STEPS.index(step) if step in STEPS else len(STEPS)
