"""The store: what exists, by content, and which key led to it. Here: places, seals, locks. Not here: keys.

Layout under the artifacts root:

    store/format.json                      the format version; another one is refused, never misread
    store/objects/<kind>/<ab>/<digest>/    the files of one output and handle.json, renamed into place when whole
    store/keys/<stage>/<key>.json          key -> what the stage returned, and what the key was made of
    store/met/<demand>/                    which steps were made again on whose demand
    store/checked/                         which files were compared with their seal, so that it need not be repeated
    store/staging/, store/partial/         half-made outputs (removed at exit); downloads and trainings to go on with
    store/damaged/                         what was set aside because its bytes were not what was committed
    store/locks/                           a file for each lock, empty
    store/seen/                            digests of tracked files when they were last seen
    store/attempts/, store/alerts/         records of runs, and of whom was told (flows)
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.errors import StepwiseError, StorageError
from schemas.handles import Handle, Kind
from tasks.locks import forget_unused, is_taken, taken
from tasks.seals import Checked, seal_files, sync_file, sync_folder

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from pydantic import BaseModel

FORMAT = 1
INITIAL_WEIGHTS = "initial weights"  # an input of training that lies with the run that published it, not in the store
log = logging.getLogger("stepwise")
_YOUNG_SECONDS = 60.0
HANDLE = "handle.json"


@dataclass(frozen=True)
class Record:
    """What was remembered for one key: the step that asked, what the key was made of, what the stage returned."""

    key: str
    step: str
    components: dict[str, dict[str, Any]]
    value: dict[str, Any]
    handles: tuple[Handle, ...]
    made: int


def _read_record(path: Path) -> Record | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        value = dict(content["value"])
        handles = tuple(handles_in(value))
        return Record(path.stem, content["step"], content["components"], value, handles, path.stat().st_mtime_ns)
    except (OSError, ValueError, KeyError, TypeError):
        return None


class Store:
    """Outputs under one artifacts root. Several processes may use one root at once."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.place = self.root / "store"
        self.checked = Checked(self.place / "checked")
        with writing(self.place):
            self._require_format()

    @contextlib.contextmanager
    def staging(self) -> Iterator[Path]:
        """A fresh folder on the store's file system; whatever is left in it at exit is removed.

        Its owner holds a lock for it, so that what a killed process left is known as nobody's and removed by the next.
        A lock on the folder itself would be known to this machine alone where the folder is shared (NFS).
        """
        with writing(self.place):
            parent, _ = self._folder("staging"), self._folder("locks")
            self._sweep(parent)
            folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=parent))
            owner = taken(self._owner(folder), shared=False, wait=True)
        try:
            with writing(folder):
                yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            with contextlib.suppress(OSError):
                self._owner(folder).unlink()
            os.close(owner)

    def is_owned(self, folder: Path) -> bool:
        """Whether somebody alive works in a staging folder."""
        return is_taken(self._owner(folder))

    def _owner(self, folder: Path) -> Path:
        return self.place / "locks" / _lock_name(f"staging-{folder.name}")

    def _sweep(self, parent: Path) -> None:
        """Remove the folders whose owners are dead; very young ones are left, for who made one may not own it yet."""
        for folder in parent.iterdir():
            with contextlib.suppress(OSError):  # somebody owns it, or removed it meanwhile
                if time.time() - folder.stat().st_mtime < _YOUNG_SECONDS:
                    continue
                owner = taken(self._owner(folder), shared=False, wait=False)
                try:
                    shutil.rmtree(folder, ignore_errors=True)
                    self._owner(folder).unlink(missing_ok=True)
                finally:
                    os.close(owner)

    def commit(self, folder: Path, *, kind: Kind, digest: str, rows: int, shape: tuple[int, ...], dtype: str) -> Handle:
        """Seal the files of a staging folder and rename it to its final place; equal content is kept once.

        Returns:
            The handle of what is in the place: the existing output's, where one of this digest is whole.
        """
        place = place_of(kind, digest)
        handle = Handle(
            kind=kind, place=place, digest=digest, rows=rows, shape=shape, dtype=dtype, files=seal_files(folder)
        )
        with self.lock(_commit_lock(digest)), writing(self.root / place):
            existing = self._whole(place)
            if existing is not None:
                return existing.model_copy(update={"shape": shape, "rows": rows})
            (folder / HANDLE).write_text(handle.model_dump_json(), encoding="utf-8")
            sync_file(folder / HANDLE)
            sync_folder(folder)
            final = self.root / place
            final.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(final)
            sync_folder(final.parent)
        return handle

    def find(self, kind: Kind, digest: str) -> Handle | None:
        """The handle of an output by its content, where it is there and whole."""
        place = self.root / place_of(kind, digest)
        try:
            handle = Handle.model_validate_json((place / HANDLE).read_bytes())
        except (FileNotFoundError, ValueError):
            return None
        return None if self._damages(handle) else handle

    def open(self, handle: Handle, name: str) -> Path:
        """The path of one file of an output, after its bytes were compared with the seal.

        Raises:
            StorageError: the file is missing or its bytes are not those that were committed.
        """
        path = self.root / handle.place / name
        damage = self.checked.damage_of(path, handle.files[name])
        if damage:
            raise StorageError(
                f"an output of kind '{handle.kind}' is damaged: {damage}",
                f"the bytes that were committed (sha256 {handle.files[name].sha256[:12]}…)",
                "Rerun: what is damaged is set aside and made again",
                str(path),
            )
        return path

    def recall(self, stage: str, key: str) -> dict[str, Any] | None:
        """What a stage returned for a key, if every output it names is whole; damaged ones are set aside."""
        record = self.record(stage, key)
        if record is None:
            return None
        whole = [self.is_whole(handle) for handle in record.handles]
        return record.value if all(whole) else None

    def foretell(self, stage: str, key: str, coming: Collection[str]) -> dict[str, Any] | None:
        """As `recall`, for somebody who only looks: nothing is set aside, and outputs at these places count as there.

        They are those that steps before this one are going to make.
        """
        record = self.record(stage, key)
        if record is None:
            return None
        missing = (handle for handle in record.handles if handle.place not in coming and self._damages(handle))
        return None if any(missing) else record.value

    def remember(self, stage: str, key: str, origin: dict[str, Any], value: BaseModel) -> None:
        """Record what a stage returned for a key, and what the key was made of."""
        record = self.key_path(stage, key)
        with writing(record):
            record.parent.mkdir(parents=True, exist_ok=True)
            content = {**origin, "value": value.model_dump(mode="json")}
            write_atomically(record, json.dumps(content).encode())

    def record(self, stage: str, key: str) -> Record | None:
        """What was remembered for a key, whether its outputs are still there or not."""
        return _read_record(self.key_path(stage, key))

    def records(self, stage: str) -> list[Record]:
        """What was ever remembered for a stage, the newest first; a record that cannot be read is passed over."""
        found = [_read_record(path) for path in (self.place / "keys" / stage).glob("*.json")]
        return sorted((record for record in found if record), key=lambda record: record.made, reverse=True)

    def note_met(self, demand: str, step: str) -> None:
        """Note that a step was made again, as was demanded."""
        note = self.place / "met" / demand / step
        with writing(note):
            note.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(note, b"")

    def was_met(self, demand: str, step: str) -> bool:
        """Whether a demand to make a step again was met already."""
        return (self.place / "met" / demand / step).exists()

    def noted(self, kind: str, name: str, digest: str) -> str | None:
        """Note a digest under a name; returns the one that was noted there before, None where there was none."""
        record = self.place / kind / name
        with self.lock(f"{kind}-{name}"), writing(record):
            before = record.read_text(encoding="utf-8") if record.exists() else None
            record.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(record, digest.encode())
        return before

    def is_whole(self, handle: Handle) -> bool:
        """Whether every file of an output has the bytes that were committed; if not, it is set aside."""
        if self._damages(handle):
            with self.lock(_commit_lock(handle.digest)):
                return self._whole_or_aside(handle)
        return True

    def partial(self, name: str) -> Path:
        """The place for work that can be taken up again after a crash; whoever has something to keep makes the folder.

        Making and removing it belongs under the lock of whoever shares it.
        """
        with writing(self.place):
            return self._folder("partial") / name

    @contextlib.contextmanager
    def lock(self, name: str, *, shared: bool = False, wait: bool = True) -> Iterator[None]:
        """Hold a lock among processes and threads; the kernel frees it when its owner dies.

        Several may hold it shared at once.

        Raises:
            BlockingIOError: somebody else holds it, and there is to be no waiting.
        """
        with writing(self.place):
            descriptor = taken(self._folder("locks") / _lock_name(name), shared=shared, wait=wait)
        try:
            yield
        finally:
            os.close(descriptor)

    def is_locked(self, name: str) -> bool:
        """Whether somebody alive holds a lock."""
        return is_taken(self.place / "locks" / _lock_name(name))

    def forget_locks(self, made_before: float) -> None:
        """Remove the locks that nobody holds, made before a time of `time.time()`."""
        forget_unused(self.place / "locks", made_before)

    def _require_format(self) -> None:
        path = self.place / "format.json"
        if not path.exists() and not (self.place / "objects").exists():
            self.place.mkdir(parents=True, exist_ok=True)
            write_atomically(path, json.dumps({"format": FORMAT}).encode())
            return
        try:
            found = json.loads(path.read_text(encoding="utf-8"))["format"]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            found = "unknown"
        if found != FORMAT:
            raise StorageError(
                f"the store has format {found}",
                f"format {FORMAT}, the one this version reads and writes",
                "Use the version of stepwise that made it, or delete this folder store/: published runs and champions "
                "stay, the next run makes its outputs again, and records of runs and points of studies are lost",
                str(path),
            )

    def _whole(self, place: str) -> Handle | None:
        try:
            handle = Handle.model_validate_json((self.root / place / HANDLE).read_bytes())
        except (FileNotFoundError, ValueError):
            if (self.root / place).exists():
                self._set_aside(place)
            return None
        return handle if self._whole_or_aside(handle) else None

    def _whole_or_aside(self, handle: Handle) -> bool:
        """Under the lock of commits, so that what another process has just mended is not set aside."""
        damages = self._damages(handle)
        if damages:
            log.warning("An output is damaged; what is left is set aside and it is made again: %s", "; ".join(damages))
            self._set_aside(handle.place)
        return not damages

    def _damages(self, handle: Handle) -> list[str]:
        """What is wrong with an output's files, a phrase each."""
        place = self.root / handle.place
        found = [(place / name, self.checked.damage_of(place / name, seal)) for name, seal in handle.files.items()]
        return [f"{path}: {damage}" for path, damage in found if damage]

    def _set_aside(self, place: str) -> None:
        source = self.root / place
        if source.exists():
            target = Path(tempfile.mkdtemp(dir=self._folder("damaged"))) / source.name
            with contextlib.suppress(FileNotFoundError):  # another process set it aside first
                source.rename(target)

    def key_path(self, stage: str, key: str) -> Path:
        """Where the record of a key is."""
        return self.place / "keys" / stage / f"{key}.json"

    def _folder(self, name: str) -> Path:
        folder = self.place / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder


