"""Published runs: whether one still stands as it was published. A foundation. Not here: making them (tasks/publish)."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from schemas.errors import StepwiseError
from schemas.files import LEDGER_FILE, MANIFEST_FILE, PREDICTIONS_FILE, RECEIPT_FILE, RUNS
from schemas.handles import FileSeal, Sha256
from schemas.ledger import Ledger
from schemas.manifest import Facts
from schemas.receipt import Receipt
from tasks.predictions import rows_written
from tasks.seals import compared, seal_files, sha256_file, sync_file, sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemas.champion import Champion
    from tasks.store import Store


def write_manifest(folder: Path, facts: dict[str, Any]) -> Sha256:
    """Write the manifest, last of all: the facts, and size and SHA-256 of every file; without one nothing is published.

    Returns:
        SHA-256 of the manifest itself.
    """
    files = {name: seal.model_dump() for name, seal in seal_files(folder).items()}
    path = folder / MANIFEST_FILE
    path.write_text(json.dumps({**facts, "files": files}, indent=1), encoding="utf-8")
    sync_file(path)
    for each in (*filter(Path.is_dir, folder.rglob("*")), folder):
        sync_folder(each)
    return sha256_file(path)


def name_for_good(folder: Path, final: Path) -> None:
    """Give a folder with a manifest its name, by one rename that has reached the disk when this returns."""
    folder.chmod(0o755)
    folder.rename(final)
    sync_folder(final.parent)


def manifest_digest(folder: Path) -> Sha256:
    """SHA-256 of a run's manifest as it is now."""
    return hashlib.sha256((folder / MANIFEST_FILE).read_bytes()).hexdigest()


def remembered_manifest(store: Store, run: str) -> Sha256 | None:
    """SHA-256 of a run's manifest as publishing remembered it; None where no record is this run's any more."""
    records = (record.value for record in store.records("publish"))
    return next((value.get("manifest") for value in records if value.get("run") == run), None)


def stands(store: Store, place: str, manifest: Sha256) -> bool:
    """Whether a run is there with the manifest of this digest and every byte that it states."""
    return not damages(store, place, manifest)


def state(store: Store, champion: Champion) -> str:
    """The digest of a champion's manifest, for keys; where its bytes are no longer those, what is wrong with them."""
    return "; ".join(damages(store, f"{RUNS}/{champion.run}", champion.manifest)) or champion.manifest


def damages(store: Store, place: str, manifest: Sha256) -> list[str]:
    """What of a published run is not as it was published, a phrase each; its bytes are read, whoever read them before.

    Args:
        store: Whose root the place is in.
        place: Folder of the run, relative to the root.
        manifest: SHA-256 of its manifest.
    """
    folder = store.root / place
    try:
        content = (folder / MANIFEST_FILE).read_bytes()
        if hashlib.sha256(content).hexdigest() != manifest:
            return [f"{MANIFEST_FILE} is another one"]
        seals = seals_in(content)
    except (OSError, ValueError):
        return [f"{MANIFEST_FILE} is missing or cannot be read"]
    found = {name: compared(folder / name, seal) for name, seal in seals.items()}
    return [f"{name}: {damage}" for name, damage in found.items() if damage]


def seals_in(content: bytes) -> dict[str, FileSeal]:
    """The files that a manifest seals, by name, whatever else it states: those of other versions are read too.

    Raises:
        ValueError: it is no manifest.
    """
    return _Sealed.model_validate_json(content).files


class _Sealed(BaseModel):
    files: dict[str, FileSeal]


def unsound(store: Store, place: str, manifest: Sha256) -> list[str]:
    """Why a published run must not be promoted, a phrase each: its bytes, its name, its receipt, its counts.

    That its model answers in a fresh process as it was evaluated was tried before its manifest was written.
    """
    found = damages(store, place, manifest)
    if found:
        return found
    folder = store.root / place
    try:
        receipt = Receipt.model_validate_json((folder / RECEIPT_FILE).read_bytes())
        receipt.verify_signature()
        receipt.ledger.verify_complete()
        return list(_contradictions(folder, receipt.ledger))
    except (StepwiseError, OSError, ValueError, KeyError) as error:  # not of the form of its kind, or no file at all
        return [str(error)]


def _contradictions(folder: Path, signed: Ledger) -> Iterator[str]:
    """What the files of a run say otherwise than its folder and its receipt."""
    stated = Facts.model_validate_json((folder / MANIFEST_FILE).read_bytes()).run
    if stated != folder.name:
        yield f"{MANIFEST_FILE} is that of the run {stated}"
    if Ledger.model_validate_json((folder / LEDGER_FILE).read_bytes()) != signed:
        yield f"{LEDGER_FILE} states other counts than {RECEIPT_FILE}"
    rows, counted = rows_written(folder / PREDICTIONS_FILE), signed.count("test", "predictions written")
    if rows != counted:
        yield f"{PREDICTIONS_FILE} has {rows:,} rows, where {counted:,} were counted"
