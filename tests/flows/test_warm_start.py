"""What training begins with: which run a warm start takes, and that whatever runs it again takes the same."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from flow_support import run_command
from manifests import manifest_in

from flows.warm_start import decided, terms_of, weights_of
from schemas.configuration import LstmLayer, Network, Reshape, RunConfiguration, Training
from schemas.errors import ConfigurationError
from schemas.handles import Labels
from schemas.history import History
from schemas.ledger import Ledger
from schemas.policy import Policy, asked
from schemas.receipt import Receipt
from tasks.train import Terms

if TYPE_CHECKING:
    from pathlib import Path

    from tests.flows.conftest import SmokeRun

COLD, WARM = Policy(), Policy(start="warm")
WIDE = Network(layers=(LstmLayer(units=64),))


def published(artifacts: Path, name: str, hour: int, **changes: Any) -> Path:  # noqa: ANN401 - any setting
    """A published run, as far as a warm start looks at it."""
    configuration = RunConfiguration(**changes)
    folder = artifacts / "runs" / name
    folder.mkdir(parents=True)
    manifest_in(
        folder,
        created=f"2026-11-01T{hour:02}:00:00+00:00",
        dataset=configuration.dataset,
        preset=configuration.preset,
        weights=f"{hour:x}" * 64,
        files={"model.keras": {"sha256": hashlib.sha256(b"weights").hexdigest(), "bytes": 7}},
    )
    (folder / "model.keras").write_bytes(b"weights")
    (folder / "configuration.json").write_text(configuration.model_dump_json())
    receipt = Receipt(
        dataset=configuration.dataset,
        mode="pinned",
        labels=Labels(first=0, classes=2, names=("0", "1")),
        image_shape=(28, 28),
        image_dtype="|u1",
        files=(),
        tables=(),
        checks=(),
        ledger=Ledger(),
    )
    (folder / "receipt.json").write_text(receipt.model_dump_json())
    history = History(epochs=(), kept=1, parameters=7, seconds_to_first_step=0.0, engine="")
    (folder / "history.json").write_text(history.model_dump_json())
    return folder


def test_the_newest_run_that_fits_is_taken(tmp_path: Path) -> None:
    published(tmp_path, "old", 1)
    published(tmp_path, "new", 2)
    published(tmp_path, "of-other-data", 3, dataset="kmnist")
    published(tmp_path, "of-another-preset", 4, preset="mine")
    published(tmp_path, "of-another-network", 5, network=WIDE)
    policy = decided(WARM, tmp_path, RunConfiguration())
    assert policy == Policy(start="warm", start_from="new")
    assert decided(policy, tmp_path, RunConfiguration()) == policy
    handle = weights_of(policy, tmp_path, RunConfiguration())
    assert handle is not None
    assert (handle.place, handle.digest, handle.shape) == ("runs/new", "2" * 64, (7,))


def test_a_run_that_was_chosen_gives_its_weights_only_to_data_like_its_own(tmp_path: Path) -> None:
    """Whatever runs it again, with the run named by then, does as it did; who names a run wants that one."""
    published(tmp_path, "run", 1)
    policy = decided(WARM.model_copy(update={"budget_minutes": 5}), tmp_path, RunConfiguration())
    terms = terms_of(policy, tmp_path, RunConfiguration())
    assert terms == Terms(weights_of(policy, tmp_path, RunConfiguration()), 5, (28, 28, 2))
    assert terms.start is not None
    named = terms_of(Policy(start_from="run"), tmp_path, RunConfiguration())
    assert (named.start, named.only_for) == (terms.start, None)
    assert terms_of(COLD, tmp_path, RunConfiguration()) == Terms()


@pytest.mark.parametrize("given", [{}, {"timesteps": 28}])
def test_steps_that_were_given_are_those_that_follow_from_the_images(tmp_path: Path, given: dict[str, int]) -> None:
    other = {} if given else {"timesteps": 28}
    published(tmp_path, "run", 1, reshape=Reshape.model_validate(other))
    published(tmp_path, "of-half-rows", 2, reshape=Reshape(timesteps=56))
    configuration = RunConfiguration(reshape=Reshape.model_validate(given))
    assert decided(WARM, tmp_path, configuration).start_from == "run"
    with pytest.raises(ConfigurationError, match="its reshape settings are others"):
        weights_of(Policy(start_from="of-half-rows"), tmp_path, configuration)
    with pytest.raises(ConfigurationError, match=r"for its images, reshape\.timesteps = 5 does not divide the 784"):
        weights_of(Policy(start_from="run"), tmp_path, RunConfiguration(reshape=Reshape(timesteps=5)))


def test_weights_that_learned_pixels_of_another_scale_do_not_fit(tmp_path: Path) -> None:
    raw = Training(scaling="none")
    published(tmp_path, "raw", 1, training=raw)
    assert decided(WARM, tmp_path, RunConfiguration()).start_from is None
    assert decided(WARM, tmp_path, RunConfiguration(training=raw)).start_from == "raw"
    with pytest.raises(ConfigurationError, match=r"its pixels were scaled otherwise \(training\.scaling\)"):
        weights_of(Policy(start_from="raw"), tmp_path, RunConfiguration())


@pytest.mark.parametrize("file", ["configuration.json", "receipt.json"])
def test_a_run_that_cannot_be_read_is_passed_over(tmp_path: Path, file: str) -> None:
    published(tmp_path, "old", 1)
    (published(tmp_path, "new", 2) / file).write_text("{")
    assert decided(WARM, tmp_path, RunConfiguration()).start_from == "old"


def test_a_run_that_a_person_names_has_to_fit_whatever_the_start() -> None:
    assert asked(start="warm", start_from="run", budget_minutes=2) == Policy(start_from="run", budget_minutes=2)
    assert asked(start="warm") == WARM
    with pytest.raises(ConfigurationError, match=r"policy\.start = 'luke'"):
        asked(start="luke", start_from="run")


@pytest.mark.parametrize("given", ["latest", "ne", "new"])
@pytest.mark.parametrize("start", ["cold", "warm"])
def test_a_run_that_was_named_in_part_is_named_whole_from_then_on(tmp_path: Path, given: str, start: str) -> None:
    """Else a retry would begin with what is the latest by then, and the manifest would name no run that there is."""
    published(tmp_path, "old", 1)
    published(tmp_path, "new", 2)
    policy = Policy.model_validate({"start": start, "start_from": given})
    assert decided(policy, tmp_path, RunConfiguration()).start_from == "new"
    with pytest.raises(ConfigurationError, match="no published run by the name 'gone'"):
        decided(Policy(start_from="gone"), tmp_path, RunConfiguration())


def test_damaged_weights_are_passed_over_and_a_run_that_is_named_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Every scheduled run would fail at them, for days."""
    published(tmp_path, "whole", 1)
    (published(tmp_path, "damaged", 2) / "model.keras").write_bytes(b"Weights")
    assert decided(WARM, tmp_path, RunConfiguration()).start_from == "whole"
    [said] = caplog.messages
    assert re.match(r"warm start: .*damaged is passed over: model\.keras: ", said)
    with pytest.raises(ConfigurationError, match=r"policy\.start_from = damaged: model\.keras: "):
        weights_of(Policy(start_from="damaged"), tmp_path, RunConfiguration())


