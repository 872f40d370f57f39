"""A run's folder on a network file system: the studies on this machine's disk, a copy in the folder."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from analysis.lake.run_folder import JOURNAL, SQLITE_FILE
from cl_core.errors import BadRequest
from search.cells.cell_progress import read_progress
from search.cells.search_queue import SearchQueue
from search.storage import file_systems, mirror
from search.storage.file_systems import network_type, own_place
from search.storage.studies import check_storage
from spaces.resolved.run_spec import RunSpec
from spaces.study.storage import StoragePart
from tests.search.jobs.test_steering import begun
from tests.search.simulation import TASKS, Driver, told, worth

pytestmark = pytest.mark.usefixtures("no_lock_outlives_a_test")

LWF = "lwf@B0-5tasks"
MOUNTS = """\
22 1 254:0 / / rw,relatime - ext4 /dev/vda rw
23 22 0:5 / /dev rw - devtmpfs devtmpfs rw
40 22 0:40 / /home rw shared:1 - nfs4 server:/home rw,vers=4.2
41 40 0:41 / /home/ann/scratch rw - xfs /dev/vdb rw
42 22 0:42 / /mnt/with\\040space rw - lustre mds@tcp:/fs rw
43 22 0:43 / /over rw - ext4 /dev/vdc rw
44 43 0:44 / /over rw - cifs //server/share rw
broken line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/ann/runs/x", "nfs4"),
        ("/home", "nfs4"),
        ("/homes/ann", None),
        ("/home/ann/scratch/x", None),
        ("/mnt/with space/x", "lustre"),
        ("/over/x", "cifs"),
        ("/nowhere", None),
    ],
)
def test_a_network_file_system_is_known_by_its_mount(
    path: str, kind: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mountinfo").write_text(MOUNTS)
    monkeypatch.setattr(file_systems, "MOUNTS", tmp_path / "mountinfo")
    assert network_type(Path(path)) == kind
    monkeypatch.setattr(file_systems, "MOUNTS", tmp_path / "none")
    assert network_type(Path(path)) is None


class Machine:
    """This machine as one that mounts `network`; `disk` is its own."""

    def __init__(self, network: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.network, self._patch = network, monkeypatch
        for module in ("search.storage.studies", "search.storage.file_systems"):
            monkeypatch.setattr(f"{module}.network_type", self.kind)

    def kind(self, path: Path) -> str | None:
        return "nfs4" if path.absolute().is_relative_to(self.network) else None

    def go_to(self, disk: Path) -> None:
        """Go on as a machine with another disk."""
        self._patch.setenv("XDG_STATE_HOME", str(disk))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(tmp_path / "network", monkeypatch)
    made.go_to(tmp_path / "a")
    monkeypatch.setattr(mirror, "EVERY", 1000.0)  # no copy but the one at the end
    return made


def kept(study: Any, folder: Path, optuna: str, **search: Any) -> Any:
    resolved = study(**search)
    if optuna == "sqlite":
        part = StoragePart(optuna="sqlite")
        object.__setattr__(resolved, "study", resolved.study.model_copy(update={"storage": part}))
    folder.mkdir(parents=True)
    return begun(resolved, folder)


@pytest.mark.parametrize(("optuna", "name"), [("journal", JOURNAL), ("sqlite", SQLITE_FILE)])
def test_a_run_goes_on_here_and_on_another_machine(
    optuna: str, name: str, study: Any, tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def simulated(folder: Path, spec: RunSpec, sizes: Sequence[int]) -> list[float | None]:
        value = worth(spec)
        return [None, *(value * (1 - 0.1 * (TASKS - 1 - task) / TASKS) for task in range(1, TASKS))]

    monkeypatch.setattr("search.cells.recovery.increments_of", simulated)  # simulated runs leave no counts
    how: dict[str, Any] = {"trials": 8, "methods": {"lwf": None}, "stopper": "median"}
    straight = tmp_path / "straight"
    with SearchQueue(kept(study, straight, "journal", **how), straight, bases=False) as cells:
        order = Driver(cells, straight).run().order
    folder = tmp_path / "network" / "run"
    resolved = kept(study, folder, optuna, **how)
    with SearchQueue(resolved, folder, bases=False) as cells:
        first = Driver(cells, folder).run(2)
        assert not (folder / name).exists()
        assert read_progress(folder) == cells.progress()  # this machine looks at its own
    copy = (folder / name).read_bytes()
    with SearchQueue(resolved, folder, bases=False) as cells:
        more = Driver(cells, folder).run(2)
        assert len(list((tmp_path / "a").rglob(name))) == 1
        (own,) = (tmp_path / "a").rglob(name)
        assert own.stat().st_size >= len(copy)
        alone = tmp_path / "killed"
        shutil.copytree(folder, alone)  # as a kill leaves it, before the last copy
    shutil.rmtree(folder)
    shutil.copytree(alone, folder)
    machine.go_to(tmp_path / "b")  # finds the copy, which lacks two configurations
    with SearchQueue(resolved, folder, bases=False) as cells:
        second = Driver(cells, folder).run(2)
    done = first.order[:-1] + more.order[:-1]
    assert not set(done) & set(second.order)  # their rows are taken
    done += second.order[:-1]
    assert done == order[: len(done)]
    machine.go_to(tmp_path / "a")  # its own file is older now than the copy
    with SearchQueue(resolved, folder, bases=False) as cells:
        third = Driver(cells, folder).run()
        assert cells.finished
    assert done + third.order == order
    assert told(folder, LWF) == told(straight, LWF)


def test_a_killed_driver_goes_on_from_its_own_disk(study: Any, tmp_path: Path, machine: Machine) -> None:
    folder = tmp_path / "network" / "run"
    resolved = kept(study, folder, "journal", trials=4)
    cells = SearchQueue(resolved, folder, bases=False)  # killed: nothing is closed, no copy is written
    first = Driver(cells, folder).run(3)
    assert not (folder / JOURNAL).exists()
    with SearchQueue(resolved, folder, bases=False) as again:
        assert [p.started for p in again.progress()] == [2, 2]
        second = Driver(again, folder).run()
    assert second.order[0] == first.order[-1]
    assert (folder / JOURNAL).exists()
    assert [p.completed for p in read_progress(folder)] == [4, 4]


def test_the_copy_follows_within_its_time(
    study: Any, tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.search.storage.test_databases import until

    monkeypatch.setattr(mirror, "EVERY", 0.02)
    folder = tmp_path / "network" / "run"
    with SearchQueue(kept(study, folder, "journal", trials=2), folder, bases=False) as cells:
        Driver(cells, folder).run(1)
        (own,) = (tmp_path / "a").rglob(JOURNAL)
        until(lambda: (folder / JOURNAL).exists() and (folder / JOURNAL).read_bytes() == own.read_bytes())


def test_where_everything_lies_on_a_network_the_journal_stays_in_the_folder(
    study: Any, tmp_path: Path, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.go_to(tmp_path / "network" / "home")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "disk"))
    assert own_place() is not None  # temporary files are on a disk
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "network" / "tmp"))
    assert own_place() is None
    folder = tmp_path / "network" / "run"
    with SearchQueue(kept(study, folder, "journal", trials=1), folder, bases=False) as cells:
        Driver(cells, folder).run(1)
        assert (folder / JOURNAL).exists()
    with pytest.raises(BadRequest, match=r"storage.optuna sqlite needs a disk of this machine, .* nfs4"):
        check_storage(StoragePart(optuna="sqlite"), folder)
    with pytest.raises(BadRequest, match=r"lies on nfs4, where SQLite's locks do not hold"):
        check_storage(StoragePart(optuna=f"sqlite:///{folder}/a.db"), tmp_path)


def test_a_run_id_that_is_none_makes_no_path(study: Any, tmp_path: Path, machine: Machine) -> None:
    folder = tmp_path / "network" / "run"
    resolved = kept(study, folder, "journal", trials=1)
    text = (folder / "study.yaml").read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("  run: ")]
    (folder / "study.yaml").write_text(text.replace(line, "  run: ../../../escaped"))
    with SearchQueue(resolved, folder, bases=False) as cells:
        Driver(cells, folder).run(1)
    assert not list(tmp_path.rglob("*escaped*"))
    assert (folder / JOURNAL).exists()


def test_a_lost_journal_is_made_again_from_the_tables(tmp_path: Path) -> None:
    from search.commands.run import run_study
    from tests.search.simulation import trials_in
    from tests.search.storage.test_databases import TINY

    search = {"trials": 5, "sampler": "random", "stopper": "median", "stopper_args": {"n_startup_trials": 1}}
    tiny = {**TINY, "methods": ["lwf"], "search": search}
    before = run_study(tiny, tmp_path, local=True)
    trials = [told_by(trial) for trial in trials_in(tmp_path, LWF)]
    assert {trial[0] for trial in trials} == {"COMPLETE", "PRUNED"}
    (tmp_path / JOURNAL).unlink()
    after = run_study(tiny, tmp_path, local=True)
    assert (after.completed, after.stopped) == (before.completed, before.stopped)
    assert [told_by(trial) for trial in trials_in(tmp_path, LWF)] == trials
    text = (tmp_path / "logs").glob("*.log")
    assert all(path.read_text().count("attempt") == 1 for path in text)  # nothing was trained again


def told_by(trial: Any) -> tuple[Any, ...]:
    return trial.state.name, trial.values, trial.params, trial.intermediate_values, trial.user_attrs
