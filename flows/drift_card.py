"""Drift for people: the artifact in the Prefect UI. Not here: measuring it (tasks/drift)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.wording import as_text

if TYPE_CHECKING:
    from schemas.drift import Drift, DriftLimits


def drift_card(drift: Drift, limits: DriftLimits) -> str:
    """The markdown of a comparison: each distribution, how far it is from the champion's, and what moved most."""
    profile = drift.profile
    about = (
        f"{profile.rows:,} training images; pixels have the mean {profile.mean:.2f} "
        f"and the standard deviation {profile.std:.2f}."
    )
    if drift.why_none:
        return f"# Nothing to compare\n\n{as_text(drift.why_none)}.\n\n{about}"
    rows = (
        f"| {as_text(shift.what)} | {shift.index:.3f} | {shift.chance:.3f} | {shift.level} | {as_text(shift.found)} |"
        for shift in drift.shifts
    )
    stop = "nothing" if limits.stop is None else f"{limits.stop:g}"
    return "\n".join(
        [
            f"# {drift_in_short(drift)}",
            "",
            f"Beside the training data of the champion, `{drift.champion}`. {about}",
            "",
            "| Distribution | Index | By chance up to | Level | What moved most |",
            "| --- | ---: | ---: | --- | --- |",
            *rows,
            "",
            f"Index: population stability index. Beyond chance, {limits.warn:g} warns and {stop} stops the run.",
        ]
    )


def drift_in_short(drift: Drift) -> str:
    """A comparison in a line."""
    if drift.why_none:
        return f"Nothing to compare: {drift.why_none}"
    moved = [shift.what for shift in drift.shifts if shift.level != "none"]
    return f"Drifted: {', '.join(moved)}" if moved else "The training data are like the champion's"
