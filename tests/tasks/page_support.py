"""What the tests of pages share: reading their HTML, and the contrast of what a browser draws."""

from __future__ import annotations

import itertools
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page as BrowserPage

VOID = {"meta", "link", "br", "img", "input"}

# WCAG 2.1, 'relative luminance' and 'contrast ratio', over every element that has text of its own
CONTRAST = """() => {
  const luminance = ([r, g, b]) => [r, g, b].map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
  const numbers = colour => colour.match(/[0-9.]+/g).map(Number);
  const behind = element => {
    for (let e = element; e; e = e.parentElement) {
      const colour = numbers(getComputedStyle(e).backgroundColor);
      if (colour.length === 3 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const found = [];
  for (const e of document.body.querySelectorAll('*')) {
    if (e.tagName === "title") continue; // what a pointer shows, not drawn
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())) continue;
    const style = getComputedStyle(e);
    const ink = e.namespaceURI.endsWith('svg') ? style.fill : style.color;
    const [a, b] = [luminance(numbers(ink)), luminance(behind(e))].sort((x, y) => y - x);
    found.push([(a + 0.05) / (b + 0.05), e.textContent.trim().slice(0, 40)]);
  }
  return found;
}"""


class Page(HTMLParser):
    """The page's tags with attributes, its text, and the rows of its tables; fails where elements are not nested."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.rows: list[list[str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in {"td", "th"}:
            self.rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"style", "script"}:
            self.text += f" {data}"
            if {"td", "th"} & set(self.open):
                self.rows[-1][-1] = " ".join(f"{self.rows[-1][-1]} {data}".split())

    @property
    def words(self) -> str:
        return " ".join(self.text.split())

    def row(self, begins: str) -> list[str]:
        """The first row whose first cell begins so."""
        return next(row for row in self.rows if row[0].startswith(begins))

    def values(self, *names: str) -> list[str]:
        return [value or "" for _, attributes in self.tags for name, value in attributes.items() if name in names]


NEEDS_NAME = {"image", "link", "button", "searchbox", "textbox", "combobox", "checkbox", "table", "graphics-document"}


def spoken_badly(page: BrowserPage) -> list[str]:
    """What a screen reader would be told wrongly: Chromium's accessibility tree of a page, which such readers read.

    Things without a name, heading levels that are skipped, tables without heads, a page without language or title, or
    with other than one main part and one heading of the first level.
    """
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    heard = [(node["role"]["value"], _name(node)) for node in nodes if not node["ignored"]]
    faults = [f"{role} without a name" for role, name in heard if role in NEEDS_NAME and not name]
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].map(h => Number(h.tagName[1]))")
    faults += [f"heading {b} after {a}" for a, b in itertools.pairwise([0, *levels]) if b > a + 1]
    faults += [f"{levels.count(1)} headings of the first level"] * (levels.count(1) != 1)
    mains = sum(role == "main" for role, _ in heard)
    faults += [f"{mains} main parts"] * (mains != 1)
    tables = page.locator("table")  # as a table it is heard no longer where a narrow page shows it as another box
    faults += [f"table {k} without heads" for k in range(tables.count()) if not tables.nth(k).locator("th").count()]
    told = sum(role == "table" for role, _ in heard)
    faults += [f"{told} tables told of {tables.count()}"] * (told != tables.count())
    spoken = page.evaluate("[document.documentElement.lang, document.title]")
    return faults + [f"no {what}" for what, value in zip(("language", "title"), spoken, strict=True) if not value]


def _name(node: dict[str, Any]) -> str:
    return str(node.get("name", {}).get("value", "")).strip()
