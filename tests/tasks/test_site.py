"""The index of all runs as HTML: what it says, in which order, what it escapes, and what it survives."""

from __future__ import annotations

import base64
import dataclasses
import datetime
import hashlib
import itertools
import json
import re
import tempfile
import threading
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from page_support import Page
from site_contents import BEGAN, decided, history_in, run_in, seal

from tasks.proportions import wilson
from tasks.site import write_index
from tasks.site.chart import BOTTOM, HEIGHT, TOP, chart_of
from tasks.site.records import Champions, Failure, Run, champions_of, runs_of
from tasks.store import Store

HOSTILE = "<script>alert('x')</script>\" onload='y' &amp; \u202eabc"
KEYS = [
    *("format", "created", "dataset", "preset", "accuracy", "interval", "parent", "files", "samples"),
    *("step", "seconds", "reused", "worst", "number", "at", "decision", "run", "champion", "reasons"),
]
HOSTILE_NAME = "<b>'\"&amp; x"
HOSTILE_SHOWN = "<script>alert('x')</script>\" onload='y' &amp; [U+202E]abc"


def page_of(artifacts: Path) -> Page:
    return Page(write_index(artifacts).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifacts")
    history_in(folder)
    return folder


@pytest.fixture(scope="module")
def page(artifacts: Path) -> Page:
    return page_of(artifacts)


def test_every_run_is_there_the_newest_first(artifacts: Path, page: Page) -> None:
    names = [attributes["data-name"] for tag, attributes in page.tags if tag == "tr" and "data-name" in attributes]
    assert names == sorted((path.name for path in (artifacts / "runs").iterdir()), reverse=True)
    assert "12 published runs" in page.words
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert all(f"runs/{name}/report.html" in links for name in names)


def test_studies_are_listed_the_newest_first_with_what_is_wrong_with_them(tmp_path: Path) -> None:
    assert "Studies" not in page_of(tmp_path).words
    for day, name in enumerate(("20260101-000000-mnist-timesteps-aaaa", f"20260102-000000-{HOSTILE_NAME}")):
        folder = tmp_path / "studies" / name
        folder.mkdir(parents=True)
        (folder / "study.html").write_text("a page")
        manifest = {"created": f"2026-01-0{day + 1}T00:00:00Z", "dataset": HOSTILE, "files": {}}
        manifest["files"] = {"study.html": seal(folder / "study.html")}
        (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "study.html").write_text("another page")
    page = page_of(tmp_path)
    rows = page.words[page.words.index("Published studies") :]
    assert HOSTILE_SHOWN in rows
    assert "study.html has 12 bytes, published were 6" in rows
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a" and "studies/" in attributes["href"]]
    assert links == [
        f"studies/20260102-000000-{quote(HOSTILE_NAME)}/study.html",
        "studies/20260101-000000-mnist-timesteps-aaaa/study.html",
    ]
    (folder / "study.html").unlink()
    page = page_of(tmp_path)
    assert "study.html is missing" in page.words
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a" and "studies/" in attributes["href"]]
    assert links == ["studies/20260101-000000-mnist-timesteps-aaaa/study.html"]


def test_runs_that_ended_without_a_model_are_told_the_newest_first(tmp_path: Path) -> None:
    run_in(tmp_path, "published", day=1.0)
    hours = [BEGAN + datetime.timedelta(hours=hour) for hour in range(48, 0, -1)]
    full = ("failed", "train", "the disk is full", "Make room")
    failures = [Failure(f"run-{n}", hour, *full, unanswered=n < 24) for n, hour in enumerate(hours)]
    failures[0] = Failure("newest", hours[0], "failed", "reshape train", f"750 against 12,000 {HOSTILE}", "Group both")
    failures[1] = Failure(HOSTILE_NAME, hours[1], "died")
    failures[2] = Failure("third", hours[2], "failed", None, "there is no dataset 'x'")
    page = Page(write_index(tmp_path, lambda: failures).read_text(encoding="utf-8"))
    assert "Ended without a model, and none well since 24 the last failed at reshape train" in page.words
    rows = [row for row in page.rows if len(row) == 5 and row[2] in {"failed", "died"}]
    assert rows[0] == [
        *("newest", "3 Nov 2026, 03:00", "failed", "reshape train"),
        f"750 against 12,000 {HOSTILE_SHOWN} Group both",
    ]
    assert rows[1] == [HOSTILE_NAME, "3 Nov 2026, 02:00", "died", "not known", "its process ended without a word"]
    assert rows[2][3:] == ["no step under way", "there is no dataset 'x'"]
    assert len(rows) == 30
    assert "30 of 48; stepwise runs --all lists every one" in page.words


def test_runs_that_ended_without_a_model_are_told_where_nothing_was_published(tmp_path: Path) -> None:
    failure = Failure("first", BEGAN, "stopped", "train", "stopped (KeyboardInterrupt)")
    words = Page(write_index(tmp_path, lambda: [failure]).read_text(encoding="utf-8")).words
    assert "No run was published here yet" in words
    assert "first 1 Nov 2026, 03:00 stopped train stopped (KeyboardInterrupt)" in words
    run_in(tmp_path, "later", day=1.0)
    answered = dataclasses.replace(failure, unanswered=False)
    words = Page(write_index(tmp_path, lambda: [answered]).read_text(encoding="utf-8")).words
    assert "none well since" not in words
    assert "first 1 Nov 2026, 03:00 stopped train" in words
    published = dataclasses.replace(failure, run="later")  # and not promoted, though that was demanded
    assert "without a model" not in Page(write_index(tmp_path, lambda: [published]).read_text(encoding="utf-8")).words
    assert "without a model" not in page_of(tmp_path).words


def test_numbers_are_those_of_the_files(page: Page) -> None:
    row = page.row("20261101-030000-mnist-rows-0000")
    assert row[1:7] == [
        *("1 Nov 2026, 03:00", "mnist", "rows"),
        *("98.98 % 98.76 % to 99.16 %", "10,000", "94.8 s"),
    ]
    [_, durations] = [row for row in page.rows if row[0] == "20261102-030000-mnist-rows-0001"]
    spent = [cell.removesuffix(" reused") for cell in durations]
    assert spent[1:7] == ["2.00 s", "0.50 s", "0.25 s", "89.0 s", "2.00 s", "93.8 s"]
    assert spent != durations, "or what was reused is told by nothing but a colour"


def test_champions_and_promotions_are_marked(page: Page) -> None:
    assert page.row("20261106-030000-mnist-best-0005")[7] == "champion promoted"
    assert page.row("20261104-030000-mnist-rows-0003")[7] == "promoted"
    assert page.row("20261105-030000-mnist-rows-0004")[7] == "not promoted"
    assert page.row("20261103-101500-fashion-mnist-rows-aaaa")[7] == "never compared"
    assert "Champion of mnist 99.34" in page.words
    assert page.words.index("9 undecided") < page.words.index("1 first champion")
    assert page.row("20261104-030000-mnist-rows-0003")[8] == "warn"
    assert page.row("20261105-030000-mnist-rows-0004")[8] == "not compared"


def test_who_was_promoted_stays_that_when_verified_again_and_when_dethroned(tmp_path: Path) -> None:
    for day, name in enumerate("abc"):
        run_in(tmp_path, name, day=day)
    steps = (("first champion", "a"), ("re-verified", "a"), ("promoted", "b"), ("re-verified", "b"), ("promoted", "c"))
    for number, (decision, name) in enumerate((*steps, ("re-verified", "c")), 1):
        decided(tmp_path, number, decision, name, name)
    decided(tmp_path, 7, "re-verified", "d", "c")  # of the champion's weights
    run_in(tmp_path, "d", day=3)
    page = page_of(tmp_path)
    words = ["first champion", "promoted", "champion promoted", "re-verified"]
    assert [page.row(name)[7] for name in "abcd"] == words


def test_of_data_that_were_compared_with_nothing_no_drift_is_said(tmp_path: Path) -> None:
    for day, why_none in enumerate(("no champion was trained on other data", "")):
        folder = run_in(tmp_path, f"run-{day}", day=day, drift="none")
        (folder / "drift.json").write_text(json.dumps({"worst": "none", "why_none": why_none}))
        manifest = json.loads((folder / "manifest.json").read_bytes())
        manifest["files"]["drift.json"] = seal(folder / "drift.json")
        (folder / "manifest.json").write_text(json.dumps(manifest))
    page = page_of(tmp_path)
    assert [page.row(f"run-{day}")[7] for day in (0, 1)] == ["not compared", "none"]


def test_without_champions_or_drift_their_columns_are_not_there(tmp_path: Path) -> None:
    run_in(tmp_path, "a")
    page = page_of(tmp_path)
    assert "Champion none yet" in page.words
    assert {"Promotion", "Drift"}.isdisjoint(page.rows[0])


def test_nothing_is_loaded_and_only_the_own_script_runs(artifacts: Path, page: Page) -> None:
    html = (artifacts / "index.html").read_text(encoding="utf-8")
    links = [v for _, attributes in page.tags for n, v in attributes.items() if n in {"src", "href", "srcset"}]
    assert [link for link in links if link and not link.startswith(("#", "data:,", "runs/"))] == []
    assert "url(" not in html
    script = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert len(script) == 1
    digest = base64.b64encode(hashlib.sha256(script[0].encode()).digest()).decode()
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert f"script-src 'sha256-{digest}';" in policy


def test_structure_is_one_that_can_be_read_aloud(page: Page) -> None:
    assert ("html", {"lang": "en"}) in page.tags
    assert [tag for tag, _ in page.tags if tag == "h1"] == ["h1"]
    assert all(attributes.get("scope") for tag, attributes in page.tags if tag == "th")
    tables = sum(tag == "table" for tag, _ in page.tags)
    assert tables == 3
    assert sum(tag == "caption" for tag, _ in page.tags) == tables
    assert [a["aria-sort"] for t, a in page.tags if t == "th" and "aria-sort" in a] == ["descending"] * 2
    assert all(a.get("aria-label") or a.get("aria-hidden") for t, a in page.tags if t == "svg")
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    pointed = [a.get("for") or a.get("aria-labelledby") or (a.get("href") or "")[1:] for _, a in page.tags]
    anchors = [a["href"] for t, a in page.tags if t == "a" and (a["href"] or "").startswith("#")]
    assert {anchor[1:] for anchor in anchors if anchor} <= set(ids)
    assert set(ids) & set(pointed)


def test_hostile_names_are_shown_and_do_nothing(tmp_path: Path) -> None:
    given = {"dataset": HOSTILE, "preset": HOSTILE, "drift": HOSTILE}
    run_in(tmp_path, "a'b\"<i>&#", **given, parent=HOSTILE, started_from=HOSTILE)
    path = decided(tmp_path, 1, HOSTILE, HOSTILE, HOSTILE, dataset="x", reasons=(HOSTILE,))
    path.write_text(path.read_text().replace('"dataset": "x"', f'"dataset": {json.dumps(HOSTILE)}'))
    page = page_of(tmp_path)
    assert [tag for tag, _ in page.tags if tag == "script"] == ["script"]
    assert "i" not in {tag for tag, a in page.tags if "class" not in a}
    assert not any("onload" in attributes for _, attributes in page.tags)
    assert page.text.count(HOSTILE_SHOWN) >= 8
    assert "\u202e" not in (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "runs/a%27b%22%3Ci%3E%26%23/report.html" in [a.get("href") for _, a in page.tags]


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("manifest.json", b"{", "manifest.json is damaged or of another format"),
        ("manifest.json", b"[]", "manifest.json is damaged or of another format"),
        ("manifest.json", b'{"format": 0, "run": "a"}', "manifest.json is damaged or of another format, at created"),
        ("metrics.json", b"", "metrics.json has 0 bytes"),
        ("metrics.json", None, "metrics.json is missing"),
        ("timings.json", None, "timings.json is missing"),
        ("report.html", None, "report.html is missing"),
        ("drift.json", b"\xff", "drift.json has 1 bytes"),
        ("drift.json", b'{"worst": "warn"}', "drift.json has other bytes than were published"),
    ],
)
def test_damaged_runs_are_told_and_others_are_shown(
    tmp_path: Path, file: str, content: bytes | None, told: str
) -> None:
    run_in(tmp_path, "sound")
    folder = run_in(tmp_path, "broken", day=1, drift="none")
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    page = page_of(tmp_path)
    assert told in page.row("broken")[-1]
    assert page.row("sound")[-1] == "as published"
    assert ("runs/broken/report.html" in [a.get("href") for _, a in page.tags]) == (file != "report.html")


