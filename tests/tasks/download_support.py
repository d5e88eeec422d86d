"""What the tests of download share: a real HTTP server that answers as told, small IDX files, a dataset of them."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import socket
import struct
import threading
from typing import TYPE_CHECKING

import numpy as np

from schemas.catalog import DataFile, Dataset, HttpSource, SplitFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from schemas.catalog import Source

    Answer = Callable[["Handler"], None]


def idx(array: np.ndarray) -> bytes:
    """An IDX file of unsigned bytes, written without the project's codec."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


IMAGES = idx(np.random.default_rng(1).integers(0, 256, (400, 28, 28)))
LABELS = idx(np.arange(400) % 10)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def data_file(name: str, content: bytes | None = None, **known: object) -> DataFile:
    digest = {} if content is None else {"payload_sha256": sha256(content), "payload_bytes": len(content)}
    return DataFile.model_validate({"name": name, **digest, **known})


def dataset_of(*sources: Source, **changes: object) -> Dataset:
    """A pinned dataset of IMAGES and LABELS, the same for both splits."""
    splits = {
        split: SplitFiles(images=data_file(f"{split}-images", IMAGES), labels=data_file(f"{split}-labels", LABELS))
        for split in ("train", "test")
    }
    values = {"name": "small", "title": "Small", "mode": "pinned", "classes": 10, "sources": sources, "splits": splits}
    return Dataset.model_validate({**values, **changes})


class Server:
    """Answers requests with the answers it was given, in order; the last one for ever. Keeps what was asked."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.stopped = threading.Event()
        self._guard = threading.Lock()
        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.http.owner = self  # type: ignore[attr-defined]

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}"

    def source(self, path: str = "/{name}") -> HttpSource:
        return HttpSource(url=f"{self.base}{path}")

    def take(self) -> Answer:
        with self._guard:
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        owner = self.owner
        owner.asked.append((self.path, {key.lower(): value for key, value in self.headers.items()}))
        with contextlib.suppress(ConnectionError):
            owner.take()(self)

    @property
    def owner(self) -> Server:
        return self.server.owner  # type: ignore[attr-defined,no-any-return]

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        """Say nothing."""

    def head(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key.replace("_", "-"), str(value))
        self.end_headers()

    def hang_up(self) -> None:
        """Reset the connection."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.wfile.flush()
        self.connection.close()


@contextlib.contextmanager
def serving(*answers: Answer) -> Iterator[Server]:
    server = Server(*answers)
    thread = threading.Thread(target=server.http.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.stopped.set()
        server.http.shutdown()
        server.http.server_close()
        thread.join()


def whole(body: bytes, etag: str | None = None) -> Answer:
    """The whole body, whatever part was asked for."""

    def answer(handler: Handler) -> None:
        handler.head(200, Content_Length=len(body), **({"ETag": etag} if etag else {}))
        handler.wfile.write(body)

    return answer


def part(body: bytes, etag: str) -> Answer:
    """The part that was asked for, if it is of this version; the whole otherwise."""

    def answer(handler: Handler) -> None:
        asked, version = handler.headers.get("Range"), handler.headers.get("If-Range")
        if asked is None or version != etag:
            whole(body, etag)(handler)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(body):
            handler.head(416, Content_Length=0, Content_Range=f"bytes */{len(body)}")
            return
        rest = body[start:]
        place = f"bytes {start}-{len(body) - 1}/{len(body)}"
        handler.head(206, Content_Length=len(rest), Content_Range=place, ETag=etag)
        handler.wfile.write(rest)

    return answer


def cut(body: bytes, after: int, etag: str | None = None) -> Answer:
    """So many bytes of the body, then a reset."""

    def answer(handler: Handler) -> None:
        handler.head(200, Content_Length=len(body), **({"ETag": etag} if etag else {}))
        handler.wfile.write(body[:after])
        handler.wfile.flush()
        handler.owner.stopped.wait(0.2)  # or the reset overtakes the bytes
        handler.hang_up()

    return answer


def stuck(body: bytes, after: int, etag: str) -> Answer:
    """So many bytes of the body, then silence until the server ends."""

    def answer(handler: Handler) -> None:
        handler.head(200, Content_Length=len(body), ETag=etag)
        handler.wfile.write(body[:after])
        handler.wfile.flush()
        handler.owner.stopped.wait()
        handler.close_connection = True

    return answer


def status(code: int, body: bytes = b"", **headers: object) -> Answer:
    def answer(handler: Handler) -> None:
        handler.head(code, Content_Length=len(body), **headers)
        handler.wfile.write(body)

    return answer


def endless(handler: Handler) -> None:
    """A body without length or end."""
    handler.head(200, Connection="close")
    handler.close_connection = True
    while not handler.owner.stopped.is_set():
        handler.wfile.write(bytes(1 << 16))
