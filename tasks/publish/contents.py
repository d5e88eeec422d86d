"""Everything that a report is made of. Not here: gathering it (story), what is said of it (report, caveats)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from typing import Any, Literal

    import numpy as np
    from numpy.typing import NDArray

    from schemas.champion import Verdict
    from schemas.configuration import RunConfiguration
    from schemas.drift import Drift
    from schemas.history import History
    from schemas.ledger import Ledger
    from schemas.metrics import Metrics
    from schemas.receipt import Receipt


@dataclass(frozen=True)
class ReportContents:
    """Everything a report shows.

    `pictures` are (K, rows, columns) uint8, aligned with `metrics.worst`, and `seen` (K, T, F) what the network read of
    them, None where it read several images at once; `suspects` are the pictures of `metrics.suspects.worst`. `reviewed`
    are the test rows that people have found labelled wrong, and whether the model contradicts the label. `sequence` is
    the (T, F) array of the first test sequence, `sequence_picture` (rows, columns) its first image; pictures are
    upright, and `orientation` says how the file holds them.
    `files` holds the SHA-256 of the run's files by name, `began_with` the run whose weights a warm start had,
    `learned_before` how many test images that one had learned from, `before_on_record` whether those are all, and
    `neighbours_alike` the share of images with the class of the one before them in a sequence, where it holds several.
    """

    run: str
    created: datetime
    title: str
    mode: Literal["pinned", "tracked"]
    configuration: RunConfiguration
    receipt: Receipt
    ledger: Ledger
    metrics: Metrics
    history: History
    pictures: NDArray[np.uint8]
    sequence: NDArray[Any]
    sequence_picture: NDArray[np.uint8]
    timings: dict[str, float]
    reused: frozenset[str]
    environment: dict[str, str]
    files: dict[str, str]
    orientation: str = "upright"
    homepage: str = ""
    licence: str = ""
    seen: NDArray[Any] | None = None
    suspects: NDArray[np.uint8] | None = None
    reviewed: Mapping[int, bool] = field(default_factory=dict)
    verdict: Verdict | None = None
    drift: Drift | None = None
    began_with: str | None = None
    learned_before: int = 0
    before_on_record: bool = True
    neighbours_alike: float | None = None
