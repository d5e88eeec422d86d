"""The receipt: its signature, the tables it covers, the seals it demands; every refusal by its text."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from schemas.errors import DataError
from schemas.handles import Labels
from schemas.ledger import Ledger
from schemas.receipt import Check, FileStatement, Receipt, Seal, TableStatement

if TYPE_CHECKING:
    from collections.abc import Callable

A, B, C = "a" * 64, "b" * 64, "c" * 64
LEDGER = Ledger().entered("train", "parse", {"table rows": 60_000})


def receipt(**changes: object) -> Receipt:
    values: dict[str, Any] = {
        "dataset": "mnist",
        "mode": "pinned",
        "labels": Labels(first=0, classes=2, names=("0", "1")),
        "image_shape": (28, 28),
        "image_dtype": "|u1",
        "files": (FileStatement(split="train", role="images", name="i", payload_sha256=C, verified="recorded"),),
        "tables": (TableStatement(split="train", digest=A, rows=60_000),),
        "checks": (Check(name="split size", split="train", rows=60_000, detail="60000"),),
        "ledger": LEDGER,
    }
    return Receipt.model_validate({**values, **changes}).signed()


SEAL = Seal(split="train", table=A, x=B, targets=C, shape=(60_000, 28, 28), proof="all equal")


def refusal(call: Callable[..., object], *arguments: object) -> DataError:
    with pytest.raises(DataError) as caught:
        call(*arguments)
    return caught.value


def test_a_signed_receipt_stands_and_survives_its_json() -> None:
    receipt().verify_signature()
    again = Receipt.model_validate_json(receipt().model_dump_json(indent=1))
    again.verify_signature()
    assert again == receipt()


def test_signing_twice_signs_the_same_content() -> None:
    assert receipt().signed() == receipt()


CHANGES: dict[str, Any] = {
    "dataset": "kmnist",
    "mode": "tracked",
    "schema_version": 3,
    "labels": {"first": 1, "classes": 2, "names": ["0", "1"]},
    "image_shape": [28, 27],
    "image_dtype": "|i1",
    "files": [],
    "tables": [{"split": "train", "digest": A, "rows": 59_999}],
    "checks": [],
    "ledger": {"entries": []},
    "repeated": [],
    "seals": [SEAL.model_dump()],
}


def test_the_changes_below_cover_every_field() -> None:
    assert {*CHANGES, "signature"} == set(Receipt.model_fields)


@pytest.mark.parametrize("name", CHANGES)
def test_a_receipt_changed_in_any_field_is_refused(name: str) -> None:
    content = {**json.loads(receipt().model_dump_json()), name: CHANGES[name]}
    error = refusal(Receipt.model_validate(content).verify_signature)
    assert str(error).startswith("receipt.json: the receipt's signature does not fit its content. Expected: signature ")
    assert f"found {receipt().signature[:12]}…" in error.expected
    assert error.remedy == "Nothing is trained on a receipt that was changed: rerun from validate"


def test_an_unsigned_receipt_is_refused() -> None:
    unsigned = receipt().model_copy(update={"signature": ""})
    assert "found none…" in refusal(unsigned.verify_signature).expected


def test_only_the_table_that_was_validated_may_be_read() -> None:
    receipt().require_table("train", A)
    error = refusal(receipt().require_table, "train", B)
    assert str(error) == (
        "the train table that is about to be read (bbbbbbbbbbbb…) is not the one that was validated. "
        "Expected: digest aaaaaaaaaaaa…. Rerun validate: only validated tables are reshaped."
    )


def test_a_split_that_was_not_validated_is_refused() -> None:
    error = refusal(receipt().require_table, "test", A)
    assert str(error) == (
        "receipt.json: the receipt does not cover the test split. Expected: a table of every split validated. "
        "Rerun validate with both splits."
    )


def test_a_seal_covers_exactly_its_two_arrays() -> None:
    sealed = receipt().sealed(SEAL, LEDGER.entered("train", "reshape", {"sequences": 60_000}))
    assert sealed.require_seal("train", B, C) == SEAL
    assert sealed.ledger.count("train", "sequences") == 60_000
    for x, targets in ((A, C), (B, A), (C, B)):
        error = refusal(sealed.require_seal, "train", x, targets)
        assert error.found == "the train sequences are not the ones that reshape sealed"
        assert error.expected == "x bbbbbbbbbbbb… and targets cccccccccccc…"
        assert "nothing is trained or evaluated on sequences whose rows are not proven" in error.remedy


@pytest.mark.parametrize("split", ["train", "test"])
def test_unsealed_sequences_are_refused(split: str) -> None:
    unsealed = receipt() if split == "train" else receipt().sealed(SEAL, LEDGER)
    assert refusal(unsealed.require_seal, split, B, C).expected == "a seal of reshape on the receipt"


def test_a_seal_put_in_by_hand_is_refused() -> None:
    forged = receipt().model_copy(update={"seals": (SEAL,)})
    assert "signature does not fit" in refusal(forged.require_seal, "train", B, C).found


def test_a_second_seal_of_a_split_replaces_the_first_and_keeps_the_other_split() -> None:
    other = SEAL.model_copy(update={"split": "test"})
    later = SEAL.model_copy(update={"x": A})
    sealed = receipt().sealed(SEAL, LEDGER).sealed(other, LEDGER).sealed(later, LEDGER)
    assert sealed.seals == (other, later)
    sealed.verify_signature()


def test_a_receipt_of_version_1_keeps_its_signature() -> None:
    """Repeated images were not looked for then, so that the field was not signed."""
    content = json.loads(receipt().model_dump_json(exclude={"signature", "repeated"}))
    signature = hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    Receipt.model_validate({**content, "signature": signature}).verify_signature()
