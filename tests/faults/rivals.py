"""Rivals: a second command on the folder of a first one, and a second study with its checkpoints."""

from __future__ import annotations

from tests.faults.scene import Scene

REFUSED = "another run "  # is working in the folder, or has begun to


def second_command(scene: Scene) -> None:
    """Give the command of the sweep again while it works, on an object store maybe from another machine."""
    sweep = scene.sweep
    begun = sweep.tasks() > sweep.before  # this command has trained, so it holds the folder
    machine = scene.random.choice([sweep.machine, 7])
    second = sweep.again(machine)
    end = second.end()
    if end.loss is not None:
        scene.losses.append(f"the second command: {end.loss}: {end.last}")
    if end.code == 2 and REFUSED in end.output:
        scene.notes.append("refused")
    elif begun and sweep.runs and "nothing to do" not in end.output:  # the first one has done it all
        scene.losses.append(f"a second command was not refused: {end.output[-600:]}")
    else:
        scene.notes.append(f"the first one did not work: {end.last[-80:]}")


def second_study(scene: Scene) -> None:
    """Run the same study in another folder with the same store of checkpoints, or kill that command."""
    if scene.neighbour is None:
        scene.notes.append("the checkpoints are the sweep's own")
    elif scene.neighbour.runs:
        scene.neighbour.kill()
        scene.notes.append("killed")
    else:
        if scene.neighbour.process is not None:
            end = scene.neighbour.end()
            if end.loss is not None:
                scene.losses.append(f"the second study: {end.loss}: {end.last}")
        scene.neighbour.start()
        scene.notes.append("started")
