"""Locks: held by one, seen by all, free when their owner dies; their files come and go and guard no less for it."""

from __future__ import annotations

import fcntl
import os
import signal
import tempfile
import threading
import time
from pathlib import Path

import pytest
from samples import child, names, objects

from tasks.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "root")


LOOKING = """
import os, sys
from pathlib import Path
from schemas.errors import StorageError
from tasks.store import Store
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
store = Store(Path(sys.argv[1]))
print(*(store.is_locked(name) for name in ("held", "free", "never")))
with store.lock("free", wait=False):
    print(store.is_locked("free"))
try:
    with store.lock("new"):
        pass
except StorageError as error:
    print(error.found)
"""


def test_who_may_only_read_sees_which_locks_are_held(store: Store) -> None:
    """`runs`, `show` and `doctor` by another user, or from a disk that can only be read."""
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "root")
        Path(folder).chmod(0o755)
        with store.lock("free"):
            pass
        with store.lock("held"):
            for path in (store.place / "locks").iterdir():
                path.chmod(0o444)
            said, _ = child(LOOKING, store.root).communicate(timeout=60)
    assert said == "True False False\nTrue\ncannot write: Permission denied\n"


HOLDER = """
import sys, time
from pathlib import Path
from tasks.store import Store
store = Store(Path(sys.argv[1]))
with store.lock("a lock"), store.staging() as folder:
    (folder / "half").write_bytes(b"half")
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_lock_ends_with_its_owner_and_half_an_output_is_none(store: Store) -> None:
    holder = child(HOLDER, store.root)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    taken = threading.Event()

    def take() -> None:
        with store.lock("a lock"):
            taken.set()

    waiting = threading.Thread(target=take, daemon=True)
    waiting.start()
    assert not taken.wait(0.2)
    holder.send_signal(signal.SIGKILL)
    holder.wait(30)
    assert taken.wait(10)
    waiting.join(10)
    holder.communicate()
    assert not objects(store)
    assert names(store.place / "staging") != []  # what a kill leaves lies in staging and nowhere else


def test_a_staging_folder_has_an_owner_that_other_machines_see(store: Store) -> None:
    """A lock on a file, which a share passes on to others, and not on the folder, which it keeps to itself."""
    with store.staging() as folder:
        assert store.is_owned(folder)
        owner = os.open(folder, os.O_RDONLY)
        fcntl.flock(owner, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody locks the folder itself
        os.close(owner)
        assert len(names(store.place / "locks")) == 1
    assert not store.is_owned(folder)
    assert names(store.place / "locks") == []


def test_a_lock_whose_file_cannot_be_removed_is_free(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with store.lock("a lock"):
        pass

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)
        store.forget_locks(time.time() + 60)
    with store.lock("a lock", wait=False):
        assert store.is_locked("a lock")


def test_a_lock_that_was_forgotten_while_somebody_looked_is_looked_at_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.lock("a lock"):
        pass
    [path] = (store.place / "locks").iterdir()
    taken: list[int] = []
    flock = fcntl.flock

    def between(descriptor: int, how: int) -> None:
        if not taken:  # somebody forgets the file that was just opened, and somebody else takes the lock
            taken.append(1)
            path.unlink()
            taken.append(os.open(path, os.O_RDWR | os.O_CREAT))
            flock(taken[1], fcntl.LOCK_EX)
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", between)
    assert store.is_locked("a lock")
    os.close(taken[1])
    assert not store.is_locked("a lock")


def test_locks_that_nobody_holds_are_forgotten_and_guard_no_less_for_it(store: Store) -> None:
    """Who waited for a lock whose file went holds the one that has the name: never two at once."""
    for name in ("idle", "young"):
        with store.lock(name):
            pass
    locks = store.place / "locks"
    os.utime(next(locks.iterdir()), (1, 1))
    store.forget_locks(time.time() - 60)
    assert len(names(locks)) == 1
    held, most, guard = [0], [0], threading.Lock()

    def work() -> None:
        for _ in range(50):
            with store.lock("busy"):
                with guard:
                    held[0] += 1
                    most[0] = max(most[0], held[0])
                time.sleep(0)
                with guard:
                    held[0] -= 1

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        store.forget_locks(time.time() + 60)
    assert most == [1]
    store.forget_locks(time.time() + 60)
    assert names(locks) == []
    with store.lock("held", shared=True):
        store.forget_locks(time.time() + 60)
        assert store.is_locked("held")
        assert len(names(locks)) == 1
    with store.lock("held"):
        store.forget_locks(0)
        assert len(names(locks)) == 1
