"""Checkpoints: what was saved comes back to the byte, what is damaged or foreign is refused, and keeping is cheap."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from schemas.configuration import EarlyStopping, Training
from schemas.errors import StorageError
from schemas.history import Epoch
from tasks.train.checkpoint import COST_SHARE, LEAST_SECONDS, MAGIC, Checkpoints, Pace, State, packed, unpacked
from tasks.train.standing import Standing

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "PYTHONPATH": f"{HERE.parent.parent}:{HERE}"}
KEY, OTHER_KEY = "a" * 64, "b" * 64
FIRST = State({"w": np.arange(6, dtype="<f4").reshape(2, 3)}, {"step": 1})
SECOND = State({"w": np.full((2, 3), 0.1, "<f4"), "iteration": np.array(7, "<i8")}, {"step": 2})


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "train", KEY)


def files(checkpoints: Checkpoints) -> list[str]:
    return sorted(path.name for path in checkpoints.folder.iterdir())


def same(one: State | None, other: State) -> bool:
    """Equal to the byte, NaN included."""
    return one is not None and packed(KEY, one) == packed(KEY, other)


# --- what comes back

numbers = st.floats(allow_nan=True, allow_infinity=True)
plain_arrays = hnp.arrays(
    st.sampled_from(["<f4", ">f4", "<f8", "<i4", "<i8", "|u1", "|b1", "<f2"]), hnp.array_shapes(min_dims=0, min_side=0)
)


@given(
    st.dictionaries(st.text(max_size=8), plain_arrays, max_size=4),
    st.dictionaries(st.text(max_size=8), numbers | st.lists(numbers) | st.integers() | st.text(), max_size=4),
)
def test_a_state_comes_back_to_the_byte(arrays: dict[str, np.ndarray[Any, Any]], facts: dict[str, Any]) -> None:
    state = unpacked(packed(KEY, State(arrays, facts)), KEY)
    assert list(state.arrays) == list(arrays)
    for name, value in arrays.items():
        found = state.arrays[name]
        assert (found.shape, found.dtype) == (value.shape, value.dtype.newbyteorder("<"))
        assert found.tobytes() == value.astype(found.dtype).tobytes()
    assert repr(state.facts) == repr(facts), "repr tells -0.0 from 0.0, keeps NaN, and is exact"


def test_the_file_is_what_its_description_says(checkpoints: Checkpoints) -> None:
    """Read here by the description of the format alone."""
    checkpoints.save(SECOND)
    content = (checkpoints.folder / "00000001.checkpoint").read_bytes()
    magic, digest, rest = content[:22], content[22:54], content[54:]
    assert (magic, digest) == (b"stepwise checkpoint 1\n", hashlib.sha256(rest).digest())
    length = int.from_bytes(rest[:8], "little")
    header = json.loads(rest[8 : 8 + length])
    assert header == {
        "key": KEY,
        "facts": {"step": 2},
        "arrays": [["w", "<f4", [2, 3]], ["iteration", "<i8", []]],
    }
    assert rest[8 + length :] == SECOND.arrays["w"].tobytes() + SECOND.arrays["iteration"].tobytes()


def test_where_training_stood_comes_back_exactly() -> None:
    epoch = Epoch(
        epoch=1,
        loss=math.nan,
        accuracy=0.1 + 0.2,
        validation_loss=math.inf,
        validation_accuracy=1 / 3,
        learning_rate=5e-324,
        seen=3,
        seconds=1.5,
    )
    standing = Standing(epoch=2, step=3, sums=(0.1, 1e300, 2.0), seconds=0.7, epochs=(epoch,), resumed=("epoch 1",))
    facts = unpacked(packed(KEY, State({}, standing.model_dump())), KEY).facts
    again = Standing.model_validate(facts)
    assert repr(again) == repr(standing)


# --- which one is taken


def test_the_newest_is_taken_and_two_are_kept(checkpoints: Checkpoints) -> None:
    assert checkpoints.newest() is None
    for step in range(5):
        checkpoints.save(State({}, {"step": step}))
    assert files(checkpoints) == ["00000004.checkpoint", "00000005.checkpoint"]
    state = Checkpoints(checkpoints.folder, KEY).newest()
    assert state is not None
    assert state.facts == {"step": 4}


def test_a_killed_process_leaves_nothing_that_stays(checkpoints: Checkpoints) -> None:
    checkpoints.save(FIRST)
    (checkpoints.folder / ".00000002.checkpoint-half").write_bytes(packed(KEY, SECOND)[:-1])
    again = Checkpoints(checkpoints.folder, KEY)
    assert same(again.newest(), FIRST)
    again.save(SECOND)
    assert files(checkpoints) == ["00000001.checkpoint", "00000002.checkpoint"]


def test_removed_is_removed(checkpoints: Checkpoints) -> None:
    checkpoints.remove()
    checkpoints.save(FIRST)
    checkpoints.remove()
    assert not checkpoints.folder.exists()
    assert checkpoints.newest() is None


# --- refusals


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def truncated(content: bytes, at: int) -> bytes:
    return content[: at % len(content)]


def flipped(content: bytes, at: int) -> bytes:
    position, bit = divmod(at % (8 * len(content)), 8)
    return content[:position] + bytes([content[position] ^ 1 << bit]) + content[position + 1 :]


def grown(content: bytes, at: int) -> bytes:
    return content + bytes(1 + at % 100)


def without_one(content: bytes, at: int) -> bytes:
    return content[: at % len(content)] + content[at % len(content) + 1 :]


def zeroed_from(content: bytes, at: int) -> bytes:
    """What a file system may leave after a power cut."""
    return content[: at % len(content)] + bytes(len(content) - at % len(content))


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([truncated, flipped, flipped, flipped, grown, without_one, zeroed_from]), st.integers(0, 2**20))
def test_whatever_is_damaged_is_refused_and_the_one_before_is_taken(
    tmp_path_factory: pytest.TempPathFactory,
    caplog: pytest.LogCaptureFixture,
    damage: Callable[[bytes, int], bytes],
    at: int,
) -> None:
    checkpoints = Checkpoints(tmp_path_factory.mktemp("damage") / "train", KEY)
    checkpoints.save(FIRST)
    checkpoints.save(SECOND)
    path = checkpoints.folder / "00000002.checkpoint"
    whole = path.read_bytes()
    path.write_bytes(damage(whole, at))
    if path.read_bytes() == whole:  # its last bytes were zeros
        return
    caplog.clear()
    again = Checkpoints(checkpoints.folder, KEY)
    assert same(again.newest(), FIRST)
    (warning,) = warnings_of(caplog)
    assert warning.startswith("a checkpoint of training is refused: it")
    assert warning.endswith(f"; the one before it is tried ({path})")
    again.save(SECOND)
    assert files(again) == ["00000001.checkpoint", "00000003.checkpoint"], "the refused one goes with the next"
    assert same(Checkpoints(again.folder, KEY).newest(), SECOND)


def test_any_bit_that_is_flipped_is_noticed() -> None:
    content = packed(KEY, SECOND)
    for at in range(8 * len(content)):
        with pytest.raises(ValueError, match=r"its bytes are not those that were written|it begins with '"):
            unpacked(flipped(content, at), KEY)


def crafted(header: object, arrays: bytes = b"") -> bytes:
    """A file whose digest is right whatever it says."""
    text = json.dumps(header).encode()
    rest = len(text).to_bytes(8, "little") + text + arrays
    return MAGIC + hashlib.sha256(rest).digest() + rest


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (packed(OTHER_KEY, SECOND), "it belongs to another training (bbbbbbbbbbbb… instead of aaaaaaaaaaaa…)"),
        (
            packed(KEY, SECOND).replace(b"checkpoint 1", b"checkpoint 2"),
            "it begins with 'stepwise checkpoint 2' instead of 'stepwise checkpoint 1'",
        ),
        (b"", "it begins with '' instead of"),
        (MAGIC, "its bytes are not those that were written"),
        (crafted({"key": KEY}), "its header is not that of a checkpoint (KeyError('arrays'))"),
        (crafted([]), "its header is not that of a checkpoint (TypeError("),
        (crafted({"key": KEY, "facts": {}, "arrays": [["w", "<f4", [9]]]}, bytes(8)), "its header is not"),
        (
            crafted({"key": KEY, "facts": {}, "arrays": [["w", "O", [1]]]}, bytes(8)),
            "'w' is of type O, which is no plain number",
        ),
    ],
)
def test_the_refusal_says_why(
    checkpoints: Checkpoints, caplog: pytest.LogCaptureFixture, content: bytes, words: str
) -> None:
    checkpoints.save(FIRST)
    path = checkpoints.folder / "00000001.checkpoint"
    path.write_bytes(content)
    assert checkpoints.newest() is None
    (warning,) = warnings_of(caplog)
    assert words in warning
    assert warning.endswith(f"; training begins anew ({path})")


def test_what_cannot_be_read_is_refused(checkpoints: Checkpoints, caplog: pytest.LogCaptureFixture) -> None:
    checkpoints.save(FIRST)
    (checkpoints.folder / "00000002.checkpoint").mkdir()
    assert same(checkpoints.newest(), FIRST)
    assert "it cannot be read (Is a directory)" in warnings_of(caplog)[0]


def test_what_does_not_fit_is_refused_like_damage(checkpoints: Checkpoints, caplog: pytest.LogCaptureFixture) -> None:
    checkpoints.save(FIRST)
    checkpoints.save(SECOND)
    taken = checkpoints.newest(lambda state: "it is too new" if state.facts["step"] > 1 else "")
    assert same(taken, FIRST)
    assert "a checkpoint of training is refused: it is too new; the one before it is tried" in warnings_of(caplog)[0]


def test_a_folder_that_cannot_be_made_is_an_error_for_people(tmp_path: Path) -> None:
    (tmp_path / "partial").write_text("a file")
    with pytest.raises(StorageError, match=r"cannot write: Not a directory\. Expected: a folder that can be written"):
        Checkpoints(tmp_path / "partial" / "train", KEY).save(FIRST)


# --- deaths

SAVER = """
import sys
from pathlib import Path
import numpy as np
from tasks.train.checkpoint import Checkpoints, State
checkpoints = Checkpoints(Path(sys.argv[1]), "a" * 64)
for step in range(1, 1_000_000):
    checkpoints.save(State({"w": np.full(200_000, step, "<f4")}, {"step": step}))
    print(step, flush=True)
