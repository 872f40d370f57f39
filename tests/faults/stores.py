"""Object stores that fail: unreachable, silent, busy, slow, with answers and objects lost."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.faults.scene import Scene
from tests.faults.store import GONE, HELD, LOST
from tests.faults.sweep import LEASE

SOON = 30.0  # seconds in which a command sends something, at the latest


def fails(mode: str, *seconds: float) -> Callable[[Scene], None]:
    """Return a fault that lets the store fail for one of some times, in seconds before they are divided."""

    def inflict(scene: Scene) -> None:
        chosen = scene.random.choice(seconds) / scene.sweep.quick
        with scene.store.failing(mode):
            time.sleep(chosen)
        scene.notes.append(f"{chosen:g} s")

    return inflict


def answer_lost(scene: Scene) -> None:
    """Carry out puts, and lose their answers."""
    with scene.store.failing(LOST):
        if not scene.store.puts.wait(SOON):
            scene.notes.append("no put")
        time.sleep(scene.random.uniform(0.0, 20.0) / scene.sweep.quick)


def killed_in_upload(scene: Scene) -> None:
    """Kill the command while it sends something, which arrives later or never."""
    with scene.store.failing(HELD):
        if not scene.store.puts.wait(SOON):
            scene.notes.append("no put")
        scene.kill_driver()
        time.sleep(scene.random.uniform(0.0, 1.0))
        if scene.random.random() < 0.5:
            scene.store.mode = GONE
            time.sleep(0.2)
            scene.notes.append("it never arrives")


def other_machine(scene: Scene) -> None:
    """Kill the command; another machine is refused while the lease lasts, then continues."""
    scene.kill_driver()
    scene.sweep.machine = scene.random.choice([n for n in range(3) if n != scene.sweep.machine])
    scene.sweep.start()
    if "another run is working in" not in scene.end().output:
        scene.notes.append("its lease had ended")
    time.sleep(LEASE / scene.sweep.quick)


def object_damaged(scene: Scene) -> None:
    """Change or remove an object of the store, while the command works or at rest."""
    if scene.random.random() < 0.6:
        scene.kill_driver()
    inside = scene.sweep.inside
    kinds = ("tables/", "checkpoints/", "optuna.journal", "logs/")
    found = [name for name in scene.store.objects(inside) if name.removeprefix(inside).startswith(kinds)]
    if not found:
        scene.notes.append("no object yet")
        return
    name = scene.random.choice(sorted(found))
    content = bytearray(scene.store.get(name) or b" ")
    if scene.random.random() < 0.3:
        scene.store.remove(name)
        what = "removed"
    elif scene.random.random() < 0.5:
        content[scene.random.randrange(len(content))] ^= 1 << scene.random.randrange(8)
        scene.store.put(name, bytes(content))
        what = "flipped"
    else:
        scene.store.put(name, bytes(content[: scene.random.randrange(len(content))]))
        what = "cut"
    scene.notes.append(f"{what} {name}{'' if scene.sweep.runs else ' at rest'}")
