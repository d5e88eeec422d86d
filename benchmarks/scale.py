"""What growing work costs: each stage at 60 thousand, 180 thousand and 600 thousand generated samples; 6 million too.

Every stage runs in a fresh process on IDX files that repeat the digits; seconds and peak memory are set against the
straight line through the least and the largest size. `--large` adds 6 million samples, if the disk has the room.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.digits import digits, write_repeated
from benchmarks.measure import FOLDER, Options, keep, machine
from benchmarks.scale_stages import STAGES, TEST_IMAGES, TRAIN_IMAGES
from benchmarks.workers import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

SIZES = (60_000, 180_000, 600_000)
LARGE = 6_000_000
TEST_ROWS = 1_000
ROUNDS = 3
BYTES_A_SAMPLE = 4 * 28 * 28  # data, its copy in the store, the table, the sequences


def main(options: Options) -> None:
    """Measure all sizes in rounds, the largest once."""
    FOLDER.mkdir(exist_ok=True)
    sizes = [*SIZES, *([LARGE] if options.large and _room(LARGE) else [])]
    sizes = [min(size, options.samples) for size in sizes[:1]] if options.samples else sizes
    data = digits()
    answers: dict[int, dict[str, list[dict[str, Any]]]] = {}
    for turn in range(min(options.repeat, ROUNDS)):
        for size in sizes:
            if turn == 0 or size < LARGE:
                for stage, answer in chain(data, size, in_fresh_process).items():
                    answers.setdefault(size, {}).setdefault(stage, []).append(answer)
    report_growth(answers)


def _room(samples: int) -> bool:
    """Whether the disk has room for a size; says so where it has not."""
    needed, free = samples * BYTES_A_SAMPLE, shutil.disk_usage(FOLDER).free
    if free < needed:
        print(f"scale: {samples:,} samples need {needed / 1e9:.0f} GB on the disk, {free / 1e9:.0f} are free: left out")
    return free >= needed


def chain(
    data: tuple[NDArray[Any], NDArray[Any]],
    size: int,
    done: Callable[[str, Path], dict[str, Any]],
    test_rows: int = TEST_ROWS,
) -> dict[str, dict[str, Any]]:
    """All stages on files of so many training samples and a small test split; what each answered."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as name:
        folder = Path(name)
        (folder / "data").mkdir()
        for images_name, rows in ((TRAIN_IMAGES, size), (TEST_IMAGES, test_rows)):
            labels_name = images_name.replace("images-idx3", "labels-idx1")
            for file, array in zip((images_name, labels_name), data, strict=True):
                write_repeated(folder / "data" / file, array, rows)
        answers = {}
        for stage in STAGES:
            answers[stage] = done(stage, folder)
            told = ", ".join(f"{value:,.2f} {unit}" for unit, value in answers[stage].items())
            print(f"  {size:,} samples, {stage}: {told}", flush=True)
        return answers


def in_fresh_process(stage: str, folder: Path) -> dict[str, Any]:
    """One stage, by a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scale_stages", stage, folder]
    with Worker(f"scale-{stage}", command) as worker:
        answer: dict[str, Any] = worker.ask()
    return answer


def report_growth(answers: dict[int, dict[str, list[dict[str, Any]]]]) -> dict[str, Any]:
    """Print, keep and plot seconds and memory by size, with how far they are from straight lines."""
    sizes = sorted(answers)
    figures: dict[str, Any] = {}
    for stage in STAGES:
        seconds, peaks = (
            [[answer[unit] for answer in answers[size][stage]] for size in sizes] for unit in ("seconds", "peak MiB")
        )
        middle = [statistics.median(values) for values in seconds]
        memory = [statistics.median(values) for values in peaks]
        figures[stage] = {
            "seconds": seconds,
            "peak MiB": peaks,
            "seconds a million more": marginal(sizes, middle),
            "off the straight line": off_the_line(sizes, middle),
            "MiB a million more": marginal(sizes, memory),
        }
    print(f"\nscale: {machine()}")
    print(
        f"  {'seconds; MiB':12}{''.join(f'{size:>22,}' for size in sizes)}   off the line   seconds, MiB a million more"
    )
    for stage, figure in figures.items():
        cells = zip(figure["seconds"], figure["peak MiB"], strict=True)
        row = "".join(f"{statistics.median(s):14.2f};{statistics.median(m):7,.0f}" for s, m in cells)
        more = " ".join(f"{s:.1f}, {m:,.0f};" for s, m in zip(*map(figure.get, _MORE), strict=True))
        print(f"  {stage:12}{row}   {figure['off the straight line']:>12.1%}   {more}")
    keep("scale", {"sizes": sizes, "stages": figures, "aim": "straight lines; memory flat, the epoch's apart"})
    _plot(sizes, figures)
    print(f"  kept in {FOLDER.name}/scale.json and .png")
    return figures


_MORE = ("seconds a million more", "MiB a million more")


def marginal(sizes: Sequence[int], values: Sequence[float]) -> list[float]:
    """What a million samples more cost between one size and the next: equal numbers are a straight line."""
    steps = zip(pairwise(sizes), pairwise(values), strict=True)
    return [(after - before) / (larger - smaller) * 1e6 for (smaller, larger), (before, after) in steps]


def off_the_line(sizes: Sequence[int], values: Sequence[float]) -> float:
    """The largest distance of a size in between from the line through the least and the largest, as a share of it."""
    slope = (values[-1] - values[0]) / (sizes[-1] - sizes[0]) if len(sizes) > 1 else 0.0
    line = [values[0] + slope * (size - sizes[0]) for size in sizes]
    return max(abs(value - wanted) / wanted for value, wanted in zip(values, line, strict=True))


def _plot(sizes: Sequence[int], figures: dict[str, Any]) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for axes, unit in zip(panels, ("seconds", "peak MiB"), strict=True):
        for stage, measured in figures.items():
            middle = [statistics.median(values) for values in measured[unit]]
            (drawn,) = axes.plot(sizes, middle, "o", label=stage)
            ends = ([sizes[0], sizes[-1]], [middle[0], middle[-1]])
            fine = [ends[0][0] + (ends[0][1] - ends[0][0]) * part / 100 for part in range(101)]
            slope = (ends[1][1] - ends[1][0]) / max(1, ends[0][1] - ends[0][0])
            axes.plot(fine, [ends[1][0] + slope * (x - ends[0][0]) for x in fine], color=drawn.get_color(), lw=0.8)
        axes.set(xscale="log", yscale="log", xlabel="samples", ylabel=unit)
    panels[0].set_title("points: medians; lines: straight, through the ends")
    panels[1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    figure.savefig(FOLDER / "scale.png", dpi=120)
    plt.close(figure)
