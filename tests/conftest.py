"""What all tests share: their order, how many examples are generated, and the report of what was skipped."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from flows.settings import reach_without_proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser

SKIPS_FAIL = "STEPWISE_NO_SKIPS"  # set where everything is there that a test could ask for
CHROMIUM_OPTIONS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]

# Files of long tests alone, the longest first: two files run at a time, and none should begin one when the other ends.
LONG_FILES = (
    *("test_pages.py", "test_rerun.py", "test_up.py", "test_kills.py", "test_resume.py"),
    *("test_champion.py", "test_full_disk.py"),
)
FEWER_EXAMPLES = 30  # in the fast tier, of Hypothesis' 100; the tests count theirs in parts or multiples of it


def pytest_configure(config: pytest.Config) -> None:
    """Reach this machine without a proxy, and generate examples: fewer where only the fast tier runs.

    None of them is timed: what a busy machine takes for one says nothing.
    """
    from hypothesis import settings

    reach_without_proxy()
    fast = "not slow" in config.option.markexpr
    fewer = {"max_examples": FEWER_EXAMPLES} if fast else {}
    settings.register_profile(
        "untimed", settings.get_profile(settings.get_current_profile_name()), deadline=None, **fewer
    )
    settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the fast tier first, in one session with the full one, and of that the long files first."""
    turns = {name: turn for turn, name in enumerate(LONG_FILES)}

    def turn(item: pytest.Item) -> tuple[bool, int]:
        slow = item.get_closest_marker("slow") is not None
        return slow, turns.get(item.path.name, len(turns)) if slow else 0

    items.sort(key=turn)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let a skipped test fail the session where nothing may be skipped."""
    if os.environ.get(SKIPS_FAIL) == "1" and _skipped(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Name, in the last lines, what was skipped and why."""
    yield
    reports = _skipped(terminalreporter.config)
    forbidden = f" ({SKIPS_FAIL}=1: that fails the session)" if reports and os.environ.get(SKIPS_FAIL) == "1" else ""
    terminalreporter.write_line(f"skipped: {len(reports) or 'none'}{forbidden}")
    for report in reports:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        terminalreporter.write_line(f"  {report.nodeid}: {reason.removeprefix('Skipped: ')}")


@pytest.fixture(scope="module")  # while it is open, nothing else in this thread can run an event loop
def browser() -> Iterator[Browser]:
    """The system's Chromium, started once for a module."""
    from playwright.sync_api import sync_playwright  # only tests that look at pages wait for it

    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium is installed")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=CHROMIUM_OPTIONS)
        yield chromium
        chromium.close()


def _skipped(config: pytest.Config) -> list[pytest.TestReport | pytest.CollectReport]:
    reporter: pytest.TerminalReporter | None = config.pluginmanager.get_plugin("terminalreporter")
    return reporter.stats.get("skipped", []) if reporter else []
