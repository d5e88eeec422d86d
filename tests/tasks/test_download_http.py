"""HTTP against a real local server: what heals is tried again, what cannot be right is refused, nothing half stays."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from download_support import IMAGES, LABELS, cut, dataset_of, endless, part, serving, sha256, status, stuck, whole

from tasks.download.errand import Errand, Hosts, SourceFailure
from tasks.download.http import WAITS, download
from tasks.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from download_support import Handler

ROOT = Path(__file__).parents[2]
HALF = 150_000


class RecordedSleep:
    """Keeps how long was waited, and does not wait."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    def __call__(self, seconds: float) -> None:
        self.waits.append(seconds)


@pytest.fixture
def sleep() -> RecordedSleep:
    return RecordedSleep()


@pytest.fixture
def errand(tmp_path: Path, sleep: RecordedSleep) -> Iterator[Errand]:
    store = Store(tmp_path)
    file = dataset_of(serving_nothing()).file("train", "images")
    with store.staging() as staging:
        yield Errand(file, (file.name,), store, staging, lambda *_: None, Hosts(), sleep)


def serving_nothing() -> object:
    return {"kind": "http", "url": "http://127.0.0.1:9/{name}"}


def left_over(errand: Errand) -> list[str]:
    return [path.name for path in (errand.store.place / "partial").rglob("*")]


def test_a_whole_body_arrives(errand: Errand) -> None:
    with serving(whole(IMAGES)) as server:
        path = download(f"{server.base}/x", errand)
    assert path.read_bytes() == IMAGES
    assert server.asked[0][1]["accept-encoding"] == "identity"
    assert left_over(errand) == []


def test_a_reset_in_mid_body_is_taken_up_where_it_broke(errand: Errand, sleep: RecordedSleep) -> None:
    with serving(cut(IMAGES, HALF, '"v1"'), part(IMAGES, '"v1"')) as server:
        path = download(f"{server.base}/x", errand)
    assert path.read_bytes() == IMAGES
    assert server.asked[1][1]["range"] == f"bytes={HALF}-"
    assert server.asked[1][1]["if-range"] == '"v1"'
    assert sleep.waits == [WAITS[0]]


def test_a_file_that_changed_is_begun_anew(errand: Errand) -> None:
    other = bytes(reversed(IMAGES))
    with serving(cut(other, HALF, '"v1"'), part(IMAGES, '"v2"')) as server:
        assert download(f"{server.base}/x", errand).read_bytes() == IMAGES


def test_a_part_of_another_version_is_not_joined(errand: Errand) -> None:
    other = bytes(reversed(IMAGES))

    def careless(handler: object) -> None:
        handler.headers.replace_header("If-Range", '"v2"')  # type: ignore[attr-defined]
        part(IMAGES, '"v2"')(handler)  # type: ignore[arg-type]

    with serving(cut(other, HALF, '"v1"'), careless, part(IMAGES, '"v2"')) as server:
        assert download(f"{server.base}/x", errand).read_bytes() == IMAGES
    assert "range" not in server.asked[2][1]


def test_a_part_that_does_not_say_of_which_version_it_is_is_not_joined(errand: Errand) -> None:
    """A server that ignores If-Range and bears no tag: it may be the rest of another file."""
    other = bytes(reversed(IMAGES))

    def nameless(handler: Handler) -> None:
        place = f"bytes {HALF}-{len(IMAGES) - 1}/{len(IMAGES)}"
        handler.head(206, Content_Length=len(IMAGES) - HALF, Content_Range=place)
        handler.wfile.write(IMAGES[HALF:])

    with serving(cut(other, HALF, '"v1"'), nameless, whole(IMAGES, '"v2"')) as server:
        assert download(f"{server.base}/x", errand).read_bytes() == IMAGES
    assert "range" not in server.asked[2][1]


def test_a_server_without_ranges_is_begun_anew(errand: Errand) -> None:
    with serving(cut(IMAGES, HALF, '"v1"'), whole(IMAGES, '"v1"')) as server:
        assert download(f"{server.base}/x", errand).read_bytes() == IMAGES


def test_without_etag_or_date_nothing_is_joined(errand: Errand) -> None:
    with serving(cut(IMAGES, HALF), whole(IMAGES)) as server:
        assert download(f"{server.base}/x", errand).read_bytes() == IMAGES
    assert "range" not in server.asked[1][1]


def test_a_body_that_was_whole_before_the_crash_is_not_fetched_again(errand: Errand) -> None:
    short = cut(IMAGES + b"x", len(IMAGES), '"v1"')  # all is there, the reset comes before the end is known
    with serving(short, part(IMAGES, '"v1"')) as server:
        assert download(f"{server.base}/x", errand).read_bytes() == IMAGES
    assert server.asked[1][1]["range"] == f"bytes={len(IMAGES)}-"


def test_416_for_a_file_that_shrank_begins_anew(errand: Errand) -> None:
    shrunk = status(416, Content_Range="bytes */7")
    with serving(cut(IMAGES, HALF, '"v1"'), shrunk, part(IMAGES, '"v2"')) as server:
        assert download(f"{server.base}/x", errand).read_bytes() == IMAGES


