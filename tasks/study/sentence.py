"""Sentences of the study's page: each names the figure that shows what it says. Not here: what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

ASKED_T: Final = 16  # the question's second shape; its first was 1
FIGURES: Final = {
    "steps": "What a step sees",
    "counts": "The counts",
    "accuracy": "Accuracy against T",
    "parameters": "Weights against T",
    "saturation": "Saturated gates",
    "loss": "Gradient at the output",
    "gradient": "Gradient that reaches the first steps",
    "time": "Time of an epoch",
    "after": "Accuracy after k steps",
}


@dataclass(frozen=True)
class Sentence:
    """One sentence, and the figure of the page that shows it."""

    text: str
    figure: str

    @property
    def unbroken(self) -> str:
        """The text with its equations kept on one line."""
        return self.text.replace(" = ", "\u00a0=\u00a0").replace(" / ", "\u00a0/\u00a0")