"""


def test_a_process_killed_while_it_saves_leaves_a_whole_one(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "train"
    savers = [subprocess.Popen([sys.executable, "-c", SAVER, folder / str(k)], env=ENVIRONMENT, text=True,
                               stdout=subprocess.PIPE) for k in range(2)]  # fmt: skip
    for k, saver in enumerate(savers):
        assert saver.stdout is not None
        assert saver.stdout.readline() == "1\n"
        time.sleep(0.05 + 0.031 * k)
        saver.send_signal(signal.SIGKILL)
        told = saver.communicate(timeout=60)[0].split()
        checkpoints = Checkpoints(folder / str(k), KEY)
        state = checkpoints.newest()
        assert state is not None
        assert state.facts["step"] >= int(told[-1] if told else 1), "what was reported as saved is there"
        assert np.array_equal(state.arrays["w"], np.full(200_000, state.facts["step"], "<f4"))
        checkpoints.save(FIRST)
        assert len(files(checkpoints)) == 2
    assert warnings_of(caplog) == []


# --- how often


@settings(deadline=None)
@given(st.floats(1e-4, 20.0), st.floats(0.01, 3.0))
def test_keeping_costs_at_most_its_share(price: float, segment: float) -> None:
    now, pace, saved = 1000.0, Pace(1000.0), []
    for _ in range(5000):
        now += segment
        if pace.due(now):
            saved.append(now)
            now += price
            pace.paid(now - price, now)
    assert pace.count == len(saved)
    assert pace.spent == pytest.approx(price * len(saved))
    # the first one's price is not known beforehand
    assert pace.spent <= max(price, COST_SHARE * (now - 1000.0)) * 1.001
    assert np.diff(saved, prepend=1000.0).min(initial=math.inf) >= LEAST_SECONDS
    longest = max(LEAST_SECONDS, price / COST_SHARE) + segment
    assert np.diff(saved[1:]).max(initial=0.0) <= (longest + price) * 1.001, "and none is later than it must be"


def test_one_slow_checkpoint_is_paid_off_before_the_next() -> None:
    pace = Pace(0.0)
    assert not pace.due(1.3)
    assert pace.due(1.4)
    pace.paid(1.4, 4.4)  # the disk was busy
    assert not pace.due(399)
    assert pace.due(401)
    pace.paid(401, 401.001)
    assert not pace.due(401.9)
    assert pace.due(402.1)


# --- when training is over


def standing(*losses: float | None) -> Standing:
    done = tuple(
        Epoch(epoch=k + 1, loss=1, accuracy=0, validation_loss=loss, learning_rate=1, seen=1, seconds=1)
        for k, loss in enumerate(losses)
    )
    return Standing(epoch=len(done) + 1, epochs=done)


@pytest.mark.parametrize(
    ("losses", "ended", "best", "improved"),
    [
        ((), False, None, None),
        ((3.0,), False, 1, True),
        ((3.0, 4.0), False, 1, False),
        ((3.0, 4.0, 3.0), True, 1, False),
        ((3.0, 4.0, 2.0), False, 3, True),
        ((3.0, math.nan), False, 1, False),
        ((3.0, math.nan, 4.0), True, 1, False),
        ((math.nan, 3.0, 3.0), False, 2, False),
        ((math.inf,), False, 1, False),
        ((None, None, None, None), False, 1, False),
        ((9.0, 8.0, 7.0, 6.0, 5.0), True, 5, True),
    ],
)
def test_early_stopping_follows_from_the_records(
    losses: tuple[float | None, ...], ended: bool, best: int | None, improved: bool | None
) -> None:
    training = Training(epochs=5, early_stopping=EarlyStopping(patience=2))
    now = standing(*losses)
    assert now.ended(training, training.epochs) is ended
    if losses:
        assert (now.best_epoch, now.improved) == (best, improved)


def test_without_early_stopping_all_epochs_are_learned() -> None:
    training = Training(epochs=3)
    assert [standing(*losses).ended(training, 3) for losses in ((), (1.0,), (1.0, 2.0), (1.0, 2.0, 3.0))] == [
        *(False, False, False),
        True,
    ]
    assert standing(1.0).place(3, 120) == "epoch 2 of 3, step 0 of 120"
    assert standing(1.0, 2.0, 3.0).place(3, 120) == "the end"
