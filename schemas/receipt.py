"""The receipt: what validation signs and reshape seals. Here: its form and its signature; not here: the checks.

There is no switch that goes round it: reshape, train and evaluate open the receipt themselves and compare digests.
"""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import Field

from schemas.errors import DataError
from schemas.handles import Frozen, Labels, Role, Sha256, Split, Verification
from schemas.ledger import Ledger

SCHEMA_VERSION = 2  # 2: repeated images are counted


class FileStatement(Frozen):
    """How far the bytes of one source file are vouched for."""

    split: Split
    role: Role
    name: str
    payload_sha256: Sha256
    verified: Verification


class TableStatement(Frozen):
    """The table that validation saw."""

    split: Split
    digest: Sha256
    rows: int


class Check(Frozen):
    """One check that validation made, over how many rows, and what it compared."""

    name: str
    split: Split
    rows: int
    detail: str


class Seal(Frozen):
    """What reshape made of one validated table, with the proof that every row kept its place."""

    split: Split
    table: Sha256
    x: Sha256
    targets: Sha256
    shape: tuple[int, ...]
    proof: str


class Pair(Frozen):
    """Two rows with the same image, `first` in the split (or the place in it) that comes first."""

    first: int
    second: int
    first_label: int
    second_label: int


class Repeated(Frozen):
    """Images that are there more than once, byte by byte.

    `test in train` counts the test rows whose image is a training row's as well: what the model is asked there, it has
    seen. Within a split, the rows are counted whose image an earlier row of the split has. `disagreeing` are those
    whose label is not that of the first row with the image.
    """

    where: Literal["test in train", "within train", "within test"]
    rows: int
    of: int
    disagreeing: int
    pairs: tuple[Pair, ...] = Field(description="The first of them; each row with the first row that has its image.")


class Receipt(Frozen):
    """Dataset and schema version, the tables validation saw, the ledger so far, what was checked, reshape's seals."""

    dataset: str
    mode: Literal["pinned", "tracked"]
    schema_version: int = SCHEMA_VERSION
    labels: Labels
    image_shape: tuple[int, ...]
    image_dtype: str
    files: tuple[FileStatement, ...]
    tables: tuple[TableStatement, ...]
    checks: tuple[Check, ...]
    ledger: Ledger
    repeated: tuple[Repeated, ...] | None = Field(default=None, description="None: not looked for (version 1).")
    seals: tuple[Seal, ...] = ()
    signature: Sha256 = ""

    def signed(self) -> Receipt:
        """The same receipt with the SHA-256 of its canonical JSON (without this field) as signature."""
        return self.model_copy(update={"signature": self._digest()})

    def verify_signature(self) -> None:
        """Raise DataError where the receipt says something else than what was signed."""
        if self.signature != self._digest():
            raise DataError(
                "the receipt's signature does not fit its content",
                f"signature {self._digest()[:12]}…, found {self.signature[:12] or 'none'}…",
                "Nothing is trained on a receipt that was changed: rerun from validate",
                "receipt.json",
            )

    def table_digest(self, split: Split) -> Sha256:
        """Digest of the table that validation saw for a split; DataError where it saw none."""
        found = next((table.digest for table in self.tables if table.split == split), None)
        if found is None:
            raise DataError(
                f"the receipt does not cover the {split} split",
                "a table of every split validated",
                "Rerun validate with both splits",
                "receipt.json",
            )
        return found

    def require_table(self, split: Split, digest: Sha256) -> None:
        """Raise DataError unless this very table was validated."""
        if self.table_digest(split) != digest:
            raise DataError(
                f"the {split} table that is about to be read ({digest[:12]}…) is not the one that was validated",
                f"digest {self.table_digest(split)[:12]}…",
                "Rerun validate: only validated tables are reshaped",
            )

    def sealed(self, seal: Seal, ledger: Ledger) -> Receipt:
        """The receipt with one more seal and a longer ledger, signed again."""
        others = tuple(s for s in self.seals if s.split != seal.split)
        return self.model_copy(update={"seals": (*others, seal), "ledger": ledger}).signed()

    def require_seal(self, split: Split, x: Sha256, targets: Sha256) -> Seal:
        """The seal of a split; DataError unless it covers exactly these two arrays."""
        self.verify_signature()
        seal = next((s for s in self.seals if s.split == split), None)
        if seal is None or (seal.x, seal.targets) != (x, targets):
            raise DataError(
                f"the {split} sequences are not the ones that reshape sealed",
                f"x {seal.x[:12]}… and targets {seal.targets[:12]}…" if seal else "a seal of reshape on the receipt",
                "Rerun reshape: nothing is trained or evaluated on sequences whose rows are not proven",
            )
        return seal

    def _digest(self) -> Sha256:
        later = {"repeated"} if self.repeated is None else set()  # what version 1 has not, it did not sign
        content = self.model_dump(mode="json", exclude={"signature", *later})
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
