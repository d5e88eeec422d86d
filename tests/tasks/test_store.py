"""The store: whole outputs or none, damage is a miss, one maker a key, and a paragraph where nothing can be written."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from samples import both, child, drawn, labels_of, names, objects, silent, source_file, staged

from schemas.errors import DataError, StorageError
from schemas.handles import Handle
from tasks.parse import parse, to_table
from tasks.stage import Key, once
from tasks.store import FORMAT, Store, handles_in, write_atomically

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = Key(step="a step", stage="model", form=Handle, module="tasks.arrays", inputs={"it": "a" * 64})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "root")


def kept(store: Store, content: bytes = b"content", digest: str = "d" * 64) -> Handle:
    with store.staging() as folder:
        (folder / "file").write_bytes(content)
        (folder / "deep").mkdir()
        (folder / "deep" / "other").write_bytes(b"other")
        return store.commit(folder, kind="model", digest=digest, rows=1, shape=(1,), dtype="|u1")


def test_a_commit_is_found_under_its_digest_and_sealed(store: Store) -> None:
    handle = kept(store)
    assert handle.place == f"store/objects/model/dd/{'d' * 64}"
    assert names(store.root / handle.place) == ["deep/other", "file", "handle.json"]
    assert handle.bytes == 12
    assert store.open(handle, "deep/other").read_bytes() == b"other"
    assert Handle.model_validate_json((store.root / handle.place / "handle.json").read_bytes()) == handle
    assert staged(store) == []


def test_equal_content_is_kept_once_and_the_first_bytes_stay(store: Store) -> None:
    first, second = kept(store, b"one container"), kept(store, b"another container")
    assert second == first
    assert store.open(second, "file").read_bytes() == b"one container"
    assert staged(store) == []


def kept_half(folder: Path) -> None:
    (folder / "file").write_bytes(b"x")
    raise ZeroDivisionError


def test_what_fails_while_staging_leaves_nothing(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.staging() as folder:
        kept_half(folder)
    assert staged(store) == []
    assert not objects(store)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[3] ^= 0x10
    path.write_bytes(content)


def remove(path: Path) -> None:
    path.unlink()


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = [
    (truncate, "it has 6 bytes instead of 7"),
    (flip, "its bytes have changed"),
    (remove, "the file is missing"),
    (replace_by_folder, "it "),
]


@pytest.mark.parametrize(("damage", "words"), DAMAGES)
def test_damage_is_seen_on_opening(store: Store, damage: Callable[[Path], None], words: str) -> None:
    handle = kept(store)
    damage(store.root / handle.place / "file")
    with pytest.raises(StorageError) as caught:
        store.open(handle, "file")
    error = caught.value
    assert error.exit_code == 5
    assert error.found.startswith(f"an output of kind 'model' is damaged: {words}")
    assert error.remedy == "Rerun: what is damaged is set aside and made again"
    assert error.file == str(store.root / handle.place / "file")


@pytest.mark.parametrize(("damage", "_"), DAMAGES)
def test_damage_is_a_miss_set_aside_and_made_again(store: Store, damage: Callable[[Path], None], _: str) -> None:
    made = []

    def make() -> Handle:
        made.append(1)
        return kept(store)

    handle = once(store, KEY, make)
    assert once(store, KEY, make) == handle
    assert len(made) == 1
    damage(store.root / handle.place / "file")
    assert once(store, KEY, make) == handle
    assert len(made) == 2
    assert store.open(handle, "file").read_bytes() == b"content"
    aside = list((store.place / "damaged").glob("*/*"))
    assert [path.name for path in aside] == [handle.digest]
    assert (aside[0] / "deep" / "other").read_bytes() == b"other"


@pytest.mark.parametrize("name", ["file", "handle.json"])
def test_damage_is_set_aside_when_the_same_is_committed_again(store: Store, name: str) -> None:
    handle = kept(store)
    truncate(store.root / handle.place / name)
    assert kept(store) == handle
    assert store.is_whole(handle)
    assert len(list((store.place / "damaged").iterdir())) == 1


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"null", b"[]", b"{}", b"3", b'{"kind": 1}'])
def test_a_damaged_record_is_a_miss(store: Store, content: bytes) -> None:
    handle = once(store, KEY, lambda: kept(store))
    (record,) = (store.place / "keys" / "model").iterdir()
    record.write_bytes(content)
    made = []
    assert once(store, KEY, lambda: made.append(1) or kept(store)) == handle  # type: ignore[func-returns-value]
    assert made == [1]
    record.write_text(json.dumps({"value": {**handle.model_dump(mode="json"), "rows": -1}}))
    assert store.recall("model", KEY.digest) is None


def test_handles_are_found_wherever_they_stand(store: Store) -> None:
    handle = kept(store)
    value = json.loads(handle.model_dump_json())
    assert list(handles_in({"a": [{"b": value}, 3, value], "c": None})) == [handle, handle]


def test_a_record_with_one_output_damaged_is_a_miss_as_a_whole(store: Store) -> None:
    table = both(store, 20)[0]
    store.remember("parse", "k", {"step": "parse train", "components": {}}, table)
    assert store.recall("parse", "k") is not None
    truncate(store.root / table.labels.idx.place / table.labels.name)
    assert store.recall("parse", "k") is None
    assert store.is_whole(table.table)  # what is whole stays


@pytest.mark.parametrize(
    ("content", "found"),
    [(b'{"format": 2}', "2"), (b'{"format": 0}', "0"), (b"{}", "unknown"), (b"<html>", "unknown"), (b"[]", "unknown")],
)
def test_a_store_of_another_format_is_refused(store: Store, content: bytes, found: str) -> None:
    kept(store)
    before = names(store.root)
    (store.place / "format.json").write_bytes(content)
    with pytest.raises(StorageError) as caught:
        Store(store.root)
    assert str(caught.value) == (
        f"{store.place}/format.json: the store has format {found}. "
        f"Expected: format {FORMAT}, the one this version reads and writes. "
        "Use the version of stepwise that made it, or delete this folder store/: published runs and champions stay, "
        "the next run makes its outputs again, and records of runs and points of studies are lost."
    )
    assert names(store.root) == before


def test_a_store_that_lost_its_format_is_not_guessed_at(store: Store) -> None:
    kept(store)
    (store.place / "format.json").unlink()
    with pytest.raises(StorageError, match="the store has format unknown"):
        Store(store.root)


def test_a_root_begun_but_empty_is_taken(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    assert json.loads((Store(tmp_path).place / "format.json").read_text()) == {"format": FORMAT}


# --- places that cannot be written


def test_a_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "root").write_text("x")
    with pytest.raises(StorageError, match=r"cannot write: Not a directory.*Point --artifacts to a folder"):
        Store(tmp_path / "root")


def test_a_root_that_is_a_link_to_nowhere_or_has_too_long_a_name(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(StorageError, match=r"/link: cannot write: File exists.*a link to nowhere has this name"):
        Store(tmp_path / "link")
    with pytest.raises(StorageError, match=r"cannot write: File name too long.*a folder with a shorter path"):
        Store(tmp_path / ("n" * 300))


AS_OTHERS = """
import os, sys
from pathlib import Path
from schemas.errors import StorageError
from tasks.store import Store
if os.geteuid() == 0:  # only now: the interpreter may lie where nobody may read
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    store = Store(Path(sys.argv[1]))
    with store.staging():
        pass
