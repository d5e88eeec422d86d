"""Interleaved timing, what machine it was on, and how results are shown and kept. Not here: what is measured."""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


@dataclass(frozen=True)
class Options:
    """What the command line asks of a benchmark.

    Attributes:
        repeat: Repetitions of each arm, after one to warm up.
        preset: Of the whole runs that are measured.
        large: Whether to go to the sizes that take an hour and tens of gigabytes.
        problem: The one problem of several to measure; None: all.
        samples: How many samples to measure with in place of the benchmark's own number, for a trial; None: its own.
        dataset: A name of the dataset catalog.
        seeds: How many trainings of a preset, each with a seed of its own.
        first_seed: The first of these seeds; the others follow it.
        held_out: Whether to measure on training images held out, in place of the test images.
        settings: `key=value` over the preset.
    """

    repeat: int = 7
    preset: str = "rows"
    large: bool = False
    problem: str | None = None
    samples: int | None = None
    dataset: str = "mnist"
    seeds: int = 3
    first_seed: int = 20
    held_out: bool = False
    settings: tuple[str, ...] = ()


PACKAGES = ("prefect", "tensorflow", "keras", "numpy", "pyarrow", "pandera", "polars")
FOLDER = Path(__file__).resolve().parents[1] / ".bench"


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def interleaved(arms: Mapping[str, Callable[[], float]], repeat: int) -> dict[str, list[float]]:
    """Time every arm once in each round, so that a busy moment of the machine falls on all of them.

    Each arm returns its own seconds; a first round warms up and is not counted.
    """
    times: dict[str, list[float]] = {name: [] for name in arms}
    for turn in range(repeat + 1):
        for name, arm in arms.items():
            took = arm()
            if turn:
                times[name].append(took)
    return times


def report(name: str, times: dict[str, list[float]], base: str, **facts: Any) -> None:  # noqa: ANN401 - any JSON
    """Print medians, ranges and ratios to `base`; keep them as JSON and as a plot under `.bench/`."""
    middle = {arm: statistics.median(values) for arm, values in times.items()}
    print(f"\n{name}: {machine()}")
    print(f"  {'':34}{'median':>9}{'min':>9}{'max':>9}   median / that of {base}")
    for arm, values in times.items():
        ratio = middle[arm] / middle[base]
        print(f"  {arm:34}{middle[arm]:8.3f}s{min(values):8.3f}s{max(values):8.3f}s   {ratio:.2f}")
    for key, value in facts.items():
        print(f"  {key}: {value}")
    keep(name, {**facts, "base": base, "seconds": times, "median": middle})
    _plot(name, times, middle)
    print(f"  kept in {FOLDER.name}/{name}.json and .png")


def machine() -> dict[str, Any]:
    """What machine this is, what it does besides, and the versions that figures depend on."""
    return {
        "machine": platform.machine(),
        "processor": _processor(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
        "system": platform.platform(),
        "load": os.getloadavg(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
    }


def _processor() -> str:
    """The processor's name, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def keep(name: str, content: dict[str, Any]) -> None:
    """Keep a benchmark's figures as JSON, with the machine and the time."""
    FOLDER.mkdir(exist_ok=True)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    whole = {"benchmark": name, "when": now, "machine": machine(), **content}
    (FOLDER / f"{name}.json").write_text(json.dumps(whole, indent=1) + "\n")


def _plot(name: str, times: dict[str, list[float]], middle: dict[str, float]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    arms = list(times)
    low = [middle[arm] - min(times[arm]) for arm in arms]
    high = [max(times[arm]) - middle[arm] for arm in arms]
    figure, axes = plt.subplots(figsize=(8, 1 + 0.5 * len(arms)), layout="constrained")
    axes.barh(arms, [middle[arm] for arm in arms], xerr=(low, high), color="#4477aa")
    axes.invert_yaxis()
    axes.set_xlabel("seconds: median, bars from the least to the most")
    axes.set_title(name)
    figure.savefig(FOLDER / f"{name}.png", dpi=120)
    plt.close(figure)
