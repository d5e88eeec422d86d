"""What the manifest of a run says of it, beside the digests of its files."""

from __future__ import annotations

import datetime
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from schemas.configuration import RunConfiguration
from schemas.history import History
from tasks.publish import _seal
from tasks.publish.draft import Draft, Subject

if TYPE_CHECKING:
    from pathlib import Path

DIGEST = "0" * 64


@pytest.mark.parametrize("began_with", [None, "f" * 64])
def test_a_run_claims_to_have_begun_with_another_only_where_its_training_did(
    tmp_path: Path, began_with: str | None
) -> None:
    """The weights of the run that a warm start chose may not fit the data."""
    history = History(epochs=(), kept=1, parameters=1, seconds_to_first_step=0.0, engine="", started_from=began_with)
    (tmp_path / "history.json").write_text(history.model_dump_json())
    made: Any = SimpleNamespace(digest=DIGEST)
    outcome: Any = SimpleNamespace(
        evaluation=SimpleNamespace(accuracy=0.5, interval=(0.4, 0.6)),
        trained=SimpleNamespace(model=made),
        tables=(SimpleNamespace(table=made),) * 2,
    )
    subject = Subject(
        run="new",
        created=datetime.datetime(2026, 11, 1, tzinfo=datetime.UTC),
        title="",
        orientation="upright",
        configuration=RunConfiguration(),
        started_from="champion",
    )
    nothing: Any = None
    _seal(Draft(tmp_path, nothing, subject, outcome, nothing, ()))
    manifest = json.loads((tmp_path / "manifest.json").read_bytes())
    assert manifest["started_from"] == ("champion" if began_with else None)
