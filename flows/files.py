"""Commands on single files: inspect and convert. Not here: the codec (tasks/idx) and the table (tasks/parse)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from flows.output_file import written_whole
from flows.runs import print_json
from tasks.idx import describe

if TYPE_CHECKING:
    from pathlib import Path


def inspect_file(file: Path, member: str | None, *, as_json: bool) -> None:
    """Print what an IDX file is."""
    described = dataclasses.asdict(describe(file, member))
    if as_json:
        print_json({"file": str(file), **described})
        return
    said = {name.replace("_", " "): value for name, value in described.items() if value is not None}
    width = max(map(len, said))
    # No table: what does not fit into a terminal's line would be cut or folded, and digests are there to be copied.
    for line in (str(file), *(f"  {name:<{width}}  {value}" for name, value in said.items())):
        Console().print(line, soft_wrap=True, markup=False, highlight=False)


def convert_files(images: Path, labels: Path | None, output: Path) -> None:
    """Write images and labels as one Parquet table; the output's name appears when it is whole."""
    from tasks.parse import write_table

    with written_whole(output, *filter(None, (images, labels))) as target:
        parsed = write_table(images, labels, target)
    shape, kind = " x ".join(str(extent) for extent in parsed.shape), np.dtype(parsed.dtype).name
    told = f"{output}: {shape} of {kind}, {'labelled' if labels else 'no labels'}"
    Console().print(told, soft_wrap=True, markup=False, highlight=False)
