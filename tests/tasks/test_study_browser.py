"""The study's page in a real browser: at a desktop's and a phone's width, light and dark."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from page_support import CONTRAST, spoken_badly
from study_results import contents_of

from tasks.study.page import render

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "study.html"
    path.write_text(render(contents_of()), encoding="utf-8")
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_study_reads_well_in_a_browser(browser: Browser, file: Path, width: int, scheme: str) -> None:
    context = browser.new_context(color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    complaints: list[str] = []
    requests: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [file.as_uri()]
    contrasts = page.evaluate(CONTRAST)
    assert len(contrasts) > 300
    assert [(round(ratio, 2), text) for ratio, text in contrasts if ratio < 4.5] == []
    loaded = page.evaluate("[...document.images].map(i => i.complete && i.naturalWidth)")
    assert (
        len(loaded) == 3 * (1 + 4 + 16 + 4 + 4) + 16
    )  # scans, of five T the steps that are shown; what the advice takes
    assert all(loaded)
    assert page.evaluate("[...document.querySelectorAll('svg')].every(s => s.getAttribute('aria-label'))")
    assert spoken_badly(page) == []
    page.get_by_role("link", name="Gradient that reaches the first steps").first.click()
    assert page.evaluate("document.querySelector(':target').id") == "fig-gradient"
    context.close()
