"""Examining the machine: Python and packages, processors, GPU, disk. TensorFlow is not imported for it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flows.doctor.finding import bad, size, some, warn, well

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from flows.doctor.finding import Finding
    from schemas.catalog import Dataset

LOCK: Final = Path(__file__).resolve().parents[2] / "requirements.lock"
REBUILD: Final = "Build the environment anew from its lock: make clean run-environment"
WHAT_BREAKS: Final = {
    "fastapi": "with a newer one Prefect's server dies at its start",
    "sqlalchemy": "with a newer one Prefect's server silently schedules no runs",
    "prefect": "this version of stepwise was tested with no other",
}
HOME_NEEDS: Final = 200_000_000  # Prefect's database and its results, for a start
UNKNOWN_DATA: Final = 500_000_000  # where nobody knows how large a dataset is
BESIDE_DATA: Final = 100_000_000  # model, checkpoints and report of a run
COPIES: Final = 4  # of the pixels: received, table and sequences stay (2.2 for MNIST), others are in the making
FEW_INODES: Final = 1000


def python(version: str, required: str) -> Iterator[Finding]:
    """Whether this Python is one that the project runs on."""
    from packaging.specifiers import SpecifierSet

    if SpecifierSet(required).contains(version, prereleases=True):
        yield well("Python", version)
    else:
        remedy = "Build the environment with another one: make clean run-environment PYTHON=/path/to/python3.12"
        yield bad("Python", f"{version}, and stepwise needs {required}", remedy, 2)


def installed() -> dict[str, str]:
    """The version of every distribution that is installed, by its normalised name."""
    from packaging.utils import canonicalize_name

    return {canonicalize_name(found.name): found.version for found in importlib.metadata.distributions() if found.name}


def packages(versions: Mapping[str, str], required: Sequence[str], lock: str) -> Iterator[Finding]:
    """Whether what is installed is what the project asks for, and what its lock pins.

    Args:
        versions: Installed versions by normalised name.
        required: The project's requirements.
        lock: The text of the lock.
    """
    unfit = dict(_unfit(versions, required))
    for found in unfit.values():
        yield bad("packages", found, REBUILD, 2)
    pinned = _pinned(lock)
    others = [
        f"{name} {versions.get(name, 'is missing')} (lock: {version})"
        for name, version in pinned.items()
        if versions.get(name) != version and name not in unfit
    ]
    if others:
        yield warn("packages", f"{len(others)} of {len(pinned)} are not as the lock pins them: {some(others)}", REBUILD)
    elif not unfit:
        yield well("packages", f"all {len(pinned)} as the lock pins them")


def _unfit(versions: Mapping[str, str], required: Sequence[str]) -> Iterator[tuple[str, str]]:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    for requirement in map(Requirement, required):
        if requirement.marker is not None and not requirement.marker.evaluate():
            continue
        name = canonicalize_name(requirement.name)
        version = versions.get(name)
        if version is None:
            yield name, f"{name} is not installed, and stepwise needs it"
        elif not requirement.specifier.contains(version, prereleases=True):
            why = f": {WHAT_BREAKS[name]}" if name in WHAT_BREAKS else ""
            yield name, f"{name} {version} is installed, and stepwise needs {requirement.specifier}{why}"


def _pinned(lock: str) -> dict[str, str]:
    """Versions by name, of the lines of a lock that hold for this machine."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = [line.removesuffix("\\").strip() for line in lock.splitlines() if line[:1].isalnum()]
    pins = [Requirement(line) for line in lines]
    return {
        canonicalize_name(pin.name): str(pin.specifier).removeprefix("==")
        for pin in pins
        if pin.marker is None or pin.marker.evaluate()
    }


def processors() -> Iterator[Finding]:
    """How many processors this process may use."""
    usable, there = len(os.sched_getaffinity(0)), os.cpu_count() or 1
    few = f" of {there}" if usable < there else ""
    yield well("processors", f"{usable}{few} ({platform.machine()}); training runs on them")


def gpu(versions: Mapping[str, str], root: Path = Path("/"), hidden: str | None = None) -> Iterator[Finding]:
    """Whether there is a GPU, as the kernel tells, and whether TensorFlow could use it; none is needed.

    Args:
        versions: Installed versions by name.
        root: Below it are /proc and /dev.
        hidden: CUDA_VISIBLE_DEVICES.
    """
    names = [_gpu_name(path) for path in sorted(root.glob("proc/driver/nvidia/gpus/*/information"))]
    if not names and list(root.glob("dev/nvidia[0-9]*")):
        names = ["an NVIDIA GPU"]
    if not names:
        other = " that TensorFlow can use (an AMD one is there)" if (root / "dev/kfd").exists() else ""
        yield well("GPU", f"none{other}; none is needed")
        return
    told = ", ".join(names)
    if hidden in {"", "-1"}:
        yield well("GPU", f"{told}; hidden by CUDA_VISIBLE_DEVICES, training runs on the processors")
    elif any(name.startswith("nvidia-cudnn") for name in versions):
        yield well("GPU", f"{told}, with the libraries that TensorFlow needs (seen without importing it)")
    else:
        found = f"{told}, but the libraries that TensorFlow needs for it are not installed: training runs without it"
        yield warn(
            "GPU", found, "Nothing has to be done; or install tensorflow[and-cuda] of the same version beside it"
        )


def _gpu_name(information: Path) -> str:
    text = information.read_text(encoding="utf-8", errors="replace")
    models = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("Model")]
    return models[0] if models else "an NVIDIA GPU"


def needed_by(datasets: Sequence[Dataset]) -> int:
    """Bytes that a first run of the largest of these datasets takes."""
    return max(map(_needed, datasets), default=0)


def _needed(dataset: Dataset) -> int:
    sizes = [file.payload_bytes for file in dataset.files()]
    data = sum(size for size in sizes if size) if all(sizes) else UNKNOWN_DATA
    return COPIES * data + BESIDE_DATA


def disk_of_artifacts(place: Path, datasets: Sequence[Dataset]) -> Iterator[Finding]:
    """Whether outputs can be written, and have room."""
    need = needed_by(datasets)
    yield from _disk("disk of artifacts", place, need, "a run", "as `stepwise clean` can")


def disk_of_home(place: Path) -> Iterator[Finding]:
    """The same of Prefect's records."""
    yield from _disk("disk of PREFECT_HOME", place, HOME_NEEDS, "Prefect", "or name another folder with PREFECT_HOME")


def _disk(about: str, place: Path, need: int, whose: str, how: str) -> Iterator[Finding]:
    there = next(folder for folder in (place, *place.parents) if folder.exists())
    free, inodes = shutil.disk_usage(there).free, os.statvfs(there)
    told = f"{size(free)} free at {place}, {whose} needs up to {size(need)}"
    if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
        yield bad(about, f"{there} cannot be written", "Give yourself the right to write there, or name another", 5)
    elif free < need:
        yield bad(about, told, f"Free some space, {how}", 5)
    elif inodes.f_files and inodes.f_favail < FEW_INODES:
        yield bad(about, f"{inodes.f_favail} more files can be made at {place}", "Remove files that nobody needs", 5)
    elif free < 3 * need:
        yield warn(about, told, f"Free some space soon, {how}")
    else:
        yield well(about, told)
