"""What training begins with: drawn weights, or those of a published run. Here: which run; not here: training itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from flows.runs import find_run, manifests
from schemas.configuration import RunConfiguration
from schemas.errors import ConfigurationError
from schemas.files import CONFIGURATION_FILE, HISTORY_FILE, MODEL_FILE, RECEIPT_FILE
from schemas.handles import Handle
from schemas.history import History
from schemas.receipt import Receipt
from tasks.champions import Champions
from tasks.seals import compared
from tasks.stage import log
from tasks.train import Terms

if TYPE_CHECKING:
    from pathlib import Path

    from schemas.champion import Champion
    from schemas.manifest import Manifest
    from schemas.policy import Policy


def decided(policy: Policy, artifacts: Path, configuration: RunConfiguration) -> Policy:
    """The policy with the run of a warm start named, so that whatever runs it again begins with the same weights.

    Raises:
        ConfigurationError: there is no run by the name that was given.
    """
    if policy.start_from:
        return policy.model_copy(update={"start_from": find_run(artifacts, policy.start_from)[0].name})
    if policy.start == "cold":
        return policy
    kind = (configuration.dataset, configuration.preset)
    champion = Champions(artifacts, configuration.dataset).champion()
    # The champion first, of whichever preset; sorting keeps the newest first among the others.
    for folder, manifest in sorted(manifests(artifacts), key=lambda run: not _is(champion, run[0])):
        fits = _is(champion, folder) or (manifest.dataset, manifest.preset) == kind
        if not fits or _objection(folder, configuration):
            continue
        if damage := compared(folder / MODEL_FILE, manifest.files[MODEL_FILE]):
            log.warning("warm start: %s is passed over: %s: %s", folder, MODEL_FILE, damage)
            continue
        return policy.model_copy(update={"start_from": folder.name})
    log.info("warm start: no published run of %s, %s has this network; training starts cold", *kind)
    return policy.model_copy(update={"start": "cold"})


def weights_of(policy: Policy, artifacts: Path, configuration: RunConfiguration) -> Handle | None:
    """The weights that a decided policy begins with, in the folder of the run that published them; None: drawn ones.

    Raises:
        ConfigurationError: there is no such run, its network is another, or its weights are damaged.
    """
    if not policy.start_from:
        return None
    folder, manifest = find_run(artifacts, policy.start_from)
    damage = compared(folder / MODEL_FILE, manifest.files[MODEL_FILE])
    objection = f"{MODEL_FILE}: {damage}" if damage else _objection(folder, configuration)
    if objection:
        raise ConfigurationError(
            f"policy.start_from = {folder.name}: {objection}",
            "a run whose sequences and network are those of this configuration",
            "Name another run, or start cold",
            str(folder),
        )
    return _handle(artifacts, folder, manifest)


def terms_of(policy: Policy, artifacts: Path, configuration: RunConfiguration) -> Terms:
    """What training begins with by a decided policy, and how long it may take.

    A run that was taken because it was there gives its weights only to data like its own: nobody asked for that one.

    Raises:
        ConfigurationError: as `weights_of`.
    """
    start = weights_of(policy, artifacts, configuration)
    chosen = start if policy.start == "warm" else None
    return Terms(start, policy.budget_minutes, _learned(artifacts / chosen.place) if chosen else None)


def _learned(folder: Path) -> tuple[int, int, int]:
    """T, F and classes of the data that a published run learned."""
    before = RunConfiguration.model_validate_json((folder / CONFIGURATION_FILE).read_bytes())
    receipt = Receipt.model_validate_json((folder / RECEIPT_FILE).read_bytes())
    return *before.reshape.sequence_shape(receipt.image_shape), receipt.labels.classes


def _is(champion: Champion | None, folder: Path) -> bool:
    return champion is not None and champion.run == folder.name


def _objection(folder: Path, configuration: RunConfiguration) -> str:
    """Why a run's weights do not fit a configuration; empty where they do."""
    try:
        before = RunConfiguration.model_validate_json((folder / CONFIGURATION_FILE).read_bytes())
        shape = Receipt.model_validate_json((folder / RECEIPT_FILE).read_bytes()).image_shape
    except (OSError, ValidationError):
        return "its configuration or its receipt cannot be read"
    try:
        if before.reshape.resolved(shape) != configuration.reshape.resolved(shape):
            return "its reshape settings are others"
    except ConfigurationError as error:
        return f"for its images, {error.found}"
    if before.training.scaling != configuration.training.scaling:
        return "its pixels were scaled otherwise (training.scaling)"
    return "" if before.network == configuration.network else "its network settings are others"


def _handle(artifacts: Path, folder: Path, manifest: Manifest) -> Handle:
    parameters = History.model_validate_json((folder / HISTORY_FILE).read_bytes()).parameters
    return Handle(
        kind="model",
        place=folder.relative_to(artifacts).as_posix(),
        digest=manifest.weights,
        rows=parameters,
        shape=(parameters,),
        dtype="<f4",
        files={MODEL_FILE: manifest.files[MODEL_FILE]},
    )
