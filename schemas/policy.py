"""The policy of a run: what it does about unchanged data, what training begins with, how long it may take."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, ValidationError

from schemas.errors import ConfigurationError
from schemas.handles import Frozen


class Policy(Frozen):
    """How a run goes about its work; what an output of given inputs is does not change with it."""

    when_unchanged: Literal["go on", "skip"] = Field(
        default="go on",
        description="Where no file's digest, nothing that the catalog states and no setting (but those of promotion "
        "and drift) changed since the last published run of this dataset and preset, and that run and the champion are "
        "whole: go on (what is there is verified and reused, new code or libraries are a reason to train), or skip "
        "(the run ends after the downloads and says so).",
    )
    start: Literal["cold", "warm"] = Field(
        default="cold",
        description="What training begins with: cold (weights drawn by the seed), or warm (the champion's weights "
        "or, where its network, reshape or scaling are others or its file is damaged, those of the newest published "
        "run of this dataset and preset that has the same; cold where there is none or the data are of other classes "
        "or size, and said). Optimiser and schedule begin anew in both cases.",
    )
    start_from: str | None = Field(
        default=None,
        description="A warm start from this published run, whichever is the newest. Where its weights do not fit the "
        "data the run stops; with start = warm, which chooses a run and names it here, training begins cold.",
    )
    budget_minutes: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        default=None,
        description="Wall time that training may take. Where it is spent, training stops at a checkpoint, and the "
        "next run of the same training goes on from there.",
    )


def asked(**values: object) -> Policy:
    """The policy that a person gives by options: a run that they name has to fit, whatever they say of `start`.

    Raises:
        ConfigurationError: as `policy_of`.
    """
    policy = policy_of(**values)
    return policy.model_copy(update={"start": "cold"}) if policy.start_from else policy


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