except StorageError as error:
    print(error.exit_code, error)
"""


@pytest.mark.parametrize("begun", [True, False])
def test_a_root_that_only_others_may_write(begun: bool) -> None:
    """As nobody, where the tests run as root: root may write anywhere. Hence a folder that nobody may enter."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        root.mkdir()
        if begun:
            Store(root)
        before = names(root)
        closed = [root, *(path for path in root.rglob("*") if path.is_dir())]
        for place in closed:
            place.chmod(0o555)
        Path(folder).chmod(0o755)
        said, _ = child(AS_OTHERS, root).communicate(timeout=60)
        for place in closed:
            place.chmod(0o755)
        assert names(root) == before
    assert said.startswith("5 "), said
    assert "cannot write: Permission denied. Expected: a folder that can be written and has room. Give yourself" in said


FILE_LIMIT = """
import resource, sys
from pathlib import Path
from schemas.errors import StorageError
from schemas.handles import SourceFile
from tasks.parse import parse
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
try:
    parse.fn(Path(sys.argv[1]), "train", *map(SourceFile.model_validate_json, sys.argv[2:]), None)
except StorageError as error:
    print(error.exit_code, error)
"""


def test_a_file_that_may_not_grow_leaves_nothing(store: Store) -> None:
    """What a full disk does, for those who may not mount one: the write fails half-way."""
    n = 20_000
    files = source_file(store, "train", "images", drawn(n)), source_file(store, "train", "labels", labels_of(n))
    before = objects(store)
    said, _ = child(FILE_LIMIT, store.root, *(file.model_dump_json() for file in files)).communicate(timeout=60)
    assert said.startswith("5 "), said
    assert "cannot write: File too large. Expected: a folder that can be written and has room. Raise the limit" in said
    assert objects(store) == before
    assert staged(store) == []
    assert not list((store.place / "keys").glob("*/*"))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EXDEV, errno.ELOOP, errno.EPERM])
def test_what_the_system_says_becomes_a_paragraph(store: Store, code: int) -> None:
    with pytest.raises(StorageError) as caught, store.staging() as folder:
        raise OSError(code, os.strerror(code), str(folder / "file"))
    assert caught.value.found == f"cannot write: {os.strerror(code)}"
    assert caught.value.file is not None
    assert caught.value.file.endswith("/file")
    assert staged(store) == []


