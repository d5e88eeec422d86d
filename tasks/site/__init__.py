"""The index of all published runs and studies: `index.html` in the artifacts root, a file that needs only itself.

A foundation that flows call when a run was published, failed or was removed. It is made from the runs' own files and
records alone, so it can be made again at any time. Not here: what is read of a run (records), where its points lie
(chart), the page's words and look (index.html.jinja), sorting and filtering (index.js).
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from schemas.files import INDEX_FILE
from schemas.plan import STAGES
from tasks.pages import template
from tasks.site.chart import chart_of
from tasks.site.records import CHOSEN, champions_of, runs_of, studies_of
from tasks.store import Store, write_atomically, writing

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tasks.site.records import Champions, Failure, Run, Study

_TEMPLATE: Final = Path(__file__).with_name("index.html.jinja")
_SCRIPT: Final = "index.js"
_FAILURES_SHOWN: Final = 30


def write_index(artifacts: Path, failures: Callable[[], Sequence[Failure]] = lambda: ()) -> Path:
    """Make the index of all runs under an artifacts root anew; its name shows the old page or the whole new one.

    Whoever waits for the lock reads afterwards, so the last page that is written has seen every run.

    Args:
        artifacts: Where runs are kept.
        failures: Reads the runs that published nothing, the newest first.

    Raises:
        StorageError: it cannot be written.
    """
    page = artifacts.absolute() / INDEX_FILE
    with Store(artifacts).lock("index"), writing(page):
        runs, champions, studies = runs_of(artifacts), champions_of(artifacts), studies_of(artifacts)
        published = {run.name for run in runs}  # some fail after it: promotion may be demanded
        failed = [failure for failure in failures() if failure.run not in published]
        write_atomically(page, rendered(runs, champions, studies, failed).encode())
    return page


def rendered(
    runs: Sequence[Run], champions: Champions, studies: Sequence[Study] = (), failures: Sequence[Failure] = ()
) -> str:
    """The page as HTML; equal runs make equal bytes.

    Args:
        runs: All runs, the newest first.
        champions: What was decided about champions.
        studies: All studies, the newest first.
        failures: The runs that published nothing, the newest first.
    """
    from markupsafe import Markup  # comes with jinja2

    script = Path(__file__).with_name(_SCRIPT).read_text(encoding="utf-8")
    return template(_TEMPLATE).render(
        runs=runs,
        champions=champions,
        studies=studies,
        failures=failures,
        failures_shown=failures[:_FAILURES_SHOWN],
        unanswered=[failure for failure in failures if failure.unanswered],
        charts=[chart_of(dataset, runs, champions) for dataset in _datasets(runs)],
        chosen=CHOSEN,
        datasets=_datasets(runs),
        stages=[stage for stage in STAGES if any(stage in run.spent for run in runs)],
        longest=max((run.seconds for run in runs), default=0.0),
        script=Markup(script),  # noqa: S704 # this project's own
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def _datasets(runs: Sequence[Run]) -> list[str]:
    return sorted({run.dataset for run in runs if run.dataset})
