"""Which dataset a run is about, and whether its configuration fits it. Here: before anything runs or is reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

from schemas.catalog import dataset_of_folder, load_catalog
from schemas.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from schemas.catalog import Dataset
    from schemas.configuration import RunConfiguration
    from schemas.installation import Deployment


def dataset_for(configuration: RunConfiguration, data: Path | None, catalogs: tuple[Path, ...]) -> Dataset:
    """The dataset that a run is about: the user's folder, or the one of that name; never another."""
    return dataset_of_folder(data) if data else load_catalog(catalogs).dataset(configuration.dataset)


def resolved(
    configuration: RunConfiguration, data: Path | None, catalogs: tuple[Path, ...]
) -> tuple[Dataset, RunConfiguration]:
    """The dataset, and the configuration with the dataset's own name.

    Raises:
        ConfigurationError: there is no such dataset, or its catalog states images whose pixels T does not divide.
    """
    dataset = dataset_for(configuration, data, catalogs)
    if shape := dataset.file("train", "images").shape:
        configuration.reshape.sequence_shape(shape)
    return dataset, configuration.model_copy(update={"dataset": dataset.name})


def require_possible(deployments: Mapping[str, Deployment]) -> None:
    """Raise ConfigurationError where a deployment cannot run as it is described; the error names it."""
    for name, deployment in deployments.items():
        try:
            resolved(deployment.run_configuration(), deployment.data, deployment.catalogs)
        except ConfigurationError as error:
            found = f"deployment '{name}': {error.found}"
            raise ConfigurationError(found, error.expected, error.remedy, error.file) from error