def test_other_errors_of_the_system_stay_what_they_are(store: Store) -> None:
    with pytest.raises(FileNotFoundError), store.staging() as folder:
        (folder / "none").read_bytes()
    with pytest.raises(DataError), store.staging():
        raise DataError("found", "expected", "remedy")


def test_a_small_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]
    monkeypatch.undo()
    write_atomically(path, b"new")
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o644)


# --- several processes, and deaths

MAKER = """
import sys, time
from pathlib import Path
from schemas.handles import Handle
from tasks.stage import Key, once
from tasks.store import Store
store = Store(Path(sys.argv[1]))
def make():
    with (store.root / "made").open("a") as log:
        log.write("x")
    time.sleep(0.4)
    with store.staging() as folder:
        (folder / "file").write_bytes(b"content")
        return store.commit(folder, kind="model", digest="d" * 64, rows=1, shape=(1,), dtype="|u1")
print("ready", flush=True)
sys.stdin.readline()
key = Key(step="a step", stage="model", form=Handle, module="tasks.arrays", inputs={"it": "a" * 64})
print(once(store, key, make).digest)
"""


def test_two_processes_make_one_key_once(tmp_path: Path) -> None:
    makers = [child(MAKER, tmp_path) for _ in range(2)]
    for maker in makers:
        assert maker.stdout is not None
        assert maker.stdout.readline() == "ready\n"
    for maker in makers:
        assert maker.stdin is not None
        maker.stdin.write("go\n")
        maker.stdin.flush()
    said = [maker.communicate(timeout=60)[0] for maker in makers]
    assert said == ["d" * 64 + "\n"] * 2
    assert (tmp_path / "made").read_text() == "x"


def test_two_threads_make_one_key_once(store: Store) -> None:
    made = []

    def make() -> Handle:
        made.append(1)
        time.sleep(0.1)
        return kept(store)

    threads = [threading.Thread(target=once, args=(store, KEY, make)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert made == [1]


@pytest.mark.parametrize("step", ["sync_folder", "rename"])
def test_a_crash_before_the_rename_leaves_no_object(store: Store, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(*((Path, "rename") if step == "rename" else ("tasks.store.sync_folder",)), crash)
    with pytest.raises(KeyboardInterrupt):
        kept(store)
    assert not objects(store)
    assert staged(store) == []
    monkeypatch.undo()
    assert store.is_whole(kept(store))


def test_a_crash_after_the_rename_costs_the_record_only(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "remember", crash)
    with pytest.raises(KeyboardInterrupt):
        once(store, KEY, lambda: kept(store))
    assert len(objects(store)) == 1
    monkeypatch.undo()
    assert store.is_whole(once(store, KEY, lambda: kept(store)))
    assert len(objects(store)) == 1


def test_a_parse_that_is_refused_leaves_nothing(store: Store) -> None:
    files = source_file(store, "train", "images", drawn(20)), source_file(store, "train", "labels", labels_of(19))
    before = objects(store)
    with pytest.raises(DataError, match=r"19 \(label header\) against 20"):
        parse.fn(store.root, "train", *files, None)
    assert objects(store) == before
    assert staged(store) == []
    assert not list((store.place / "keys").glob("*/*"))


@contextlib.contextmanager
def small_disk(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """One mebibyte of file system; where none may be mounted, a Parquet writer that says what a full one says."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", place]
    mounted = shutil.which("mount") and not subprocess.run(command, capture_output=True, check=False).returncode
    if not mounted:

        def full(*_: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("tasks.parse._Writer.write", full)
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["umount", place], check=True)


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The IDX files fit, the table beside them does not."""
    noise = np.random.default_rng(0).integers(0, 256, (700, 1_000), "u1")
    with small_disk(tmp_path / "small", monkeypatch):
        store = Store(tmp_path / "small")
        files = source_file(store, "train", "images", noise), source_file(store, "train", "labels", labels_of(700))
        before = objects(store)
        with pytest.raises(StorageError) as caught:
            to_table(store, "train", *files, None, silent)
        assert caught.value.exit_code == 5
        assert str(caught.value).startswith(f"{tmp_path}/small/store/staging/")
        assert "cannot write: No space left on device. Expected: " in str(caught.value)
        assert "Free some space and rerun: what was finished is kept" in str(caught.value)
        assert objects(store) == before
        assert staged(store) == []


def test_what_a_killed_process_left_is_removed_by_the_next_and_what_is_held_is_not(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.staging() as held:
        left = held.parent / "1-left"
        left.mkdir()
        (left / "half").write_bytes(b"x")
        for folder in (held, left):
            os.utime(folder, (1e9, 1e9))
        with store.staging() as young:
            assert held.exists()
            assert young.exists()
        assert not left.exists()
