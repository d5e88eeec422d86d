"""The installation: what is deployed when, and what its keepers do. Here: its form and loading it from TOML.

Not here: putting it onto a server, starting it, watching it (flows/installation).
"""

from __future__ import annotations

import tomllib
import zoneinfo
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError, model_validator

from schemas.cron import require_cron
from schemas.errors import ConfigurationError
from schemas.handles import Frozen
from schemas.nearest import did_you_mean
from schemas.policy import Policy
from schemas.presets import DEFAULT_PRESET, configured, problem_told
from schemas.toml_lines import line_of, line_of_syntax_error

if TYPE_CHECKING:
    from schemas.configuration import RunConfiguration

POOL: Final = "stepwise"


def _require_zone(name: str) -> str:
    zones = zoneinfo.available_timezones()
    if name not in zones:
        raise ValueError(f"there is no such time zone. {did_you_mean(name, zones)}".rstrip(". "))
    return name


def _require_port(address: str) -> str:
    try:
        _ = urlsplit(address).port
    except ValueError as error:
        raise ValueError(f"an address whose port is a number is wanted ({error})") from error
    return address


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._ -]*$", max_length=100)]
Cron = Annotated[str, AfterValidator(require_cron)]
TimeZone = Annotated[str, AfterValidator(_require_zone)]
Webhook = Annotated[str, Field(pattern=r"^https?://[^\s/]+(/\S*)?$"), AfterValidator(_require_port)]
BlockName = Annotated[str, Field(pattern=r"^[a-z0-9-]+/[a-z0-9-]+$")]


class Deployment(Frozen):
    """One deployment: what it trains on what, and when."""

    description: str = Field(default="", description="What it is for, shown in the Prefect UI.")
    dataset: str | None = Field(default=None, description="A dataset of the catalog; the preset's where none is named.")
    preset: str = Field(default=DEFAULT_PRESET, description="What the configuration begins with.")
    config: Path | None = Field(default=None, description="A TOML file of values over the preset's.")
    configuration: dict[str, Any] = Field(
        default_factory=dict, description="Values over both, as tables of the configuration's form."
    )
    data: Path | None = Field(default=None, description="A folder of IDX files in place of a dataset.")
    catalogs: tuple[Path, ...] = Field(default=(), description="TOML files with datasets of your own.")
    policy: Policy = Field(default=Policy(), description="What a run does about unchanged data, start and budget.")
    cron: Cron | None = Field(default=None, description="When it runs: minute hour day month weekday; none: by hand.")
    timezone: TimeZone = Field(default="UTC", description="The time zone that cron means, such as Europe/Berlin.")
    active: bool = Field(default=True, description="Whether the schedule is on.")
    tags: tuple[str, ...] = Field(default=(), description="Further tags of its runs.")

    def run_configuration(self) -> RunConfiguration:
        """The configuration of its runs."""
        return configured(self.preset, self.config, (), self.dataset, self.configuration)


class Retention(Frozen):
    """Which published runs are kept, and when the others go; one that either rule keeps is kept."""

    keep_runs: int | None = Field(default=None, ge=1, description="Keep so many of each dataset and preset.")
    keep_days: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None, description="Keep what is younger than so many days."
    )
    cron: Cron = Field(default="30 2 * * *", description="When the others are removed; nightly where none is given.")
    timezone: TimeZone = Field(default="UTC", description="The time zone that cron means.")
    active: bool = Field(default=True, description="Whether the schedule is on.")

    @property
    def is_set(self) -> bool:
        """Whether anything says what is kept; else nothing is removed."""
        return self.keep_runs is not None or self.keep_days is not None

    @model_validator(mode="after")
    def _require_rule(self) -> Self:
        if self.model_fields_set and not self.is_set:
            raise ValueError("it needs keep_runs, keep_days or both: without them nothing says what is kept")
        return self


class Alerts(Frozen):
    """Who is told when a run fails or crashes."""

    webhook: Webhook | None = Field(default=None, description="An address that gets a POST of JSON.")
    block: BlockName | None = Field(
        default=None, description="A notification block of Prefect's, such as slack-webhook/team."
    )

    @model_validator(mode="after")
    def _require_one(self) -> Self:
        if self.webhook and self.block:
            raise ValueError("either webhook or block, not both")
        return self


