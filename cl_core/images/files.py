"""The source of image files: a folder, or a zip archive."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol
from zipfile import ZipFile


@dataclass(frozen=True)
class Item:
    """One image file, by its name below the root of its `Files`, and its class."""

    name: str
    label: int


class Files(Protocol):
    """A source of image files."""

    def read(self, name: str) -> bytes: ...

    def stamp(self, name: str) -> tuple[int, int]:
        """Size in bytes, and time of change in ns or a checksum: what tells one version from another."""

    def where(self, name: str) -> str:
        """The file as a person would look for it."""


class Folder:
    """Files below a folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, name: str) -> bytes:
        return (self.root / name).read_bytes()

    def stamp(self, name: str) -> tuple[int, int]:
        found = os.stat(f"{self.root}/{name}")  # noqa: PTH116 - a Path for each of 100,000 files takes longer than stat
        return found.st_size, found.st_mtime_ns

    def where(self, name: str) -> str:
        return str(self.root / name)


class Archive:
    """Files in a zip archive, read in place; nothing is unpacked."""

    def __init__(self, path: Path, prefix: str = "") -> None:
        self.path, self.prefix = path, prefix
        self.zip = ZipFile(path)

    def read(self, name: str) -> bytes:
        return self.zip.read(self.prefix + name)

    def stamp(self, name: str) -> tuple[int, int]:
        found = self.zip.getinfo(self.prefix + name)
        return found.file_size, found.CRC

    def where(self, name: str) -> str:
        return f"{self.path}:{self.prefix}{name}"

    def names(self) -> list[str]:
        """Every file below the prefix."""
        start = len(self.prefix)
        return [n[start:] for n in self.zip.namelist() if n.startswith(self.prefix) and not n.endswith("/")]
