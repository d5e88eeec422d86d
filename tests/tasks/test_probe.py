"""Asking sources: each kind that answers, each that does not and why, side by side and never for long."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest
from download_support import serving, status

from schemas.catalog import DebianSource, DrawnSource, FolderSource, HttpSource, NpmSource
from tasks.download import probe
from tasks.download.errand import SourceFailure
from tasks.download.probe import probe_all

if TYPE_CHECKING:
    from pathlib import Path

NPM = NpmSource(package="some-package", version="1.2.3", member="x")
DEBIAN = DebianSource(package="some-package", member="x")


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_an_address_that_gives_no_heads_is_asked_for_its_first_byte() -> None:
    with serving(status(206, b"x")) as server:  # it answers 501 to HEAD, as it knows only GET
        assert probe_all({"mirror": server.source("/file")}) == {}
        [(path, headers)] = server.asked
        assert (path, headers["range"]) == ("/file", "bytes=0-0")


def test_addresses_that_do_not_answer_say_why() -> None:
    with serving(status(404)) as server:
        gone = server.source("/file")
        failures = probe_all({"gone": gone, "nobody": HttpSource(url="http://127.0.0.1:9/file")})
    assert failures["gone"] == "answers HTTP 404"
    assert failures["nobody"].startswith("cannot be reached (")


def test_silence_is_waited_for_once_and_not_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "_ANSWER_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/file"
        assert probe_all({"silent": HttpSource(url=address)}) == {"silent": "no answer within 0.3 s"}


def test_who_cannot_even_be_interrupted_does_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def stuck(source: object) -> None:
        if isinstance(source, NpmSource):  # as a name server that is silent
            ended.wait(60)

    monkeypatch.setattr(probe, "probe", stuck)
    began = time.monotonic()
    assert probe_all({"npm": NPM, "drawn": DrawnSource(recipe="glyphs")}, 0.3) == {"npm": "no answer within 0.3 s"}
    assert time.monotonic() - began < 30
    ended.set()


def test_package_clients_answer_fail_or_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    failures = probe_all({"npm": NPM, "debian": DEBIAN})
    assert failures == {
        "npm": "npm is not installed here (there is none on PATH)",
        "debian": "dpkg-deb is not installed here (there is none on PATH)",
    }
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    program(tmp_path, "npm", '[ "$1 $2 $3" = "view some-package@1.2.3 version" ] && echo 1.2.3')
    program(tmp_path, "dpkg-deb", "exit 0")
    with serving(status(206, b"x")) as server:
        program(tmp_path, "apt-get", f"""echo "'{server.base}/p.deb' p.deb 3 SHA256:00" """)
        assert probe_all({"npm": NPM, "debian": DEBIAN}) == {}
        assert [path for path, _ in server.asked] == ["/p.deb"]
    program(tmp_path, "npm", 'echo "npm error code E404" >&2; exit 1')
    program(tmp_path, "apt-get", "exit 0")  # neither the machine's lists nor new ones know the package
    assert probe_all({"npm": NPM, "debian": DEBIAN}) == {
        "npm": "npm ended with code 1: code E404",
        "debian": "the archive does not have it",
    }


def test_a_file_of_this_machine_is_there_or_not(tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(b"")
    probe.probe(FolderSource(path=str(tmp_path / "images")))
    with pytest.raises(SourceFailure, match="there is no such file that can be read"):
        probe.probe(FolderSource(path=str(tmp_path / "labels")))
