"""A sweep on digits: its study, its commands, and its tables beside those of an undisturbed run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml

from analysis import equal
from analysis.lake.run_folder import LOGS, table_folder
from cl_core.records import SORT, TABLES
from tests.faults.processes import descendants, end_tree
from tests.faults.store import BUCKET, Store

ALLOWED = (0, 1, 2, 130, 143, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGUSR1)  # exit codes
HANGS = 240.0  # seconds after which a command counts as one that never ends
PATIENCE = 600.0  # seconds more where a store may not answer, before they are divided
LEASE = 66.0  # seconds in which a dead command's lease has ended, before they are divided
ROOT = Path(__file__).parents[2]
# In one process, on a Ray of its own, on a cluster; and with the folder in an object store.
WAYS: dict[str, list[str]] = {
    "local": ["--local"],
    "ray": [],
    "cluster": [],
    "store": ["--local"],
    "store-cluster": [],
}
ALONE = ("local", "store")
SHARED = "checkpoints"  # beside the run folder: a store of checkpoints of two studies


def study(way: str, short: bool = False, checkpoints: str | None = None) -> dict[str, Any]:
    """Two cells of seven trials, two of which confirm; with `short`, of two. Seconds of training.

    In one process every number is the same again, so there trials are learnt from and stopped. At two at a
    time only a random search is.
    """
    learnt = {"sampler": "tpe", "stopper": "asha", "sampler_args": {"n_startup_trials": 2}}
    return {
        "study": "storm",
        "data": {"name": "digits", "per_class": 20},
        "scenarios": ["B0-5tasks"],
        "methods": {"lwf": None, "icarl": {"loss": "ce", "exemplars_per_class": 3}},
        "recipe": {"epochs": 2, "increment": {"lr": {"float": [0.01, 0.2], "log": True}}},
        "search": {"trials": 2 if short else 7, **(learnt if way in ALONE else {"sampler": "random"})},
        "protocol": {"confirm": None if short else {"top": 1, "orders": 1}, "spread": 1},
        "resources": {"cpu": 1, "gpu": 0, "concurrent": 1 if way in ALONE else 2},
        "budget": {"grace": "2s"},
        "storage": {"checkpoints": checkpoints},
    }


@dataclass
class Ended:
    """A command that has ended. `loss` says why no command may end like this."""

    code: int
    output: str
    seconds: float
    loss: str | None = None

    @property
    def last(self) -> str:
        """The last line that is not empty."""
        return next((line for line in reversed(self.output.splitlines()) if line.strip()), "")


@dataclass
class Sweep:
    """One sweep in `place`, where its folder `run` and its study file are.

    With a `store` its folder is there, and `run` has the copies of the machines on which it works. `shared`
    is a store of checkpoints for several studies. Times of the store are divided by `quick`.
    """

    place: Path
    way: str
    address: str | None = None
    short: bool = False
    store: Store | None = None
    shared: str | None = None
    quick: float = 1.0
    uses: Store | None = None  # where only its checkpoints are
    machine: int = 0
    before: int = 0  # steps of training when the command began
    process: subprocess.Popen[bytes] | None = None
    commands: int = 0
    failed: bool = False  # the last command named failed runs
    groups: list[int] = field(default_factory=list)  # of the processes that its commands have started
    _begun: float = field(default=0.0, repr=False)

    def __post_init__(self) -> None:
        self.place.mkdir(parents=True, exist_ok=True)
        self.file = self.place / "storm.yaml"
        self.file.write_text(yaml.safe_dump(study(self.way, self.short, self.shared)))

    @property
    def folder(self) -> Path:
        """The run folder; of one in an object store, the copy on the machine that works."""
        if self.store is None:
            return self.place / "run"
        copies = (self._state(self.machine) / "cl-search" / "stores").glob("storm-*")
        return next(copies, self.place / "run" / "none")

    @property
    def inside(self) -> str:
        """The beginning of the names of the sweep's objects."""
        return f"{self.place.name}/storm/"

    @property
    def target(self) -> str:
        """The run folder as a command takes it."""
        return str(self.folder) if self.store is None else f"s3://{BUCKET}/{self.inside}".rstrip("/")

    def start(self, *words: str) -> None:
        """Give the command of the sweep, or that of `words`."""
        more = ["--retry-failed"] if self.failed and not words else []
        words = words or ("run", str(self.file), "--out", self.target, *WAYS[self.way], *more)
        self.before = self.tasks()
        self.output = self.place / f"output-{self.commands}"
        self.commands += 1
        with self.output.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.command", *words],
                cwd=self.place,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.groups.append(self.process.pid)
        self._begun = time.monotonic()

    def beside(self, *words: str, machine: int | None = None) -> Sweep:
        """Give another command while that of the sweep works."""
        other = replace(self, process=None, commands=100 + self.commands, groups=self.groups)
        other.machine = self.machine if machine is None else machine
        other.start(*words)
        self.commands += 1  # the names of outputs differ
        return other

    def again(self, machine: int) -> Sweep:
        """Give the command of the sweep while it works already."""
        return self.beside("run", str(self.file), "--out", self.target, *WAYS[self.way], machine=machine)

    def kill(self) -> None:
        """Kill the command."""
        assert self.process is not None
        self.process.kill()

    @property
    def runs(self) -> bool:
        """Tell whether a command works now."""
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        """The process of the command."""
        assert self.process is not None
        return self.process.pid

    def workers(self) -> list[int]:
        """The processes of the command; on a cluster, the driver alone."""
        return [self.pid, *descendants(self.pid)]

    def tasks(self) -> int:
        """Count the steps of training that the logs tell of."""
        return sum(path.read_bytes().count(b" tasks") for path in (self.folder / LOGS).glob("*.log"))

    def end(self) -> Ended:
        """Wait until the command has ended, and judge its end."""
        assert self.process is not None
        patience = HANGS + (0.0 if self.store is None else PATIENCE / self.quick)
        loss = None
        try:
            code = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            loss = f"it had not ended {patience:.0f} s later"
            end_tree(self.pid)
            code = self.process.wait()
        text = self.output.read_text(errors="replace")
        self.process, seconds = None, time.monotonic() - self._begun
        self.failed = "\nfailed: " in text
        if "Traceback" in text:
            loss = "a traceback reached the user"
        elif code not in ALLOWED and loss is None:
            loss = f"exit code {code}"
        elif code in (1, 2) and "error: " not in text and not self.failed and loss is None:
            loss = f"exit code {code} without a word"
        return Ended(code, text, seconds, loss)

    def differences(self, whole: Path) -> str | None:
        """Return how the tables differ from those of an undisturbed run; None if they are equal."""
        if self.store is not None:  # as a machine finds it that has seen nothing of it
            self.machine = 9
            self.start("status", self.target)
            self.end()
        twice = [f"{table} has rows twice" for table in TABLES if _doubled(self.folder, table)]
        found = equal(self.folder, whole)
        return "; ".join([*twice, *([] if found else [str(found)])]) or None

    def _state(self, machine: int) -> Path:
        return self.place / ("" if self.store is None else "run") / f"machine-{machine}"

    def _environment(self) -> dict[str, str]:
        out = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "FAULTS_QUICK": str(self.quick)}
        out.pop("RAY_ADDRESS", None)
        if self.address is not None and WAYS[self.way] == []:
            out |= {"RAY_ADDRESS": self.address, "RAY_AUTH_MODE": "token"}
        if (store := self.store or self.uses) is not None:
            out |= {**store.environment, "XDG_STATE_HOME": str(self._state(self.machine))}
        return out


def _doubled(folder: Path, table: str) -> bool:
    """Tell whether a reader that knows Parquet alone finds a row twice."""
    rows: Counter[tuple[Any, ...]] = Counter()
    for path in sorted(table_folder(folder, table).glob("[!.]*.parquet")):
        columns = pq.read_table(path, columns=list(SORT[table]), partitioning=None).to_pydict()
        rows.update(zip(*columns.values(), strict=True))
    return max(rows.values(), default=0) > 1
