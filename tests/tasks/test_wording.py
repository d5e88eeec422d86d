"""What pages for people do with foreign texts, by the Unicode database."""

from __future__ import annotations

import sys
import unicodedata

import pytest

from tasks.wording import beside, visible

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
