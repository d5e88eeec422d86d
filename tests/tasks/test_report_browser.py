"""The report in a real browser: no sideways scrolling, no requests, no complaints, text that can be read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from page_support import CONTRAST, spoken_badly
from report_contents import contents_of

from schemas.configuration import Reshape
from tasks.publish.report import render

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow

FASHION = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "An unbreakable_name_of_a_class_that_goes_on_and_on_and_on"),
)
KINDS: dict[str, dict[str, Any]] = {
    "rows": {},
    "one step, long names": {"names": FASHION, "reshape": Reshape(timesteps=1)},
    "frames": {"reshape": Reshape(layout="frames", timesteps=16)},
    "62 classes": {"names": tuple(f"class {k}" for k in range(62))},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One report of each kind, on disk."""
    folder = tmp_path_factory.mktemp("reports")
    paths = {}
    for number, (kind, given) in enumerate(KINDS.items()):
        paths[kind] = folder / f"{number}.html"
        paths[kind].write_text(render(contents_of(**given)), encoding="utf-8")
    return paths


@pytest.fixture(params=["light", "dark"])
def page(browser: Browser, request: pytest.FixtureRequest) -> Iterator[Page]:
    context = browser.new_context(color_scheme=request.param)
    yield context.new_page()
    context.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [360, 1280])
def test_a_report_reads_well_in_a_browser(page: Page, files: dict[str, Path], kind: str, width: int) -> None:
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(files[kind].as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [files[kind].as_uri()]
    contrasts = page.evaluate(CONTRAST)
    assert len(contrasts) > 300
    assert [(round(ratio, 2), text) for ratio, text in contrasts if ratio < 4.5] == []
    loaded = page.evaluate("[...document.images].map(i => i.complete && i.naturalWidth)")
    assert loaded
    assert all(loaded)
    assert spoken_badly(page) == []


def test_dark_is_dark_and_paper_is_white(browser: Browser, files: dict[str, Path]) -> None:
    context = browser.new_context(color_scheme="dark")
    page = context.new_page()
    page.goto(files["rows"].as_uri())
    shade = "Math.max(...getComputedStyle(document.body).backgroundColor.match(/[0-9]+/g).map(Number))"
    assert page.evaluate(shade) < 40
    page.emulate_media(media="print")
    assert page.evaluate(shade) == 255
    assert page.get_by_role("columnheader", name="Counted by").is_visible()
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF-")
    context.close()
