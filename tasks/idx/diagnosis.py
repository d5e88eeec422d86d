"""What a file looks like that is not IDX: the bytes that broken downloads and renamed files begin with.

Here: recognising other formats by their first bytes and saying so. Not here: opening or decompressing anything.
"""

from __future__ import annotations

import codecs
import string
from typing import Final

from tasks.idx.header import DTYPES, MAGIC_SIZE

HEAD_SIZE: Final = 512  # enough for every signature below; a tar's stands at byte 257

_SIGNATURES: Final[tuple[tuple[int, bytes, str], ...]] = (
    (0, b"version https://git-lfs", "a Git LFS pointer (the data itself was not fetched)"),
    (0, b"/annex/objects/", "a git-annex pointer (the data itself was not fetched)"),
    (0, b"\x93NUMPY", "a NumPy .npy file"),
    (0, b"\x1f\x8b", "a gzip stream"),
    (0, b"\xfd7zXZ\0", "an xz stream"),
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"PK\x05\x06", "an empty zip archive"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (0, b"BZh", "a bzip2 stream"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard stream"),
    (0, b"\x04\x22\x4d\x18", "an LZ4 stream"),
    (0, b"\x1f\x9d", "a Unix compress (.Z) stream"),
    (0, b"LZIP", "an lzip stream"),
    (257, b"ustar", "a tar archive"),
    (0, b"!<arch>\n", "a Unix ar archive or Debian package"),
    (0, b"PAR1", "a Parquet file"),
    (0, b"ARROW1", "an Arrow file"),
    (0, b"FEA1", "a Feather file"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (0, b"MATLAB 5.0", "a MATLAB .mat file"),
    (0, b"SQLite format 3\0", "an SQLite database"),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"GIF8", "a GIF picture"),
    (0, b"II*\0", "a TIFF picture"),
    (0, b"MM\0*", "a TIFF picture"),
    (8, b"WEBP", "a WebP picture"),
    (0, b"%PDF", "a PDF document"),
    (0, b"\x7fELF", "a program (ELF)"),
    (0, b"AAAI", "IDX data encoded as base64 text"),
    (0, b"H4sI", "gzip data encoded as base64 text"),
    (0, b"\x80\x02", "a Python pickle"),
    (0, b"\x80\x03", "a Python pickle"),
    (0, b"\x80\x04", "a Python pickle"),
    (0, b"\x80\x05", "a Python pickle"),
)
_BEGINNINGS: Final = (
    (b"<!doctype html", "an HTML page"),
    (b"<html", "an HTML page"),
    (b"<head", "an HTML page"),
    (b"<", "an XML document"),
    (b"{", "a JSON text"),
    (b"[", "a JSON text"),
)
_TEXT: Final = frozenset(string.printable.encode())


def likeness(head: bytes) -> str:
    """Say in a few words what a file is that begins with ``head`` and is not whole, honest IDX.

    Args:
        head: The file's first bytes, `HEAD_SIZE` of them where the file has as many.
    """
    if not head:
        return "an empty file"
    for offset, signature, name in _SIGNATURES:
        if head.startswith(signature, offset):
            return name
    return _text(head) or _binary(head)


def excerpt(head: bytes, most: int = 40) -> str:
    """Return the first line of a text as something safe to print, cut after ``most`` characters."""
    line = head.lstrip(b"\xef\xbb\xbf \t\r\n").splitlines()[:1]
    text = b"".join(line).decode("utf-8", "replace")
    shown = "".join(character if character.isprintable() else "?" for character in text[:most])
    return f"{shown}…" if len(text) > most else shown


def _text(head: bytes) -> str:
    """Name a text, or return an empty string for what is none."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16 text"
    body = head.removeprefix(b"\xef\xbb\xbf")
    try:
        # Incremental, because the head may end inside a character.
        codecs.getincrementaldecoder("utf-8")().decode(body)
    except UnicodeDecodeError:
        return ""
    if not _TEXT.issuperset(byte for byte in body if byte < 0x80) or not body.strip():
        return ""
    start = body.lstrip().lower()
    name = next((name for beginning, name in _BEGINNINGS if start.startswith(beginning)), None)
    return f'{name} (starts with "{excerpt(body)}")' if name else f'text "{excerpt(body)}"'


def _binary(head: bytes) -> str:
    """Name bytes that are no text and bear no signature."""
    if head[:2] != b"\0\0"[: len(head)]:
        if head[2:4] == b"\0\0" and head[1] in DTYPES:
            return "an IDX header in little-endian order"
        return f"data of an unknown kind (starts with the bytes {head[:8].hex(' ')})"
    if len(head) < MAGIC_SIZE:
        return f"an IDX header cut after {len(head)} byte{'' if len(head) == 1 else 's'}"
    if not any(head):
        return f"nothing but zero bytes at its start ({len(head)} looked at)"
    if head[2] not in DTYPES:
        return f"an IDX header with the unknown type code 0x{head[2]:02X}"
    return "an IDX header of rank 0"