def handles_in(value: object) -> Iterator[Handle]:
    """Every handle inside a JSON value."""
    if isinstance(value, dict) and value.keys() == Handle.model_fields.keys():
        yield Handle.model_validate(value)
    elif isinstance(value, dict):
        for part in value.values():
            yield from handles_in(part)
    elif isinstance(value, list):
        for part in value:
            yield from handles_in(part)


def place_of(kind: Kind, digest: str) -> str:
    """Where an output is, relative to the artifacts root."""
    return f"store/objects/{kind}/{digest[:2]}/{digest}"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a small file so that its name shows the old content or the whole new one, never a part."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as temporary:
        try:
            temporary.write(content)
            temporary.flush()
            os.fsync(temporary.fileno())
            Path(temporary.name).chmod(0o644)
            Path(temporary.name).replace(path)
            sync_folder(path.parent)
        except BaseException:
            Path(temporary.name).unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def writing(place: Path) -> Iterator[None]:
    """Turn what the operating system says about a place that cannot be written into an error for people."""
    try:
        yield
    except StepwiseError:
        raise
    except Exception as error:
        number = _number_of(error)
        if number is None:
            raise
        raise StorageError(
            f"cannot write: {os.strerror(number)}",
            "a folder that can be written and has room",
            _REMEDIES[number],
            str(getattr(error, "filename", None) or place),
        ) from error


