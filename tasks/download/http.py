"""HTTP as a source: streaming, resumed where the server can prove that the file is the same, bounded in size and time.

Proxies are those of HTTP_PROXY, HTTPS_PROXY and NO_PROXY. Not here: what the bytes must be.
"""

from __future__ import annotations

import contextlib
import json
import re
import ssl
import time
from typing import TYPE_CHECKING, Any, Final, Self

import certifi
import httpx

from tasks.download.archives import partial_folder, require_published, shared_archive, take_from_zip
from tasks.download.errand import Errand, SourceFailure
from tasks.stage import log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from schemas.catalog import HttpSource

CONNECT_SECONDS: Final = 5.0
SILENCE_SECONDS: Final = 10.0
WAITS: Final = (0.5, 1.0, 2.0)
"""Seconds before the second, third and fourth attempt."""

MOST_REDIRECTS: Final = 5
_HEALING: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_PACE_SECONDS: Final = 20.0
_PACE_BYTES: Final = 20 << 10  # a body slower than this over so many seconds is given up


class _PassingError(Exception):
    """A failure that may be gone at the next attempt."""


def fetch_http(source: HttpSource, errand: Errand) -> Path:
    """Fetch a file, or a member of the zip at the address.

    Raises:
        SourceFailure: the host cannot be reached, or did not give a body of a possible size.
    """
    if errand.file.member is None:
        return download(source.url, errand)
    containers = errand.file.containers
    pins = " ".join(sorted(each.sha256 or each.md5 or "" for each in containers))
    archive = shared_archive(errand, f"{source.url} {pins}", lambda: _published_zip(source.url, errand))
    if containers:  # it may have been fetched for another file, or another dataset, or changed since
        require_published(archive, containers)
    return take_from_zip(archive, errand.file.member, errand)


def download(url: str, errand: Errand) -> Path:
    """Fetch what is at an address into the staging folder; what a broken attempt left is taken up by the next."""
    folder = partial_folder(errand.store, "http", url)
    with errand.store.lock(folder.name), new_client() as client, _Partial(folder) as partial:
        for wait in (*WAITS, None):
            try:
                _attempt(client, url, partial, errand)
                break
            except _PassingError as passing:
                if wait is None:
                    raise SourceFailure(f"{passing}, {len(WAITS) + 1} times", may_heal=True) from passing
                log.info("%s: %s; trying again in %.1f s", errand.file.name, passing, wait)
                errand.sleep(wait)
        return partial.taken(errand.staging / "received")


def _published_zip(url: str, errand: Errand) -> Path:
    path = download(url, errand)
    if errand.file.containers:
        require_published(path, errand.file.containers)
    return path


class _Partial:
    """A body that is on its way: its bytes so far and what the server said to recognise the file by."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.body = folder / "body"
        self._mark = folder / "mark.json"

    def __enter__(self) -> Self:
        self._folder.mkdir(exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # not empty: there is something to take up later
            self._folder.rmdir()

    @property
    def size(self) -> int:
        return self.body.stat().st_size if self.body.exists() else 0

    @property
    def validator(self) -> str | None:
        try:
            mark = json.loads(self._mark.read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return mark if isinstance(mark, str) else None

    def headers(self) -> dict[str, str]:
        """Ask for the rest, if it is still the same file."""
        validator = self.validator
        if not self.size or validator is None:
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": validator}

    def restart(self, validator: str | None) -> None:
        """Begin anew; without a validator the bytes cannot be taken up later."""
        self._mark.unlink(missing_ok=True)
        self.body.write_bytes(b"")
        if validator is not None:
            self._mark.write_text(json.dumps(validator), encoding="utf-8")

    def taken(self, target: Path) -> Path:
        """Move the whole body away."""
        self.body.replace(target)
        self._mark.unlink(missing_ok=True)
        return target


def new_client() -> httpx.Client:
    """A client with this machine's proxies and authorities.

    Raises:
        SourceFailure: the proxy settings cannot be used.
    """
    try:
        return httpx.Client(
            verify=_trust(),
            timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS),
            headers={"User-Agent": "stepwise", "Accept-Encoding": "identity"},
        )
    except (ImportError, ValueError) as error:  # a proxy of a kind that httpx cannot use
        raise SourceFailure(f"the proxy settings of this machine cannot be used: {error}") from error


def _trust() -> ssl.SSLContext:
    """The system's authorities, where companies add their own, and certifi's, where the system has none."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    return context


