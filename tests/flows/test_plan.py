"""Plans: what is foreseen is what then happens, whatever was edited, and what is reused is what would be made anew."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import tasks.code
import tasks.publish
from flows.dag import chain
from flows.plan import Foresight
from schemas.catalog import dataset_of_folder
from schemas.configuration import RunConfiguration
from tasks.idx import write_idx
from tasks.publish.draft import Subject
from tasks.stage import Finished, listening
from tasks.store import Store, handles_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prefect import Task

    from flows.dag import Doing
    from schemas.handles import Frozen
    from schemas.plan import Planned

ROOT = Path(__file__).parents[2]
TRAINING = ("train", "evaluate", "compare", "publish", "promote")  # costs seconds a time: left to the full tier
PROMOTION = ("drift", "compare", "promote")  # what they give hangs on who is champion


class Stop(Exception):  # noqa: N818 - no error
    """The steps after this are not done."""


@dataclasses.dataclass
class Workshop:
    """A dataset, a store, a configuration and a copy of the code, all of which can be edited."""

    folder: Path
    artifacts: Path
    code: Path
    configuration: RunConfiguration
    whole: bool  # whether training and what follows is done

    def plan(self) -> list[Planned]:
        foresight = Foresight()
        self._go(foresight)
        return [planned for planned in foresight.planned if self.whole or planned.step not in TRAINING]

    def run(self, artifacts: Path | None = None) -> tuple[dict[str, bool], dict[str, str]]:
        """Do all steps; which of them reused, and the digest of every output by what it is."""
        results: list[Any] = []

        def do(task: Task[..., Any], *arguments: object) -> Any:  # noqa: ANN401
            if task.name in TRAINING and not self.whole:
                raise Stop
            result = task.fn(*arguments)
            if task.name not in PROMOTION:
                results.append(result)
            return result

        finished: list[Finished] = []
        with listening(lambda event: finished.append(event) if isinstance(event, Finished) else None):
            self._go(do, artifacts)
        outputs = [handle for result in results for handle in handles_in(_as_json(result))]
        repeatable = (handle for handle in outputs if handle.kind != "history")  # which tells seconds too
        digests = {f"{number} {handle.kind}": handle.digest for number, handle in enumerate(repeatable)}
        return {event.step: event.reused for event in finished}, digests

    def _go(self, do: Doing, artifacts: Path | None = None) -> None:
        dataset = dataset_of_folder(self.folder)
        now = datetime.datetime.now(datetime.UTC)
        subject = Subject.about(dataset, self.configuration, f"run-{now:%H%M%S%f}", now)
        tasks.code.code_digests.cache_clear()
        with contextlib.suppress(Stop):
            chain(do, artifacts or self.artifacts, dataset, self.configuration, subject)


def _as_json(result: Frozen) -> Any:  # noqa: ANN401
    return result.model_dump(mode="json")


def images_of(seed: int) -> dict[str, np.ndarray[Any, Any]]:
    draw = np.random.default_rng(seed)
    return {
        "train-images-idx3-ubyte": draw.integers(0, 256, (60, 4, 6), np.uint8),
        "train-labels-idx1-ubyte": draw.permutation(np.arange(60) % 5).astype("u1"),
        "t10k-images-idx3-ubyte": draw.integers(0, 256, (20, 4, 6), np.uint8),
        "t10k-labels-idx1-ubyte": draw.permutation(np.arange(20) % 5).astype("u1"),
    }


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Workshop]]:
    """Makes a fresh workshop for each example."""
    number = iter(range(10_000))
    current: list[Workshop] = []
    find = tasks.code._source

    def source(name: str) -> Path | None:
        path = find(name)
        return path and current[-1].code / path.relative_to(ROOT)

    monkeypatch.setattr(tasks.code, "_source", source)
    monkeypatch.setattr(tasks.publish, "show_run", lambda *_: None)  # pages of a server that these tests do without

    def fresh(*, whole: bool) -> Workshop:
        place = tmp_path / str(next(number))
        for name in ("tasks", "schemas"):
            shutil.copytree(ROOT / name, place / "code" / name, ignore=shutil.ignore_patterns("__pycache__"))
        (place / "digits").mkdir()
        for name, array in images_of(0).items():
            write_idx(place / "digits" / name, array)
        small = RunConfiguration.model_validate(
            {
                "preset": "a",
                "reshape": {"timesteps": 4},
                "network": {"layers": [{"units": 4}], "dropout_head": 0.0},
                "training": {"epochs": 1, "batch_size": 32},
            }
        )
        read_anew()
        current.append(Workshop(place / "digits", place / "artifacts", place / "code", small, whole))
        return current[-1]

    yield fresh
    read_anew()


def read_anew() -> None:
    """A process reads its code once; here it is edited under its feet."""
    tasks.code.code_digests.cache_clear()


# --- edits: each changes something that a run could meet

Edit = tuple[str, Any]


def apply(workshop: Workshop, edit: Edit) -> None:
    kind, choice = edit
    {
        "configuration": _configure,
        "data": _change_data,
        "code": _change_code,
        "damage": _damage,
        "forget": _forget,
        "comment": _comment,
    }[kind](workshop, choice)


def _configure(workshop: Workshop, change: tuple[str, dict[str, Any]]) -> None:
    part, values = change
    current = workshop.configuration
    workshop.configuration = current.model_copy(update={part: getattr(current, part).model_copy(update=values)})


def _change_data(workshop: Workshop, seed: int) -> None:
    """Other training images, or back to those of before."""
    name = "train-images-idx3-ubyte"
    write_idx(workshop.folder / name, images_of(seed)[name])


def _change_code(workshop: Workshop, file: str) -> None:
    path = workshop.code / file
    path.write_text(path.read_text() + f"\nADDED_{len(path.read_text())} = 1\n")
    read_anew()


def _comment(workshop: Workshop, file: str) -> None:
    path = workshop.code / file
    path.write_text(path.read_text() + "\n# a comment\n")
    read_anew()


def _outputs(workshop: Workshop, kind: str) -> list[Path]:
    return sorted((workshop.artifacts / "store" / "objects" / kind).glob("*/*"))


def _damage(workshop: Workshop, what: tuple[str, bool]) -> None:
    """Truncate a file of an output, or remove the output."""
    kind, gone = what
    for place in _outputs(workshop, kind)[:1]:
        if gone:
            shutil.rmtree(place)
        else:
            file = next(path for path in sorted(place.iterdir()) if path.name != "handle.json")
            file.write_bytes(file.read_bytes()[:-1])


def _forget(workshop: Workshop, stage: str) -> None:
    """Lose what the store remembers of a stage."""
    shutil.rmtree(workshop.artifacts / "store" / "keys" / stage, ignore_errors=True)


CONFIGURATIONS = st.sampled_from(
    [
        ("reshape", {"timesteps": 6}),
        ("reshape", {"timesteps": 4}),
        ("reshape", {"scan": "columns"}),
        ("reshape", {"scan": "rows"}),
        ("training", {"learning_rate": 0.002}),
        ("evaluation", {"calibration_bins": 5}),
    ]
)
FILES = st.sampled_from(
    ["tasks/parse.py", "tasks/idx/reader.py", "tasks/reshape.py", "tasks/scan.py", "schemas/tables.py"]
)
KINDS = st.sampled_from(["idx", "table", "receipt", "sequences", "targets"])
EDITS = st.one_of(
    st.tuples(st.just("configuration"), CONFIGURATIONS),
    st.tuples(st.just("data"), st.integers(0, 1)),
    st.tuples(st.just("code"), FILES),
    st.tuples(st.just("comment"), FILES),
    st.tuples(st.just("damage"), st.tuples(KINDS, st.booleans())),
    st.tuples(st.just("forget"), st.sampled_from(["parse", "validate", "reshape"])),
)


def held(workshop: Workshop, edits: list[Edit | tuple[Edit, ...]]) -> None:
    """Run, then after each edit: the plan is what happens, and all outputs are those of a run from nothing."""
    workshop.run()
    for number, edit in enumerate(edits):
        for each in edit if isinstance(edit[0], tuple) else (edit,):
            apply(workshop, each)
        plan = workshop.plan()
        assert workshop.plan() == plan, "looking changes nothing"
        happened, digests = workshop.run()
        told = {planned.step: planned for planned in plan}
        assert told.keys() == happened.keys()
        wrong = {  # a step that follows may do either
            step: (told[step], reused)
            for step, reused in happened.items()
            if told[step].verdict != "follows" and (told[step].verdict == "reuse") != reused
        }
        assert not wrong, (edit, wrong)
        assert digests == workshop.run(workshop.artifacts.with_name(f"fresh-{number}"))[1], edit
        assert not any(planned.verdict == "follows" for planned in workshop.plan())


def some(examples: int) -> settings:
    return settings(
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
        max_examples=examples,
        phases=(Phase.explicit, Phase.reuse, Phase.generate),  # shrinking takes minutes here
    )


SEVERAL = st.lists(EDITS, min_size=1, max_size=4)


@pytest.mark.slow
@given(edits=SEVERAL)
@some(int(os.environ.get("STEPWISE_PLANS", "3")))
def test_the_plan_is_what_happens_whatever_is_edited(workshop: Callable[..., Workshop], edits: list[Edit]) -> None:
    held(workshop(whole=False), edits)


@pytest.mark.slow
def test_the_plan_is_what_happens_to_the_end(workshop: Callable[..., Workshop]) -> None:
    both: tuple[Edit, ...] = (("damage", ("history", True)), ("configuration", ("evaluation", {"calibration_bins": 5})))
    held(workshop(whole=True), [both])


def test_reasons_are_told_down_to_the_value(workshop: Callable[..., Workshop]) -> None:
    shop = workshop(whole=False)
    assert {planned.why for planned in shop.plan() if planned.step != "publish"} >= {"never made before"}
    shop.run()

    def reason(edit: Edit, step: str) -> str:
        apply(shop, edit)
        [why] = [planned.why for planned in shop.plan() if planned.step == step]
        shop.run()
        return why

    assert reason(("comment", "tasks/parse.py"), "parse train") == "nothing changed"
    assert reason(("configuration", ("reshape", {"timesteps": 6})), "reshape test") == "reshape.timesteps 4 → 6"
    assert reason(("code", "tasks/idx/reader.py"), "parse test") == "tasks/idx/reader code changed"
    apply(shop, ("damage", ("table", False)))
    assert "its output is missing or damaged" in {planned.why for planned in shop.plan()}
    shop.run()
    changed = reason(("data", 1), "parse train")
    assert changed.startswith("images changed (")
    assert changed.count("…") == 2


def test_a_learning_rate_touches_nothing_before_training(workshop: Callable[..., Workshop]) -> None:
    shop = workshop(whole=False)
    shop.run()
    apply(shop, ("configuration", ("training", {"learning_rate": 0.1})))
    assert {planned.step: planned.verdict for planned in shop.plan() if planned.verdict != "reuse"} == {
        f"download {split} {role}": "run" for split in ("train", "test") for role in ("images", "labels")
    }, "a folder's files are looked at each time"


def test_a_stage_done_again_with_equal_result_is_followed_by_reuse(workshop: Callable[..., Workshop]) -> None:
    shop = workshop(whole=False)
    shop.run()
    apply(shop, ("code", "tasks/parse.py"))
    happened, _ = shop.run()
    assert {step for step, reused in happened.items() if not reused and "download" not in step} == {
        "parse train",
        "parse test",
    }


def test_nothing_is_changed_by_looking(workshop: Callable[..., Workshop]) -> None:
    shop = workshop(whole=False)
    shop.run()
    apply(shop, ("damage", ("table", False)))
    store = Store(shop.artifacts)
    before = sorted(path for path in store.place.rglob("*") if "checked" not in path.parts)
    shop.plan()
    assert sorted(path for path in store.place.rglob("*") if "checked" not in path.parts) == before
