"""A small disk for a run folder, that can be filled and write-protected."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

FILLER = ".filler"  # a hidden file of nobody


def _mount(*words: str) -> bool:
    return subprocess.run(["mount", *words], capture_output=True).returncode == 0


class Disk:
    """The folder `place`; a file system of its own where the system allows that (`small`)."""

    def __init__(self, place: Path, megabytes: int = 48) -> None:
        self.place = place
        place.mkdir(parents=True, exist_ok=True)
        self.small = _mount("-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(place))

    @contextlib.contextmanager
    def full(self, left: int) -> Iterator[None]:
        """Leave `left` bytes of room while the block runs."""
        filler = self.place / FILLER
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(1 << 16)):
                pass
        with contextlib.suppress(OSError):
            os.truncate(filler, max(0, filler.stat().st_size - left))
        try:
            yield
        finally:
            filler.unlink()

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        """Refuse new files while the block runs. An administrator needs a mount for that."""
        place = str(self.place)
        if self.small and _mount("--bind", place, place):
            _mount("-o", "remount,bind,ro", place)
            try:
                yield
            finally:
                subprocess.run(["umount", "-l", place], check=True)
            return
        modes = {path: path.stat().st_mode for path in [self.place, *self.place.rglob("*")] if path.is_dir()}
        for path in modes:
            path.chmod(0o555)
        try:
            yield
        finally:
            for path, mode in modes.items():
                path.chmod(mode)

    def close(self) -> None:
        """Give the file system back."""
        if self.small:
            subprocess.run(["umount", "-l", str(self.place)], check=True)
