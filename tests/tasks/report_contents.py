"""A plausible run for the report's tests: drawn digits, answers of a given skill, a closed ledger."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from schemas.champion import Demands, Finding, Paired, Verdict
from schemas.configuration import Reshape, RunConfiguration
from schemas.drift import Drift, Profile, Shift
from schemas.handles import Labels
from schemas.history import Epoch, History
from schemas.ledger import Ledger
from schemas.metrics import Floor
from schemas.receipt import Check, FileStatement, Pair, Receipt, Repeated, Seal, TableStatement
from tasks.drawing import grey
from tasks.evaluate.slices import Slices
from tasks.evaluate.suspects import SelfConfidence, suspects_among
from tasks.measures import measure
from tasks.proportions import wilson
from tasks.publish.contents import ReportContents

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from schemas.handles import Split
    from schemas.metrics import Metrics

DIGEST = "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"
TIMINGS = {
    "download train images": 1.92,
    "download test images": 0.71,
    "parse train": 0.44,
    "parse test": 0.11,
    "validate": 0.93,
    "reshape train": 0.31,
    "reshape test": 0.08,
    "train": 131.6,
    "evaluate": 6.2,
}
ENVIRONMENT = {
    "stepwise": "9.8.7",
    "python": "3.11.2",
    "tensorflow": "2.21.0",
    "keras": "3.15.1",
    "numpy": "2.4.6",
}
ROLES = (("train", "images"), ("train", "labels"), ("test", "images"), ("test", "labels"))


def digit(label: int, seed: int = 0) -> NDArray[np.uint8]:
    """A seven-segment digit (28, 28), somewhat slanted and soft."""
    lit = ("abcdef", "bc", "abged", "abgcd", "fgbc", "afgcd", "afgedc", "abc", "abcdefg", "abcdfg")[label % 10]
    ends = {
        "a": (5, 9, 5, 19), "b": (5, 19, 13, 19), "c": (13, 19, 22, 19), "d": (22, 9, 22, 19),
        "e": (13, 9, 22, 9), "f": (5, 9, 13, 9), "g": (13, 9, 13, 19),
    }  # fmt: skip
    generator = np.random.default_rng(1000 * label + seed)
    slant, thick = generator.uniform(-0.25, 0.3), generator.uniform(1.0, 1.7)
    rows, columns = np.mgrid[:28, :28].astype(float)
    columns = columns + slant * (rows - 14)
    ink = np.zeros((28, 28))
    for segment in lit:
        y0, x0, y1, x1 = (v + generator.normal(scale=0.5) for v in ends[segment])
        along = np.clip(
            ((rows - y0) * (y1 - y0) + (columns - x0) * (x1 - x0)) / ((y1 - y0) ** 2 + (x1 - x0) ** 2), 0, 1
        )
        distance = np.hypot(rows - y0 - along * (y1 - y0), columns - x0 - along * (x1 - x0))
        ink = np.maximum(ink, 1 / (1 + np.exp(3 * (distance - thick))))
    return (255 * ink).astype(np.uint8)


def metrics_of(names: Sequence[str], samples: int = 10_000, first: int = 0, worst: int = 24) -> Metrics:
    classes, generator = len(names), np.random.default_rng(20)
    labels = generator.integers(0, classes, samples)
    logits = generator.normal(size=(samples, classes))
    logits[np.arange(samples), labels] += generator.normal(7.2, 2.0, samples)
    logits[np.arange(samples), (labels * 7 + 3) % classes] += 2
    wrong = np.arange(97, samples, 1_500)
    logits[wrong, labels[wrong]] += 20
    labels[wrong] = (labels[wrong] + 1) % classes  # written down wrong, as the answers say clearly
    p = np.exp(logits - logits.max(1, keepdims=True))
    p = (p / p.sum(1, keepdims=True)).astype(np.float32)
    measured = measure(labels, p, names, first=first, worst=worst)
    return measured.model_copy(update=further_measures(labels, p, first, worst))


def further_measures(labels: NDArray[np.int64], p: NDArray[np.float32], first: int, worst: int) -> dict[str, Any]:
    """Slices by drawn properties, suspects of these answers, floors of a given skill."""
    n, right = len(labels), p.argmax(1) == labels
    x = np.random.default_rng(21).integers(0, 2, (n, 4, 6), dtype=np.uint8) * np.arange(1, 7, dtype=np.uint8)
    slices = Slices(x, every_step=False)
    slices.add(np.arange(n), x, right)
    confidence = SelfConfidence(p.shape[1])
    confidence.add(labels, p)
    thresholds = confidence.thresholds()
    skills: tuple[tuple[Any, float], ...] = (("nearest centroid", 0.82), ("logistic regression", 0.925))
    floors = tuple(
        Floor(
            name=name,
            trained_on=60_000,
            correct=round(skill * n),
            accuracy=round(skill * n) / n,
            interval=wilson(round(skill * n), n),
        )
        for name, skill in skills
    )
    suspects = suspects_among([(np.arange(n), labels, p)], thresholds, first=first, most=worst)
    return {"slices": slices.slicings(), "suspects": suspects, "floors": floors}


def history_of(epochs: int = 8, *, validation: bool = True) -> History:
    return History(
        epochs=tuple(
            Epoch(
                epoch=i + 1,
                loss=0.52 + 0.55 * 0.45**i,
                accuracy=0.991 - 0.16 * 0.4**i,
                validation_loss=0.42 + 0.2 * 0.5**i if validation else None,
                validation_accuracy=0.988 - 0.05 * 0.5**i if validation else None,
                learning_rate=4e-3 * (1 - i / epochs),
                seen=57_000,
                seconds=11.4 + 0.07 * i,
            )
            for i in range(epochs)
        ),
        kept=epochs,
        parameters=81_674,
        seconds_to_first_step=14.2,
        engine="2 replicas on CPU, compiled by XLA",
    )


def ledger_of(samples: tuple[int, int] = (60_000, 10_000), each: int = 1, validation: int = 3_000) -> Ledger:
    ledger = Ledger()
    splits: tuple[tuple[Split, int], ...] = (("train", samples[0]), ("test", samples[1]))
    for split, n in splits:
        sequences, dropped = n // each, n % each
        ledger = ledger.entered(split, "download", {"image header": n, "label header": n})
        ledger = ledger.entered(split, "parse", {"decoded images": n, "decoded labels": n, "table rows": n})
        ledger = ledger.entered(
            split,
            "reshape",
            {
                "sequences": sequences,
                "targets": sequences,
                "images in sequences": n - dropped,
                "labels in targets": n - dropped,
                "dropped": dropped,
            },
        )
    fitted = samples[0] // each - validation
    ledger = ledger.entered("train", "train", {"fitted": fitted, "validation": validation, "seen in an epoch": fitted})
    answered = samples[1] - samples[1] % each
    return ledger.entered("test", "evaluate", {"evaluated": answered, "predictions written": answered})


REPEATED: tuple[tuple[Any, int, int], ...] = (
    ("test in train", 0, 10_000),
    ("within train", 1, 60_000),
    ("within test", 0, 10_000),
)


def receipt_of(ledger: Ledger, names: Sequence[str], shape: tuple[int, int], file_name: str = "") -> Receipt:
    pair = Pair(first=4_711, second=50_123, first_label=0, second_label=1)
    stems = {"images": "images-idx3-ubyte", "labels": "labels-idx1-ubyte"}
    files: list[Any] = [
        FileStatement.model_validate(
            {
                "split": split,
                "role": role,
                "name": file_name or f"{'t10k' if split == 'test' else 'train'}-{stems[role]}",
                "payload_sha256": DIGEST,
                "verified": "payload sha256",
            }
        )
        for split, role in ROLES
    ]
    splits: tuple[Split, ...] = ("train", "test")
    return Receipt(
        dataset="mnist",
        mode="pinned",
        labels=Labels(first=0, classes=len(names), names=tuple(names)),
        image_shape=(28, 28),
        image_dtype="|u1",
        files=tuple(files),
        tables=tuple(TableStatement(split=s, digest=DIGEST, rows=60_000) for s in splits),
        repeated=tuple(
            Repeated(where=where, rows=rows, of=of, disagreeing=rows, pairs=(pair,) * rows)
            for where, rows, of in REPEATED
        ),
        checks=tuple(
            Check(name=name, split=s, rows=60_000, detail=detail)
            for s in splits
            for name, detail in (
                ("rows are in order", "index = 0 to 59,999, each once"),
                ("labels are classes", "0 to 9"),
                ("counts agree", "header = decoded = stored"),
                ("mean pixel", "33.32 ± 0.5"),
            )
        ),
        ledger=ledger,
        seals=tuple(
            Seal(
                split=s,
                table=DIGEST,
                x=DIGEST,
                targets=DIGEST,
                shape=(60_000, *shape),
                proof=f"witness: all sequences and targets recomputed from the IDX bytes, sha256 {DIGEST[:16]}…",
            )
            for s in splits
        ),
    ).signed()


def sequence_of(reshape: Reshape) -> NDArray[np.uint8]:
    """The seven as one sequence of `reshape`, (T, F); as frames with digits from zero on behind it."""
    if reshape.layout == "frames":
        return np.array([digit(k).reshape(-1) for k in (7, *range(reshape.images_per_sequence - 1))])
    pixels = digit(7).T if reshape.scan == "columns" else digit(7)
    return pixels.reshape(reshape.sequence_shape((28, 28)))


def contents_of(
    names: Sequence[str] = tuple("0123456789"),
    *,
    reshape: Reshape | None = None,
    samples: tuple[int, int] = (60_000, 10_000),
    **changes: Any,  # noqa: ANN401 - fields of ReportContents, which checks none
) -> ReportContents:
    """The contents of a report; any field can be given."""
    reshape = reshape or Reshape()
    each = reshape.images_per_sequence
    sequence = sequence_of(reshape)
    ledger = ledger_of(samples, each, validation=samples[0] // each // 20)
    metrics = changes.get("metrics") or metrics_of(names, samples[1])
    stored = np.array([digit(m.label, m.index) for m in metrics.worst]).reshape(-1, 28, 28)
    suspects = metrics.suspects.worst if metrics.suspects else ()
    order = np.arange(784).reshape(28, 28).T.reshape(-1) if reshape.scan == "columns" else np.arange(784)
    fields: dict[str, Any] = {
        "run": "mnist-rows-20261123-101530",
        "created": datetime.datetime(2026, 11, 23, 10, 15, 30, tzinfo=datetime.UTC),
        "title": "MNIST handwritten digits",
        "mode": "pinned",
        "configuration": RunConfiguration(reshape=reshape),
        "receipt": receipt_of(ledger, names, (sequence.shape[0], sequence.shape[1])),
        "ledger": ledger,
        "metrics": metrics,
        "history": history_of(),
        "pictures": grey(stored),
        "seen": stored.reshape(-1, 784)[:, order].reshape(-1, *sequence.shape) if each == 1 else None,
        "suspects": grey(np.array([digit(s.label, s.index) for s in suspects]).reshape(-1, 28, 28)),
        "sequence": sequence,
        "sequence_picture": grey(digit(7)[None])[0],
        "verdict": verdict_of(),
        "drift": drift_of(),
        "timings": TIMINGS,
        "reused": frozenset({"download train images", "parse train"}),
        "environment": ENVIRONMENT,
        "files": {"model.keras": DIGEST, "metrics.json": DIGEST, "predictions.parquet": DIGEST},
    }
    return ReportContents(**{**fields, **changes})


def verdict_of(what: str = "better than the champion", **changes: Any) -> Verdict:  # noqa: ANN401 - any of its fields
    """A verdict on a model that was no better."""
    paired = Paired(
        samples=10_000, both=9_850, only_new=31, only_old=28, neither=91, p=0.397, difference=0.0003,
        interval=(-0.0012, 0.0018),
    )  # fmt: skip
    findings = (
        Finding(what="better than always answering the most frequent class", holds=True, found="98.81%, surely above"),
        Finding(what=what, holds=False, found="31 images only this model got right, 28 only the champion"),
    )
    fields = {"decision": "keep", "champion": "mnist-rows-before", "findings": findings, "comparison": paired}
    return Verdict.model_validate({**fields, "demands": Demands(), **changes})


def drift_of(what: str = "shares of the labels") -> Drift:
    """Training data that have drifted a little."""
    profile = Profile(rows=60_000, labels=(6_000,) * 10, low=0, high=256, pixels=(1,) * 32, mean=33.3, std=78.6)
    shift = Shift(what=what, index=0.163, chance=0.0007, level="warn", found="class 3: 10.0% → 19.5%")
    return Drift(champion="mnist-rows-before", worst="warn", shifts=(shift,), profile=profile)
