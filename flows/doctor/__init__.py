"""The doctor: examines an installation and tells what it found, each finding with its remedy. It changes nothing.

Here: what is examined in which order, and how it is told. Not here: the examinations (a module for each ground).
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import warnings
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.markup import escape

from flows.doctor import machine, outputs
from flows.doctor.finding import Finding, bad, examined, well
from flows.runs import print_json
from flows.settings import prefect_home
from schemas.errors import ConfigurationError, StepwiseError
from schemas.installation import Installation, load_installation
from tasks.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.store import Store

STYLES: Final = {"well": "green", "warn": "yellow", "bad": "bold red"}


def examine_and_tell(file: Path, artifacts: Path | None, usual: Path, *, deep: bool, as_json: bool) -> int:
    """Examine everything, a line a finding as it is found, or all of it as JSON; returns the exit code.

    Args:
        file: The installation's file; where there is none, the defaults are examined.
        artifacts: The artifacts root in place of the file's.
        usual: The artifacts root where nothing says another.
        deep: Compare every byte of every output.
        as_json: For a program.
    """
    console = Console()
    findings: list[Finding] = []
    with _home_as_it_was() as home:
        for finding in examine(file, artifacts, usual, home, deep=deep):
            findings.append(finding)
            if not as_json:
                _tell(console, finding)
    code = next((finding.exit_code for finding in findings if finding.verdict == "bad"), 0)
    counts = {verdict: sum(finding.verdict == verdict for finding in findings) for verdict in STYLES}
    if as_json:
        told = [finding.model_dump(mode="json") for finding in findings]
        print_json({**counts, "exit_code": code, "findings": told})
    else:
        console.print(f"{counts['well']} well, {counts['warn']} to look at, {counts['bad']} bad", highlight=False)
    return code


def examine(file: Path, artifacts: Path | None, usual: Path, home: Path, *, deep: bool) -> Iterator[Finding]:
    """Every finding, what is near before what is far."""
    versions = machine.installed()
    yield from examined("Python", lambda: machine.python(platform.python_version(), _metadata()["Requires-Python"]))
    yield from examined("packages", lambda: _packages(versions))
    yield from examined("processors", machine.processors)
    yield from examined("GPU", lambda: machine.gpu(versions, hidden=os.environ.get("CUDA_VISIBLE_DEVICES")))

    installation, finding = _installation(file, artifacts, usual)
    yield finding
    from flows.doctor import sources  # Prefect, which makes its home

    root = installation.artifacts
    datasets, findings = sources.datasets_of(installation)
    yield from examined("disk of artifacts", lambda: machine.disk_of_artifacts(root, datasets))
    yield from examined("disk of PREFECT_HOME", lambda: machine.disk_of_home(home))

    yield from examined("store", lambda: outputs.outputs(root, deep=deep))
    store = _store(root)
    yield from examined("published runs", lambda: outputs.published(root, deep=deep))
    yield from examined("champions", lambda: outputs.champions(root))
    yield from examined("runs", lambda: outputs.attempts(store))
    yield from findings
    yield from examined("datasets", lambda: sources.sources(datasets, store))
    from flows.doctor import server

    yield from server.server(installation, store)


def _metadata() -> importlib.metadata.PackageMetadata:
    try:
        return importlib.metadata.metadata("stepwise")
    except importlib.metadata.PackageNotFoundError as error:
        found = "stepwise itself is not installed in this Python"
        raise ConfigurationError(found, "the environment that make fills", machine.REBUILD) from error


def _packages(versions: dict[str, str]) -> Iterator[Finding]:
    lock = machine.LOCK.read_text(encoding="utf-8") if machine.LOCK.exists() else ""
    yield from machine.packages(versions, _metadata().get_all("Requires-Dist") or [], lock)


def _installation(file: Path, artifacts: Path | None, usual: Path) -> tuple[Installation, Finding]:
    """What the file describes; the defaults where it is missing or wrong, so that the rest can be examined."""
    about = f"installation {file}"
    installation = Installation(artifacts=usual)
    if not file.exists():
        finding = well(about, "there is none, the defaults are examined")
    else:
        try:
            installation = load_installation(file)
            finding = well(about, f"{counted(len(installation.deployments), 'deployment')}, as it should be written")
        except StepwiseError as error:
            finding = bad(about, f"{error.file}: {error.found}", error.remedy, error.exit_code)
    root = (artifacts or installation.artifacts).absolute()
    return installation.model_copy(update={"artifacts": root}), finding


def _store(root: Path) -> Store | None:
    """The store, where there is one that can be read; if not, that was told."""
    with contextlib.suppress(StepwiseError, OSError):
        return outputs.open_store(root)
    return None


def _tell(console: Console, finding: Finding) -> None:
    style = STYLES[finding.verdict]
    line = f"[{style}]{finding.verdict:<4}[/{style}]  {escape(finding.about)}: {escape(finding.found)}"
    console.print(line, highlight=False, soft_wrap=True)
    for detail in finding.details:
        console.print(f"      {escape(detail)}", highlight=False, soft_wrap=True)
    if finding.remedy:
        console.print(f"      → {escape(finding.remedy)}", highlight=False, soft_wrap=True)


@contextlib.contextmanager
def _home_as_it_was() -> Iterator[Path]:
    """The folder of Prefect's records. Importing Prefect makes it: where it was not there, it is taken away again."""
    home = prefect_home()
    was_there = home.exists()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Failed to create the Prefect home")  # told as a finding
            yield home
    finally:
        if not was_there:
            with contextlib.suppress(OSError):  # not made, or not empty any more
                home.rmdir()
