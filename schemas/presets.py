"""Presets and how a configuration is put together: preset, then file, then single settings. Not here: argv.

Whatever is unknown is refused with the nearest right name.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ValidationError

from schemas.configuration import RunConfiguration
from schemas.errors import ConfigurationError
from schemas.nearest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_SHIPPED = Path(__file__).with_name("presets.toml")
DEFAULT_PRESET = "rows"


def presets() -> dict[str, str]:
    """Names of the presets and what each is."""
    return {name: entry["description"] for name, entry in _entries().items()}


def configured(
    preset: str = DEFAULT_PRESET,
    file: Path | None = None,
    settings: Iterable[str] = (),
    dataset: str | None = None,
    values_over: Mapping[str, Any] | None = None,
) -> RunConfiguration:
    """The configuration of a preset, with a file's values over it, then plain values, then `key=value` settings.

    Raises:
        ConfigurationError: a name, key or value is unknown or out of bounds; the nearest right one is given.
    """
    values = {**_preset(preset), "preset": preset}
    blamed = None
    if file is not None:
        values = _laid_over(values, _file_values(file))
        blamed = None if _valid(values) else str(file)
    values = _laid_over(values, dict(values_over or {}))
    for setting in settings:
        values = _laid_over(values, _setting(setting))
    if dataset is not None:
        values["dataset"] = dataset
    _require_named(preset, values.get("preset"))
    return validated(values, blamed)


def _require_named(preset: str, named: object) -> None:
    """Raise where values over a preset name another one: they would not bring its settings."""
    if named != preset:
        raise ConfigurationError(
            f"preset = {named!r} over the preset '{preset}'",
            "the preset's name apart from the values: its settings are what they are laid over",
            f"Leave it out of the values; name it by --preset {named}, or in stepwise.toml beside `configuration`",
        )


def _valid(values: Mapping[str, Any]) -> bool:
    try:
        RunConfiguration.model_validate(values)
    except ValidationError:
        return False
    return True


def require_settings_of_preset(configuration: RunConfiguration) -> None:
    """Raise ConfigurationError where a configuration bears the name of a preset and not one of its settings.

    In a form and in a deployment of Prefect's own the name is only a name; a preset trained under another's would
    be published, kept and compared as what it is not.
    """
    name = configuration.preset
    if name not in _entries():
        return
    plain, stated, given = (
        _leaves(each.model_dump(exclude={"preset", "dataset"}))
        for each in (RunConfiguration(), configured(name), configuration)
    )
    own = {key for key, value in stated.items() if value != plain.get(key)}
    if own and not any(given.get(key) == stated[key] for key in own):
        raise ConfigurationError(
            f"the configuration is called '{name}' and has none of that preset's settings",
            f"for example {_example(own, stated)}; here `preset` is only a name and brings no settings",
            f'For its settings, put a deployment with preset = "{name}" into stepwise.toml, or use `stepwise run '
            f"--preset {name}`; for these, give them a name of their own",
        )


def validated(values: Mapping[str, Any], file: str | None = None) -> RunConfiguration:
    """The configuration of plain values.

    Raises:
        ConfigurationError: all that is wrong with them, in one error.
    """
    try:
        return RunConfiguration.model_validate(values)
    except ValidationError as error:
        raise ConfigurationError(
            f"the configuration is wrong: {problems_told(error, RunConfiguration)}",
            "keys and values as schemas/configuration.py states them",
            "Correct them; nothing was run",
            file,
        ) from error


def _entries() -> dict[str, Any]:
    return tomllib.loads(_SHIPPED.read_text(encoding="utf-8"))


def _preset(name: str) -> dict[str, Any]:
    entries = _entries()
    if name not in entries:
        meant = did_you_mean(name, entries, "Choose one of these")
        raise ConfigurationError(f"there is no preset '{name}'", f"one of {', '.join(entries)}", meant)
    entry = dict(entries[name])
    entry.pop("description")
    base = entry.pop("base", None)
    return _laid_over(_preset(base), entry) if base else entry


def _file_values(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"the file cannot be read: {error.strerror}", "a TOML file", "Check the path", str(path)
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"this is not TOML: {error}", "a TOML file", "Correct it", str(path)) from error


def _setting(text: str) -> dict[str, Any]:
    """`training.epochs=3` as nested values; the value is TOML, or plain text where it is not; nothing is none."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigurationError(
            f"'{text}' is no setting", "key=value, such as training.epochs=3", "Write it so after --set"
        )
    try:
        parsed: Any = tomllib.loads(f"value = {value}")["value"] if value.strip() else None
    except tomllib.TOMLDecodeError:
        parsed = value
    for part in reversed(key.strip().split(".")):
        parsed = {part: parsed}
    nested: dict[str, Any] = parsed
    return nested


def _laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _laid_over(merged[key], value) if both else value
        if value is None and key in below:
            del merged[key]  # the default is what is left
    return merged


SECRET: Final = (("alerts",), ("database_url",))  # addresses that let whoever reads them in


def problems_told(error: ValidationError, form: type[BaseModel]) -> str:
    """All findings of pydantic's, but for a list that is too short for its wrong items."""
    problems = error.errors(include_url=False)
    around = {problem["loc"][:-1] for problem in problems}
    told = (p for p in problems if not (p["type"] == "too_short" and p["loc"] in around))
    return "; ".join(problem_told(problem, form) for problem in told)


def problem_told(problem: Mapping[str, Any], form: type[BaseModel]) -> str:
    """One finding of pydantic's about values of a form, with the nearest right name where one is unknown."""
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = _fields(problem["loc"][:-1], form)
        return f"there is no key '{place}'. {_nearest(str(problem['loc'][-1]), known)}"
    near = ""
    if problem["type"] == "literal_error":
        expected = problem["ctx"]["expected"].replace("' or '", "', '").strip("'").split("', '")
        near = f". {_nearest(str(problem['input']), expected)}"
    said = "a list in brackets is wanted" if problem["type"] == "tuple_type" else problem["msg"]
    said = said.removeprefix("Value error, ")
    given = "has no value" if problem["input"] is None else f"= {problem['input']!r}"
    if problem["loc"][:1] in SECRET or not problem["loc"]:  # in the whole there may be one of these
        given = ""
    return f"{place} {given}".strip() + f": {said}{near}"


def _leaves(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested values by dotted key; a list is one value."""
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        leaves |= _leaves(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return leaves


def _example(keys: Iterable[str], values: Mapping[str, Any]) -> str:
    key = min(keys, key=lambda each: (isinstance(values[each], tuple | list), each))
    return f"{key} = {values[key]}"


def _fields(location: tuple[int | str, ...], form: type[BaseModel]) -> list[str]:
    """The keys that may stand at a place of a form."""
    model: Any = form
    for part in location:
        if isinstance(part, str) and part in model.model_fields:
            inner = model.model_fields[part].annotation
            candidates = [inner, *getattr(inner, "__args__", ())]
            model = next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), model)
    return list(model.model_fields)


def _nearest(name: str, known: list[str]) -> str:
    return did_you_mean(name, known, f"Known: {', '.join(known)}")
