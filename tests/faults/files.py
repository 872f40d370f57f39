"""Files that are not as they were written: flipped bytes, cut, empty and removed ones, torn lines."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from analysis.lake.run_folder import CHECKPOINTS, CODE, CONTROL, GATHERED, JOURNAL, RUNNING, SPENT, STUDY
from tests.faults.scene import Scene
from tests.faults.sweep import SHARED

REFUSED = (STUDY, CODE, CONTROL, SPENT, GATHERED)  # a command may refuse a folder where one is damaged


def damage(files: Callable[[Path], Iterator[Path]]) -> Callable[[Scene], None]:
    """Return a fault that changes one of some files, at work or at rest."""

    def inflict(scene: Scene) -> None:
        if scene.random.random() < 0.6:
            scene.kill_driver()
        found = sorted(path for path in files(scene.sweep.folder) if path.is_file() and path.stat().st_size)
        if not found:
            scene.notes.append("no file yet")
            return
        path = scene.random.choice(found)
        how = scene.random.choice([_flip, _flip, _cut, _empty, _remove])
        with contextlib.suppress(FileNotFoundError):  # the command has moved it meanwhile
            scene.damaged[path] = path.read_bytes()
            how(path, scene.random)
        place = path.relative_to(scene.sweep.place)
        scene.notes.append(f"{how.__name__.strip('_')} {place}{'' if scene.sweep.runs else ' at rest'}")

    return inflict


def torn_journal(scene: Scene) -> None:
    """Take the end of Optuna's journal away, or write half a line behind it."""
    scene.kill_driver()
    path = scene.sweep.folder / JOURNAL
    if not path.exists():
        scene.notes.append("no file yet")
        return
    content = path.read_bytes()
    if scene.random.random() < 0.3:
        path.write_bytes(content + content[: scene.random.randrange(1, 60)])
    else:
        path.write_bytes(content[: -scene.random.randrange(1, 300)])


def _flip(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(draw.choice([1, 1, 8])):
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    _replace(path, bytes(content))


def _cut(path: Path, draw: random.Random) -> None:
    content = path.read_bytes()
    _replace(path, content[: draw.randrange(len(content))])


def _empty(path: Path, draw: random.Random) -> None:
    _replace(path, b"")


def _remove(path: Path, draw: random.Random) -> None:
    path.unlink()


def _replace(path: Path, content: bytes) -> None:
    """Change a file in place, as a disk does that loses bytes."""
    with path.open("r+b") as file:
        file.write(content)
        file.truncate()


def parts(folder: Path) -> Iterator[Path]:
    """Yield the files of tables."""
    yield from (folder / "tables").glob("*/*.parquet")


def running(folder: Path) -> Iterator[Path]:
    """Yield the files of tables of runs that have not ended."""
    yield from (folder / "tables" / RUNNING).glob("*/*.parquet")


def checkpoints(folder: Path) -> Iterator[Path]:
    """Yield the checkpoints, shared ones included."""
    yield from (folder / CHECKPOINTS).rglob("*.safetensors")
    yield from folder.parent.glob(f"{SHARED}/*.safetensors")


def journal(folder: Path) -> Iterator[Path]:
    """Yield Optuna's journal."""
    yield folder / JOURNAL


def others(folder: Path) -> Iterator[Path]:
    """Yield the other files."""
    yield from (path for path in folder.glob("*") if path.name not in (JOURNAL, "report.html"))
    for name in ("logs", "progress"):
        yield from (folder / name).glob("*")


def restore(scene: Scene) -> list[str]:
    """Do what the remedy of a refusal says: put files back from their copies. Return their names."""
    names = []
    for path, content in scene.damaged.items():
        if path.name in REFUSED:
            path.write_bytes(content)
            names.append(path.name)
    scene.damaged.clear()
    return names
