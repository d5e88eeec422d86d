"""The command `stepwise champion`: who is champion, how it came to be, and what a person decides about it.

Not here: what a run decides (tasks/compare, tasks/promote), the place itself (tasks/champions).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flows.attempts import UPKEEP
from flows.index import index_renewed
from flows.runs import find_run, print_json
from flows.verdict_card import said
from schemas.errors import ConfigurationError, PromotionRefusedError, StorageError
from schemas.files import MANIFEST_FILE, RUNS
from tasks.champions import Champions, all_champions, entered, record_of
from tasks.published import manifest_digest, remembered_manifest, unsound
from tasks.store import Store
from tasks.trial import WITHOUT_PROGRAMS, objection_to, was_asked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from schemas.champion import Champion, Entry
    from schemas.handles import Sha256

UNKNOWN_HERE: Final = "no record here tells that this run was published here: its SavedModel, a program, was not tried"
UNTRIED: Final = "it was published before runs kept what their models were asked: its model was not tried again"


def show_champions(artifacts: Path, dataset: str | None, *, as_json: bool) -> None:
    """Print who is champion of each dataset, or of one."""
    newest = [entry for place in _places(artifacts, dataset) if (entry := place.newest())]
    if as_json:
        print_json([entry.model_dump(mode="json") for entry in newest])
        return
    table = Table(title=f"{len(newest)} dataset{'' if len(newest) == 1 else 's'} with a history", title_justify="left")
    table.add_column("dataset", overflow="fold")
    table.add_column(
        "champion", no_wrap=True, min_width=max((len(entry.champion or "") for entry in newest), default=0)
    )
    for name in ("accuracy", "last looked at"):
        table.add_column(name, overflow="fold")
    words = [word for entry in newest for word in entry.decision.split()]
    table.add_column("which", min_width=max(map(len, words), default=0))
    for entry in newest:
        accuracy = f"{entry.record.accuracy:.2%}" if entry.record else ""
        table.add_row(entry.dataset, entry.champion or "nobody", accuracy, _when(entry), entry.decision)
    Console().print(table)


def show_history(artifacts: Path, dataset: str | None, *, as_json: bool) -> None:
    """Print all that was ever decided, the newest last."""
    entries = [entry for place in _places(artifacts, dataset) for entry in place.history()]
    if as_json:
        print_json([entry.model_dump(mode="json") for entry in entries])
        return
    console = Console()
    for entry in entries:
        console.print(f"[bold]{_when(entry)}  {escape(said(entry))}[/bold]", highlight=False, soft_wrap=True)
        about = "" if entry.run == entry.champion else f"{entry.run}: "
        console.print(f"  {about}{'; '.join(entry.reasons)}", highlight=False, markup=False, soft_wrap=True)


def promote_by_hand(artifacts: Path, run: str, reason: str, *, as_json: bool) -> None:
    """Give a published run the place of its dataset's champion, whatever its verdict says.

    Raises:
        ConfigurationError: no reason is given, or the run is champion already.
        PromotionRefusedError: its files, its receipt or its counts do not hold, its model answers otherwise, or
            somebody else became champion meanwhile.
    """
    folder, manifest = find_run(artifacts, run)
    _require_reason(reason)
    store, place = Store(artifacts), Champions(artifacts, manifest.dataset)
    seen, known, require_sound = place.newest(), record_in(place, folder.name), _looking_once(store)

    def entry(newest: Entry | None) -> Entry:
        if newest and newest.champion == folder.name:
            require_sound(folder, known)
            raise ConfigurationError(f"{folder.name} is champion already", "another run", "Nothing is to be done")
        _require_the_champion_seen(seen, newest)
        reasons = (reason.strip(), *require_sound(folder, known))
        taking = record_of(store, folder.name)
        return place.following(newest, "by hand", folder.name, reasons, taking=taking, by_hand=True)

    with store.lock(UPKEEP, shared=True):  # else `clean` may remove the run meanwhile
        made = entered(place, entry)
    _tell(artifacts, made, as_json=as_json)


def roll_back(artifacts: Path, dataset: str | None, reason: str, *, as_json: bool) -> None:
    """Give the place back to the champion before.

    Raises:
        ConfigurationError: there is none, or more than one dataset to choose from.
        PromotionRefusedError: its files, its receipt or its counts no longer hold, its model answers otherwise, or
            somebody else became champion meanwhile.
    """
    place = _one_place(artifacts, dataset)
    store = Store(artifacts)
    seen, require_sound = place.newest(), _looking_once(store)

    def entry(newest: Entry | None) -> Entry:
        _require_the_champion_seen(seen, newest)
        before = before_champion(place)
        if newest is None or before is None:
            raise ConfigurationError(
                f"there is no champion of {place.dataset} before {newest.champion if newest else 'nobody'}",
                "a promotion to take back",
                _how_one_becomes_champion(artifacts),
            )
        untried = require_sound(artifacts / RUNS / before, record_in(place, before))
        why = (reason.strip() or "rolled back", *untried)
        taking = record_of(store, before)
        return place.following(newest, "rolled back", newest.champion or "", why, taking=taking, by_hand=True)

    with store.lock(UPKEEP, shared=True):
        made = entered(place, entry)
    _tell(artifacts, made, as_json=as_json)


def answering_run(artifacts: Path, run: str, dataset: str | None) -> str:
    """The run that a name means: 'champion' is the champion of a dataset, or of the only one that has a champion.

    Where no run was ever looked at, the latest one stands in.

    Raises:
        ConfigurationError: there is no champion of the dataset, or more than one to choose from.
        StorageError: its manifest is another one than when it became champion.
    """
    if run != "champion":
        return run
    places = _places(artifacts, dataset)
    known = {place.dataset: champion for place in places if (champion := place.champion())}
    if len(known) == 1:
        return _as_promoted(artifacts, next(iter(known.values())))
    if not places:
        return "latest"
    looked_at = ", ".join(place.dataset for place in places)
    raise ConfigurationError(
        f"there are champions of {', '.join(known)}" if known else f"there is no champion of {looked_at}",
        "the champion of one dataset",
        "Name the dataset: --dataset NAME, or the run: --run NAME",
    )


def _as_promoted(artifacts: Path, champion: Champion) -> str:
    folder = artifacts / RUNS / champion.run
    if not (folder / MANIFEST_FILE).is_file() or manifest_digest(folder) != champion.manifest:
        raise StorageError(
            f"the champion {champion.run} is no longer what it was when it took the place",
            f"a manifest of SHA-256 {champion.manifest[:12]}…",
            "Put its folder back, or choose another run: --run NAME, or stepwise champion rollback",
            str(folder / MANIFEST_FILE),
        )
    return champion.run


def champions_kept(artifacts: Path) -> set[str]:
    """Runs that must stay: the champion of each dataset, and the one that a rollback would give the place back to."""
    kept: set[str] = set()
    for place in all_champions(artifacts):
        champion = place.champion()
        kept |= {run for run in (champion.run if champion else None, before_champion(place)) if run}
    return kept


def before_champion(place: Champions) -> str | None:
    """Who held the place before its present champion took it, promotions that were taken back left out."""
    holders: list[str] = []
    for entry in place.history():
        if entry.decision == "rolled back" and len(holders) > 1:
            holders.pop()
        elif entry.champion and entry.champion != entry.was:
            if holders and entry.decision == "promoted" and _same_weights(place, entry, holders[-1]):
                holders.pop()  # a whole copy of a champion that was damaged: nobody wants that one back
            holders.append(entry.champion)
    return holders[-2] if len(holders) > 1 else None


def _same_weights(place: Champions, entry: Entry, run: str) -> bool:
    before = record_in(place, run)
    return bool(before and entry.record and before.weights == entry.record.weights)


def record_in(place: Champions, run: str) -> Champion | None:
    """What a run was when it last became champion; None where it never was."""
    records = [entry.record for entry in place.history() if entry.record and entry.record.run == run]
    return records[-1] if records else None


def _require_the_champion_seen(seen: Entry | None, newest: Entry | None) -> None:
    """Raise where the champion is another than when a person decided: what was decided was about that one."""
    before, now = (entry.champion if entry else None for entry in (seen, newest))
    if before != now:
        raise PromotionRefusedError(
            f"{now or 'nobody'} became champion meanwhile",
            f"{before or 'nobody'}, who was champion when this was decided",
            "Look at `stepwise champion history`, then decide again",
        )


def _require_reason(reason: str) -> None:
    if not reason.strip():
        raise ConfigurationError(
            "no reason is given", "why this run shall be champion, for the history", "Say it: --reason '…'"
        )


def _looking_once(store: Store) -> Callable[[Path, Champion | None], tuple[str, ...]]:
    """`_require_sound` that looks at each run once: where somebody else enters first, the entry is made anew."""
    return functools.cache(functools.partial(_require_sound, store))


def _require_sound(store: Store, folder: Path, known: Champion | None) -> tuple[str, ...]:
    """Raise where a run is not whole, by its manifest as champion or as it was published, or answers otherwise.

    The libraries that its model was tried with may have changed since then, so it is tried again. Of a run that nobody
    here remembers as published, and whose folder may be from anywhere, no program is run.

    Returns:
        What was not looked at, for the history.
    """
    remembered = known.manifest if known else remembered_manifest(store, folder.name)
    if (folder / MANIFEST_FILE).is_file():
        problems = unsound(store, f"{RUNS}/{folder.name}", remembered or manifest_digest(folder))
        problems = problems or [_objection_to(folder, remembered)]
    else:
        problems = ["the run is gone"]
    if any(problems):
        raise PromotionRefusedError(
            f"{folder.name} cannot be champion: {'; '.join(problems)}",
            "files, receipt, counts and answers as they were published",
            "Choose another run: see `stepwise runs`",
            str(folder),
        )
    if not was_asked(folder):
        return (UNTRIED,)
    return () if remembered else (UNKNOWN_HERE,)


def _objection_to(folder: Path, remembered: Sha256 | None) -> str:
    if remembered:
        return objection_to(folder)
    if not was_asked(folder):
        return "it was not published here, and has not kept what its model was asked, so that it cannot be tried"
    return objection_to(folder, WITHOUT_PROGRAMS)


def _places(artifacts: Path, dataset: str | None) -> list[Champions]:
    """All places, or that of one dataset.

    Raises:
        ConfigurationError: no run of this dataset was ever looked at, but runs of others were.
    """
    places = all_champions(artifacts)
    if dataset is None:
        return places
    found = [place for place in places if place.dataset == dataset]
    if places and not found:
        looked_at = ", ".join(place.dataset for place in places)
        raise ConfigurationError(
            f"no run of {dataset} was ever looked at", f"one of {looked_at}", "Name another dataset, or run this one"
        )
    return found or [Champions(artifacts, dataset)]


def _how_one_becomes_champion(artifacts: Path) -> str:
    if any((artifacts / RUNS).glob(f"*/{MANIFEST_FILE}")):
        return "Choose a run of `stepwise runs`: stepwise champion promote RUN --reason '…'"
    return f"There are no runs in {artifacts}: stepwise run makes one, and the first becomes champion"


def _one_place(artifacts: Path, dataset: str | None) -> Champions:
    places = _places(artifacts, dataset)
    if len(places) == 1:
        return places[0]
    if not places:
        remedy = _how_one_becomes_champion(artifacts)
        raise ConfigurationError("no run was ever looked at", "a promotion to take back", remedy, str(artifacts))
    names = ", ".join(place.dataset for place in places)
    raise ConfigurationError(
        f"the datasets whose runs were looked at: {names}", "one of them", "Name it: --dataset NAME"
    )


def _when(entry: Entry) -> str:
    return f"{entry.at:%Y-%m-%d %H:%M}"


def _tell(artifacts: Path, entry: Entry, *, as_json: bool) -> None:
    index_renewed(artifacts)
    if as_json:
        print_json(entry.model_dump(mode="json"))
    else:
        Console().print(said(entry), highlight=False, markup=False, soft_wrap=True)