def test_bytes_that_were_changed_are_not_believed(tmp_path: Path) -> None:
    folder = run_in(tmp_path, "a", correct=9_000)
    metrics = folder / "metrics.json"
    metrics.write_text(metrics.read_text().replace("9000", "9999").replace("0.9,", "1.0,"))
    [run] = runs_of(tmp_path)
    assert run.problems == ("metrics.json has other bytes than were published",)
    assert run.accuracy == 0.9  # as the manifest states it


def test_another_format_is_told(tmp_path: Path) -> None:
    run_in(tmp_path, "later", format=2, something_new={"a": 1})
    folder = run_in(tmp_path, "earlier", day=1)
    manifest = json.loads((folder / "manifest.json").read_bytes())
    del manifest["files"]["timings.json"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    earlier, later = runs_of(tmp_path)
    assert later.problems == ("format 2; this version knows 1",)
    assert earlier.problems == ("no timings.json: an older format",)
    assert earlier.accuracy == later.accuracy == 0.99


def test_decisions_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    run_in(tmp_path, "a")
    decided(tmp_path, 1, "first champion", "a", "a").with_name("000002.json").write_text("{")
    page = page_of(tmp_path)
    assert "The history of mnist is damaged, and who is its champion hangs on it: 000002.json is damaged" in page.words
    assert "Champion of mnist not known its history is damaged" in page.words
    assert "first champion" in page.row("a"), "what was decided, and no longer that it is champion"


def test_where_an_entry_is_missing_nobody_knows_the_champion(tmp_path: Path) -> None:
    for name in ("a", "b"):
        run_in(tmp_path, name)
        decided(tmp_path, 1 if name == "a" else 3, "promoted", name, name)
    champions = champions_of(tmp_path)
    assert (champions.standing, champions.torn) == ({}, {"mnist": ("of the entries 1 to 3, 1 are missing",)})
    assert chart_of("mnist", runs_of(tmp_path), champions).line == ""
    run_in(tmp_path, "c")
    assert page_of(tmp_path).row("c")[7] == "not known"


def test_a_champion_that_was_removed_is_told(tmp_path: Path) -> None:
    run_in(tmp_path, "b", day=1)
    decided(tmp_path, 1, "first champion", "a", "a")
    assert "Champion of mnist not known a , no longer here" in page_of(tmp_path).words
    assert chart_of("mnist", runs_of(tmp_path), champions_of(tmp_path)).line == ""


def test_no_runs_make_a_page_as_well(tmp_path: Path) -> None:
    page = page_of(tmp_path)
    assert "0 published runs" in page.words
    assert "table" not in {tag for tag, _ in page.tags}


def test_a_folder_without_manifest_or_half_removed_is_no_run(tmp_path: Path) -> None:
    run_in(tmp_path, "whole")
    (run_in(tmp_path, "half") / "manifest.json").unlink()
    run_in(tmp_path, ".away.removed")
    assert [run.name for run in runs_of(tmp_path)] == ["whole"]


def test_equal_runs_make_equal_bytes_and_no_other_file_is_left(tmp_path: Path) -> None:
    run_in(tmp_path, "a")
    before = write_index(tmp_path).read_bytes()
    assert write_index(tmp_path).read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "store", "index.html"}