def _number_of(error: Exception) -> int | None:
    """The operating system's number of a remedy's error; TensorFlow, HDF5 and others hand on its words alone."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno if error.errno in _REMEDIES else None
    return next((number for number in (errno.ENOSPC, errno.EDQUOT) if os.strerror(number) in str(error)), None)


_REMEDIES: dict[int, str] = {
    errno.ENOSPC: "Free some space and rerun: what was finished is kept",
    errno.EDQUOT: "Free some of your quota and rerun: what was finished is kept",
    errno.EFBIG: "Raise the limit on the size of a file (ulimit -f), or use a file system that takes larger ones",
    errno.EROFS: "Point --artifacts to a folder that can be written",
    errno.EACCES: "Give yourself the right to write there, or point --artifacts to another folder",
    errno.EPERM: "Give yourself the right to write there, or point --artifacts to another folder",
    errno.ENOTDIR: "Point --artifacts to a folder",
    errno.EEXIST: "Point --artifacts to a folder: a file or a link to nowhere has this name",
    errno.ENAMETOOLONG: "Point --artifacts to a folder with a shorter path",
    errno.ELOOP: "Point --artifacts to a folder: this is a link that leads back to itself",
    errno.EXDEV: "Keep runs/ and store/ of an artifacts folder on one disk, since a run gets its name by one rename",
}


def _lock_name(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:32]


def _commit_lock(digest: str) -> str:
    return f"commit-{digest[:2]}"
