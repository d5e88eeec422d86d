"""Published runs as the index reads them: small folders with manifest, metrics and timings. Not here: tests."""

from __future__ import annotations

import datetime
import hashlib
import json
from typing import TYPE_CHECKING, Any

from tasks.proportions import wilson

if TYPE_CHECKING:
    from pathlib import Path

BEGAN = datetime.datetime(2026, 11, 1, 3, 0, tzinfo=datetime.UTC)


def run_in(
    artifacts: Path,
    name: str,
    *,
    day: float = 0.0,
    correct: int = 9_900,
    samples: int = 10_000,
    dataset: str = "mnist",
    preset: str = "rows",
    train_seconds: float = 90.0,
    drift: str | None = None,
    **manifest: Any,  # noqa: ANN401 - whatever a manifest may hold
) -> Path:
    """Put a published run into an artifacts root."""
    folder = artifacts / "runs" / name
    folder.mkdir(parents=True)
    measured = {"samples": samples, "correct": correct, "accuracy": correct / samples}
    measured["interval"] = wilson(correct, samples)
    timings = [
        {"step": "download train images", "seconds": 1.5, "reused": day > 0},
        {"step": "download test images", "seconds": 0.5, "reused": day > 0},
        {"step": "parse train", "seconds": 0.5, "reused": day > 0},
        {"step": "validate", "seconds": 0.25, "reused": False},
        {"step": "train", "seconds": train_seconds, "reused": False},
        {"step": "evaluate", "seconds": 2.0, "reused": False},
    ]
    (folder / "metrics.json").write_text(json.dumps(measured))
    (folder / "timings.json").write_text(json.dumps(timings))
    (folder / "report.html").write_text("<!DOCTYPE html><title>a report</title>")
    if drift is not None:
        (folder / "drift.json").write_text(json.dumps({"worst": drift}))
    stated = {
        "format": 1,
        "run": name,
        "created": (BEGAN + datetime.timedelta(days=day)).isoformat(),
        "dataset": dataset,
        "preset": preset,
        "accuracy": measured["accuracy"],
        "interval": measured["interval"],
        "weights": "0" * 64,
        "parent": None,
        "started_from": None,
        "files": {path.name: seal(path) for path in sorted(folder.iterdir())},
    }
    (folder / "manifest.json").write_text(json.dumps({**stated, **manifest}))
    return folder


def seal(path: Path) -> dict[str, Any]:
    """Digest and size of a file, as a manifest states them."""
    return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "bytes": path.stat().st_size}


def decided(
    artifacts: Path,
    number: int,
    decision: str,
    run: str,
    champion: str | None,
    *,
    day: float = 0.0,
    dataset: str = "mnist",
    reasons: tuple[str, ...] = ("McNemar's test: p = 0.001.",),
) -> Path:
    """Put one decision about champions into an artifacts root, an hour after that day's run was made."""
    path = artifacts / "champions" / dataset / f"{number:06}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    at = BEGAN + datetime.timedelta(days=day, hours=1)
    entry = {"number": number, "at": at.isoformat(), "dataset": dataset, "decision": decision, "run": run}
    path.write_text(json.dumps({**entry, "champion": champion, "reasons": reasons}))
    return path


def history_in(artifacts: Path, runs: int = 9) -> None:
    """A history of nightly runs of two presets and two datasets, with champions, drift and a damaged run."""
    correct = (9_898, 9_905, 9_889, 9_917, 9_912, 9_934, 9_921, 9_930, 9_941)
    standing = ""
    for i in range(runs):
        best = i >= 5
        name = f"202611{i + 1:02}-030000-mnist-{'best' if best else 'rows'}-{i:04x}"
        run_in(
            artifacts,
            name,
            day=i,
            correct=correct[i % len(correct)],
            preset="best" if best else "rows",
            train_seconds=400.0 + i if best else 90.0 - i,
            parent=standing if i == 2 else None,
            drift={0: None, 1: "warn" if i == 3 else "none"}[i % 2],
        )
        decision = {0: "first champion", 3: "promoted", 5: "promoted", 8: "undecided"}.get(i, "kept")
        standing = name if decision in {"first champion", "promoted"} else standing
        decided(artifacts, i + 1, decision, name, standing, day=i)
    run_in(artifacts, "20261103-101500-fashion-mnist-rows-aaaa", day=2.3, correct=8_993, dataset="fashion-mnist")
    run_in(artifacts, "20261104-101500-mnist-question-16x49-bbbb", day=3.3, correct=8_481, preset="question-16x49")
    broken = run_in(artifacts, "20261105-101500-mnist-rows-cccc", day=4.3)
    (broken / "metrics.json").write_text("{")
