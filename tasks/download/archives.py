"""Archives that several files come from: fetched once, kept until all are taken, read member by member.

Here: keeping, recognising by published digest, reading. Not here: fetching (npm, debian, http, local). Nothing is ever
extracted under a name that the archive chose.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import lzma
import os
import shutil
import struct
import tarfile
import time
import uuid
import zipfile
import zlib
from typing import IO, TYPE_CHECKING, Final, Self

from tasks.download.errand import MOST_BYTES, Errand, SourceFailure
from tasks.idx import BoundedReads

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from schemas.catalog import Container
    from tasks.store import Store

STALE_SECONDS: Final = 24 * 3600.0
_BLOCK: Final = 1 << 20
_MOST_DESCRIBED: Final = 1 << 20
_DESCRIPTIONS: Final = {  # a file's long name, its link's, and PAX records
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
}
_ZIP_DIRECTORY: Final = 64 << 20
_THIS_PROCESS: Final = uuid.uuid4().hex
_DAMAGE: Final = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError),
    *(ValueError, OverflowError),  # numbers in a header that are none
)

# Passwords and foreign compression methods, names that are no text, places that are not in the file.
_ZIP_DAMAGE: Final = (RuntimeError, ValueError, LookupError, OverflowError, struct.error, OSError)


def shared_archive(errand: Errand, name: str, obtain: Callable[[], Path]) -> Path:
    """An archive of the errand's own, fetched once for all files of the dataset that are in it.

    Args:
        errand: Whose file is in it.
        name: What identifies the archive.
        obtain: Fetches it; called by the first who comes, while the others wait.

    Returns:
        A path in the errand's staging folder.
    """
    # Of bytes that nobody vouches for, one that an earlier run left may be of another day than this run's other files.
    folder = partial_folder(errand.store, "archive", name if errand.file.known else f"{name} {_THIS_PROCESS}")
    with errand.store.lock(folder.name):
        kept = folder / "archive"
        if not kept.exists():
            _obtain(errand, name, obtain, kept)
        own = errand.staging / "archive"
        try:
            os.link(kept, own)
        except OSError:  # a file system without hard links
            shutil.copyfile(kept, own)
        (folder / f"taken-{errand.file.name}").touch()
        if all((folder / f"taken-{sibling}").exists() for sibling in errand.siblings):
            shutil.rmtree(folder)
    return own


def _obtain(errand: Errand, name: str, obtain: Callable[[], Path], kept: Path) -> None:
    """Fetch an archive; when that fails, the others that wait for it get the same answer at once."""
    errand.hosts.require(name)
    try:
        archive = obtain()
    except SourceFailure as failure:
        errand.hosts.failed(name, str(failure))
        raise
    kept.parent.mkdir(exist_ok=True)
    archive.replace(kept)


def partial_folder(store: Store, kind: str, name: str) -> Path:
    """Where something is kept that survives a crash, after what nobody has touched for a day was removed.

    The folder itself is made by whoever has something to keep, under the lock of its name.
    """
    folder = store.partial(f"{kind}-{hashlib.sha256(name.encode()).hexdigest()[:32]}")
    for other in (*folder.parent.glob("http-*"), *folder.parent.glob("archive-*")):  # others keep checkpoints there
        if _is_stale(other):
            with contextlib.suppress(BlockingIOError), store.lock(other.name, wait=False):
                if _is_stale(other):  # nobody took it up meanwhile
                    shutil.rmtree(other, ignore_errors=True)
    return folder


class _Header(tarfile.TarInfo):
    """A header that is refused where its description, which `tarfile` reads in one, would fill the memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.type in _DESCRIPTIONS and header.size > _MOST_DESCRIBED:
            raise SourceFailure(f"the package describes a file by {header.size:,} bytes")
        return header


def take_from_tar(stream: IO[bytes], member: str, target: Path, most_bytes: int) -> None:
    """Copy one regular file out of a tar stream, compressed or not, without reading beyond it.

    Raises:
        SourceFailure: no such file, none of that size, or a damaged archive.
    """
    try:
        with tarfile.open(fileobj=stream, mode="r|*", tarinfo=_Header) as archive:
            for entry in archive:
                if entry.offset_data + entry.size > MOST_BYTES:
                    raise SourceFailure(f"the package unpacks to more than {MOST_BYTES:,} bytes")
                if entry.name.removeprefix("./") == member and entry.isreg():
                    _copy(archive.extractfile(entry), target, most_bytes)
                    return
    except _DAMAGE as error:
        raise SourceFailure(f"the package is damaged ({error})", may_heal=True) from error
    raise SourceFailure(f"the package has no file {member}")


def take_from_zip(path: Path, member: str, errand: Errand) -> Path:
    """Copy one member out of a zip into the errand's staging folder.

    Raises:
        SourceFailure: no such member, none of that size, an encrypted one, or a damaged archive.
    """
    target = errand.staging / "member"
    try:
        with (
            BoundedReads(io.FileIO(path), _ZIP_DIRECTORY) as reads,
            zipfile.ZipFile(reads) as archive,
            archive.open(member) as content,
        ):
            _copy(content, target, errand.most_member_bytes)
    except KeyError as error:
        raise SourceFailure(f"the zip has no member {member}") from error
    except (*_DAMAGE, *_ZIP_DAMAGE) as error:
        if isinstance(error, OSError) and error.errno not in {None, errno.EINVAL}:  # this machine's, not the zip's
            raise
        raise SourceFailure(f"the zip cannot be read ({error})", may_heal=True) from error
    return target


def published(path: Path, containers: tuple[Container, ...]) -> Container | None:
    """Which of the published containers a file is, by the digest that is stated; None where it is none of them."""
    found = {_digest(path, kind) for kind in {"md5" if c.md5 else "sha256" for c in containers}}
    return next((c for c in containers if (c.md5 or c.sha256) in found), None)


def require_published(path: Path, containers: tuple[Container, ...]) -> Container:
    """The published container that a file is.

    Raises:
        SourceFailure: it is none of them.
    """
    container = published(path, containers)
    if container is None:
        wanted = " or ".join(f"md5 {c.md5}" if c.md5 else f"sha256 {c.sha256}" for c in containers)
        kind = "md5" if containers[0].md5 else "sha256"
        raise SourceFailure(
            f"gave other bytes than the published file: {kind} {_digest(path, kind)} instead of {wanted}"
        )
    return container


def _digest(path: Path, name: str) -> str:
    digest = hashlib.new(name, usedforsecurity=False)  # md5 is what was published; it tells files apart, no more
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _copy(source: IO[bytes] | None, target: Path, most_bytes: int) -> None:
    if source is None:
        raise SourceFailure("the package holds a link instead of the file")
    copied = 0
    with target.open("wb") as file:
        while block := source.read(_BLOCK):
            copied += len(block)
            if copied > most_bytes:
                raise SourceFailure(f"the file in the package is larger than {most_bytes:,} bytes")
            file.write(block)


def _is_stale(folder: Path) -> bool:
    try:
        newest = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
    except FileNotFoundError:  # another process removed it
        return False
    return time.time() - newest > STALE_SECONDS
