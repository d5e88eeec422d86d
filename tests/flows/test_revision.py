"""Which published run a rerun revises, and when something is no rerun."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import pytest

from flows.attempts import Attempt, Attempts
from flows.revision import form_filled_in, revised, stages_left
from flows.run_command import Request, rerun_and_tell
from schemas.configuration import RunConfiguration, Training
from schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from schemas.plan import Stage

RUN = "20260101-000000-glyphs-smoke-abcd"


def parameters(data: str | None = None, epochs: int = 1) -> dict[str, Any]:
    configuration = RunConfiguration(training=Training(epochs=epochs)).model_dump(mode="json")
    return {"configuration": configuration, "data": data, "catalogs": [], "artifacts": "/a", "policy": {}}


def kept(artifacts: Path, published: str | None) -> Attempt:
    attempt = Attempt(
        run=RUN,
        flow_run="a-flow-run",
        created=datetime.datetime.now(datetime.UTC),
        dataset="glyphs",
        preset="smoke",
        parameters=parameters(),
        outcome="published" if published else "failed",
        published=published,
    )
    Attempts(artifacts).keep(attempt)
    return attempt


@pytest.mark.parametrize("published", [RUN, "an-earlier-run", None])
def test_a_rerun_revises_what_the_run_published_or_what_stood(tmp_path: Path, published: str | None) -> None:
    kept(tmp_path, published)
    for name in (RUN, "a-flow-run"):
        assert revised(Attempts(tmp_path), tmp_path, name, parameters()) == published


def test_what_was_stopped_while_it_ran_another_again_revises_that_one(tmp_path: Path) -> None:
    first = kept(tmp_path, RUN)
    again = {"run": "again", "flow_run": "another", "published": None, "parent": RUN, "rerun": ("train",)}
    Attempts(tmp_path).keep(first.model_copy(update=again))
    assert revised(Attempts(tmp_path), tmp_path, "again", parameters()) == RUN


@pytest.mark.parametrize(("outcome", "stages"), [("stopped", ("train",)), ("published", ())])
def test_a_rerun_that_did_not_come_to_its_end_is_still_to_do_its_stages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: str, stages: tuple[str, ...]
) -> None:
    asked: list[Request] = []
    monkeypatch.setattr("flows.run_command.run_and_tell", lambda request, **_: asked.append(request))
    attempt = kept(tmp_path, None)
    again = {"outcome": outcome, "rerun": ("train",), "rerun_only": True, "parent": "before"}
    Attempts(tmp_path).keep(attempt.model_copy(update=again))
    rerun_and_tell(tmp_path, RUN, (), only=False, as_json=False)
    [request] = asked
    assert (request.rerun, request.rerun_only) == (stages, bool(stages))
    assert request.of == (RUN if stages else None)


@pytest.mark.parametrize(
    ("asked", "only", "failed", "left"),
    [
        ((), False, "train", (("train",), True)),
        ((), False, None, ((), True)),
        (("train",), False, "train", (("train",), False)),
        (("train",), False, "evaluate", (("evaluate",), False)),
        (("evaluate",), False, "train", (("evaluate",), False)),
        (("train",), False, None, (("train",), False)),
        (("parse", "evaluate"), True, "train", (("evaluate",), True)),
        (("parse", "evaluate"), True, "parse", (("parse", "evaluate"), True)),
        (("evaluate",), True, "publish", (("publish",), True)),
    ],
)
def test_the_form_of_a_failure_asks_for_what_is_left(
    tmp_path: Path, asked: tuple[Stage, ...], only: bool, failed: Stage | None, left: tuple[tuple[Stage, ...], bool]
) -> None:
    attempt = kept(tmp_path, None).model_copy(update={"rerun": asked, "rerun_only": only})
    assert stages_left(attempt, failed) == left


def test_a_record_with_a_setting_that_is_none_any_more_is_told(tmp_path: Path) -> None:
    attempt = kept(tmp_path, None)
    attempt.parameters["configuration"]["training"]["momentums"] = 1
    Attempts(tmp_path).keep(attempt)
    with pytest.raises(ConfigurationError, match=r"training\.momentums") as caught:
        rerun_and_tell(tmp_path, RUN, (), only=False, as_json=False)
    assert RUN in str(caught.value.file)


def test_a_record_of_before_a_setting_came_to_be_is_the_same_run(tmp_path: Path) -> None:
    attempt = kept(tmp_path, RUN)
    del attempt.parameters["configuration"]["training"]["weight_dropout"]
    Attempts(tmp_path).keep(attempt)
    assert revised(Attempts(tmp_path), tmp_path, RUN, parameters()) == RUN
    with pytest.raises(ConfigurationError, match="no rerun") as caught:
        revised(Attempts(tmp_path), tmp_path, RUN, parameters(epochs=2))
    assert caught.value.found.endswith(": configuration.training.epochs 1 → 2")


def test_a_published_run_whose_record_is_gone_is_revised(tmp_path: Path) -> None:
    (tmp_path / "runs" / RUN).mkdir(parents=True)
    (tmp_path / "runs" / RUN / "manifest.json").write_text("{}")
    assert revised(Attempts(tmp_path), tmp_path, RUN, parameters()) == RUN


def test_a_run_that_is_not_there_is_refused(tmp_path: Path) -> None:
    kept(tmp_path, None)
    with pytest.raises(ConfigurationError, match="of = '2026': there is no such run here") as caught:
        revised(Attempts(tmp_path), tmp_path, "2026", parameters())
    assert "leave `of` empty" in caught.value.remedy


def test_other_settings_or_data_are_no_rerun(tmp_path: Path) -> None:
    kept(tmp_path, RUN)
    with pytest.raises(ConfigurationError) as caught:
        revised(Attempts(tmp_path), tmp_path, RUN, parameters("/digits", epochs=2))
    assert caught.value.found == (
        f"this is no rerun of {RUN}: configuration.training.epochs 1 → 2; data none → /digits"
    )
    assert "Fill in the form by the link in that run's artifacts" in caught.value.remedy


def test_where_there_is_no_deployment_there_is_no_form(tmp_path: Path) -> None:
    assert form_filled_in(kept(tmp_path, None), ["parse"]) is None
