"""Manifests of runs that nobody made: what is of no concern to a test has some value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from schemas.manifest import Manifest

if TYPE_CHECKING:
    from pathlib import Path

STATED = {
    "created": "2026-11-01T00:00:00+00:00",
    "dataset": "d",
    "preset": "p",
    "accuracy": 0.9,
    "interval": (0.89, 0.91),
    "weights": "a" * 64,
    "files": {},
}


def manifest_of(run: str, **stated: Any) -> Manifest:  # noqa: ANN401 - what a manifest holds
    """A manifest of this run that states the rest, and otherwise something."""
    return Manifest.model_validate({"run": run, **STATED, **stated})


def manifest_in(folder: Path, **stated: Any) -> None:  # noqa: ANN401
    """Write it into the run's folder."""
    (folder / "manifest.json").write_text(manifest_of(folder.name, **stated).model_dump_json())
