"""Processes that end, and disks that refuse."""

from __future__ import annotations

import contextlib
import resource
import signal
import time
from collections.abc import Callable

from tests.faults.processes import named, send
from tests.faults.scene import Scene

KILL = signal.SIGKILL
JOINING = 15.0  # seconds in which the nodes of a new cluster join, on a machine that is not busy


def driver(number: signal.Signals) -> Callable[[Scene], None]:
    """Return a fault that sends the command a signal."""

    def inflict(scene: Scene) -> None:
        send([scene.sweep.pid], number)
        scene.end()

    return inflict


def worker(number: signal.Signals) -> Callable[[Scene], None]:
    """Return a fault that sends a worker a signal."""

    def inflict(scene: Scene) -> None:
        for texts in (("ray::TaskTrainable",), ("ray::", "default_worker")):
            below = named(scene.sweep.pid, *texts)
            found = scene.nodes.workers(*texts) if scene.nodes else below
            if found:
                send([scene.random.choice(found)], number)
                return
        scene.notes.append("no worker yet")

    return inflict


def only_node(scene: Scene) -> None:
    """Kill the raylet of the command's own Ray."""
    raylets = named(scene.sweep.pid, "raylet/raylet")
    send(raylets, KILL)
    if raylets:
        scene.end()


def node(number: signal.Signals, whole: bool) -> Callable[[Scene], None]:
    """Return a fault that ends a node, whole or its raylet alone; another one joins."""

    def inflict(scene: Scene) -> None:
        assert scene.nodes is not None
        index = scene.random.randrange(len(scene.nodes.good))
        scene.nodes.lose(index, number, whole)
        time.sleep(scene.random.uniform(0.0, 8.0))
        scene.nodes.replace(index)

    return inflict


def full(scene: Scene) -> None:
    """Leave no room on the disk until the command has ended."""
    with scene.disk.full(left=scene.random.choice([0, 20_000, 300_000])):
        scene.end()


def read_only(scene: Scene) -> None:
    """Refuse writes until the command has ended."""
    with scene.disk.read_only():
        scene.end()


def quota(scene: Scene) -> None:
    """Limit the size of files until the command has ended."""
    most = scene.random.choice([20_000, 50_000])  # what the command prints goes to a file, too
    with contextlib.suppress(ProcessLookupError, PermissionError):
        resource.prlimit(scene.sweep.pid, resource.RLIMIT_FSIZE, (most, resource.RLIM_INFINITY))
    scene.end()


def head(scene: Scene) -> None:
    """Kill the head node, with which Ray ends on all nodes; the command continues on a new cluster."""
    assert scene.nodes is not None
    scene.nodes.lose_head()
    scene.end()
    scene.sweep.address = scene.nodes.begin()
    time.sleep(JOINING)


def gather(scene: Scene) -> None:
    """Merge the tables while the command works, and kill that."""
    merging = scene.sweep.beside("gather", scene.sweep.target)
    time.sleep(scene.random.uniform(0.5, 2.5))
    merging.process.kill()
    merging.process.wait()
