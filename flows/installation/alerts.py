"""Alerts: a run that failed or crashed is told once to a webhook or a notification block of Prefect's.

Each end of a run has a record under `store/alerts/` of the artifacts root, written before anybody is told and again
after, so that a restart neither forgets nor repeats. What is not taken is offered again, later and later.
Not here: which runs ended badly (watchdog).
"""

from __future__ import annotations

import contextlib
import datetime
import importlib
from typing import TYPE_CHECKING, Any, Final

import httpx
from prefect.blocks.abstract import NotificationBlock, NotificationError
from prefect.blocks.core import Block
from prefect.client.schemas.objects import StateType
from pydantic import Field, ValidationError

from flows.attempts import Attempt, Attempts, rerun_command
from flows.reach import address_of_pages
from schemas.errors import StorageError
from schemas.handles import Frozen
from schemas.visible import visible_lines
from tasks.store import Store, write_atomically, writing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.objects import FlowRun

    from schemas.installation import Installation

FIRST_PAUSE: Final = datetime.timedelta(seconds=5)
LONGEST_PAUSE: Final = datetime.timedelta(minutes=10)
MOST_TRIES: Final = 30  # about four hours
SECONDS: Final = 10
LOCK: Final = "alerts"
_BEGAN: Final = datetime.datetime.now(datetime.UTC)


class Message(Frozen):
    """What is told: the JSON that a webhook gets."""

    text: str = Field(description="All of it in words, which chat programs show.")
    run: str
    state: str
    dataset: str | None
    preset: str | None
    step: str | None
    found: str
    expected: str
    remedy: str
    link: str
    flow_run: str


class Record(Frozen):
    """One alert, told or not yet."""

    message: Message
    noted: datetime.datetime
    told: datetime.datetime | None = None
    tries: int = 0
    next_try: datetime.datetime
    last_error: str | None = None

    def after_failure(self, error: str) -> Record:
        """The record after somebody did not take it."""
        pause = min(FIRST_PAUSE * 2**self.tries, LONGEST_PAUSE)
        changes = {"tries": self.tries + 1, "next_try": _now() + pause, "last_error": error}
        return self.model_copy(update=changes)