def test_the_last_writer_has_seen_every_run(tmp_path: Path) -> None:
    """Whoever had to wait for the lock reads after it: a run that was published meanwhile is on the page."""
    run_in(tmp_path, "a")
    with Store(tmp_path).lock("index"):
        waiting = threading.Thread(target=write_index, args=(tmp_path,))
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        run_in(tmp_path, "b", day=1)
    waiting.join(30)
    assert "<bdi>b</bdi>" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_the_line_follows_who_was_champion(artifacts: Path) -> None:
    chart = chart_of("mnist", runs_of(artifacts), champions_of(artifacts))
    by_name = {point.run.name: point for point in chart.points}
    first, third, fifth = (
        by_name[f"2026110{d}-030000-mnist-{p}"].y for d, p in ((1, "rows-0000"), (4, "rows-0003"), (6, "best-0005"))
    )
    heights = [float(y) for y in re.findall(r"V([0-9.]+)", chart.line)]
    assert heights == [first] * 3 + [third] * 4 + [fifth] * 4
    assert [point.run.name for point in chart.points if point.champion] == ["20261106-030000-mnist-best-0005"]
    assert chart.line.count("M") == 1


def test_where_other_test_images_begin_is_marked(tmp_path: Path) -> None:
    digests = ("a" * 64, None, "a" * 64, "b" * 64, None, "b" * 64, "a" * 64)
    for day, test in enumerate(digests):
        run_in(tmp_path, f"run-{day}", day=day, **({"test": test} if test else {}))
    chart = chart_of("mnist", runs_of(tmp_path), champions_of(tmp_path))
    places = [point.x for point in chart.points]
    between = [(places[i - 1] + places[i]) / 2 for i in (3, 6)]
    assert chart.breaks == pytest.approx(between, abs=0.1)
    page = page_of(tmp_path)
    assert "from here on other test images" in page.words
    assert page.words.count("10,000 aaaaaaaa") == 3


