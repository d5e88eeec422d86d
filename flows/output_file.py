"""The file that a command writes where it is told to. Not here: what is published, which the store places."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from schemas.errors import ConfigurationError
from schemas.files import RUNS
from tasks.seals import sync_file
from tasks.store import writing

if TYPE_CHECKING:
    from collections.abc import Iterator


PUBLISHED: Final = (RUNS, "studies", "champions", "store")


@contextlib.contextmanager
def written_whole(output: Path, *inputs: Path) -> Iterator[Path]:
    """Where to write an output file for now; its name appears when it is whole.

    Args:
        output: The file, or one to replace.
        inputs: Files that are read, none of which is ever replaced.

    Raises:
        ConfigurationError: it is an input or a folder, or its folder is not there.
        StorageError: it cannot be written.
    """
    if objection := _objection(output, inputs):
        raise ConfigurationError(
            objection,
            "a new file, or one that may be replaced, in a folder that is there",
            "Give another name after --output; nothing was written",
            str(output),
        )
    output = output.resolve()  # a link stays one, and its file is replaced
    with writing(output), tempfile.TemporaryDirectory(dir=output.parent, prefix=".stepwise-") as folder:
        target = Path(folder) / output.name
        yield target
        sync_file(target)
        os.replace(target, output)  # noqa: PTH105 - the same call, named for what it does


def _is_a_strangers_link(output: Path) -> bool:
    """In a folder that everybody may write, somebody could so choose which of our files is replaced."""
    return output.is_symlink() and output.lstat().st_uid not in {os.geteuid(), output.absolute().parent.stat().st_uid}


def _root_of_published(output: Path) -> Path | None:
    """The artifacts root whose runs, studies, champions or outputs a file would be among."""
    return next(
        (
            place.parent
            for place in output.parents
            if place.name in PUBLISHED and (place.parent / "store" / "format.json").is_file()
        ),
        None,
    )


def _objection(output: Path, inputs: tuple[Path, ...]) -> str:
    """What speaks against writing there; empty where nothing does."""
    if output.is_dir():
        return "this is a folder"
    if output.exists() and not output.is_file():
        return "this is a device or a pipe"
    if _is_a_strangers_link(output):
        return "this is a link that somebody else made"
    if root := _root_of_published(output.resolve()):
        return f"this is inside of {root}, where what was published stays as it is"
    if not output.resolve().parent.is_dir():
        return f"there is no folder {output.resolve().parent}"
    same = output.exists() and any(each.exists() and each.samefile(output) for each in inputs)
    return "this is the file to read, which would be lost" if same else ""
