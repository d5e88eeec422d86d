"""Promotion: what is demanded of a new champion, the verdict on a model, and the history of the champion's place.

Here: their forms. Not here: how models are compared (tasks/compare), how the place is taken (tasks/champions).
"""

from __future__ import annotations

import datetime
from typing import Annotated, Literal

from pydantic import Field

from schemas.handles import Frozen, Handle, Sha256

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]

Decision = Literal["first champion", "promote", "keep", "undecided"]
Event = Literal["first champion", "promoted", "kept", "re-verified", "undecided", "by hand", "rolled back"]


class Demands(Frozen):
    """What a model has to show before it takes the champion's place, on the same test samples."""

    error_rate: Annotated[float, Field(gt=0, lt=0.5, allow_inf_nan=False)] = Field(
        default=0.05,
        description="How often a model that is no better may be promoted by luck: the level of McNemar's exact test, "
        "one-sided. Lower means fewer mistakes, and more test samples needed to notice a better model.",
    )
    minimum_recall: Share = Field(
        default=0.0,
        description="Share found of any class (its recall), of test images that were not learned from, below which no "
        "model is promoted, not even the first one.",
    )
    minimum_accuracy: Share = Field(
        default=0.0,
        description="Accuracy on the test images that were not learned from below which no model is promoted, not even "
        "the first one. Whatever stands here, a model has to be better than always answering the most frequent class.",
    )
    class_margin: Share = Field(
        default=0.02,
        description="How much lower than the champion's the share found of any class (its recall) may be; where that "
        "much is no more than chance, by the same test, it does not count.",
    )
    calibration_margin: Share = Field(
        default=0.01,
        description="How much higher than the champion's the expected calibration error may be, beside what chance "
        "does with so few test images.",
    )
    demanded: bool = Field(
        default=False,
        description="Whether a run whose model is not promoted shall fail, with exit code 6. It is published all the "
        "same.",
    )


class Paired(Frozen):
    """Two models on the same samples.

    `p` is one-sided, of McNemar's exact test, for the hypothesis that the new one is no better; `interval` is
    Newcombe's interval of `difference`, two-sided, at `level`.
    """

    samples: int = Field(ge=1)
    both: int = Field(ge=0, description="Samples that both got right.")
    only_new: int = Field(ge=0)
    only_old: int = Field(ge=0)
    neither: int = Field(ge=0)
    p: Share
    difference: float = Field(ge=-1, le=1, description="Accuracy of the new one minus that of the old one.")
    interval: tuple[float, float]
    level: float = Field(
        default=0.95,
        description="Of the interval: 1 minus twice the error rate, so that its lower end is above 0 about where the "
        "one-sided test says better.",
    )


class Finding(Frozen):
    """One thing that was looked at, whether it holds, and what was found, as a person would say it."""

    what: str
    holds: bool
    found: str
    of_itself: bool = False  # it only says that the model is the champion


class Verdict(Frozen):
    """What promotion decided about a model, and why.

    Attributes:
        decision: undecided where nothing could be compared, and a person has to decide.
        champion: The run that was champion when the models were compared; None: there was none.
        findings: All that was looked at, in order; the first that does not hold is the reason.
        comparison: None where nothing was compared.
        rescored: Whether the champion answered the test samples again, since it was published with others.
        demands: What was demanded.
    """

    decision: Decision
    champion: str | None
    findings: tuple[Finding, ...]
    comparison: Paired | None = None
    rescored: bool = False
    demands: Demands

    @property
    def reasons(self) -> tuple[str, ...]:
        """What the decision hangs on: all that does not hold, or, where all holds, all of it."""
        against = tuple(f"not met: {finding.what}: {finding.found}" for finding in self.findings if not finding.holds)
        return against or tuple(f"{finding.what}: {finding.found}" for finding in self.findings)


class Judged(Frozen):
    """What compare returns: the verdict, and where it is kept."""

    verdict: Handle
    decision: Decision
    champion: str | None


class Champion(Frozen):
    """The run that holds a dataset's place, as it was when it took it."""

    run: str
    manifest: Sha256
    weights: Sha256
    accuracy: float


class Entry(Frozen):
    """One entry of a dataset's history of champions; never changed once written.

    Attributes:
        number: Entries count from 1, without a gap.
        at: When.
        dataset: Whose place.
        decision: What happened.
        run: The run that it was about.
        champion: The run that is champion after this entry; None: still none.
        was: The run that was champion before.
        reasons: Why; for what a person did, the reason given.
        by_hand: Whether a person decided.
        record: What identifies the champion's bytes.
        verdict: What the decision goes back to, with all that was looked at; None where a person decided or a run was
            skipped.
    """

    number: int = Field(ge=1)
    at: datetime.datetime
    dataset: str
    decision: Event
    run: str
    champion: str | None
    was: str | None
    reasons: tuple[str, ...]
    by_hand: bool = False
    record: Champion | None = None
    verdict: Verdict | None = None

    @property
    def refused(self) -> bool:
        """Whether a model did not get the place; not where all that speaks against it is that it is the champion's."""
        against = [finding for finding in self.verdict.findings if not finding.holds] if self.verdict else []
        of_itself = bool(against) and all(finding.of_itself for finding in against)
        return self.decision in {"kept", "undecided"} and not of_itself
