"""What `--dataset` and `--data` mean together. Here, since several commands take them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from schemas.configuration import RunConfiguration


def with_folder(
    configuration: RunConfiguration, dataset: str | None, data: Path | None
) -> tuple[RunConfiguration, Path | None]:
    """Where a folder is given, it is the dataset, and the run bears its name from the beginning."""
    if data is None:
        return configuration, None
    from schemas.catalog import dataset_of_folder

    if dataset is not None:
        raise ConfigurationError(
            f"--dataset {dataset} and --data {data} were both given", "one of them", "Leave one of them out"
        )
    data = data.absolute()
    return configuration.model_copy(update={"dataset": dataset_of_folder(data).name}), data
