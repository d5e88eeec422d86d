"""Options that several commands have. Not here: the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

Artifacts = Annotated[
    Path, typer.Option("--artifacts", help="Folder of outputs and published runs.", envvar="STEPWISE_ARTIFACTS")
]
ArtifactsOfFile = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--artifacts", help="Folder of outputs, where not the file's.", envvar="STEPWISE_ARTIFACTS"),
]
InstallationFile = Annotated[Path, typer.Option("--file", help="The installation: what is deployed when.")]
AsJson = Annotated[bool, typer.Option("--json", help="Answer with one JSON value on standard output.")]
Chosen = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--dataset", help="A dataset of the catalog: mnist, fashion-mnist, glyphs …"),
]
Preset = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="Settings to begin with: rows, best, best-augmented, pixels, pixels-longer, question-16x49, "
        "question-1x784, question-3750, answer-frames or smoke.",
    ),
]
Config = Annotated[Optional[Path], typer.Option(help="A TOML file of values over the preset's.")]  # noqa: UP045
Settings = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="One value over both, such as training.epochs=3; no value takes away. Repeatable.",
    ),
]
Data = Annotated[Optional[Path], typer.Option(help="A folder of IDX files to use in place of a dataset.")]  # noqa: UP045
Catalogs = Annotated[
    Optional[list[Path]],  # noqa: UP045
    typer.Option("--catalog", help="A TOML file with datasets of your own. Repeatable."),
]
Start = Annotated[
    str,
    typer.Option(
        help="'warm': training begins with the champion's weights, or the newest that fit; 'cold': drawn ones."
    ),
]
StartFrom = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(metavar="RUN", help="A warm start from this published run."),
]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="Name of a run, a part of it, or 'latest'.")]

DEFAULT_ARTIFACTS = Path(__file__).resolve().parents[2] / "artifacts"
DEFAULT_FILE = Path("stepwise.toml")
