"""A Debian package as a source, through apt-get and dpkg-deb.

Nothing is installed, no root is needed and no folder of the system is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tasks.download.archives import shared_archive, take_from_tar
from tasks.download.clients import client_output, run_client
from tasks.download.errand import Errand, SourceFailure

if TYPE_CHECKING:
    from pathlib import Path

    from schemas.catalog import DebianSource

_UPDATE_SECONDS: Final = 30.0

# Read last, so that it can take back hooks that the system's own files add: those of container images delete caches.
_SETTINGS: Final = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT::Sandbox::User "root";
Acquire::Retries "0";
Acquire::http::Timeout "8";
Acquire::https::Timeout "8";
Acquire::Languages "none";
Dir::Cache "{folder}/cache";
"""
_OWN_LISTS: Final = 'Dir::State::lists "{folder}/lists";\n'


def fetch_debian(source: DebianSource, errand: Errand) -> Path:
    """Fetch one member of a package.

    Raises:
        SourceFailure: apt-get or dpkg-deb is missing or failed, or the package has no such file.
    """
    package = shared_archive(errand, str(source), lambda: _downloaded(source, errand))
    target = errand.staging / "received"
    with client_output(("dpkg-deb", "--fsys-tarfile", str(package)), errand.staging) as stream:
        take_from_tar(stream, source.member, target, errand.most_bytes)
    return target


def _downloaded(source: DebianSource, errand: Errand) -> Path:
    """The package, by the system's lists; by lists of our own where those are empty, old or unreadable."""
    folder = errand.staging / "apt"
    with_settings(folder)
    errand.progress(0, None, f"apt-get download {source.package}")
    try:
        _get(folder, "download", source.package)
    except SourceFailure as failure:
        if failure.client_missing or (_is_listed(source, folder) and "404" not in str(failure)):
            raise
        _with_own_lists(source, errand, folder, failure)
    packages = list(folder.glob("*.deb"))
    if len(packages) != 1:
        raise SourceFailure(f"apt-get left {len(packages)} packages instead of one")
    return packages[0]


def with_settings(folder: Path, *, own_lists: bool = False) -> None:
    """Make a folder one in which apt-get writes, and nowhere else; with lists of its own where that is wanted."""
    (folder / "cache" / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    if own_lists:
        (folder / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    settings = _SETTINGS + _OWN_LISTS if own_lists else _SETTINGS
    (folder / "apt.conf").write_text(settings.format(folder=folder), encoding="utf-8")


def _is_listed(source: DebianSource, folder: Path) -> bool:
    """Whether the lists know the package, so that lists of our own would not help."""
    try:
        run_client(("apt-cache", "-q", "-c", "apt.conf", "show", source.package), folder)
    except SourceFailure:
        return False
    return True


def _with_own_lists(source: DebianSource, errand: Errand, folder: Path, first: SourceFailure) -> None:
    errand.progress(0, None, "apt-get update, with lists of our own")
    with_settings(folder, own_lists=True)
    try:
        run_client(("apt-get", "-q", "-c", "apt.conf", "update"), folder, _UPDATE_SECONDS)
        errand.progress(0, None, f"apt-get download {source.package}")
        _get(folder, "download", source.package)
    except SourceFailure as second:
        raise SourceFailure(f"{first}; with lists of our own: {second}") from second


def _get(folder: Path, *words: str) -> None:
    run_client(("apt-get", "-q", "-c", "apt.conf", *words), folder)
