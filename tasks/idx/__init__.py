"""The IDX codec: reading, writing and describing IDX files, the format of the MNIST family; no datasets."""

from tasks.idx.container import Limits
from tasks.idx.header import IdxHeader
from tasks.idx.reader import IdxReader, open_idx, read_idx

__all__ = ["IdxHeader", "IdxReader", "Limits", "open_idx", "read_idx"]
