"""The installation's file: what it may say, and what a person is told where it says something else."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from schemas.cron import SHORT, require_cron
from schemas.errors import ConfigurationError
from schemas.installation import Deployment, Installation, Retention, load_installation
from schemas.presets import configured

SHIPPED = Path(__file__).resolve().parents[2] / "stepwise.toml"


def written(folder: Path, text: str) -> Path:
    path = folder / "stepwise.toml"
    path.write_text(text)
    return path


def test_everything_may_be_left_out(tmp_path: Path) -> None:
    installation = load_installation(written(tmp_path, ""))
    assert installation == Installation(artifacts=tmp_path / "artifacts")
    assert (installation.retries, installation.concurrency, installation.work_pool) == (2, 1, "stepwise")


def test_a_whole_file_and_paths_relative_to_it(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
        artifacts = "out"
        retries = 0
        database_url = "postgresql+asyncpg://user:secret@host/stepwise"
        retention = { keep_runs = 20, keep_days = 90 }
        alerts.webhook = "https://hooks.example.org/T0/B0"

        [deployments."mnist weekly"]
        preset = "smoke"
        dataset = "mnist"
        cron = "30 3 * * mon-fri"
        timezone = "Europe/Berlin"
        active = false
        config = "over.toml"
        configuration.training.epochs = 3
        policy = { when_unchanged = "skip", budget_minutes = 30 }

        [deployments.own]
        data = "digits"
        catalogs = ["sets.toml", "/elsewhere/sets.toml"]
        """,
    )
    (tmp_path / "over.toml").write_text("training = { epochs = 9, learning_rate = 0.5 }")
    installation = load_installation(path)
    assert installation.artifacts == tmp_path / "out"
    assert installation.retention == Retention(keep_runs=20, keep_days=90)
    assert (installation.retention.cron, installation.retention.timezone) == ("30 2 * * *", "UTC")
    assert "secret" not in repr(installation)
    weekly, own = installation.deployments["mnist weekly"], installation.deployments["own"]
    assert weekly.run_configuration() == configured(
        "smoke", None, ["training.epochs=3", "training.learning_rate=0.5"], "mnist"
    )
    assert (weekly.policy.when_unchanged, weekly.active, weekly.timezone) == ("skip", False, "Europe/Berlin")
    assert own.data == tmp_path / "digits"
    assert own.catalogs == (tmp_path / "sets.toml", Path("/elsewhere/sets.toml"))


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("retrys = 3", 1, "there is no key 'retrys'. Did you mean 'retries'?"),
        ("\n[alerts]\nwebhok = 'https://a/b'", 3, "there is no key 'alerts.webhok'. Did you mean 'webhook'?"),
        ("\n[deployments.weekly]\ncrn = '0 3 * * 1'", 3, "no key 'deployments.weekly.crn'. Did you mean 'cron'?"),
        ("[deployments.weekly]\ncron = '0 25 * * 1'", 2, "'25' is no hour, which goes from 0 to 23"),
        ("[deployments.weekly]\ncron = '0 3 * *'", 2, "five fields (minute hour day month weekday), this has 4"),
        ("[deployments.w]\n\ntimezone = 'Europe/Berln'", 3, "no such time zone. Did you mean 'Europe/Berlin'?"),
        ("[deployments.w.policy]\nwhen_unchanged = 'skp'", 2, "Did you mean 'skip'?"),
        ("retries = -1", 1, "retries = -1: Input should be greater than or equal to 0"),
        ("alerts = { webhook = 'https://a/b', block = 'slack-webhook/x' }", 1, "either webhook or block, not both"),
        ("retention = { cron = '0 1 * * *' }", 1, "it needs keep_runs, keep_days or both"),
        ("retention = { keep_runs = 3, cron = '0 25 * * *' }", 1, "'25' is no hour, which goes from 0 to 23"),
        ("alerts.webhook = 'ftp://a/b'", 1, "alerts.webhook: String should match pattern"),
        ("alerts.webhook = 'http://a:port/b'", 1, "an address whose port is a number is wanted"),
        ("alerts.webhook = 'http://a:65536/b'", 1, "an address whose port is a number is wanted"),
        ("[deployments.'a/b']", 1, "a/b"),
        ("retries = \n", 1, "this is not TOML"),
    ],
)
def test_what_is_wrong_is_told_with_its_line_and_the_nearest_right_word(
    text: str, line: int, said: str, tmp_path: Path
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigurationError) as caught:
        load_installation(path)
    assert said in str(caught.value)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "text",
    [
        "alerts = { webhook = 'https://h/SECRET', block = 'slack-webhook/x' }",
        "alerts.webhook = 'h/SECRET'",
        "alerts.webhook = ' https://h/SECRET'",
        "alerts = 'https://h/SECRET'",
        "database_url = ['postgresql+asyncpg://u:SECRET@h/n']",
    ],
)
def test_what_lets_somebody_in_is_not_told(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_installation(written(tmp_path, text))
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("preset = 'smok'", "deployment 'weekly': there is no preset 'smok'. Expected: one of rows,"),
        ("configuration.training.epoch = 1", "there is no key 'training.epoch'. Did you mean 'epochs'?"),
        ("config = 'none.toml'", "none.toml: deployment 'weekly': the file cannot be read"),
    ],
)
def test_a_deployment_that_could_not_run_is_refused(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_installation(written(tmp_path, f"[deployments.weekly]\n{text}"))
    assert said in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="installation's file cannot be read: No such file"):
        load_installation(tmp_path / "stepwise.toml")


def test_the_shipped_file_shows_every_key_and_retrains_weekly() -> None:
    text = SHIPPED.read_text(encoding="utf-8")
    installation = load_installation(SHIPPED)
    assert [deployment.cron for deployment in installation.deployments.values()] == ["0 3 * * 1"]
    shown = {name for form in (Installation, Deployment, Retention) for name in form.model_fields}
    missing = {name for name in shown if name not in text}
    assert not missing
    uncommented = "\n".join(line.removeprefix("#") for line in text.splitlines() if not line.startswith("# "))
    assert tomllib.loads(uncommented)  # what is commented out is TOML as well


@pytest.mark.parametrize("text", ["0 3 * * 1", "*/5 0-23/2 1,15 jan-mar sun", "59 23 31 12 7", *SHORT])
def test_cron_expressions_that_are_some(text: str) -> None:
    from prefect.client.schemas.schedules import CronSchedule  # who has to understand it in the end

    assert require_cron(text) == CronSchedule(cron=text).cron == text


@pytest.mark.parametrize("text", ["60 * * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "*/0 * * * *", "5-1 * * * *"])
def test_cron_expressions_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="is no "):
        require_cron(text)
