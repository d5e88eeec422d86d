"""The IDX codec: reading, writing and describing IDX files, the format of the MNIST family; no datasets."""

from tasks.idx.container import Limits
from tasks.idx.description import Description, describe
from tasks.idx.header import IdxHeader
from tasks.idx.reader import IdxReader, open_idx, read_idx
from tasks.idx.writer import IdxWriter, write_idx

__all__ = [
    "Description",
    "IdxHeader",
    "IdxReader",
    "IdxWriter",
    "Limits",
    "describe",
    "open_idx",
    "read_idx",
    "write_idx",
]
