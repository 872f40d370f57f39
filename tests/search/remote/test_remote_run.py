"""A run folder in an object store: the same tables as on a disk, from whichever machine it is continued."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, Thread, current_thread
from typing import Any

import obstore
import pytest

from analysis import equal
from analysis.lake.run_folder import CONTROL, COPY_OF, JOURNAL, REPORT, STUDY
from cl_core.records import TABLES
from search.commands.run import run_study
from search.commands.status import status
from search.remote.copies import copy_of
from search.remote.lease import Lease
from search.remote.object_store import ObjectStore, Stored
from search.remote.working_copy import folder_trouble, run_folder, send_free, working_in
from tests.search.remote.conftest import SECRET, put_plainly
from tests.search.terminal import call, refused, write

Machine = Callable[[str], Path]


def test_a_study_is_continued_on_another_machine_and_its_tables_are_those_of_a_disk(
    bucket: str, machine: Machine, tmp_path: Path, finished: Path
) -> None:
    study, url = write(tmp_path), f"{bucket}/runs/x"
    first = call("run", study, "--local", "--out", url, "--set", "search.trials=1", code=0)
    assert "1 run completed" in first.stdout
    there = {found.name for found in ObjectStore(url).list()}
    assert {STUDY, JOURNAL, REPORT, "tables/runs/schema.parquet", ".lease"} <= there
    assert not any(name.startswith(("checkpoints/resume", "tables/.running")) for name in there)
    machine("second")
    assert status(run_folder(url))["runs"]["completed"] == 1
    assert "finished" in call("status", url, code=0).stdout
    call("run", study, "--local", "--out", url, code=0)
    machine("first")
    assert "2 runs completed" in call("run", study, "--local", "--out", url, code=0).stdout
    assert equal(run_folder(url), finished)
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()


def test_the_verbs_of_a_run_folder_work_from_any_machine(
    bucket: str, machine: Machine, tmp_path: Path
) -> None:
    url = f"{bucket}/x"
    said = call("run", write(tmp_path), "--local", "--out", url, code=0).stdout
    study = f"{url}/{STUDY}"
    assert f"to confirm: cl-search run {study} --out {url} --trials" in said.replace("\n", "")
    machine("second")
    advice = call("advise", url, code=0).stdout
    assert f"cl-search export {url} --cell finetune@B0-5tasks" in advice
    page = Path(call("report", url, code=0).stdout.removeprefix("report: ").strip()).read_text()
    assert f"cl-search evaluate {url}" in page
    assert "1 cell" in call("run", study, "--local", "--out", url, "--dry-run", code=0).stdout
    call("pause", url, "finetune@B0-5tasks", code=0)
    call("gather", url, code=0)
    assert (run_folder(url) / "tables" / "runs" / "gathered.parquet").exists()
    assert "removed" in call("prune", url, code=0).stdout
    machine("third")
    there = {found.name for found in ObjectStore(url).list()}
    assert CONTROL in there
    assert not any(name.startswith("checkpoints/") for name in there)
    runs = {name for name in there if name.startswith("tables/runs/")}
    assert runs == {"tables/runs/gathered.parquet", "tables/runs/schema.parquet"}
    assert "attempt 1" in call("logs", url, "finetune@B0-5tasks/0", code=0).stdout


@pytest.mark.parametrize(
    "name", ["pictures/sheets.json", "tracking/tensorboard/events.1", "export/x/best.yaml"]
)
def test_what_a_reading_command_makes_reaches_the_store_and_stays(
    bucket: str, machine: Machine, name: str
) -> None:
    url = f"{bucket}/x"
    with working_in(run_folder(url)):
        (run_folder(url) / STUDY).write_text("1")
    machine("second")
    made = run_folder(url) / name
    made.parent.mkdir(parents=True)
    made.write_text("1")
    send_free(run_folder(url))
    assert made.exists()
    machine("third")
    assert (run_folder(url) / name).read_text() == "1"


def test_two_commands_never_work_in_one_folder(bucket: str, machine: Machine, tmp_path: Path) -> None:
    study, url = write(tmp_path), f"{bucket}/x"
    with working_in(run_folder(url)):
        assert "another run is working in" in refused("run", study, "--local", "--out", url)
        machine("second")
        assert f"another run is working in {url}" in refused("run", study, "--local", "--out", url)
    call("run", study, "--local", "--out", url, code=0)


def test_a_command_that_reads_takes_nothing_from_one_that_begins(
    bucket: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{bucket}/x"
    folder, listed, further, whole = copy_of(url).folder, Event(), Event(), ObjectStore.list

    def slowly(store: ObjectStore, prefix: str = "") -> list[Stored]:
        found = whole(store, prefix)
        if current_thread() is reader:
            listed.set()
            further.wait(10)
        return found

    def work() -> None:
        with working_in(folder):
            (folder / STUDY).write_text("1")

    monkeypatch.setattr(ObjectStore, "list", slowly)
    reader, worker = Thread(target=run_folder, args=(url,)), Thread(target=work)
    reader.start()
    assert listed.wait(10)
    worker.start()
    worker.join(1.0)
    further.set()
    reader.join()
    worker.join()
    assert (folder / STUDY).read_text() == "1"


def test_the_copy_of_a_killed_driver_counts_unless_another_machine_has_worked(
    bucket: str, machine: Machine, tmp_path: Path
) -> None:
    url = f"{bucket}/x"
    folder = run_folder(url)
    with working_in(folder):
        (folder / STUDY).write_text("sent")
        (folder / "nodes.json").write_text("1")
    copy = copy_of(url)
    Lease(copy.store).acquire(copy.place, copy.line)  # a driver that is killed
    (folder / STUDY).write_text("not sent")
    with working_in(folder):
        pass
    machine("second")
    second = run_folder(url)
    assert (second / STUDY).read_text() == "not sent"
    with working_in(second):
        (second / STUDY).write_text("of another machine")
        (second / "nodes.json").unlink()
    (folder / STUDY).write_text("too late")
    machine("first")
    assert (run_folder(url) / STUDY).read_text() == "of another machine"
    assert not (folder / "nodes.json").exists()


def test_a_new_study_is_in_the_store_before_its_rows(
    bucket: str, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str] = []
    put = obstore.put

    def noted(store: Any, name: str, content: bytes, **named: Any) -> Any:
        names.append(name)
        return put(store, name, content, **named)

    monkeypatch.setattr("obstore.put", noted)
    call("run", write(tmp_path), "--local", "--out", f"{bucket}/x", code=0)
    kept = [name for name in names if not name.startswith(".")]
    assert kept[0] == STUDY
    rows = [n for n, name in enumerate(kept) if name.startswith("tables/") and "schema" not in name]
    assert max(kept.index(f"tables/{table}/schema.parquet") for table in TABLES) < rows[0]


def test_a_copy_that_lost_files_gets_them_again(bucket: str, machine: Machine) -> None:
    url = f"{bucket}/x"
    folder = run_folder(url)
    with working_in(folder):
        (folder / STUDY).write_text("1")
    (folder / STUDY).unlink()  # such as by a cleaner of temporary files
    with working_in(folder):
        assert (folder / STUDY).read_text() == "1"
    shutil.rmtree(folder)
    assert (run_folder(url) / STUDY).read_text() == "1"
    assert (folder / COPY_OF).exists()


def test_rows_that_come_while_changes_are_looked_for_stay_in_the_store(
    bucket: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, rows = f"{bucket}/x", "tables/runs/a.parquet"
    folder = run_folder(url)
    copy, walk = copy_of(url), os.walk

    def walked(place: Path) -> Iterator[tuple[str, list[str], list[str]]]:
        yield from walk(place)
        if not (folder / rows).exists():
            (folder / rows).parent.mkdir(parents=True)
            (folder / rows).write_text("1")
            copy.give([rows])

    with working_in(folder):
        monkeypatch.setattr("os.walk", walked)
        copy.send()
        assert copy.store.head(rows) is not None


def test_a_file_that_has_gone_is_removed_by_one_of_two_looks_for_changes(
    bucket: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, plain = f"{bucket}/x", ObjectStore.delete
    folder, copy = run_folder(url), copy_of(url)

    def slowly(store: ObjectStore, names: Iterable[str], guard: Any = None) -> None:
        Event().wait(0.2)
        plain(store, names, guard)

    with working_in(folder):
        (folder / STUDY).write_text("1")
        (folder / "nodes.json").write_text("1")
        copy.send()
        (folder / "nodes.json").unlink()
        monkeypatch.setattr(ObjectStore, "delete", slowly)
        with ThreadPoolExecutor(2) as pool:
            for sending in [pool.submit(copy.send), pool.submit(copy.send)]:
                sending.result()
    assert copy.store.head("nodes.json") is None


def test_an_empty_object_of_a_folder_is_no_file_of_a_run(
    bucket: str, endpoint: str, machine: Machine
) -> None:
    url = f"{bucket}/x"
    with working_in(run_folder(url)):
        (run_folder(url) / STUDY).write_text("1")
    for name in ("", "tables/", "empty/"):  # as the console of a cloud makes them
        put_plainly(f"{endpoint}/{bucket.removeprefix('s3://')}/x/{name}")
    machine("second")
    assert [path.name for path in run_folder(url).glob("[!.]*")] == [STUDY]


def test_of_a_study_file_in_a_store_nothing_else_is_fetched(
    bucket: str, machine: Machine, tmp_path: Path
) -> None:
    store = ObjectStore(bucket)
    store.put("small.yaml", write(tmp_path).read_bytes())
    store.put("images/train/0/1.jpg", b"another one's")
    place, words = copy_of(bucket).folder, ("--local", "--out", tmp_path / "x", "--dry-run")
    assert "1 cell" in call("run", f"{bucket}/small.yaml", *words, code=0).stdout
    assert [path.name for path in place.glob("[!.]*")] == ["small.yaml"]
    store.delete(["small.yaml"])
    assert f"study file '{bucket}/small.yaml' does not exist" in refused("run", f"{bucket}/small.yaml")


def test_base_checkpoints_in_a_store_serve_two_studies(
    bucket: str, machine: Machine, tmp_path: Path, finished: Path
) -> None:
    study, shared = write(tmp_path), f"storage.checkpoints={bucket}/checkpoints"
    run_study(str(study), tmp_path / "a", [shared], local=True)
    machine("second")
    run_study(str(study), tmp_path / "b", [shared], local=True)
    assert equal(tmp_path / "a", finished)
    assert equal(tmp_path / "b", finished)
    assert len(ObjectStore(f"{bucket}/checkpoints").list()) == 1


def test_a_full_disk_under_a_copy_is_named(
    bucket: str, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = run_folder(f"{bucket}/x")
    assert folder_trouble(folder) is None
    monkeypatch.setattr(
        "search.remote.working_copy.storage_trouble", lambda folder: "No space left on device"
    )
    said = f"No space left on device, for its copy on this machine in {folder.parent}"
    assert folder_trouble(folder) == said


def test_a_store_that_goes_away_ends_the_command_in_one_line(
    bucket: str, machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("search.remote.object_store.REPEATED", 0.2)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    url = f"{bucket}/gone-for-now"
    done = call("run", write(tmp_path), "--local", "--out", url, code=1)
    assert done.stderr.count("\n") == 1
    assert f"{url} must answer" in done.stderr
