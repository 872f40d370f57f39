"""A campaign: sweeps with faults at random moments, each compared with an undisturbed run at its end."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.faults.disk import Disk
from tests.faults.files import restore
from tests.faults.kinds import FAULTS
from tests.faults.nodes import Nodes
from tests.faults.scene import Fault, Scene
from tests.faults.store import BUCKET, Store
from tests.faults.sweep import ALONE, SHARED, WAYS, Ended, Sweep

Say = Callable[[dict[str, Any]], None]
# A full disk, what a command that works finds damaged, a folder in which another one works, a cluster that
# has ended before a command has joined it, and a new one whose nodes have not joined yet.
REFUSALS = (
    "must be writable",
    "is damaged",
    "another run ",
    "must name a running Ray cluster",
    "must list its nodes",
    "a node of the cluster must hold one run",
)
TRIES = 8  # commands until a sweep without further faults must have ended


class Campaign:
    """Faults drawn from `seed`; `say` gets a line for each fault and each sweep. `place` is a short path.

    A sweep gets up to `most` faults, then ends undisturbed. `short` ones have few trials. The times of object
    stores, and of their faults, are divided by `quick`.
    """

    def __init__(
        self,
        place: Path,
        seed: int,
        say: Say,
        ways: Sequence[str] = tuple(WAYS),
        most: int = 8,
        short: bool = False,
        quick: float = 1.0,
    ) -> None:
        self.place, self.seed, self.say, self.ways, self.most = place, seed, say, ways, most
        self.short, self.quick = short, quick
        self.losses: list[str] = []
        self.faults = 0
        self._whole: dict[str, Path] = {}
        self._nodes: Nodes | None = None
        self._store: Store | None = None

    def run(self, count: int, kinds: Sequence[str] = ()) -> None:
        """Inflict `count` faults, of some kinds or all."""
        number = 0
        try:
            while self.faults < count:
                way = self.ways[number % len(self.ways)]
                self._sweep(number, way, min(self.most, count - self.faults), kinds)
                number += 1
        finally:
            if self._nodes is not None:
                self._nodes.close()
            if self._store is not None:
                self._store.close()

    def _sweep(self, number: int, way: str, faults: int, kinds: Sequence[str]) -> None:
        draw = random.Random(f"{self.seed} {number}")
        whole = self._undisturbed(way)
        nodes = self._around(way)
        place = self.place / f"sweep-{number}"
        disk, began = Disk(place / "run"), time.monotonic()
        sweep = self._made(place, way, shared=draw.random() < 0.4)
        scene = Scene(sweep, disk, draw, nodes, self._neighbour(sweep))
        with _ended(sweep, disk):
            inflicted = self._storm(scene, number, faults, kinds)
            loss = self._finished(scene) or sweep.differences(whole) or self._beside(scene)
            if loss is not None:
                self.losses.append(f"sweep {number}: {loss}")
                shutil.copytree(sweep.folder, place / "lost", symlinks=True, dirs_exist_ok=True)
        line = {"sweep": number, "way": way, "faults": inflicted, "commands": sweep.commands, "loss": loss}
        self.say({**line, "seconds": round(time.monotonic() - began, 1)})
        if loss is None:
            shutil.rmtree(place, ignore_errors=True)

    def _around(self, way: str) -> Nodes | None:
        """Start what a way needs, once; return its cluster."""
        if way.startswith("store") and self._store is None:
            self._store = Store()
        if not way.endswith("cluster"):
            return None
        if self._nodes is None:
            if self._store is None:
                self._store = Store()
            own = {"XDG_STATE_HOME": str(self.place / "nodes"), "FAULTS_QUICK": str(self.quick)}
            self._nodes = Nodes(self.place, {**self._store.environment, **own})
        return self._nodes

    def _made(self, place: Path, way: str, shared: bool) -> Sweep:
        """Return a new sweep, some with a store of checkpoints that another study shares."""
        store = self._store if way.startswith("store") else None
        address = self._nodes.address if self._nodes and way.endswith("cluster") else None
        url = f"s3://{BUCKET}/{place.name}/{SHARED}"
        checkpoints = (str(place / SHARED) if store is None else url) if shared else None
        return Sweep(place, way, address, self.short, store, checkpoints, self.quick)

    def _neighbour(self, sweep: Sweep) -> Sweep | None:
        """Return a small study that shares the checkpoints of a sweep, if they are shared."""
        if sweep.shared is None:
            return None
        place = sweep.place / "neighbour"
        return Sweep(place, "local", None, True, None, sweep.shared, self.quick, uses=self._store)

    def _storm(self, scene: Scene, number: int, faults: int, kinds: Sequence[str]) -> int:
        """Inflict faults on a sweep until it has ended by itself; return how many."""
        sweep, inflicted = scene.sweep, 0
        while inflicted < faults and sweep.commands < 2 * self.most + TRIES:
            if not sweep.runs:
                if sweep.process is not None and self._judged(scene, scene.end()):
                    break
                sweep.start()
            at = _moment(sweep, scene.random)
            if not sweep.runs:
                continue
            fault = _drawn(scene.random, sweep.way, scene.disk, kinds)
            scene.notes, scene.ends, start = [], [], time.monotonic()
            fault.inflict(scene)
            inflicted, self.faults = inflicted + 1, self.faults + 1
            line = {"fault": fault.name, "way": sweep.way, "sweep": number, "number": self.faults, "at": at}
            for end in scene.ends:
                self._judged(scene, end)
            for loss in scene.losses:
                self._note(loss, scene)
            scene.losses.clear()
            for end in scene.ends:
                line |= {"exit": end.code, "last": end.last[-160:]}
            self.say({**line, "notes": scene.notes, "seconds": round(time.monotonic() - start, 1)})
        return inflicted

    def _finished(self, scene: Scene) -> str | None:
        """Continue without further faults until the sweep has ended; return why it has not."""
        sweep = scene.sweep
        for _ in range(TRIES):
            if not sweep.runs and sweep.process is None:
                sweep.start()
            if self._judged(scene, scene.end()):
                return None
        return f"it has not ended after {TRIES} commands"

    def _beside(self, scene: Scene) -> str | None:
        """Finish the study that shares checkpoints, if it has begun; return how its tables differ."""
        other = scene.neighbour
        if other is None or not other.commands:
            return None
        for _ in range(TRIES):
            if other.process is None:
                other.start()
            end = other.end()
            if end.loss is not None:
                return f"the second study: {end.loss}: {end.last}"
            if end.code == 0 and "completed" in end.output:
                found = other.differences(self._undisturbed("local", short=True))
                return f"the second study: {found}" if found else None
        return f"the second study has not ended after {TRIES} commands: {end.last}"

    def _note(self, loss: str, scene: Scene, output: str = "") -> None:
        self.losses.append(loss)
        self.say({"loss": loss, "way": scene.sweep.way, "output": output[-3000:]})

    def _judged(self, scene: Scene, end: Ended) -> bool:
        """Note a loss in the end of a command; tell whether the sweep has ended."""
        loss = end.loss
        if end.code == 2 and loss is None and not restore(scene):
            known = any(text in end.last for text in REFUSALS)
            loss = None if known else f"it was refused: {end.last}"
        if loss is not None:
            self._note(loss, scene, end.output)
        return end.code == 0 and "completed" in end.output and "continue with: " not in end.output

    def _undisturbed(self, way: str, short: bool | None = None) -> Path:
        """Return the folder of an undisturbed run in one process, which is made once for each study."""
        short = self.short if short is None else short
        study = f"{'one' if way in ALONE else 'ray'}{'-short' if short else ''}"
        if study not in self._whole:
            sweep = Sweep(self.place / f"whole-{study}", "local" if way in ALONE else "ray", short=short)
            sweep.start("run", str(sweep.file), "--out", str(sweep.folder), "--local")
            end = sweep.end()
            if end.code:
                raise RuntimeError(f"the undisturbed run failed: {end.output}")
            self._whole[study] = sweep.folder
        return self._whole[study]


def _drawn(draw: random.Random, way: str, disk: Disk, kinds: Sequence[str]) -> Fault:
    able = [f for f in FAULTS if way in f.ways and (disk.small or not f.small_disk)]
    some = [f for f in able if f.name in kinds] or able
    return draw.choices(some, [f.weight for f in some])[0]


def _moment(sweep: Sweep, draw: random.Random) -> str:
    """Wait for a random moment of a command: some tasks, and a bit."""
    begin, end = sweep.tasks(), time.monotonic() + 90
    wait = draw.choice([0, 1, 2, 3, 5, 8, 12])
    while sweep.runs and sweep.tasks() < begin + wait and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(draw.uniform(0.0, 0.6 if wait else 6.0))
    return f"{sweep.tasks() - begin} tasks later"


@contextlib.contextmanager
def _ended(sweep: Sweep, disk: Disk) -> Iterator[None]:
    """End what a sweep has started, and give its disk back."""
    try:
        yield
    finally:
        for group in sweep.groups:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        disk.close()
