"""The IDX codec: reading, writing and describing IDX files, the format of the MNIST family; no datasets.

What is accepted, and what is refused with a `DataError` that says what the file looks like instead:

- All six types of the format, rank 1 to 64 (NumPy's most). A file may have no items; an item without elements is
  refused.
- Plain files, gzip of any number of members, xz of any number of streams, and a stored or deflated member of a zip,
  which may itself be gzip or xz. Recognised by content. Nothing may follow the last item, nor the last member: padding
  is refused like any other trailing bytes. Members whose names lead out of the archive are refused, though nothing is
  ever extracted.
- Only regular files and links to them. Names are never trusted, and neither are headers: a plain file must have exactly
  the length its header promises, a compressed one may promise no more than `Limits` allows for its size, and is
  decompressed at most one byte beyond the promise (or its first 512). Buffers are filled, never reserved: no promise
  costs memory.
- Damage that a container's checksum alone shows comes to light at its end: what is made of a stream counts only once
  the stream has been exhausted.
"""

from tasks.idx.container import BoundedReads, Limits
from tasks.idx.description import Description, describe
from tasks.idx.header import IdxHeader, form_of
from tasks.idx.reader import IdxReader, open_idx, read_idx
from tasks.idx.writer import IdxWriter, write_idx

__all__ = [
    "BoundedReads",
    "Description",
    "IdxHeader",
    "IdxReader",
    "IdxWriter",
    "Limits",
    "describe",
    "form_of",
    "open_idx",
    "read_idx",
    "write_idx",
]
