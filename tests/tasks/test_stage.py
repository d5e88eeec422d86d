"""What stages share: keys that change with everything they should and nothing else, reuse, events."""

from __future__ import annotations

import ast
import dataclasses
import importlib.metadata
import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from samples import drawn, source_file

import tasks.code
import tasks.stage
from schemas.handles import Frozen
from tasks.code import code_digests
from tasks.stage import Advanced, Finished, Key, listening, once, progress_of, timed
from tasks.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parent.parent.parent


class Output(Frozen):
    """What the steps of these tests return."""

    value: int


KEY = Key(
    step="a step",
    stage="parse",
    form=Output,
    module="tasks.parse",
    inputs={"images": "a" * 64, "labels": "b" * 64},
    settings={"label_column": None},
    libraries=("numpy",),
    machine={"threads": "2"},
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "root")


@pytest.mark.parametrize(
    "change",
    [
        {"stage": "reshape"},
        {"module": "tasks.reshape"},
        {"module": None},
        {"inputs": {"images": "a" * 64, "labels": "c" * 64}},
        {"inputs": {"images": "b" * 64, "labels": "a" * 64}},
        {"inputs": {"images": "a" * 64}},
        {"settings": {"label_column": 0}},
        {"settings": {}},
        {"libraries": ("numpy", "pyarrow")},
        {"machine": {"threads": "4"}},
    ],
    ids=str,
)
def test_a_key_changes_with_each_of_its_parts(change: dict[str, Any]) -> None:
    changed = dataclasses.replace(KEY, **change)
    assert changed.digest != KEY.digest
    assert dataclasses.replace(KEY).digest == KEY.digest


def test_what_a_step_is_called_does_not_count() -> None:
    assert dataclasses.replace(KEY, step="another").digest == KEY.digest


def test_a_key_changes_with_a_library_s_version(monkeypatch: pytest.MonkeyPatch) -> None:
    before = KEY.digest
    assert KEY.components["libraries"] == {"numpy": importlib.metadata.version("numpy")}
    monkeypatch.setattr(tasks.stage, "_version", lambda _: "0.0.1")
    assert dataclasses.replace(KEY).digest != before


