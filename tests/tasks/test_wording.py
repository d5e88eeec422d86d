"""What pages for people do with foreign texts, by the Unicode database."""

from __future__ import annotations

import sys
import unicodedata

from tasks.wording import visible

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
