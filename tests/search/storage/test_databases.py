"""The searcher over every storage: equal to the journal, safe to kill, and no password in sight."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis import equal, open_results
from cl_core.errors import BadRequest
from search.cells.cell_progress import read_progress
from search.cells.search_queue import SearchQueue
from search.storage.database import DRIVERS, LostDatabase, driver, while_it_answers
from search.storage.lock import is_active
from search.storage.studies import check_storage, read_studies
from spaces.resolved.continuing import grown
from spaces.resolved.study_yaml import study_yaml
from spaces.study.storage import StoragePart
from spaces.study.storage_url import split_password, without_passwords
from spaces.study.study_file import load_study
from tests.search import postgres
from tests.search.postgres import IN_URL, PASSWORD, Server
from tests.search.simulation import Driver, images, made, trials_in
from tests.search.terminal import call, refused

pytestmark = pytest.mark.usefixtures("no_lock_outlives_a_test")

LWF = "lwf@B0-5tasks"
ROOT = Path(__file__).parents[3]
TINY = {
    "study": "tiny",
    "data": {"name": "digits", "per_class": 20},
    "scenarios": ["B0-5tasks"],
    "methods": ["lwf", "bic"],
    "recipe": {"net": "convnet-small", "epochs": 1},
    "search": {"trials": 4, "sampler_args": {"n_startup_trials": 1}},
    "resources": {"concurrent": 1},
}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    if (reason := postgres.why_not()) is not None:
        pytest.skip(reason)
    with postgres.server() as running:
        yield running


@pytest.fixture(params=["sqlite", "sqlite:///", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A value of `storage.optuna`."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("server").full_url)
    return f"sqlite:///{tmp_path}/shared?.db".replace("?", "%") if request.param != "sqlite" else "sqlite"


def kept_in(place: str, folder: Path, **search: Any) -> Any:
    """A simulated study with its studies in a place, its study.yaml in the folder."""
    resolved = made(images(), **search)
    plain = resolved.study.to_plain() | {"storage": {"optuna": place}}
    study = load_study(plain)
    object.__setattr__(resolved, "study", study)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "study.yaml").write_text(study_yaml(resolved))
    return resolved


def trials(folder: Path, resolved: Any) -> list[Any]:
    """All that the Optuna trials of a run say, but for ids and times."""
    part = resolved.study.storage
    with read_studies(folder, part) as studies:
        assert studies is not None
        names = sorted(studies.ids())
    return [
        (
            name,
            t.number,
            t.state.name,
            t.values,
            t.params,
            t.distributions,
            t.intermediate_values,
            t.user_attrs,
        )
        for name in names
        for t in trials_in(folder, name, part)
    ]


@pytest.mark.parametrize(
    "search",
    [
        {"stopper": "asha", "audit": 0.3, "trials": 9},
        {
            "stopper": "median",
            "objective": ["average_incremental_accuracy", "last_accuracy"],
            "trials": 8,
            "methods": {"lwf": None},
        },
    ],
)
def test_every_storage_holds_what_the_journal_holds_also_after_a_kill(
    search: dict[str, Any], place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = kept_in("journal", tmp_path / "journal", **search)
    with SearchQueue(journal, tmp_path / "journal", bases=False) as cells:
        straight = Driver(cells, tmp_path / "journal").run()
    folder = tmp_path / "other"
    resolved = kept_in(place, folder, **search)
    with SearchQueue(resolved, folder, bases=False) as cells:
        first = Driver(cells, folder).run(5)
    with SearchQueue(resolved, folder, bases=False) as cells:
        second = Driver(cells, folder).run()
        progress = cells.progress()
    assert first.order[:-1] + second.order == straight.order
    assert trials(folder, resolved) == trials(tmp_path / "journal", journal)
    assert any(trial[2] == "PRUNED" for trial in trials(folder, resolved))
    monkeypatch.setenv("PGPASSWORD", PASSWORD)  # study.yaml does not have it
    assert read_progress(folder) == progress
    with SearchQueue(resolved, folder, bases=False) as cells:
        assert cells.finished


def test_asks_that_a_kill_cut_short_and_failures_are_taken_up_alike(place: str, tmp_path: Path) -> None:
    seen = []
    for where in ("journal", place):
        folder = tmp_path / where.partition(":")[0]
        resolved = kept_in(where, folder, trials=3, methods={"lwf": None})
        with SearchQueue(resolved, folder, bases=False) as cells:
            driven = Driver(cells, folder).run(1, ending=lambda spec: ("failed", None))
            (cell,) = cells.cells.values()
            cell.optuna.enqueue_trial({"hp.kd_weight": 1.0})  # killed between two calls of an ask
            cell.optuna.ask()
            cell.optuna.enqueue_trial({"hp.kd_weight": 2.0})
        with SearchQueue(resolved, folder, bases=False, retry_failed=True) as cells:
            again = Driver(cells, folder).run()
        seen.append((driven.order, again.order, trials(folder, resolved)))
    assert seen[0] == seen[1]
    assert [t[2] for t in seen[0][2]].count("FAIL") == 3


def test_runs_in_one_database_do_not_meet(server: Server, tmp_path: Path) -> None:
    orders = []
    for name in ("one", "two"):
        resolved = kept_in(server.full_url, tmp_path / name, trials=2, methods={"lwf": None})
        with SearchQueue(resolved, tmp_path / name, bases=False) as cells:
            orders.append(Driver(cells, tmp_path / name).run().order)
    assert orders[0] == orders[1]  # the second one learnt nothing from the first
    with read_studies(tmp_path / "one", resolved.study.storage) as studies:
        assert studies is not None
        names = {study.study_name for study in studies.storage.get_all_studies()}
        assert len([name for name in names if name.endswith(f"/{LWF}")]) >= 2
        assert list(studies.ids()) == [LWF]
        assert studies.prefix.startswith("simulated-")


def test_a_server_that_is_lost_is_one_line_and_the_search_goes_on(server: Server, tmp_path: Path) -> None:
    resolved = kept_in(server.full_url, tmp_path, trials=4, methods={"lwf": None})
    with SearchQueue(resolved, tmp_path, bases=False) as cells:
        first = Driver(cells, tmp_path).run(2)
        server.stop()
        try:
            part = resolved.study.storage
            with (
                pytest.raises(LostDatabase, match="does not answer any more") as caught,
                while_it_answers(part.optuna, part.password),
            ):
                first.end_oldest()
            assert "\n" not in str(caught.value)
            with pytest.raises(BadRequest, match=r"cannot open storage.optuna postgresql://tuner@127"):
                check_storage(part, tmp_path)
        finally:
            server.start()
        second = Driver(cells, tmp_path)  # a connection that was cut is made anew
        second.open = first.open or [job for job in [cells.next()] if job is not None]
        cells.close()
    with SearchQueue(resolved, tmp_path, bases=False) as cells:
        Driver(cells, tmp_path).run()
        (progress,) = cells.progress()
    assert (progress.started, progress.completed) == (4, 4)


def environment(password: bool) -> dict[str, str]:
    extra = {"PGPASSWORD": PASSWORD} if password else {}
    return {
        **os.environ,
        **extra,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path]),
    }


@contextlib.contextmanager
def started(*arguments: object, password: bool) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "search.cli", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment(password),
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_a_real_run_over_postgresql_survives_a_kill_and_a_lost_server(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, plain, other = tmp_path / "tiny.yaml", tmp_path / "journal", tmp_path / "postgresql"
    study.write_text(json.dumps(TINY))
    call("run", study, "--local", "--out", plain, code=0)
    # The password comes in the URL once; the folder and what is printed do not have it.
    command = ["run", study, "--local", "--out", other]
    with started(*command, "--set", f"storage.optuna={server.full_url}", password=False) as process:
        until(lambda: any(other.glob("tables/runs/lwf*.parquet")))
        process.send_signal(signal.SIGKILL)
        shown = process.communicate()[0]
    refusal = refused(*command)
    assert "no password supplied: put the password in ~/.pgpass or PGPASSWORD" in refusal
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with started(*command, password=True) as process:
        until(lambda: any(other.glob("tables/runs/bic*.parquet")))
        assert is_active(other)
        assert sum(cell.started for cell in read_progress(other)) >= 2
        server.stop()
        try:
            shown += (said := process.communicate(timeout=300)[0])
        finally:
            server.start()
    assert process.returncode == 1, said
    assert said.strip().splitlines()[-1].startswith("error: storage.optuna postgresql://tuner@127.0.0.1")
    last = call(*command, code=0)
    assert "8 runs completed" in last.stdout
    same = equal(open_results(plain), open_results(other))
    assert same, same
    texts = [shown, refusal, last.stdout + last.stderr]
    texts += [p.read_bytes().decode("latin-1") for p in other.rglob("*") if p.is_file()]
    for text in texts:
        assert PASSWORD not in text
        assert IN_URL not in text


def until(true: Any) -> None:
    for _ in range(15000):
        if true():
            return
        time.sleep(0.02)
    raise AssertionError("it did not come true within five minutes")


# URLs.


@pytest.mark.parametrize(
    ("given", "url", "password"),
    [
        ("journal", "journal", None),
        ("sqlite", "sqlite", None),
        ("sqlite:////a/b.db", "sqlite:////a/b.db", None),
        ("postgresql://ann@db/studies", "postgresql://ann@db/studies", None),
        ("postgresql://ann:a%40b@db:5433/studies", "postgresql://ann@db:5433/studies", "a@b"),
        ("postgresql+psycopg2://ann:x@[::1]/s?sslmode=require",
         "postgresql+psycopg2://ann@[::1]/s?sslmode=require", "x"),
        ("postgresql:///studies?host=/run/pg", "postgresql:///studies?host=/run/pg", None),
    ],
)  # fmt: skip
def test_a_password_is_taken_out_of_its_url(given: str, url: str, password: str | None) -> None:
    assert split_password(given) == (url, password)
    part = StoragePart(optuna=given)
    assert (part.optuna, part.password) == (url, password)
    assert part.model_dump()["optuna"] == url
    assert part.model_copy(update={"root": "elsewhere"}).password == password


@pytest.mark.parametrize(
    "given",
    [
        "postgres://ann:secret@db/studies",
        "mysql://ann:secret@db/studies",
        "postgresql://ann:secret/a@db/studies",
        "postgresql://ann:secret#@db/studies",
        "postgresql://ann:secret?@db/studies",
        "postgresql://ann:secret@db:port/studies",
        "postgresql://ann:secret@db",
        "postgresql://db/studies?user=ann&password=secret",
        "sqlite://",
        "sqlite:///:memory:",
        "ann:secret",
        "jurnal",
        "",
    ],
)
def test_a_storage_that_is_none_is_refused_without_its_password(given: str) -> None:
    plain = {**TINY, "storage": {"optuna": given}}
    with pytest.raises(BadRequest, match=r"storage.optuna (must|takes)") as caught:
        load_study(plain)
    if "://" in given:
        assert "secret" not in str(caught.value)
    with pytest.raises(BadRequest) as caught:
        load_study(TINY, [f"storage.optuna.x=1 {given}", f"storage.optuna={{a: '{given}'}}"])
    assert "\n" not in str(caught.value)


def test_passwords_are_covered_wherever_a_url_stands() -> None:
    text = "run a --set storage.optuna=postgresql://ann:p@ss@db:5432/s?x=1 --set a.b=1"
    assert without_passwords(text) == text.replace("p@ss", "***")
    assert without_passwords("postgresql://ann@db:5432/s") == "postgresql://ann@db:5432/s"
    assert without_passwords("lwf@B0-5tasks: see http://x:80/a") == "lwf@B0-5tasks: see http://x:80/a"


def test_a_run_keeps_its_storage() -> None:
    old = load_study({**TINY, "storage": {"optuna": "postgresql://ann@db/s"}})
    existing = {**old.to_plain(), "resolved": {}}
    assert grown(existing, load_study(TINY)).storage.optuna == "postgresql://ann@db/s"
    again = load_study({**TINY, "storage": {"optuna": "postgresql+psycopg2://ann:secret@db/s"}})
    assert grown(existing, again).storage.password == "secret"
    for other in ("journal", "sqlite", "postgresql://ann@elsewhere/s"):
        with pytest.raises(BadRequest, match=r"storage.optuna was postgresql://ann@db/s .* set it back"):
            grown(existing, load_study({**TINY, "storage": {"optuna": other}}))
    plain = {**load_study(TINY).to_plain(), "resolved": {}}
    assert grown(plain, load_study({**TINY, "storage": {"optuna": "journal"}})).storage.optuna == "journal"


def test_a_missing_driver_or_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name in DRIVERS else object())
    with pytest.raises(BadRequest, match=r"needs the package psycopg, .* pip install .cl-search.postgresql"):
        driver("postgresql://ann@db/s")
    with pytest.raises(BadRequest, match=r"needs the package psycopg2, "):
        driver("postgresql+psycopg2://ann@db/s")
    with pytest.raises(BadRequest, match=r"needs the folder .*: make it"):
        check_storage(StoragePart(optuna=f"sqlite:///{tmp_path}/none/a.db"), tmp_path)
    (tmp_path / "damaged.db").write_text("no database" * 1000)
    with pytest.raises(BadRequest, match="file is not a database"):
        check_storage(StoragePart(optuna=f"sqlite:///{tmp_path}/damaged.db"), tmp_path)
