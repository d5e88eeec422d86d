"""What the documents point at is there: files, headings, and the files that a published run is said to have."""

from __future__ import annotations

import json
import re
import string
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.flows.conftest import SmokeRun

ROOT = Path(__file__).parents[2]
DOCUMENTS = ("README.md", "CHANGELOG.md", "artifacts/README.md", "docs/LOG.md", "docs/operations.md")
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)")
LISTED = re.compile(r"^\| ((?:`[^`]+`(?:, )?)+) \|", re.MULTILINE)


LINKS = {"README.md": 8, "docs/LOG.md": 4, "docs/operations.md": 3}  # at least so many: none found is a wrong pattern


def links(document: str) -> list[str]:
    """The links of a document that lead to this project, code apart."""
    return LINK.findall(FENCED.sub("", (ROOT / document).read_text(encoding="utf-8")))


def anchors(document: Path) -> set[str]:
    """What a heading of a document is called in a link: lower case, no punctuation, hyphens for spaces."""
    headings = re.findall(r"^#+ (.+)$", FENCED.sub("", document.read_text(encoding="utf-8")), re.MULTILINE)
    unspoken = str.maketrans(" ", "-", string.punctuation.replace("-", "").replace("_", ""))
    return {heading.strip().lower().translate(unspoken) for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    found = links(document)
    assert len(found) >= LINKS.get(document, 0)
    for link in found:
        path, _, anchor = link.partition("#")
        target = (ROOT / document).parent / path if path else ROOT / document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_leads_to_the_other_documents() -> None:
    assert {"artifacts/README.md", "docs/LOG.md", "docs/operations.md"} <= {
        link.partition("#")[0] for link in links("README.md")
    }


@pytest.mark.slow
def test_a_published_run_has_the_files_that_its_contract_lists(smoke_run: SmokeRun) -> None:
    contract = (ROOT / "artifacts" / "README.md").read_text(encoding="utf-8")
    section = contract.partition("## `runs/NAME/`")[2].partition("\n## ")[0]
    listed = {name for names in LISTED.findall(section) for name in re.findall(r"`([^`]+)`", names)}
    manifest = json.loads((smoke_run.folder / "manifest.json").read_text(encoding="utf-8"))
    files = {re.sub(r"(?<=/).*", "", name) for name in manifest["files"]}
    assert files | {"manifest.json"} == listed