def test_where_there_is_none_it_is_a_cold_start_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "stepwise")
    published(tmp_path, "of-another-network", 1, network=WIDE)
    policy = decided(WARM, tmp_path, RunConfiguration())
    assert policy == COLD
    assert weights_of(policy, tmp_path, RunConfiguration()) is None
    [said] = caplog.messages
    assert said == "warm start: no published run of mnist, rows has this network; training starts cold"


def test_a_run_that_is_named_has_to_be_there_and_to_fit(tmp_path: Path) -> None:
    published(tmp_path, "wide", 1, network=WIDE)
    with pytest.raises(ConfigurationError, match="no published run by the name 'narrow'"):
        weights_of(Policy(start_from="narrow"), tmp_path, RunConfiguration())
    with pytest.raises(
        ConfigurationError, match=r"policy\.start_from = wide: its network settings are others"
    ) as caught:
        weights_of(Policy(start_from="wide"), tmp_path, RunConfiguration())
    assert caught.value.remedy == "Name another run, or start cold"


@pytest.mark.slow
@pytest.mark.soak  # `make test` has the task alone in test_resume.py
def test_a_warm_run_goes_on_from_the_published_weights(smoke_run: SmokeRun, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(smoke_run.home, home, symlinks=True)
    place = ("--artifacts", home / "artifacts")
    options = ("--preset", "smoke", "--set", "training.epochs=1", "--start", "warm")
    planned = run_command(home, "plan", *options, *place)
    assert re.search(r"train +│ run +│ .*initial weights changed \(none → [0-9a-f]{12}…\)", planned.stdout), (
        planned.stdout
    )
    answer = run_command(home, "run", *options, *place)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    [warm] = [run for run in (home / "artifacts" / "runs").iterdir() if run.name != smoke_run.folder.name]
    manifests = [json.loads((run / "manifest.json").read_bytes()) for run in (smoke_run.folder, warm)]
    assert [manifest["started_from"] for manifest in manifests] == [None, smoke_run.folder.name]
    cold_page, warm_page = ((run / "report.html").read_text(encoding="utf-8") for run in (smoke_run.folder, warm))
    told = f"training began with the weights of run <bdi>{smoke_run.folder.name}</bdi>"
    assert told in warm_page
    assert "A warm start" not in cold_page
    before, after = (
        History.model_validate_json((run / "history.json").read_bytes()) for run in (smoke_run.folder, warm)
    )
    assert after.started_from == manifests[0]["weights"] != manifests[1]["weights"]
    assert after.epochs[0].loss < before.epochs[0].loss / 2
    # By now the newest run is itself: that it is run again begins where it began, so there is nothing to do.
    again = run_command(home, "rerun", "latest", *place)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "train: nothing changed, reused" in again.stdout
    assert len(list((home / "artifacts" / "runs").iterdir())) == 2
