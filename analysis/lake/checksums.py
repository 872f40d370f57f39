"""Parquet files that show a damaged byte: each carries the CRC-32 of its own bytes in its metadata.

Parquet's own checksums cover its pages and not its footer, which is most of a small file; a flipped bit
there may rename a column in silence. Other readers see one more metadata key. A file without the key, by
another writer, is damaged where it cannot be read.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from analysis.lake.run_folder import GATHERED
from cl_core.errors import BadRequest, first_line

_KEY = b"cl_search_crc32"
_VALUE = _KEY + b"\x18\x08"  # as Thrift writes it: the key, then a second field, a text of eight bytes
_EMPTY = b"00000000"
_SCHEMA = re.compile(rb"ARROW:schema\x18[\x80-\xff]*[\x00-\x7f][A-Za-z0-9+/=]+")
_CHUNK = 1 << 22  # bytes that are read together


class Damaged(BadRequest):
    """A file of the tables that does not hold what was written. `path` names it."""

    def __init__(self, path: Path, reason: str) -> None:
        remedy = "give the command that made its folder again, which sets it aside and trains its run anew"
        if path.name == GATHERED:  # that may be days of training, so somebody has to want it
            remedy = "restore it from a copy, or remove it and give that command, which trains its runs anew"
        super().__init__(f"{path} is damaged ({reason}): {remedy}")
        self.path, self.reason = path, reason


def write_sealed(table: pa.Table, path: Path) -> None:
    """Write `table` to `path` with its checksum. Raises OSError."""
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, table.schema, compression="zstd") as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({_KEY.decode(): _EMPTY.decode()})
    content = bytearray(buffer.getbuffer())
    at = content.rindex(_VALUE + _EMPTY) + len(_VALUE)
    content[at : at + len(_EMPTY)] = b"%08x" % zlib.crc32(content)
    path.write_bytes(content)


def write_sealed_batches(batches: Iterable[pa.RecordBatch], schema: pa.Schema, path: Path) -> int:
    """Write batches, a row group each, with a checksum; return their rows. Raises OSError.

    No more than a batch is in memory.
    """
    rows = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for batch in batches:
            writer.write_batch(batch)
            rows += batch.num_rows
        writer.add_key_value_metadata({_KEY.decode(): _EMPTY.decode()})
    with path.open("r+b") as file:
        start, footer = _footer(file)
        crc = zlib.crc32(footer, _crc(file, start))
        file.seek(start + footer.rindex(_VALUE + _EMPTY) + len(_VALUE))
        file.write(b"%08x" % crc)
    return rows


def read_sealed(
    path: Path, columns: Sequence[str] | None = None, filters: pc.Expression | None = None
) -> pa.Table:
    """Return the rows of a file: all `columns`, or some; all rows, or those that pass `filters`.

    Raises OSError where it cannot be read, such as FileNotFoundError, and Damaged where a byte has changed.
    """
    try:
        stat = path.stat()
        _check(path, stat.st_ino, stat.st_size, stat.st_mtime_ns)
        if filters is None:  # read_table would load pandas
            return pq.ParquetFile(path).read(columns)
        return pq.read_table(path, columns=columns, filters=filters, partitioning=None)
    except Damaged:
        raise
    except (OSError, pa.ArrowException, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:  # not there, or out of reach
            raise
        raise Damaged(path, first_line(error)) from error


def runs_in(path: Path) -> frozenset[str]:
    """Return the runs with rows in a file. Raises as `read_sealed` does."""
    stat = path.stat()
    return _runs_in(path, stat.st_ino, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=1024)
def _runs_in(path: Path, *version: int) -> frozenset[str]:
    """Read the runs of a file, a row group at a time. One that has not changed since is not read again."""
    try:
        _check(path, *version)
        file, found = pq.ParquetFile(path, read_dictionary=["run"]), set()
        for group in range(file.num_row_groups):
            for chunk in file.read_row_group(group, ["run"])["run"].chunks:
                found.update(pc.unique(chunk).to_pylist())
    except Damaged:
        raise
    except (OSError, pa.ArrowException, ValueError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise Damaged(path, first_line(error)) from error
    return frozenset(found)


def check_sealed(path: Path) -> None:
    """Raise Damaged where a byte of a file has changed, or OSError where it cannot be read."""
    if not checked(path).sealed:
        read_sealed(path)


class Seal(NamedTuple):
    """A file whose bytes have been compared with its checksum."""

    sealed: bool  # it has one
    schema: bytes | None  # equal for equal Arrow schemas, their metadata included; None if it has none


def checked(path: Path) -> Seal:
    """Return the seal of a file. Raises Damaged where the checksum does not fit, or OSError."""
    stat = path.stat()
    return _check(path, stat.st_ino, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=32768)
def _check(path: Path, *version: int) -> Seal:
    """Read a file in pieces. One that has not changed since is not read again."""
    with path.open("rb") as file:
        start, footer = _footer(file)
        found = _SCHEMA.search(footer)
        schema = None if found is None else _once(found[0])
        at = footer.rfind(_VALUE) + len(_VALUE)
        if at < len(_VALUE):
            return Seal(False, schema)
        crc = _crc(file, start)
    whole, end = memoryview(footer), at + len(_EMPTY)
    crc = zlib.crc32(whole[end:], zlib.crc32(_EMPTY, zlib.crc32(whole[:at], crc)))
    if footer[at:end] != b"%08x" % crc:
        raise Damaged(path, "its checksum does not fit")
    return Seal(True, schema)


@lru_cache(maxsize=64)
def _once(schema: bytes) -> bytes:
    """Return the first of equal texts: thousands of files have the same, of some thousand bytes."""
    return schema


def _footer(file: BinaryIO) -> tuple[int, bytes]:
    """Return where a file's footer begins, and all from there on."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - 8))
    start = max(0, size - 8 - int.from_bytes(file.read(4), "little"))
    file.seek(start)
    return start, file.read()


def _crc(file: BinaryIO, end: int) -> int:
    """Return the CRC-32 of a file's bytes before `end`, read in pieces."""
    file.seek(0)
    crc, left = 0, end
    while left and (piece := file.read(min(left, _CHUNK))):
        crc, left = zlib.crc32(piece, crc), left - len(piece)
    return crc