class Alarm:
    """Tells of the runs of one installation.

    Args:
        client: The server.
        installation: Whose runs.
        unkept: Records that cannot be written, for the next look of the same process: of a full disk above all people
            want to hear.
    """

    def __init__(self, client: SyncPrefectClient, installation: Installation, unkept: dict[Path, Record]) -> None:
        self._client, self._to, self._unkept = client, installation.alerts, unkept
        self._artifacts = installation.artifacts
        self._store = Store(installation.artifacts)
        self._folder = installation.artifacts / "store" / "alerts"

    def begin(self) -> None:
        """Remember when alerts began here, the first time: what ended before is history and not told.

        Where that lies ahead, a clock was wrong, and nothing would be told until then.
        """
        path = self._folder / "since"
        if self._tells and not (path.exists() and self._since() <= _now()):
            with contextlib.suppress(StorageError), writing(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(path, _now().isoformat().encode())

    def note(self, run: FlowRun, next_try: Callable[[FlowRun], str | None]) -> bool:
        """Note the bad end of a run; tells whether it is new. `next_try` says what is done about one without people."""
        if not self._tells or run.state is None:
            return False
        path = self._folder / f"{run.id}-{run.state.id}.json"
        if run.state.timestamp < self._since() or path.exists() or path in self._unkept:
            return False
        attempt = Attempts(self._artifacts).of_flow_run(str(run.id))
        message = message_of(run, attempt, address_of_pages(self._client), next_try(run))
        with self._store.lock(LOCK):
            new = (
                not path.exists() and path not in self._unkept
            )  # another watchdog may have noted it meanwhile, and told
            if new:
                self._keep(path, Record(message=message, noted=_now(), next_try=_now()))
        return new

    def deliver(self) -> Iterator[tuple[str, str, str]]:
        """Tell what is due; yields run, what was done and why. Where another watchdog is telling, nothing is due."""
        if not self._tells:
            return
        with contextlib.suppress(BlockingIOError), self._store.lock(LOCK, wait=False):
            for path in sorted({*self._folder.glob("*-*.json"), *self._unkept}):
                with contextlib.suppress(ValidationError, FileNotFoundError):
                    record = self._unkept.get(path) or Record.model_validate_json(path.read_bytes())
                    if record.told is None and record.tries < MOST_TRIES and record.next_try <= _now():
                        done, why = self._try_to_tell(path, record)
                        yield record.message.run, done, why

    def _try_to_tell(self, path: Path, record: Record) -> tuple[str, str]:
        try:
            tell(record.message, self._to.webhook, self._to.block)
        except (httpx.HTTPError, NotificationError, ValueError, RuntimeError) as error:
            after = record.after_failure(_without_secrets(error))
            self._keep(path, after)
            return "alert not taken", f"{after.last_error}; again at {after.next_try:%H:%M:%S} UTC"
        self._keep(path, record.model_copy(update={"told": _now(), "tries": record.tries + 1}))
        return "alert told", record.message.found

    def _since(self) -> datetime.datetime:
        """When alerts began here; as long as that cannot be written, when this process did."""
        try:
            return datetime.datetime.fromisoformat((self._folder / "since").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return _BEGAN

    @property
    def _tells(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(self._to.webhook or self._to.block)

    def _keep(self, path: Path, record: Record) -> None:
        self._unkept[path] = record
        with contextlib.suppress(StorageError), writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, record.model_dump_json(indent=1).encode())
            del self._unkept[path]


def message_of(run: FlowRun, attempt: Attempt | None, pages: str, next_try: str | None) -> Message:
    """What is to be told of a run that ended badly; `next_try` where it is tried again without people."""
    problem = attempt.problem if attempt and _is_of(attempt, run) else None
    state = run.state_name or ""
    said = (run.state.message if run.state else None) or f"the run ended {state}"
    found = problem.found if problem else said
    remedy = (problem.remedy if problem else "") or _remedy(run, attempt, next_try)
    link = f"{pages}/v2/runs/flow-run/{run.id}"
    name = attempt.run if attempt else run.name
    where = f" at {problem.step}" if problem and problem.step else ""
    expected = problem.expected if problem else ""
    words = [f"{name}: {state}{where}. {found}", f"Expected: {expected}" if expected else "", remedy, link]
    return Message(
        text=_plain("\n".join(word for word in words if word)),
        run=name,
        state=state,
        dataset=attempt.dataset if attempt else None,
        preset=attempt.preset if attempt else None,
        step=problem.step if problem else None,
        found=found,
        expected=expected,
        remedy=remedy,
        link=link,
        flow_run=str(run.id),
    )


def _plain(text: str) -> str:
    """A text in which chat programs find no links or names to call: some of it is of foreign data."""
    return visible_lines(text).translate({ord("<"): "‹", ord(">"): "›"})


def _is_of(attempt: Attempt, run: FlowRun) -> bool:
    """Whether a record's problem is what this run ended of, and not an earlier try's."""
    return run.state_type is StateType.FAILED and attempt.outcome == "failed" and attempt.tries >= run.run_count


def _remedy(run: FlowRun, attempt: Attempt | None, next_try: str | None) -> str:
    if next_try:
        return f"Nothing, so far: it goes on by itself ({next_try})"
    again = rerun_command(attempt) if attempt else f"prefect flow-run retry {run.id}"
    return f"Look at its log, then run it again: {again}"


def tell(message: Message, webhook: str | None, block: str | None) -> None:
    """Tell a webhook or a notification block.

    Raises:
        httpx.HTTPError: the webhook did not take it.
        NotificationError: the block's service did not take it.
        ValueError: there is no such block, or it notifies nobody.
    """
    if webhook:
        httpx.post(webhook, json=message.model_dump(), timeout=SECONDS).raise_for_status()
    if block:
        notifier = _loaded(block)
        with notifier.raise_on_failure():
            _ = notifier.notify(message.text, subject=f"stepwise: {message.run} {message.state}")


def _loaded(block: str) -> NotificationBlock:
    importlib.import_module("prefect.blocks.notifications")  # registers the kinds
    loaded: Any = Block.load(block)
    if not isinstance(loaded, NotificationBlock):
        raise ValueError(f"the block {block} notifies nobody")  # noqa: TRY004 - a wrong value of a setting
    return loaded


def _without_secrets(error: Exception) -> str:
    """What went wrong, without the address, which may be a secret."""
    if isinstance(error, httpx.HTTPStatusError):
        return f"answered {error.response.status_code}"
    return type(error).__name__


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
