"""Handles: the small frozen values that name a stage's output. Here: their form; not here: how the store keeps them.

Only these travel between tasks. Everything in them is JSON, so Prefect can persist and show them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Split = Literal["train", "test"]
Role = Literal["images", "labels"]
Kind = Literal["idx", "table", "receipt", "sequences", "targets", "model", "evaluation", "verdict", "drift", "history"]
Sha256 = str

Station = Literal[
    "image header",
    "label header",
    "decoded images",
    "decoded labels",
    "table rows",
    "sequences",
    "targets",
    "images in sequences",
    "labels in targets",
    "dropped",
    "fitted",
    "validation",
    "seen in an epoch",
    "evaluated",
    "predictions written",
]

SPLITS: tuple[Split, ...] = ("train", "test")
ROLES: tuple[Role, ...] = ("images", "labels")


class Frozen(BaseModel):
    """A value that cannot change and knows no unexpected fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class FileSeal(Frozen):
    """One file of an output, as its bytes on disk were when it was committed."""

    sha256: Sha256
    bytes: int


class Handle(Frozen):
    """One output in the store.

    `digest` is over canonical content (payload, rows, weights), never over a container that may carry times;
    `files` seals the container's own bytes, so that damage is seen on opening.
    """

    kind: Kind
    place: str = Field(description="Folder of the output, relative to the artifacts root, with forward slashes.")
    digest: Sha256
    rows: int = Field(ge=0)
    shape: tuple[int, ...] = Field(description="Shape of the whole content; the first axis is the rows.")
    dtype: str = Field(description="NumPy name of one element, byte order included.")
    files: dict[str, FileSeal]

    @property
    def bytes(self) -> int:
        """Bytes on disk of all files."""
        return sum(seal.bytes for seal in self.files.values())


Verification = Literal["payload sha256", "container sha256", "container md5", "recorded"]


class SourceFile(Frozen):
    """What download returns: one IDX file as it was received, and how far its bytes are vouched for.

    `recorded` means that nobody published a digest: the bytes are known by their own digest only and are not
    called verified.
    """

    split: Split
    role: Role
    name: str
    idx: Handle
    verified: Verification
    source: str = Field(description="The source that answered, as a person would name it.")
    previous: Sha256 | None = Field(
        default=None, description="Tracked datasets: the payload's digest when this file was last seen; None: never."
    )

    version: str | None = Field(
        default=None, description="Of a file of this machine: what tells it from one that was put in its place later."
    )

    @property
    def changed(self) -> bool:
        """Whether a tracked file's payload is another than when it was last seen."""
        return self.previous not in {None, self.idx.digest}


class Table(Frozen):
    """What parse returns: one split as Parquet, with the counts that its two stations measured."""

    split: Split
    images: SourceFile
    labels: SourceFile
    table: Handle
    counts: dict[Station, int]
    label_column: int | None = Field(default=None, description="The class's column, where a label is a row.")


class Labels(Frozen):
    """The labels of a dataset: `classes` consecutive integers from `first`; class index = label - first."""

    first: int
    classes: int
    names: tuple[str, ...]


class Sequences(Frozen):
    """What reshape returns for one split: the array of pixels in scan order, the targets, and the sealed receipt.

    `x.shape` is (N, T, F) as the layout reads the bytes; `targets.shape` is (N,) or (N, T). The labels and the shape of
    one image are those of the receipt: what keys are made of opens no files.
    """

    split: Split
    x: Handle
    targets: Handle
    receipt: Handle
    labels: Labels
    image_shape: tuple[int, ...]


class TrainedModel(Frozen):
    """What train returns: the model, its history (another may lead to equal weights), the counts training measured."""

    model: Handle
    history: Handle
    counts: dict[Station, int]


class Evaluation(Frozen):
    """What evaluate returns: the folder of metrics.json and predictions.parquet, and its counts."""

    evaluation: Handle
    counts: dict[Station, int]
    accuracy: float
    interval: tuple[float, float] = Field(description="Wilson 95 % interval of the accuracy.")


class PublishedRun(Frozen):
    """What publish returns: a run that exists, because its manifest does."""

    run: str
    place: str
    report: str
    manifest: Sha256
    accuracy: float
    interval: tuple[float, float]
