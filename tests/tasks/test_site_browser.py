"""The index of all runs in a real browser: by keyboard, on a phone, without scripts, in the dark."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from page_support import CONTRAST, spoken_badly
from site_contents import BEGAN, history_in

from tasks.site import write_index
from tasks.site.records import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

NAMES = "[...document.querySelectorAll('#runs-table tbody tr')].filter(r => !r.hidden).map(r => r.dataset.name)"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifacts")
    history_in(folder)
    found = "reshape, train split: 750 (sequences) against 12,000 (targets), a ratio of 16"
    failure = Failure("20261130-030000-mnist-question-3750-ab0e", BEGAN, "failed", "reshape train", found, "Group both")
    return write_index(folder, lambda: [failure, Failure("20261101-020000-mnist-rows-e354", BEGAN, "died")])


@pytest.fixture
def page(browser: Browser, index: Path) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.goto(index.as_uri())
    yield page
    context.close()


@pytest.mark.parametrize(("scheme", "scripts"), [("light", True), ("dark", True), ("light", False)])
@pytest.mark.parametrize("width", [390, 1280])
def test_the_index_reads_well(browser: Browser, index: Path, scheme: str, width: int, *, scripts: bool) -> None:
    context = browser.new_context(
        color_scheme="dark" if scheme == "dark" else "light",
        viewport={"width": width, "height": 800},
        java_script_enabled=scripts,
    )
    page = context.new_page()
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(index.as_uri())
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [index.as_uri()]
    assert page.get_by_role("row").count() > 12
    assert page.get_by_role("rowheader", name="20261109-030000-mnist-best-0008").first.is_visible()
    assert page.get_by_role("searchbox").count() == scripts  # no control that does nothing
    assert (page.get_by_role("button").count() > 0) == scripts
    if scripts:  # without them nothing can be asked of the page
        assert page.evaluate("document.documentElement.scrollWidth") == width
        contrasts = page.evaluate(CONTRAST)
        assert len(contrasts) > 200
        assert [(round(ratio, 2), text) for ratio, text in contrasts if ratio < 4.5] == []
        assert spoken_badly(page) == []
    context.close()


def test_sorting_by_keyboard(page: Page) -> None:
    by_time = page.evaluate(NAMES)
    head = page.get_by_role("columnheader", name="Accuracy and its")
    button = head.get_by_role("button")
    button.focus()
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    page.keyboard.press("Shift+Tab")  # by keyboard, so that the focus is shown
    page.keyboard.press("Tab")
    assert page.evaluate(outline) == "solid"
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    best = page.evaluate(NAMES)
    assert (best[0], best[-1]) == ("20261109-030000-mnist-best-0008", "20261104-101500-mnist-question-16x49-bbbb")
    page.keyboard.press("Space")
    assert head.get_attribute("aria-sort") == "ascending"
    assert page.evaluate(NAMES)[0] == best[-1]
    assert page.locator("#runs-table [aria-sort]").count() == 1
    made = page.get_by_role("columnheader", name="Made")
    made.get_by_role("button").press("Enter")
    assert page.evaluate(NAMES) == by_time


def test_what_is_not_known_comes_last_either_way(page: Page) -> None:
    button = page.get_by_role("columnheader", name="Test images").get_by_role("button")
    for _ in range(2):
        button.press("Enter")
        assert page.evaluate(NAMES)[-1] == "20261105-101500-mnist-rows-cccc"


def test_filtering_by_keyboard(page: Page) -> None:
    page.get_by_role("searchbox", name="Words that a run has").focus()
    page.keyboard.type("Best kept")
    assert page.evaluate(NAMES) == ["20261108-030000-mnist-best-0007", "20261107-030000-mnist-best-0006"]
    assert page.get_by_role("status").inner_text() == "2 of 12 runs shown"
    assert page.locator("svg .run:not(.out)").count() == 2
    assert page.locator("tr[data-run]:visible").count() == 2
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.type("no such run")
    assert page.get_by_role("status").inner_text() == "No run fits; there are 12"
    page.keyboard.press("ControlOrMeta+A")
    page.keyboard.press("Delete")
    page.keyboard.press("Tab")
    page.keyboard.press("f")  # the select's own way: the first letter
    assert page.evaluate(NAMES) == ["20261103-101500-fashion-mnist-rows-aaaa"]
    page.keyboard.press("Home")
    assert len(page.evaluate(NAMES)) == 12


def test_a_phone_shows_cards_that_are_sorted_and_lead_to_reports(browser: Browser, index: Path) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 800}, has_touch=True)
    page = context.new_page()
    page.goto(index.as_uri())
    page.get_by_role("columnheader", name="Time").get_by_role("button").tap()
    assert page.evaluate(NAMES)[0] == "20261109-030000-mnist-best-0008"
    cell = page.get_by_role("cell", name="99.41").first
    assert cell.is_visible()
    box = cell.bounding_box()
    assert box is not None
    assert box["x"] + box["width"] <= 390
    page.get_by_role("link", name="20261106-030000-mnist-best-0005").last.tap()
    page.wait_for_url("**/runs/20261106-030000-mnist-best-0005/report.html")
    assert page.title() == "a report"
    context.close()