class Installation(Frozen):
    """Everything that is set once for a machine or a team. All of it may be left out."""

    artifacts: Path = Field(default=Path("artifacts"), description="Folder of outputs and published runs.")
    work_pool: Name = Field(default=POOL, description="The Prefect work pool that the runs wait in.")
    concurrency: int = Field(default=1, ge=1, description="Runs of one deployment at the same time.")
    retries: int = Field(default=2, ge=0, le=20, description="How often a crashed run is tried again.")
    automations: bool = Field(
        default=False,
        description="Put automations onto the server that do what the watchdog does; with Postgres only, and where "
        "no watchdog runs.",
    )
    database_url: SecretStr | None = Field(
        default=None,
        description="The server's database, such as postgresql+asyncpg://user:password@host/stepwise; SQLite where "
        "none is given. PREFECT_SERVER_DATABASE_CONNECTION_URL in the environment goes before it.",
    )
    alerts: Alerts = Field(default=Alerts(), description="Who is told when a run fails.")
    retention: Retention = Field(default=Retention(), description="What is kept when old runs are removed.")
    deployments: dict[Name, Deployment] = Field(default_factory=dict, description="What is deployed, by name.")

    @model_validator(mode="after")
    def _require_whole_configurations(self) -> Self:
        for name, deployment in self.deployments.items():
            try:
                deployment.run_configuration()
            except ConfigurationError as error:
                found = f"deployment '{name}': {error.found}"
                raise ConfigurationError(found, error.expected, error.remedy, error.file) from error
        return self


def load_installation(path: Path) -> Installation:
    """The installation of a TOML file; its relative paths are relative to the file.

    Raises:
        ConfigurationError: the file cannot be read, or a key or value is wrong; line and nearest right name are told.
    """
    text = _text(path)
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = line_of_syntax_error(error) or len(text.splitlines())
        raise ConfigurationError(f"this is not TOML: {error}", "TOML", "Correct the line", f"{path}:{line}") from error
    try:
        return Installation.model_validate(_anchored(content, path.absolute().parent))
    except ValidationError as error:
        raise _malformed(error, text, path) from error
    except ConfigurationError as error:  # a deployment's configuration; pydantic lets it through
        raise ConfigurationError(error.found, error.expected, error.remedy, error.file or str(path)) from error


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigurationError(
            f"the installation's file cannot be read: {reason}",
            "a TOML file such as the shipped stepwise.toml",
            "Write one, or name it with --file",
            str(path),
        ) from error


def _anchored(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The values with relative paths made absolute, and the default path with them."""
    anchored = {**content, "artifacts": _joined(folder, content.get("artifacts", "artifacts"))}
    deployments = content.get("deployments")
    if isinstance(deployments, dict):
        anchored["deployments"] = {name: _anchored_deployment(entry, folder) for name, entry in deployments.items()}
    return anchored


def _anchored_deployment(entry: Any, folder: Path) -> Any:  # noqa: ANN401 - judged by the form later
    if not isinstance(entry, dict):
        return entry
    paths = {key: _joined(folder, entry[key]) for key in ("config", "data") if key in entry}
    if isinstance(entry.get("catalogs"), list):
        paths["catalogs"] = [_joined(folder, part) for part in entry["catalogs"]]
    return {**entry, **paths}


def _joined(folder: Path, value: Any) -> Any:  # noqa: ANN401
    return str(folder / Path(value).expanduser()) if isinstance(value, str) else value


def _malformed(error: ValidationError, text: str, path: Path) -> ConfigurationError:
    findings = sorted(
        (line_of(text, problem["loc"]), problem_told(dict(problem), Installation))
        for problem in error.errors(include_url=False)
    )
    return ConfigurationError(
        "; ".join(f"line {line}: {told}" for line, told in findings[:5]),
        "keys and values as docs/operations.md lists them",
        "Correct them; nothing was changed",
        f"{path}:{findings[0][0]}",
    )
