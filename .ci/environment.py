"""Brings `.venv` to a lock file, or finds that it is there already. Run by `make`, with the machine's own Python.

Here: when `.venv` is trusted, rebuilt or completed. Not here: what is in it (the locks say) and which Python is fit
(`environment`, beside this file). It stands before anything is installed, so it needs the standard library alone.
"""

from __future__ import annotations

import compileall
import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

VENV = Path(".venv")
STAMP = VENV / "installed.json"
LOG = VENV / "install.log"
PROJECT, RUN_LOCK, DEV_LOCK = "pyproject.toml", "requirements.lock", "requirements-dev.lock"
CONTAINED = {RUN_LOCK: [RUN_LOCK], DEV_LOCK: [RUN_LOCK, DEV_LOCK]}
NEEDED_BYTES = 4 * 2**30
PIP = [str(VENV / "bin" / "python"), "-I", "-m", "pip", "--disable-pip-version-check", "install", "--no-user"]


class InstallError(Exception):
    """One paragraph for a person: why there is no `.venv`, and what to do."""


def main(lock: str) -> None:
    """Make `.venv` hold everything in `lock` and this checkout; do nothing when it does."""
    wanted = state(lock)
    if not differing(wanted):
        return
    refuse_unfit_machine()
    with alone():
        install(wanted, lock)


def state(lock: str) -> dict[str, str]:
    """Name all that an installation of `lock` hangs on: Python, place, the locks in it, the checkout's own metadata."""
    return {
        "python": f"{sys.implementation.name} {sys.version_info.major}.{sys.version_info.minor}",
        "place": str(VENV.resolve()),
        **{name: hashlib.sha256(Path(name).read_bytes()).hexdigest() for name in [*CONTAINED[lock], PROJECT]},
    }


def stamped() -> dict[str, str]:
    """Read what `.venv` says about itself; nothing when it was never finished or no longer starts."""
    try:
        subprocess.run([str(VENV / "bin" / "python"), "-I", "-c", ""], check=True, capture_output=True)
        return dict(json.loads(STAMP.read_text(encoding="utf-8")))
    except (OSError, ValueError, subprocess.CalledProcessError):
        return {}


def differing(wanted: dict[str, str]) -> set[str]:
    """Name the parts in which `.venv` is not what is wanted."""
    there = stamped()
    return {part for part, value in wanted.items() if there.get(part) != value}


def refuse_unfit_machine() -> None:
    """Say what the machine lacks before anything is begun.

    Raises:
        InstallError: no venv module, no right to write here, or too little room.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if not all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")):
        raise InstallError(
            f"{sys.executable} has no venv module with pip, which the installation needs. Install it (Debian, Ubuntu: "
            f"apt install python{version}-venv) or name another Python: make PYTHON=/path/to/python3.12 ..."
        )
    if not os.access(".", os.W_OK):
        raise InstallError(f"{Path.cwd()} cannot be written by this user, and .venv has to be made there.")
    free = shutil.disk_usage(".").free
    if free < NEEDED_BYTES:
        raise InstallError(
            f"{Path.cwd()} has {free / 2**30:.1f} GiB of free space; the installation needs "
            f"{NEEDED_BYTES / 2**30:.0f} GiB. Free some, or clone the project to a larger disk."
        )


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Let one installation run at a time in a checkout; the lock dies with its owner."""
    with Path(PROJECT).open("rb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def install(wanted: dict[str, str], lock: str) -> None:
    """Bring `.venv` to what is wanted: rebuild it when its ground has changed, else add what it lacks.

    The stamp goes first: whatever is killed half-way has none, and the next run begins afresh.

    Raises:
        InstallError: pip or the venv module gave up.
    """
    began = time.monotonic()
    there, changed = stamped(), differing(wanted)  # another make may have been here while this one waited
    if not changed:
        return
    STAMP.unlink(missing_ok=True)
    if changed & {"python", "place", RUN_LOCK}:
        there = {}
        make_venv()
    if changed - {PROJECT}:
        packages = len(re.findall(r"^[A-Za-z0-9]", Path(lock).read_text(encoding="utf-8"), flags=re.MULTILINE))
        say(f"installing the packages of {lock}, up to {packages}, into .venv; {LOG} tells all")
        # The lock is complete, so pip has nothing to resolve: --no-deps.
        pip("--require-hashes", "--no-deps", "--only-binary=:all:", "-r", lock)
        say("compiling")
        # Prefect alone starts 3.6 s later without bytecode; pip itself would compile on one core only.
        compileall.compile_dir(str(VENV / "lib"), quiet=2, workers=0)
    pip("--no-deps", "--no-build-isolation", "-e", ".")
    if changed - {PROJECT}:
        say("making an empty database for Prefect")
        # Ten seconds that the first run need not wait for; where it fails, that run makes it.
        subprocess.run([str(VENV / "bin" / "python"), "-m", "flows.database"], check=False, capture_output=True)
    STAMP.write_text(json.dumps(there | wanted, indent=1), encoding="utf-8")
    say(f"installed in {time.monotonic() - began:.0f} s")


def make_venv() -> None:
    """Make an empty virtual environment, whatever stood there.

    Raises:
        InstallError: the venv module gave up.
    """
    made = subprocess.run(
        [sys.executable, "-I", "-m", "venv", "--clear", str(VENV)], check=False, capture_output=True, text=True
    )
    if made.returncode:
        raise InstallError(f"{sys.executable} -m venv failed:\n{made.stdout}{made.stderr}")


def pip(*arguments: str) -> None:
    """Run `pip install`, its own words going to the log and a line about each package to the terminal.

    No index is named: pip's configuration on the machine (mirrors, proxies, certificates) holds.

    Raises:
        InstallError: pip gave up; the end of what it said is in the text.
    """
    said: list[str] = []
    command = [*PIP, "--progress-bar=off", "--no-compile", *arguments]
    with (
        LOG.open("a", encoding="utf-8") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running,
    ):
        for line in running.stdout or ():
            log.write(line)
            log.flush()
            said.append(line)
            show_progress(line)
    if running.returncode:
        words = "".join(line for line in said if line.startswith("ERROR")) or "".join(said[-5:])
        raise InstallError(
            f"pip could not install the pinned packages (exit {running.returncode}; all it said is in {LOG}):\n{words}"
            "Packages come from the index that pip is configured for; where that is not reached, name a mirror or a "
            "proxy in pip's configuration. Then run the same command again."
        )


def show_progress(line: str) -> None:
    """Tell which package pip is at: in place on a terminal, only the long last step elsewhere."""
    words = line.split()
    if words[:1] == ["Collecting"] and sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K  {words[1]}")
    elif line.startswith("Installing collected") and line.count(",") > 1:
        say("unpacking")


def say(text: str) -> None:
    """Write one line for the person who waits."""
    sys.stderr.write("\r\x1b[K" * sys.stderr.isatty() + f"environment: {text}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    try:
        main(sys.argv[1])
    except InstallError as error:
        sys.exit(f"environment: {error}")
