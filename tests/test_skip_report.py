"""The report of skips that `conftest.py` prints, read from a session of its own, inside this process."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest_plugins = ["pytester"]


@pytest.fixture
def session(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    monkeypatch.delenv("STEPWISE_NO_SKIPS", raising=False)
    shared = Path(__file__).with_name("conftest.py").read_text(encoding="utf-8")
    pytester.makeconftest(shared)
    pytester.makeini("[pytest]\nmarkers = slow: the full tier\n")
    return pytester


def test_every_skip_is_named_before_the_closing_line(session: pytest.Pytester) -> None:
    session.makepyfile("import pytest\ndef test_a(): pass\ndef test_b(): pytest.skip('no oven')")
    result = session.runpytest_inprocess("-p", "no:cacheprovider")
    assert result.ret == pytest.ExitCode.OK
    assert [line.strip() for line in result.outlines[-3:-1]] == [
        "skipped: 1",
        "test_every_skip_is_named_before_the_closing_line.py::test_b: no oven",
    ]
    assert "1 passed, 1 skipped" in result.outlines[-1]


@pytest.mark.parametrize(
    "skip", ["def test_b(): pytest.skip('no oven')", "pytest.skip('no oven', allow_module_level=True)"]
)
def test_a_skip_fails_where_none_is_allowed(
    session: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, skip: str
) -> None:
    monkeypatch.setenv("STEPWISE_NO_SKIPS", "1")
    session.makepyfile(test_whole="def test_a(): pass", test_skipping=f"import pytest\n{skip}")
    result = session.runpytest_inprocess("-p", "no:cacheprovider")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "skipped: 1 (STEPWISE_NO_SKIPS=1: that fails the session)" in result.outlines


def test_nothing_skipped_is_said_too_and_passes(session: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEPWISE_NO_SKIPS", "1")
    session.makepyfile("def test_a(): pass")
    result = session.runpytest_inprocess("-p", "no:cacheprovider")
    assert result.ret == pytest.ExitCode.OK
    assert result.outlines[-2] == "skipped: none"


def test_the_fast_tier_runs_first(session: pytest.Pytester) -> None:
    session.makepyfile("import pytest\n@pytest.mark.slow\ndef test_late(): pass\ndef test_early(): pass")
    result = session.runpytest_inprocess("-p", "no:cacheprovider", "-v")
    result.stdout.fnmatch_lines(["*::test_early PASSED*", "*::test_late PASSED*"])
