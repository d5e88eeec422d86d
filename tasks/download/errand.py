"""What a source is sent for and how it fails. Here: the value every kind of source gets, and its one exception.

Not here: any kind of source, the order of asking, what the received bytes must be.
"""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from schemas.visible import without_user

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from schemas.catalog import DataFile
    from tasks.stage import Progress
    from tasks.store import Store

MOST_BYTES: Final = 4 << 30
"""Most bytes that are taken where the catalog states no size."""

_PADDING: Final = 1 << 16  # what a .gz of incompressible data may have beyond its payload, and more


class SourceFailure(Exception):  # noqa: N818 - it is an answer among several; the error is that none worked
    """One source did not give the file.

    Attributes:
        may_heal: Asking again later may help.
        client_missing: The program that would ask is not installed.
        wrong_bytes: It gave a file, and that is not the one.
    """

    def __init__(
        self, answer: str, *, may_heal: bool = False, client_missing: bool = False, wrong_bytes: bool = False
    ) -> None:
        super().__init__(redacted(answer))
        self.wrong_bytes = wrong_bytes
        self.may_heal = may_heal
        self.client_missing = client_missing


@dataclass(frozen=True)
class Errand:
    """One file to be fetched.

    Attributes:
        file: What the catalog knows of it.
        siblings: Names of all files of the dataset, which may come in one archive.
        store: Keeps what survives a crash (half downloads, archives that several files come from).
        staging: A folder of this errand's own; the received file goes here.
        progress: Told of bytes done, their total and what is going on.
        hosts: Remembers who could not be reached.
        sleep: Waits between attempts; a test puts its own in.
    """

    file: DataFile
    siblings: tuple[str, ...]
    store: Store
    staging: Path
    progress: Progress
    hosts: Hosts
    sleep: Callable[[float], None] = time.sleep

    @property
    def most_bytes(self) -> int:
        """Most bytes that may be received: of the file, or of the zip that it is a member of."""
        known = [container.bytes for container in self.file.containers if container.bytes is not None]
        if self.file.member is not None:
            return max(known, default=MOST_BYTES)
        return max((self.most_member_bytes, *known)) if self.file.payload_bytes else max(known, default=MOST_BYTES)

    @property
    def most_member_bytes(self) -> int:
        """Most bytes that the file itself may have, compressed or not."""
        return MOST_BYTES if self.file.payload_bytes is None else self.file.payload_bytes + _PADDING


class Hosts:
    """Who could not be reached lately, so that the files of one run do not each wait for the same silence.

    Args:
        forget_after: Seconds after which one is asked again; the next run should not inherit this one's outage.
        clock: Seconds that only grow.
    """

    def __init__(self, forget_after: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._forget_after = forget_after
        self._clock = clock
        self._failed: dict[str, tuple[float, str]] = {}
        self._guard = threading.Lock()

    def require(self, name: str) -> None:
        """Raise SourceFailure where a host, or a package's archive, failed a moment ago."""
        with self._guard:
            when, answer = self._failed.get(name, (float("-inf"), ""))
        if self._clock() - when < self._forget_after:
            raise SourceFailure(f"{answer}; this was a moment ago, it was not asked again")

    def failed(self, name: str, answer: str) -> None:
        """Remember how one failed."""
        with self._guard:
            self._failed[name] = (self._clock(), answer)


def redacted(text: str) -> str:
    """A client's words without what may be secret: users in URLs, queries, values of tokens and passwords."""
    text = re.sub(r"(https?://[^\s?]+)\?\S*", r"\1", without_user(text))
    text = re.sub(r"(?i)\b(authorization[\"']?\s*[=:]\s*)(?:(?:basic|bearer)\s+)?\S+", r"\1…", text)
    return re.sub(r"(?i)\b((?:\w*token|\w*password|\w*secret|_?auth)[\"']?\s*[=:]\s*)\S+", r"\1…", text)
