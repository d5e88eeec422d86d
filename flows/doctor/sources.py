"""Examining where the installation's datasets come from: what is here already, and who would give the rest."""

from __future__ import annotations

import urllib.parse
from typing import TYPE_CHECKING, Final

from flows.datasets import dataset_for
from flows.doctor.finding import bad, well
from schemas.catalog import DrawnSource, FolderSource, HttpSource, load_catalog
from schemas.errors import StepwiseError
from schemas.handles import ROLES, SPLITS
from tasks.audit import damage_of
from tasks.download import key_of
from tasks.download.probe import probe_all
from tasks.wording import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from flows.doctor.finding import Finding
    from schemas.catalog import Dataset, Source
    from schemas.handles import Role, Split
    from schemas.installation import Installation
    from tasks.store import Store

USUAL: Final = "mnist"


def datasets_of(installation: Installation) -> tuple[list[Dataset], list[Finding]]:
    """The datasets that the deployments train on, and what is wrong with the others; without any, the usual one."""
    found: dict[str, Dataset] = {}
    findings: list[Finding] = []
    for name, each in installation.deployments.items():
        try:
            dataset = dataset_for(each.run_configuration(), each.data, each.catalogs)
            found[dataset.name] = dataset
        except StepwiseError as error:
            place = f"{error.file}: " if error.file else ""
            findings.append(bad(f"dataset of {name}", f"{place}{error.found}", error.remedy, error.exit_code))
    usual = [] if installation.deployments else [load_catalog().dataset(USUAL)]
    return [*found.values(), *usual], findings


def sources(datasets: list[Dataset], store: Store | None) -> Iterator[Finding]:
    """Whether every file of the datasets is here, or somebody would give it; all are asked side by side."""
    every = (source for dataset in datasets for file in dataset.files() for source in dataset.sources_of(file))
    failures = probe_all({_name(source): source for source in every})
    for dataset in datasets:
        yield _judged(dataset, store, failures)


def _name(source: Source) -> str:
    """Whom one asks: files of one host or one package are one question."""
    if isinstance(source, HttpSource):
        return f"{urllib.parse.urlsplit(str(source)).scheme}://{urllib.parse.urlsplit(str(source)).netloc}"
    return str(source)


def _judged(dataset: Dataset, store: Store | None, failures: dict[str, str]) -> Finding:
    about = f"dataset {dataset.name}"
    files = {(split, role): dataset.file(split, role) for split in SPLITS for role in ROLES}
    away = [file for place, file in files.items() if not _is_here(dataset, *place, store)]
    every = [source for file in files.values() for source in dataset.sources_of(file)]
    if all(isinstance(source, DrawnSource) for source in every):
        return well(about, "drawn here, nothing is fetched")
    names = dict.fromkeys(map(_name, every))
    details = [f"{name}: {failures.get(name, 'answers')}" for name in names]
    without = [file.name for file in away if all(_name(source) in failures for source in dataset.sources_of(file))]
    if not away:
        return well(about, f"all {len(files)} files are here, so no source is needed", details)
    if without:
        found = f"{counted(len(without), 'file')} of {len(files)} neither here nor to be had: {', '.join(without)}"
        return bad(about, found, _remedy(every), 4, details)
    answering = next(name for name in names if name not in failures)
    return well(
        about, f"{len(files) - len(away)} of {len(files)} files are here, the rest can be had: {answering}", details
    )


def _remedy(sources: list[Source]) -> str:
    if all(isinstance(source, FolderSource) for source in sources):
        return "Put the files there"
    return (
        "Check the network and the proxy settings (HTTPS_PROXY, npm config, apt), install the client that is missing, "
        "or put the four files into a folder and give it with --data"
    )


def _is_here(dataset: Dataset, split: Split, role: Role, store: Store | None) -> bool:
    """Whether a file is in the store, so that a run would not fetch it; a tracked one is looked at anew each time."""
    key = key_of(dataset, split, role)
    record = store.record("download", key.digest) if store and key else None
    if record is None or store is None:
        return False
    return not any(
        damage_of(store.root / handle.place / name, seal, deep=False)
        for handle in record.handles
        for name, seal in handle.files.items()
    )