def test_the_champions_line_is_interrupted_beside_other_test_images(tmp_path: Path) -> None:
    """Hanging over runs that cannot be compared with it, it would make a promotion look like a collapse."""
    for day, test in enumerate("aabbb"):
        run_in(tmp_path, f"run-{day}", day=day, test=test * 64, correct=9_900 if test == "a" else 9_600)
    decided(tmp_path, 1, "first champion", "run-0", "run-0")
    decided(tmp_path, 2, "promoted", "run-3", "run-3", day=3)
    line = chart_of("mnist", runs_of(tmp_path), champions_of(tmp_path)).line
    assert (line.count("M"), line.count("H")) == (2, 4)


def test_a_share_without_mistakes_stands_where_100_does() -> None:
    when = [datetime.datetime.fromtimestamp(i * 86_400, datetime.UTC) for i in (1, 0)]
    runs = [
        Run("all", when[0], "d", "p", accuracy=1.0, interval=wilson(10_000, 10_000)),
        Run("most", when[1], "d", "p", accuracy=0.9998, interval=wilson(9_998, 10_000)),
    ]
    chart = chart_of("d", runs, Champions())
    assert chart.ticks[0] == (chart.points[1].y, "100")
    assert all(place - chart.ticks[0][0] >= 26 for place, _ in chart.ticks[1:])