def test_the_order_of_settings_does_not_count() -> None:
    one, two = {"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}
    assert dataclasses.replace(KEY, settings=one).digest == dataclasses.replace(KEY, settings=two).digest


def test_a_stage_s_code_is_its_own_and_all_that_it_imports() -> None:
    reached = set(tasks.code._reached("tasks.parse"))
    assert reached >= {"tasks.parse", "tasks.idx", "tasks.idx.reader", "tasks.idx.header", "schemas.tables", "tasks"}
    assert not reached & {"tasks.reshape", "tasks.witness", "tasks.train"}
    assert {"tasks.witness", "tasks.scan"} <= set(tasks.code._reached("tasks.reshape"))
    assert all(name.partition(".")[0] in {"tasks", "schemas"} for name in reached)


# --- changes of the code, over a copy of the project

MAIN = "import json, sys; from tasks.code import code_digests; print(json.dumps(code_digests(sys.argv[1])))"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for name in ("tasks", "schemas"):
        shutil.copytree(ROOT / name, tmp_path / "copy" / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "copy"


def digests_in(place: Path, monkeypatch: pytest.MonkeyPatch, module: str = "tasks.parse") -> dict[str, str]:
    """What the code's digests would be if a module's files lay in the copy."""
    find = tasks.code._source

    def moved(name: str) -> Path | None:
        path = find(name)
        return path and place / path.relative_to(ROOT)

    with monkeypatch.context() as patched:
        patched.setattr(tasks.code, "_source", moved)
        return code_digests.__wrapped__(module)


def appended(text: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(path.read_text() + text)


def commented(path: Path) -> None:
    lines = [
        line + "  # a comment" if line.startswith(("import ", "def ")) else line
        for line in path.read_text().split("\n")
    ]
    path.write_text("# another\n\n\n" + "\n".join(lines))


def documented(path: Path) -> None:
    """Another docstring for the module, and one for a function that had another."""
    text = path.read_text()
    path.write_text('"""Other words."""\n' + text.split('"""', 2)[2].replace('    """', '    """Other words: ', 1))


CHANGES: list[tuple[str, Callable[[Path], None], bool]] = [
    ("tasks/parse.py", appended("\nNEW = 1\n"), True),
    ("tasks/idx/header.py", appended("\nNEW = 1\n"), True),
    ("tasks/idx/__init__.py", appended("\nNEW = 1\n"), True),
    ("schemas/tables.py", appended("\nNEW = 1\n"), True),
    ("schemas/errors.py", appended("\nNEW = 1\n"), True),
    ("tasks/reshape.py", appended("\nNEW = 1\n"), False),
    ("tasks/parse.py", appended("\n\n\n"), False),
    ("tasks/parse.py", commented, False),
    ("tasks/idx/header.py", commented, False),
    ("tasks/parse.py", documented, False),
    ("tasks/idx/header.py", documented, False),
]


@pytest.mark.parametrize(("file", "change", "counts"), CHANGES)
def test_code_counts_and_words_do_not(
    copy: Path, monkeypatch: pytest.MonkeyPatch, file: str, change: Callable[[Path], None], counts: bool
) -> None:
    before = (copy / file).read_text()
    change(copy / file)
    assert (copy / file).read_text() != before
    here, there = code_digests("tasks.parse"), digests_in(copy, monkeypatch)
    changed = {name for name in here if here[name] != there[name]}
    assert changed == ({file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")} if counts else set())


def test_where_another_thread_disturbs_the_parsing_it_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As CPython 3.11 does where a library's thread builds a syntax tree at the same time."""
    parse, disturbed = ast.parse, iter((True, False, True, True, True, True))

    def unlucky(text: str) -> ast.Module:
        tree = parse(text)
        if next(disturbed, False):
            raise SystemError("AST constructor recursion depth mismatch (before=69, after=75)")
        return tree

    text = (ROOT / "tasks" / "parse.py").read_text()
    expected = tasks.code._understood(text)
    monkeypatch.setattr(ast, "parse", unlucky)
    assert tasks.code._understood(text) == expected


def test_what_sources_say_is_noted_and_a_damaged_note_is_none(copy: Path) -> None:
    """A fresh process parses nothing that was parsed before; whatever stands in the file, the digests are the same."""
    notes = copy / "tasks" / "__pycache__" / f"code.{sys.implementation.cache_tag}.syntax.json"
    assert not notes.exists()
    parsed = counted(copy)
    written = notes.read_bytes()
    assert len(json.loads(written)) == parsed["parsed"] > 5
    assert counted(copy) == {**parsed, "parsed": 0}
    for damage in (b"", written[:100], b"[]", b'{"a": 1}', written.replace(b"[[", b"[{")):
        notes.write_bytes(damage)
        assert counted(copy) == parsed
        assert notes.read_bytes() == written


COUNTING = """
import json
import tasks.code
parse, texts = tasks.code._parsed, []
tasks.code._parsed = lambda text: texts.append(text) or parse(text)
print(json.dumps({"digests": tasks.code.code_digests("tasks.idx"), "parsed": len(texts)}))
"""


def counted(copy: Path) -> dict[str, Any]:
    """The digests as a fresh process finds them, and how many sources it parsed."""
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(copy)}
    command = [sys.executable, "-c", COUNTING]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, check=True, timeout=120)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_checkout_elsewhere_has_the_same_digest(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the place nor the process counts."""
    assert digests_in(copy, monkeypatch) == code_digests("tasks.parse")
    command = [sys.executable, "-c", MAIN, "tasks.parse"]
    done = subprocess.run(
        command,
        cwd=copy,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(copy)},
        capture_output=True,
        check=True,
        timeout=120,
    )
    assert json.loads(done.stdout) == code_digests("tasks.parse")


# --- reuse and events


def test_once_makes_reuses_and_tells(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Finished | Advanced] = []
    values = iter([1, 2])
    with listening(heard.append), caplog.at_level(logging.INFO, "stepwise"):
        made = [once(store, KEY, lambda: Output(value=next(values))) for _ in range(2)]
    assert made == [Output(value=1)] * 2
    assert [(event.step, event.reused) for event in heard if isinstance(event, Finished)] == [
        ("a step", False), ("a step", True),
    ]  # fmt: skip
    assert [record.message.rpartition(" in ")[0] for record in caplog.records] == [
        "a step: done", "a step: nothing changed, reused",
    ]  # fmt: skip
    other = dataclasses.replace(KEY, inputs={})
    assert once(store, other, lambda: Output(value=next(values))) == Output(value=2)


def test_what_a_failed_step_made_is_not_remembered(store: Store) -> None:
    heard: list[Finished | Advanced] = []
    with listening(heard.append), pytest.raises(ZeroDivisionError):
        once(store, KEY, lambda: Output(value=1 // 0))
    assert heard == [Advanced("a step", 0, None, "")], "it began, and never finished"
    assert once(store, KEY, lambda: Output(value=3)) == Output(value=3)


def test_listeners_hear_progress_while_they_listen() -> None:
    one: list[Finished | Advanced] = []
    two: list[Finished | Advanced] = []
    tell = progress_of("a step")
    with listening(one.append):
        tell(1, 2, "rows")
        with listening(two.append):
            tell(2, 2)
        with timed("another"):
            pass
    tell(3, None, "nobody")
    began = Advanced("another", 0, None, "")
    *progress, finished = one
    assert progress == [Advanced("a step", 1, 2, "rows"), Advanced("a step", 2, 2, ""), began]
    assert isinstance(finished, Finished)
    assert (finished.step, finished.reused) == ("another", False)
    assert two == [Advanced("a step", 2, 2, "")]


def test_input_files_enter_the_key_by_their_payload(store: Store) -> None:
    """The same payload in another container is the same input."""
    plain = source_file(store, "train", "images", drawn(4))
    packed = source_file(Store(store.root / "other"), "train", "images", drawn(4), gz=True)
    assert plain.idx.digest == packed.idx.digest
    assert plain.idx.files != packed.idx.files