def _attempt(client: httpx.Client, url: str, partial: _Partial, errand: Errand) -> None:
    try:
        with _answer(client, url, partial.headers(), errand) as response:
            if _is_complete(response, partial):
                return
            total = _begin(response, partial)
            _receive(response, partial, total, errand)
    except (httpx.TimeoutException, httpx.NetworkError, httpx.RemoteProtocolError) as error:
        raise _PassingError(_broken(error, partial.size)) from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise SourceFailure(f"{type(error).__name__}: {error}") from error
    if total is not None and partial.size != total:
        raise _PassingError(f"the body ended after {partial.size:,} of {total:,} bytes")


@contextlib.contextmanager
def _answer(client: httpx.Client, url: str, headers: dict[str, str], errand: Errand) -> Iterator[httpx.Response]:
    """The answer at the end of the redirects."""
    request = client.build_request("GET", url, headers=headers)
    for _ in range(MOST_REDIRECTS + 1):
        response = _sent(client, request, errand)
        try:
            if response.next_request is None:
                yield response
                return
            if request.url.scheme == "https" and response.next_request.url.scheme != "https":
                raise SourceFailure("redirects from https to an unprotected address, which is not followed")
            request = response.next_request
        finally:
            response.close()
    raise SourceFailure(f"redirects more than {MOST_REDIRECTS} times")


def _sent(client: httpx.Client, request: httpx.Request, errand: Errand) -> httpx.Response:
    host = request.url.host
    errand.hosts.require(host)
    try:
        return client.send(request, stream=True)
    except (httpx.TimeoutException, httpx.ConnectError, httpx.ProxyError) as error:
        seconds = CONNECT_SECONDS if isinstance(error, httpx.ConnectTimeout) else SILENCE_SECONDS
        silent = isinstance(error, httpx.TimeoutException)
        answer = f"{host} did not answer within {seconds:.0f} s" if silent else f"{host} cannot be reached ({error})"
        errand.hosts.failed(host, answer)
        raise SourceFailure(answer) from error


def _is_complete(response: httpx.Response, partial: _Partial) -> bool:
    """Whether the server says that nothing is left; the other answers that give no body are raised."""
    status = response.status_code
    if status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE and partial.size:
        whole = response.headers.get("content-range", "") == f"bytes */{partial.size}"
        if not whole:
            partial.restart(None)
            raise _PassingError("HTTP 416 for the rest of a file that has changed")
        return True
    if status in _HEALING:
        raise _PassingError(f"HTTP {status}")
    if status not in {200, 206}:
        raise SourceFailure(f"HTTP {status} {response.reason_phrase}".rstrip())
    return False


def _begin(response: httpx.Response, partial: _Partial) -> int | None:
    """Decide between going on and starting anew.

    Returns:
        Bytes that the whole body will have, where the server says so.
    """
    length = response.headers.get("content-length", "")
    if response.status_code == httpx.codes.OK:
        partial.restart(_validator(response))
        return int(length) if length.isdecimal() else None
    found = re.fullmatch(r"bytes (\d{1,19})-\d{1,19}/(\d{1,19}|\*)", response.headers.get("content-range", ""))
    validator = _validator(response)
    # A part that names its version by a tag has to bear it (RFC 9110, 15.3.7.1); a date may be left out.
    same = validator == partial.validator or (validator is None and not (partial.validator or "").startswith('"'))
    if found is None or int(found[1]) != partial.size or not same:
        partial.restart(None)
        raise _PassingError("the rest that the server sent does not continue what is here")
    return int(found[2]) if found[2].isdecimal() else None


def _validator(response: httpx.Response) -> str | None:
    etag: str | None = response.headers.get("etag")
    if etag is not None and not etag.startswith("W/"):
        return etag
    modified: str | None = response.headers.get("last-modified")
    return modified


def _receive(response: httpx.Response, partial: _Partial, total: int | None, errand: Errand) -> None:
    most = errand.most_bytes
    if total is not None and total > most:
        raise SourceFailure(f"offers {total:,} bytes where at most {most:,} are possible")
    size = partial.size
    since, then = time.monotonic(), size
    with partial.body.open("ab") as file:
        for block in response.iter_raw():
            size += len(block)
            if size > most:
                partial.restart(None)
                raise SourceFailure(f"sends more than the {most:,} bytes that are possible")
            file.write(block)
            errand.progress(size, total, "received")
            if time.monotonic() - since > _PACE_SECONDS:
                if size - then < _PACE_BYTES:
                    raise SourceFailure(f"sent {size - then:,} bytes in {_PACE_SECONDS:.0f} s, too slow", may_heal=True)
                since, then = time.monotonic(), size


def _broken(error: Exception, size: int) -> str:
    kind: dict[type[Any], str] = {httpx.ReadTimeout: f"silence of {SILENCE_SECONDS:.0f} s"}
    return f"{kind.get(type(error), f'the connection broke ({error or type(error).__name__})')} after {size:,} bytes"