def test_of_many_presets_the_last_share_a_mark_that_says_so() -> None:
    when = [datetime.datetime.fromtimestamp(-i * 86_400, datetime.UTC) for i in range(7)]
    runs = [Run(str(i), when[i], "d", f"p{i}", accuracy=0.9, interval=wilson(90, 100)) for i in range(7)]
    assert [preset for _, preset in chart_of("d", runs, Champions()).legend] == [
        "p6",
        "p5",
        "p4",
        "p3",
        "other presets",
    ]
    assert [preset for _, preset in chart_of("d", runs[:5], Champions()).legend] == ["p4", "p3", "p2", "p1", "p0"]


def test_where_all_runs_answered_the_same_test_images_nothing_is_marked(tmp_path: Path) -> None:
    for day in range(3):
        run_in(tmp_path, f"run-{day}", day=day, test="a" * 64)
    assert "other test images" not in page_of(tmp_path).words


@given(st.lists(st.tuples(st.integers(1, 100_000), st.floats(0, 1)), min_size=1, max_size=60))
@settings(deadline=None)
def test_points_lie_inside_and_in_order_of_accuracy(results: list[tuple[int, float]]) -> None:
    counted = [(round(share * samples), samples) for samples, share in results]
    runs = [
        Run(
            name=str(i),
            created=datetime.datetime.fromtimestamp(-i * 86_400, datetime.UTC),
            dataset="d",
            preset="p",
            accuracy=correct / samples,
            interval=wilson(correct, samples),
        )
        for i, (correct, samples) in enumerate(counted)
    ]
    chart = chart_of("d", runs, Champions())
    assert [point.run.name for point in chart.points] == [str(i) for i in reversed(range(len(runs)))]
    for point in chart.points:
        assert TOP <= point.upper <= point.y <= point.lower <= HEIGHT - BOTTOM
        assert chart.left < point.x < chart.right
    accuracy = np.array([point.run.accuracy for point in chart.points])
    heights = np.array([point.y for point in chart.points])
    assert (np.diff(heights[np.argsort(accuracy)]) <= 0.11).all()  # y is rounded to a tenth
    places = [y for y, _ in chart.ticks]
    assert chart.ticks
    assert all(after - before >= 26 for before, after in itertools.pairwise(places))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=8,
)


@given(st.sampled_from(["manifest.json", "metrics.json", "timings.json", "drift.json", "000001.json"]), st.data())
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_stands_in_a_file_makes_a_page(tmp_path: Path, name: str, data: st.DataObject) -> None:
    """Values of any type for some of the right keys, under seals that fit."""
    place = Path(tempfile.mkdtemp(dir=tmp_path))
    folder = run_in(place, "a")
    path = decided(place, 1, "kept", "a", "a") if name == "000001.json" else folder / name
    right = json.loads(path.read_bytes()) if path.exists() else {"worst": "none"}
    changed = data.draw(JSON)
    merged = {**right, **changed} if isinstance(right, dict) and isinstance(changed, dict) else changed
    timings = [{"step": "train", "seconds": changed}] if name == "timings.json" else None
    path.write_text(json.dumps(data.draw(st.sampled_from([merged, timings or merged]))))
    if name in {"metrics.json", "timings.json"}:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        manifest["files"][name] = seal(path)
        (folder / "manifest.json").write_text(json.dumps(manifest))
    assert "1 published run" in page_of(place).words


def test_files_are_compared_by_size_without_being_read(tmp_path: Path) -> None:
    folder = run_in(tmp_path, "a")
    (folder / "model.keras").write_bytes(b"12345")
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"]["model.keras"] = seal(folder / "model.keras")
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert runs_of(tmp_path)[0].problems == ()
    (folder / "model.keras").write_bytes(b"1234")
    assert runs_of(tmp_path)[0].problems == ("model.keras has 4 bytes, published were 5",)
