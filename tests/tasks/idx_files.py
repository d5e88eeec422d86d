"""What the tests of wrong and hostile IDX files share: sound files, ways to spoil them, every way to read one.

Not here: tests and fixtures.
"""

from __future__ import annotations

import gzip
import io
import lzma
import struct
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from schemas.errors import DataError
from tasks.idx import describe, open_idx, read_idx

ROOT = Path(__file__).parents[2]
IMAGES = np.random.default_rng(7).integers(0, 256, (60, 7, 5), np.uint8)


def header(*shape: int, code: int = 0x08, rank: int | None = None) -> bytes:
    return struct.pack(f">HBB{len(shape)}I", 0, code, len(shape) if rank is None else rank, *shape)


GOOD = header(60, 7, 5) + IMAGES.tobytes()
LABELS = header(60) + bytes(60)
GZ = gzip.compress(GOOD, mtime=0)
XZ = lzma.compress(GOOD)


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return target.getvalue()


def patched(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def rejected(path: Path, text: str, member: str | None = None) -> DataError:
    """Read ``path`` every way there is; each raises the same clear error, soon."""
    begun = time.monotonic()
    for read in (lambda: drain(path, member), lambda: describe(path, member), lambda: read_idx(path, member=member)):
        with pytest.raises(DataError, match=text) as caught:
            read()
    assert time.monotonic() - begun < 20
    error = caught.value
    assert str(path) in str(error)
    assert all((error.found, error.expected, error.remedy))
    assert error.exit_code == 3
    assert str(error).isprintable()
    assert len(str(error)) < 800
    return error


def drain(path: Path, member: str | None = None, items: int = 7) -> bytes:
    with open_idx(path, member=member) as reader:
        return b"".join(batch.tobytes() for batch in reader.batches(items))


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
