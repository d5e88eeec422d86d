"""Commands about IDX files: inspect, convert."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from flows.commands.options import AsJson


def inspect(
    file: Annotated[Path, typer.Argument(help="The file: plain, gzip, xz or zip.")],
    member: Annotated[Optional[str], typer.Option(help="The file inside, where it is a zip.")] = None,  # noqa: UP045
    as_json: AsJson = False,  # noqa: FBT002
) -> None:
    """Tell what an IDX file is: type, shape, digests, values; or what it is instead."""
    from flows.files import inspect_file

    inspect_file(file, member, as_json=as_json)


def convert(
    images: Annotated[Path, typer.Argument(help="IDX file of images.")],
    labels: Annotated[Optional[Path], typer.Argument(help="IDX file of their labels.")] = None,  # noqa: UP045
    output: Annotated[Path, typer.Option("--output", "-o", help="The Parquet file to write.")] = Path(
        "samples.parquet"
    ),
) -> None:
    """Convert IDX files to one Parquet table, streaming: index, label, pixels."""
    from flows.files import convert_files

    convert_files(images, labels, output)
