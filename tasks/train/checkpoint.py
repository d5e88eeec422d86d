r"""Checkpoints: a training's state on disk, whole or refused, never half. Not here: what is in a state (standing).

A file holds arrays by name and a small part of JSON:

    stepwise checkpoint 1\n      what it is, and the version of this format
    32 bytes                    SHA-256 of all that follows
    8 bytes                     length of the header, little-endian
    header                      JSON: the training's key, the facts, and name, dtype and shape of each array
    arrays                      their bytes, one after the other, little-endian, in C order
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from tasks.stage import log
from tasks.store import write_atomically, writing

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

MAGIC: Final = b"stepwise checkpoint 1\n"
KEPT: Final = 2
SUFFIX: Final = ".checkpoint"
COST_SHARE = 0.015
LEAST_SECONDS = 1.0
FIRST_PRICE: Final = 0.02
_DIGEST_BYTES: Final = hashlib.sha256().digest_size
_LENGTH_BYTES: Final = 8
_PLAIN: Final = "biuf"  # an object's bytes would be a pointer


@dataclass(frozen=True)
class State:
    """What a training goes on from: arrays by name, and facts as JSON knows them (floats stay exact)."""

    arrays: dict[str, NDArray[Any]]
    facts: dict[str, Any]


class Checkpoints:
    """The checkpoints of one training, in a folder of its own; whoever uses it holds the training's lock.

    The newest two are kept. Files are numbered in the order in which they were written.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self.folder, self.key = folder, key
        self._whole: list[Path] = []

    def save(self, state: State) -> None:
        """Write a checkpoint and remove the ones before the last.

        Raises:
            StorageError: the folder cannot be written.
        """
        with writing(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            last = max((_number(path) for path in self._files()), default=0)
            path = self.folder / f"{last + 1:08d}{SUFFIX}"
            write_atomically(path, packed(self.key, state))
        self._whole = [*self._whole, path][-KEPT:]
        self._sweep()

    def newest(self, objection: Callable[[State], str] = lambda _: "") -> State | None:
        """The newest state that is whole, of this training, and not objected to; each refusal is a warning.

        Args:
            objection: Says what does not fit, or nothing.
        """
        files = sorted(self._files(), key=_number, reverse=True)
        for position, path in enumerate(files):
            state, refusal = _opened(path, self.key)
            refusal = refusal or (objection(state) if state else "")
            if not refusal:
                self._whole = [path]
                return state
            rest = "the one before it is tried" if position + 1 < len(files) else "training begins anew"
            log.warning("a checkpoint of training is refused: %s; %s (%s)", refusal, rest, path)
        return None

    def remove(self) -> None:
        """Remove all of them: the training they belong to is over."""
        self._whole = []
        shutil.rmtree(self.folder, ignore_errors=True)

    def _files(self) -> list[Path]:
        if not self.folder.is_dir():
            return []
        return [path for path in self.folder.iterdir() if path.suffix == SUFFIX and path.stem.isdecimal()]

    def _sweep(self) -> None:
        """Remove what is too old, what was refused, and what a killed process left half-written."""
        for path in self.folder.iterdir():
            if path not in self._whole:
                with contextlib.suppress(OSError):
                    path.unlink()


class Pace:
    """When a checkpoint is due: at most once a second, and all together cost at most a share of the time.

    Attributes:
        count: Checkpoints written.
        spent: Seconds that they took.
    """

    def __init__(self, now: float) -> None:
        self._began = self._last = now
        self.count, self.spent = 0, 0.0

    def due(self, now: float) -> bool:
        """Whether the time so far affords another one at the mean price."""
        price = self.spent / self.count if self.count else FIRST_PRICE
        affordable = self.spent + price <= COST_SHARE * (now - self._began)
        return affordable and now - self._last >= LEAST_SECONDS

    def paid(self, began: float, ended: float) -> None:
        """Note what a checkpoint took."""
        self.count, self.spent, self._last = self.count + 1, self.spent + ended - began, ended


def packed(key: str, state: State) -> bytes:
    """A state as the bytes of a file."""
    arrays = {name: value.astype(value.dtype.newbyteorder("<"), copy=False) for name, value in state.arrays.items()}
    shapes = [[name, value.dtype.str, value.shape] for name, value in arrays.items()]
    header = json.dumps({"key": key, "facts": state.facts, "arrays": shapes}).encode()
    content = [len(header).to_bytes(_LENGTH_BYTES, "little"), header, *(value.tobytes() for value in arrays.values())]
    digest = hashlib.sha256()
    for part in content:
        digest.update(part)
    return b"".join([MAGIC, digest.digest(), *content])


def unpacked(content: bytes, key: str) -> State:
    """The state in a file's bytes.

    Raises:
        ValueError: they are damaged, of another format or of another training; it says which.
    """
    body = memoryview(content)[len(MAGIC) + _DIGEST_BYTES :]
    if not content.startswith(MAGIC):
        kind = content[: len(MAGIC)].decode("ascii", "replace").strip()
        raise ValueError(f"it begins with '{kind}' instead of '{MAGIC.decode().strip()}'")
    if hashlib.sha256(body).digest() != content[len(MAGIC) : len(MAGIC) + _DIGEST_BYTES]:
        raise ValueError("its bytes are not those that were written")
    length = int.from_bytes(body[:_LENGTH_BYTES], "little")
    header = json.loads(bytes(body[_LENGTH_BYTES : _LENGTH_BYTES + length]))
    if header["key"] != key:
        raise ValueError(f"it belongs to another training ({header['key'][:12]}… instead of {key[:12]}…)")
    arrays, offset = {}, _LENGTH_BYTES + length
    for name, dtype, shape in header["arrays"]:
        if np.dtype(dtype).kind not in _PLAIN:
            raise ValueError(f"'{name}' is of type {dtype}, which is no plain number")
        arrays[name] = np.ndarray(shape, dtype, body, offset)
        offset += arrays[name].nbytes
    return State(arrays, header["facts"])


def _opened(path: Path, key: str) -> tuple[State | None, str]:
    """The state in a file, or why there is none."""
    try:
        return unpacked(path.read_bytes(), key), ""
    except OSError as error:
        return None, f"it cannot be read ({error.strerror})"
    except ValueError as error:
        return None, str(error)
    except (KeyError, TypeError) as error:
        return None, f"its header is not that of a checkpoint ({error!r})"


def _number(path: Path) -> int:
    return int(path.stem)
