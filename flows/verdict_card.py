"""A verdict and what became of it, for people: the artifact in the Prefect UI, a line for the log and the terminal.

Not here: the verdict (tasks/compare), the champion's place (tasks/promote, champion).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tasks.wording import as_text

if TYPE_CHECKING:
    from schemas.champion import Entry, Event, Paired, Verdict

SAID: Final[dict[Event, str]] = {
    "first champion": "{run} is the first champion of {dataset}",
    "promoted": "{run} is champion of {dataset} now, in place of {was}",
    "kept": "{champion} stays champion of {dataset}",
    "re-verified": "{champion} is champion of {dataset}: nothing changed, verified again by digests",
    "undecided": "{champion} stays champion of {dataset} until a person decides",
    "by hand": "{run} is champion of {dataset} by hand, in place of {was}",
    "rolled back": "{champion} is champion of {dataset} again, in place of {was}",
}


NOBODY: Final[dict[Event, str]] = {
    "kept": "{dataset} still has no champion",
    "undecided": "{dataset} has no champion until a person decides",
}


def said(entry: Entry) -> str:
    """What an entry says, in a sentence without its end."""
    words = SAID if entry.champion else SAID | NOBODY
    names = {"champion": entry.champion or "nobody", "was": entry.was or "nobody"}
    return words[entry.decision].format(run=entry.run, dataset=entry.dataset, **names)


def verdict_card(entry: Entry, verdict: Verdict | None) -> str:
    """The markdown of a verdict: what became of it, the numbers, and each finding."""
    lines = [f"# {as_text(said(entry))}", "", *(f"- {as_text(reason)}" for reason in entry.reasons), ""]
    when = "now" if entry.verdict else "when it was published"
    return "\n".join([*lines, *(_looked_at(verdict, when) if verdict else ()), _what_to_do(entry)])


def _looked_at(verdict: Verdict, when: str) -> list[str]:
    rows = (
        f"| {'✓' if finding.holds else '✗'} | {as_text(finding.what)} | {as_text(finding.found)} |"
        for finding in verdict.findings
    )
    lines: list[str] = []
    if verdict.comparison:
        lines += [*_compared(verdict.comparison), ""]
    if verdict.rescored:
        lines += ["The test images are others than the champion was published with: it answered these first.", ""]
    return [*lines, f"| | Looked at {when} | Found |", "| --- | --- | --- |", *rows, ""]


def _compared(paired: Paired) -> list[str]:
    low, high = paired.interval
    difference = (
        f"Difference {100 * paired.difference:+.2f} points, {100 * paired.level:g} % interval {100 * low:+.2f} to "
        f"{100 * high:+.2f}; "
        f"McNemar's exact test, one-sided: p = {paired.p:.2g}."
    )
    return [
        "| | Champion right | Champion wrong |",
        "| --- | ---: | ---: |",
        f"| **This model right** | {paired.both:,} | {paired.only_new:,} |",
        f"| **This model wrong** | {paired.only_old:,} | {paired.neither:,} |",
        "",
        difference,
    ]


def _what_to_do(entry: Entry) -> str:
    if entry.decision in {"kept", "undecided"}:
        return f"To promote it all the same: `stepwise champion promote {entry.run} --reason '…'`"
    back = "; `stepwise champion rollback` takes this one back" if entry.decision in {"promoted", "by hand"} else ""
    return f"`stepwise champion history` has all decisions{back}."
