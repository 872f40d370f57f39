"""Lines of running runs: task and epoch, with a bar."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from search.worker.progress import RunProgress

BAR = 24  # characters of a bar at most
LEAST = 8  # and at least, where there is a bar


def run_lines(runs: Sequence[RunProgress], room: int) -> list[Text]:
    """Return a line per run, `room` characters wide; on narrow terminals two, the name above."""
    tasks = [f"task {run.task + 1}/{run.tasks}" for run in runs]
    epochs = [f"epoch {_epoch(run)}/{run.epochs}" for run in runs]
    names = max((len(run.run) for run in runs), default=0)
    task, epoch = max(map(len, tasks), default=0), max(map(len, epochs), default=0)
    beside = room - names - task - epoch - 6
    below = room - task - epoch - 6
    lines: list[Text] = []
    for run, its_task, its_epoch in zip(runs, tasks, epochs, strict=True):
        words = f"{its_task:{task}}  {its_epoch:{epoch}}"
        if beside >= LEAST:
            lines.append(Text.assemble(f"{run.run:{names}}  {words}  ", *_bar(run, beside)))
        else:
            bar = _bar(run, below) if below >= LEAST else []
            lines += [Text(run.run), Text.assemble(f"  {words}  ", *bar)]
    return lines


def in_words(run: RunProgress) -> str:
    """Return the progress of a run in a few words, for a line without a terminal."""
    return f"{run.run} task {run.task + 1}/{run.tasks} epoch {_epoch(run)}/{run.epochs}"


def _epoch(run: RunProgress) -> int:
    """Return the epoch that is being trained, from 1."""
    return min(run.epoch + 1, run.epochs)


def _bar(run: RunProgress, room: int) -> list[tuple[str, str]]:
    width = min(room, BAR)
    done = min(width, round(width * run.fraction))
    return [("━" * done, "yellow"), ("─" * (width - done), "dim")]
