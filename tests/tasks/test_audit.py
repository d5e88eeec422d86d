"""Auditing a store: damage, what is missing and what is left over are found, and nothing is changed by looking."""

from __future__ import annotations

import fcntl
import os
import time
from typing import TYPE_CHECKING

import pytest
from samples import drawn, source_file

from tasks.audit import audit, left_over, locks_work
from tasks.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from schemas.handles import Handle


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def kept(store: Store) -> tuple[Handle, Path]:
    """An output with its record: its handle and its file."""
    file = source_file(store, "train", "images", drawn(5))
    store.remember("download", "key", {"step": "download", "components": {}}, file)
    return file.idx, store.root / file.idx.place / file.name


def everything(root: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_size) for path in root.rglob("*")}


def test_a_whole_store_is_whole_and_stays_as_it_is(store: Store) -> None:
    kept(store)
    before = everything(store.root)
    for deep in (False, True):
        audited = audit(store, deep=deep)
        assert (audited.outputs, audited.damages, audited.missing) == (1, (), ())
        assert audited.bytes > 120
    assert locks_work(store)
    assert everything(store.root) == before


def test_another_size_is_seen_at_once_and_other_bytes_by_the_deep_look(store: Store) -> None:
    _, path = kept(store)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert audit(store, deep=False).damages == ()
    assert audit(store, deep=True).damages == (f"{path}: its bytes have changed",)
    path.write_bytes(content[:-1])
    [damage] = audit(store, deep=False).damages
    assert damage == f"{path}: it has {len(content) - 1:,} bytes instead of {len(content):,}"
    path.unlink()
    assert audit(store, deep=False).damages == (f"{path}: the file is missing",)


def test_an_output_without_its_handle_and_one_that_is_gone(store: Store) -> None:
    handle, path = kept(store)
    (path.parent / "handle.json").write_text("{")
    assert audit(store, deep=False).damages == (f"{path.parent}: its handle.json is missing or cannot be read",)
    path.parent.rename(store.root / "elsewhere")
    audited = audit(store, deep=False)
    assert (audited.outputs, audited.damages, audited.missing) == (0, (), (handle.place,))


def test_what_its_owner_works_in_is_no_left_over(store: Store) -> None:
    assert left_over(store, "staging").count == 0
    with store.staging() as folder:
        (folder / "half").write_bytes(bytes(10))
        assert left_over(store, "staging").count == 0
        killed = folder.with_name("of a killed process")
        killed.mkdir()
        (killed / "half").write_bytes(bytes(7))
        long_ago = time.time() - 3 * 86_400
        os.utime(killed, (long_ago, long_ago))
        left = left_over(store, "staging")
        assert (left.count, left.bytes, round(left.days)) == (1, 7, 3)


def test_a_file_system_without_locks_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(_descriptor: int, _how: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuses)
    assert not locks_work(store)
