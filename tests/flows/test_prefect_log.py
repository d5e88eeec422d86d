"""What is left out of Prefect's log of a run, and what never is."""

from __future__ import annotations

import logging

import pytest

from flows.prefect_log import LOGGERS, Story, make_log_readable
from schemas.errors import DataError


@pytest.fixture
def logger() -> logging.Logger:
    logger = logging.Logger("prefect.task_runs")  # noqa: LOG001 - one that nobody else has
    logger.addFilter(Story())
    return logger


def shown(logger: logging.Logger) -> list[str]:
    """Have the logger's lines kept."""
    kept: list[str] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append(record.getMessage())

    logger.addHandler(Kept())
    return kept


def test_ends_of_steps_are_not_told_twice(logger: logging.Logger) -> None:
    kept = shown(logger)
    for state in ("Completed()", "Cached(type=COMPLETED)", "Failed('…')"):
        logger.info("Finished in state %s", state)
    logger.info("Task run is waiting")
    assert kept == ["Task run is waiting"]


def test_the_end_of_a_run_is_told(logger: logging.Logger) -> None:
    logger.name = "prefect.flow_runs"
    kept = shown(logger)
    logger.info("Finished in state Completed()")
    logger.info("Finished in state Failed('a paragraph')")
    assert kept == ["Finished in state Completed()"]


def test_an_error_for_people_has_no_traceback_and_any_other_has_one(logger: logging.Logger) -> None:
    kept = shown(logger)
    for error in (DataError("found", "expected", "remedy"), ValueError("one"), ValueError("two")):
        for level in ("task", "flow", "engine"):
            logger.error("%s of %r", level, error, exc_info=error)
    assert kept == ["task of ValueError('one')", "task of ValueError('two')"]


def test_it_is_told_once_however_often_it_is_asked_for() -> None:
    make_log_readable()
    make_log_readable()
    for name in LOGGERS:
        assert sum(isinstance(each, Story) for each in logging.getLogger(name).filters) == 1
