"""The policy of a run: what it does about unchanged data, how long training may take."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationError

from schemas.errors import ConfigurationError
from schemas.handles import Frozen


class Policy(Frozen):
    """How a run goes about its work; nothing here changes what an output of given inputs is."""

    when_unchanged: Literal["go on", "skip"] = Field(
        default="go on",
        description="Where no file's digest and no setting changed since the last published run of this dataset and "
        "preset: go on (what is there is verified and reused, new code or libraries are a reason to train), or skip "
        "(the run ends after the downloads and says so).",
    )
    budget_minutes: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None,
        description="Wall time that training may take. Where it is spent, training stops at a checkpoint, and the "
        "next run of the same training goes on from there.",
    )


def policy_of(**values: object) -> Policy:
    """The policy of these values.

    Raises:
        ConfigurationError: a value is none that the policy knows.
    """
    try:
        return Policy.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0])
        described = Policy.model_fields[option].description or ""
        raise ConfigurationError(
            f"policy.{option} = {first['input']!r}", first["msg"], f"What it means: {described}"
        ) from error
