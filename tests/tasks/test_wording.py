"""What pages for people do with foreign texts, by the Unicode database."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from schemas.errors import StepwiseError
from schemas.visible import visible, visible_lines, without_user
from tasks.wording import beside

DIRECTIONS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def test_exactly_the_characters_that_could_deceive_are_spelled_out() -> None:
    spelled = {c for c in map(chr, range(sys.maxunicode + 1)) if visible(c) != c}
    assert spelled == {
        c
        for c in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(c) in {"Cc", "Cs", "Zl", "Zp"} or unicodedata.bidirectional(c) in DIRECTIONS
    }


def test_what_is_spelled_out_stands_where_it_stood() -> None:
    assert visible("a\u202eb\x00\udc80 字") == "a[U+202E]b[U+0000][U+DC80] 字"


@pytest.mark.parametrize(
    ("value", "limit", "form", "text"),
    [
        (0.397, 0.05, ".2g", "0.4"),
        (0.05032, 0.05, ".2g", "0.0503"),
        (0.05, 0.05, ".2g", "0.05"),
        (0.0497, 0.05, ".2g", "0.0497"),
        (1e-12, 0.05, ".2g", "1e-12"),
        (23_749 / 25_000, 0.95, ".2%", "94.996%"),
        (0.95, 0.95, ".2%", "95.00%"),
        (0.9, 0.95, ".2%", "90.00%"),
    ],
)
def test_a_number_is_shown_on_its_side_of_the_limit(value: float, limit: float, form: str, text: str) -> None:
    assert beside(value, limit, form) == text


def test_lines_and_tabs_stay_where_a_text_has_several() -> None:
    assert visible_lines("a\tb\n\x1b[2J\u202ec") == "a\tb\n[U+001B][2J[U+202E]c"
    error = StepwiseError("found \x1b]52;c;x\x07", "a name", "Rename it", "a\u202eb")
    assert str(error) == "a[U+202E]b: found [U+001B]]52;c;x[U+0007]. Expected: a name. Rename it."


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://user:p@SECRET@host/f.gz", "https://host/f.gz"),
        ("http://user:pw@host:4200/api", "http://host:4200/api"),
        ("http://host/a@b", "http://host/a@b"),
        ("a word and https://u:p@h/x, and ftp://v:q@i", "a word and https://h/x, and ftp://i"),
    ],
)
def test_who_reaches_an_address_is_not_shown(address: str, shown: str) -> None:
    assert without_user(address) == shown