def test_503_is_tried_again_after_growing_waits(errand: Errand, sleep: RecordedSleep) -> None:
    with serving(status(503), status(502), status(500), whole(IMAGES)) as server:
        assert download(f"{server.base}/x", errand).read_bytes() == IMAGES
    assert sleep.waits == [0.5, 1.0, 2.0]


def test_503_for_ever_ends(errand: Errand, sleep: RecordedSleep) -> None:
    with serving(status(503)) as server, pytest.raises(SourceFailure, match=r"^HTTP 503, 4 times$") as raised:
        download(f"{server.base}/x", errand)
    assert raised.value.may_heal
    assert len(server.asked) == 4
    assert left_over(errand) == []


def test_404_is_not_tried_again(errand: Errand, sleep: RecordedSleep) -> None:
    with serving(status(404, b"404: Not Found")) as server, pytest.raises(SourceFailure, match=r"^HTTP 404 Not Found$"):
        download(f"{server.base}/x", errand)
    assert (len(server.asked), sleep.waits) == (1, [])


def test_an_endless_body_is_stopped(errand: Errand) -> None:
    with serving(endless) as server, pytest.raises(SourceFailure, match=r"sends more than the 379,152 bytes"):
        download(f"{server.base}/x", errand)
    assert sum(path.stat().st_size for path in (errand.store.place / "partial").rglob("*") if path.is_file()) == 0


def test_a_body_too_large_is_refused_by_its_length(errand: Errand) -> None:
    with serving(status(200, bytes(400_000))) as server, pytest.raises(SourceFailure, match=r"^offers 400,000 bytes"):
        download(f"{server.base}/x", errand)


def test_redirects_are_followed_but_not_for_ever(errand: Errand) -> None:
    with serving(status(302, Location="/elsewhere"), whole(IMAGES)) as server:
        assert download(f"{server.base}/x", errand).read_bytes() == IMAGES
        assert server.asked[1][0] == "/elsewhere"
    with serving(status(302, Location="/x")) as server, pytest.raises(SourceFailure, match=r"redirects more than 5"):
        download(f"{server.base}/x", errand)


def test_an_unreachable_host_is_asked_once_a_run(errand: Errand) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(SourceFailure, match=r"127\.0\.0\.1 cannot be reached \(.*refused\)$"):
        download(f"http://127.0.0.1:{port}/x", errand)
    with pytest.raises(SourceFailure, match=r"refused\); this was a moment ago, it was not asked again$"):
        download(f"http://127.0.0.1:{port}/y", errand)


def test_an_outage_is_forgotten_after_a_while() -> None:
    now = [100.0]
    hosts = Hosts(forget_after=60.0, clock=lambda: now[0])
    hosts.failed("a", "a did not answer")
    with pytest.raises(SourceFailure):
        hosts.require("a")
    hosts.require("b")
    now[0] = 161.0
    hosts.require("a")


def test_the_proxy_of_the_environment_is_asked(errand: Errand, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(whole(IMAGES)) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.base)
        monkeypatch.setenv("http_proxy", proxy.base)
        monkeypatch.setenv("no_proxy", "")
        monkeypatch.setenv("NO_PROXY", "")
        assert download("http://data.invalid/digits/x", errand).read_bytes() == IMAGES
    assert proxy.asked[0][0] == "http://data.invalid/digits/x"


def test_from_https_to_http_no_redirect_is_followed(errand: Errand, monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx

    def redirect(_: httpx.Request) -> httpx.Response:
        return httpx.Response(302, headers={"Location": "http://127.0.0.1:9/x"})

    client = httpx.Client(transport=httpx.MockTransport(redirect))
    monkeypatch.setattr("tasks.download.http.new_client", lambda: client)
    with pytest.raises(SourceFailure, match=r"redirects from https to an unprotected address"):
        download("https://data.invalid/x", errand)


@pytest.mark.slow
def test_a_kill_in_mid_download_leaves_no_name_and_the_next_run_goes_on(tmp_path: Path) -> None:
    from tasks.download import fetch

    with serving(stuck(IMAGES, HALF, '"v1"'), part(IMAGES, '"v1"')) as server:
        dataset = dataset_of(server.source())
        program = (
            "import sys; from pathlib import Path; from schemas.catalog import Dataset; from tasks.store import Store\n"
            "from tasks.download import fetch\n"
            "dataset = Dataset.model_validate_json(sys.argv[2])\n"
            "fetch(dataset, 'train', 'images', Store(Path(sys.argv[1])), lambda *_: None)\n"
        )
        child = subprocess.Popen([sys.executable, "-c", program, str(tmp_path), dataset.model_dump_json()], cwd=ROOT)
        try:
            _wait_for_partial(tmp_path)
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
        assert not (tmp_path / "store" / "objects").exists()
        file = fetch(dataset, "train", "images", Store(tmp_path), lambda *_: None, Hosts())
        assert file.idx.digest == sha256(IMAGES)
        assert 0 < int(server.asked[1][1]["range"].removeprefix("bytes=").removesuffix("-")) <= HALF


def _wait_for_partial(root: Path) -> None:
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size > HALF // 2 for path in root.glob("store/partial/http-*/body")):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_the_fixtures_are_what_they_say() -> None:
    assert len(IMAGES) == 16 + 400 * 784
    assert LABELS[:8] == b"\0\0\x08\x01\0\0\x01\x90"
