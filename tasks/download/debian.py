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

_UPDATE_SECONDS: Final = 60.0

# Read last, so that it can take back hooks that the system's own files add: those of container images delete caches.
_SETTINGS: Final = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
APT::Sandbox::User "root";
Acquire::Retries "1";
Acquire::http::Timeout "10";
Acquire::https::Timeout "10";
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
    (folder / "cache" / "archives" / "partial").mkdir(parents=True)
    settings = folder / "apt.conf"
    settings.write_text(_SETTINGS.format(folder=folder), encoding="utf-8")
    errand.progress(0, None, f"apt-get download {source.package}")
    try:
        _get(folder, "download", source.package)
    except SourceFailure as failure:
        if "not installed" in str(failure):
            raise
        errand.progress(0, None, "apt-get update, with lists of our own")
        (folder / "lists" / "partial").mkdir(parents=True)
        settings.write_text((_SETTINGS + _OWN_LISTS).format(folder=folder), encoding="utf-8")
        _get(folder, "update")
        errand.progress(0, None, f"apt-get download {source.package}")
        _get(folder, "download", source.package)
    packages = list(folder.glob("*.deb"))
    if len(packages) != 1:
        raise SourceFailure(f"apt-get left {len(packages)} packages instead of one")
    return packages[0]


def _get(folder: Path, *words: str) -> None:
    seconds = {"seconds": _UPDATE_SECONDS} if words[0] == "update" else {}
    run_client(("apt-get", "-q", "-c", "apt.conf", *words), folder, **seconds)
