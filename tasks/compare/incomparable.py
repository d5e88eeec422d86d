"""Why two models cannot be compared. Here: that alone, for whoever finds out."""

from __future__ import annotations


class Incomparable(Exception):  # noqa: N818 - no error: a person decides
    """Why two models cannot be compared, as a person would say it."""
