"""The CPU seconds of a quickstart and of one trial of CIFAR's size, by what they are spent on.

Each command runs in its own process with one thread, and is sampled every two milliseconds of CPU. Kernels
that take longer count in full.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import FrameType

PARTS = (  # (part of a file's path, function or "", what it is): the innermost frame that fits decides
    ("importlib._bootstrap", "", "imports"),
    ("torch/_tensor.py", "backward", "backward"),
    ("training/optimiser.py", "step", "optimiser"),
    ("images/view.py", "epoch", "reading and augmenting images"),
    ("training/evaluation.py", "", "evaluation"),
    ("cl_core/methods/", "end", "ends of tasks"),
    ("training/checkpoints.py", "", "checkpoints"),
    ("nets/network.py", "forward", "forward"),
    ("training/learner.py", "train_phase", "losses and records"),
    ("search/lake/", "", "tables"),
    ("analysis/report/", "", "report"),
    ("training/code.py", "", "digests of code"),
    ("search/cells/", "", "search"),
    ("search/preparation/", "", "checks before work"),
)
COMMANDS = {
    "quickstart": ["run", "quickstart", "--local", "--out", "{folder}/first", "--set", "search.trials=3"],
    "again": ["run", "quickstart", "--local", "--out", "{folder}/first", "--set", "search.trials=3"],
    "cifar_size": [
        "train", "--method", "lwf", "--data", "synthetic", "--scenario", "B0-5tasks", "--net", "resnet32",
        "--threads", "1", "--out", "{folder}/second", "--set", "data.size=32", "--set", "data.per_class=60",
        "--set", "recipe.epochs=5", "--set", "recipe.batch=128",
    ],
}  # fmt: skip
INTERVAL = 0.002


def measure() -> dict[str, dict[str, float]]:
    """Return the CPU seconds of every command by part, largest first."""
    out: dict[str, dict[str, float]] = {}
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        for name, arguments in COMMANDS.items():
            found = Path(folder) / f"{name}.json"
            command = [part.format(folder=folder) for part in arguments]
            subprocess.run(
                [sys.executable, "-m", "tests.benchmarks.where", str(found), *command],
                check=True,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            seconds: dict[str, float] = json.loads(found.read_text(encoding="utf-8"))
            out[name] = dict(sorted(seconds.items(), key=lambda item: -item[1]))
            print(f"where: {name} {sum(seconds.values()):.1f} s", file=sys.stderr)
    return out


def sampled(found: Path, command: list[str]) -> None:
    """Run a command of cl-search in this process, and write its CPU seconds by part."""
    spent: Counter[str] = Counter()
    last = time.process_time()

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal last
        now = time.process_time()
        spent[part_of(frame)] += now - last  # type: ignore[assignment]
        last = now

    spent["imports"] += last  # type: ignore[assignment]
    signal.signal(signal.SIGPROF, note)
    signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)
    from search.cli import main

    sys.argv = ["cl-search", *command]
    try:
        main()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        text = json.dumps({part: round(seconds, 3) for part, seconds in spent.items()})
        found.write_text(text, encoding="utf-8")


def part_of(frame: FrameType | None) -> str:
    """Return what a stack is about, by its innermost frame that a part names."""
    while frame is not None:
        file, function = frame.f_code.co_filename, frame.f_code.co_name
        for place, name, part in PARTS:
            if place in file and name in ("", function):
                return part
        frame = frame.f_back
    return "the rest"


if __name__ == "__main__":
    sampled(Path(sys.argv[1]), sys.argv[2:])
