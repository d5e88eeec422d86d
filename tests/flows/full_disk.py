"""A run on a disk that is full when it comes to a stage, then another with room: what each said and left, as JSON.

A program of its own, so that it can mount a small file system where only it sees it: see `on_a_full_disk`.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flow_support import run_command

if TYPE_CHECKING:
    from collections.abc import Iterator

MEGABYTES = 64
# What the store is stripped of, so that the stage has to be done again: records by stage, outputs by kind.
STAGES = ("download", "parse", "validate", "reshape", "drift", "train", "evaluate", "compare", "publish", "promote")
KINDS = {
    "download": ("idx",),
    "parse": ("table",),
    "reshape": ("sequences", "targets"),
    "train": ("model",),
    "evaluate": ("evaluation",),
    "publish": (),
}
# What room it finds, in kilobytes: more than a run needs for its own records, less than the output of the stage; for
# Prefect's records less than what is asked for at the start. (How much a run writes there differs from run to run.)
ROOM = {"download": 1000, "parse": 1000, "reshape": 1000, "train": 60, "evaluate": 60, "publish": 200, "home": 400}
# Moments of a run at which the disk fills to the last byte: the stage it is in, and the file that tells of the moment.
MOMENTS = {
    "first checkpoint": ("train", "partial/*/*.checkpoint"),
    "predictions": ("evaluate", "staging/*/predictions.parquet"),
}
OPTIONS = {"first checkpoint": ("--set", "training.epochs=12")}  # so that others are due after it


def on_a_full_disk(stage: str, home: Path, source: Path, place: Path) -> dict[str, Any]:
    """What came of it; `stage` may also be `home`: then Prefect's own records find no room; or one of the moments."""
    command = [sys.executable, __file__, stage, str(home), str(source), str(place)]
    answer = subprocess.run(["unshare", "-Urm", *command], capture_output=True, text=True, check=False, timeout=800)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def main(stage: str, home: Path, source: Path, place: Path) -> None:
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={MEGABYTES}m", "none", place], check=True)
    artifacts = place / "artifacts"
    shutil.copytree(source, artifacts, symlinks=True)
    strip(artifacts, MOMENTS[stage][0] if stage in MOMENTS else stage)
    if stage == "home":
        home = Path(shutil.move(home, place / "home"))
    options = OPTIONS.get(stage, ())
    with filled_at(place, MOMENTS[stage][1]) if stage in MOMENTS else contextlib.nullcontext():
        if stage not in MOMENTS:
            fill(place, ROOM[stage])
        full = run(home, artifacts, *options)
    (place / "filler").unlink()
    found = {"full": full, "with room": run(home, artifacts, *options)}
    if options:  # no run is known whose weights they should be
        strip(artifacts, "train")
        found["undisturbed"] = run(home, artifacts, *options)
    json.dump(found, sys.stdout)


def strip(artifacts: Path, stage: str) -> None:
    """Take away what a stage and all after it have made, so that they have to be done again."""
    shutil.rmtree(artifacts / "champions")
    shutil.rmtree(artifacts / "runs")
    (artifacts / "runs").mkdir()
    begun = STAGES.index(stage) if stage in STAGES else STAGES.index("publish")
    for name in STAGES[begun:]:
        shutil.rmtree(artifacts / "store" / "keys" / name, ignore_errors=True)
        for kind in KINDS.get(name, ()):
            shutil.rmtree(artifacts / "store" / "objects" / kind, ignore_errors=True)


def fill(place: Path, room: int) -> None:
    """Leave so many kilobytes."""
    free = shutil.disk_usage(place).free - room * 1024
    with (place / "filler").open("wb", buffering=0) as filler, contextlib.suppress(OSError):
        for _ in range(free // 4096):
            filler.write(bytes(4096))


@contextlib.contextmanager
def filled_at(place: Path, pattern: str) -> Iterator[None]:
    """Fill the disk as soon as the store has a file of this pattern."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.002):
            if next((place / "artifacts" / "store").glob(pattern), None):
                fill(place, 0)
                return

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()


def run(home: Path, artifacts: Path, *options: str) -> dict[str, Any]:
    """Run the command; what it answered and what it left."""
    answer = run_command(home, "run", "--preset", "smoke", *options, "--artifacts", artifacts)
    manifests = [json.loads(path.read_bytes()) for path in (artifacts / "runs").glob("*/manifest.json")]
    outcomes = []
    for path in sorted((artifacts / "store" / "attempts").glob("*.json")):
        with contextlib.suppress(ValueError):
            outcomes.append(json.loads(path.read_bytes())["outcome"])
    return {
        "code": answer.returncode,
        "said": answer.stdout + answer.stderr,
        "runs": [path.name for path in (artifacts / "runs").iterdir()],
        "staged": [path.name for path in (artifacts / "store" / "staging").iterdir()],
        "weights": [manifest["weights"] for manifest in manifests],
        "outcomes": outcomes,
    }


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))
