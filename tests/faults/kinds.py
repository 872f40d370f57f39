"""The faults: processes that end, disks that refuse, files that are not as they were written."""

from __future__ import annotations

import contextlib
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from analysis.lake.run_folder import CHECKPOINTS, CODE, CONTROL, GATHERED, JOURNAL, RUNNING, SPENT, STUDY
from tests.faults.disk import Disk
from tests.faults.nodes import Nodes
from tests.faults.processes import named, send
from tests.faults.sweep import Ended, Sweep

KILL, TERM, USR1 = signal.SIGKILL, signal.SIGTERM, signal.SIGUSR1
REFUSED = (STUDY, CODE, CONTROL, SPENT, GATHERED)  # a command may refuse a folder where one is damaged


@dataclass
class Scene:
    """A sweep whose command works, and what stands around it. A fault leaves its `notes`."""

    sweep: Sweep
    disk: Disk
    random: random.Random
    nodes: Nodes | None = None
    notes: list[str] = field(default_factory=list)
    ends: list[Ended] = field(default_factory=list)
    damaged: dict[Path, bytes] = field(default_factory=dict)  # contents of damaged files before

    def end(self) -> Ended:
        """Wait for the end of the command."""
        self.ends.append(self.sweep.end())
        return self.ends[-1]

    def kill_driver(self) -> None:
        """Kill the command, and nothing that it has started."""
        send([self.sweep.pid], KILL)
        self.end()


@dataclass(frozen=True)
class Fault:
    """A kind of fault. `ways` are the backends on which it can happen."""

    name: str
    inflict: Callable[[Scene], None]
    ways: tuple[str, ...] = ("local", "ray", "cluster")
    weight: float = 1.0
    small_disk: bool = False


def _driver(number: signal.Signals) -> Callable[[Scene], None]:
    def inflict(scene: Scene) -> None:
        send([scene.sweep.pid], number)
        scene.end()

    return inflict


def _worker(number: signal.Signals) -> Callable[[Scene], None]:
    def inflict(scene: Scene) -> None:
        for texts in (("ray::TaskTrainable",), ("ray::", "default_worker")):
            below = named(scene.sweep.pid, *texts)
            found = scene.nodes.workers(*texts) if scene.nodes else below
            if found:
                send([scene.random.choice(found)], number)
                return
        scene.notes.append("no worker yet")

    return inflict


def _only_node(scene: Scene) -> None:
    raylets = named(scene.sweep.pid, "raylet/raylet")
    send(raylets, KILL)
    if raylets:
        scene.end()


def _node(number: signal.Signals, whole: bool) -> Callable[[Scene], None]:
    def inflict(scene: Scene) -> None:
        assert scene.nodes is not None
        index = scene.random.randrange(len(scene.nodes.good))
        scene.nodes.lose(index, number, whole)
        time.sleep(scene.random.uniform(0.0, 8.0))
        scene.nodes.replace(index)

    return inflict


def _full(scene: Scene) -> None:
    with scene.disk.full(left=scene.random.choice([0, 20_000, 300_000])):
        scene.end()


def _read_only(scene: Scene) -> None:
    with scene.disk.read_only():
        scene.end()


def _quota(scene: Scene) -> None:
    most = scene.random.choice([20_000, 50_000])  # what the command prints goes to a file, too
    with contextlib.suppress(ProcessLookupError, PermissionError):
        resource.prlimit(scene.sweep.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    scene.end()


def _gather(scene: Scene) -> None:
    command = [sys.executable, "-m", "tests.faults.command", "gather", str(scene.sweep.folder)]
    gather = subprocess.Popen(
        command, cwd=Path(__file__).parents[2], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    time.sleep(scene.random.uniform(0.5, 2.5))
    gather.kill()
    gather.wait()


def _damage(files: Callable[[Path], Iterator[Path]]) -> Callable[[Scene], None]:
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
        place = path.relative_to(scene.sweep.folder)
        scene.notes.append(f"{how.__name__.strip('_')} {place}{'' if scene.sweep.runs else ' at rest'}")

    return inflict


def _torn_journal(scene: Scene) -> None:
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


def _parts(folder: Path) -> Iterator[Path]:
    yield from (folder / "tables").glob("*/*.parquet")


def _running(folder: Path) -> Iterator[Path]:
    yield from (folder / "tables" / RUNNING).glob("*/*.parquet")


def _checkpoints(folder: Path) -> Iterator[Path]:
    yield from (folder / CHECKPOINTS).rglob("*.safetensors")


def _journal(folder: Path) -> Iterator[Path]:
    yield folder / JOURNAL


def _others(folder: Path) -> Iterator[Path]:
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


RAY = ("ray", "cluster")
FAULTS = (
    Fault("driver killed", _driver(KILL), weight=2),
    Fault("driver terminated", _driver(TERM)),
    Fault("driver warned", _driver(USR1)),
    Fault("worker killed", _worker(KILL), RAY, weight=3),
    Fault("worker terminated", _worker(TERM), RAY),
    Fault("only node killed", _only_node, ("ray",)),
    Fault("raylet killed", _node(KILL, whole=False), ("cluster",), weight=2),
    Fault("node killed", _node(KILL, whole=True), ("cluster",), weight=2),
    Fault("node terminated", _node(TERM, whole=False), ("cluster",)),
    Fault("disk full", _full, small_disk=True, weight=1.5),
    Fault("disk read-only", _read_only, small_disk=True),
    Fault("file size limited", _quota, ("local",)),
    Fault("gather killed", _gather, weight=1.5),
    Fault("part damaged", _damage(_parts), weight=2),
    Fault("rows of a running run damaged", _damage(_running)),
    Fault("checkpoint damaged", _damage(_checkpoints), weight=1.5),
    Fault("journal damaged", _damage(_journal)),
    Fault("journal torn", _torn_journal),
    Fault("another file damaged", _damage(_others)),
)
