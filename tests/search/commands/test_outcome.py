"""Tests of the lines at the end of a command, also on terminals that are narrow or know few characters."""

from __future__ import annotations

import atexit
import io
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from analysis.lake.run_folder import STUDY
from analysis.lake.run_rows import run_rows
from cl_core.errors import BadRequest
from cl_core.records import CONFIRM
from search.cells.search_queue import SearchQueue
from search.cli import main
from search.commands.outcome import next_command, outcome
from search.cost.evaluation_cost import counts, seconds
from search.cost.luck import lucky
from search.display.cells import cell_table
from search.display.named_table import named_table
from search.jobs.progress import CellProgress
from search.lake.writer import start_tables, study_schemas
from search.preparation.evaluation import prepare_evaluation
from search.worker.logs import named_run
from spaces.resolved.run_spec import RunSpec
from tests.analysis import planted
from tests.analysis.planted import Plan
from tests.search.simulation import Driver, Ending, begun, worth
from tests.search.terminal import call, refused, write

CELL = "distill-feature-cosine@B0-10tasks"


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished run of three cells, over two class orders."""
    place = tmp_path_factory.mktemp("outcome")
    study = write(
        place,
        methods=["finetune", "joint", "lwf"],
        recipe={"epochs": 1, "lr": 0.05},
        search={"trials": 3},
        protocol={"orders": 2},
        final={"orders": 2},
    )
    result = call("run", study, "--local", "--out", place / "run")
    assert result.exit_code == 0, result.output
    (place / "said").write_text(result.stdout)
    return place / "run"


@pytest.fixture(scope="module")
def judged(searched: Path) -> Path:
    """The same run with its evaluation."""
    copy = searched.with_name("judged")
    shutil.copytree(searched, copy)
    result = call("evaluate", copy, "--local")
    assert result.exit_code == 0, result.output
    copy.with_name("said-judged").write_text(result.stdout)
    return copy


def shown(folder: Path, room: int) -> str:
    console = Console(width=room)
    with console.capture() as capture:
        for part in outcome(folder).shown(room):
            console.print(part, highlight=False)
    return capture.get()


def test_a_search_ends_with_its_cells_and_the_next_command(searched: Path) -> None:
    said = (searched.parent / "said").read_text()
    assert "average incremental accuracy on validation rows, ± half the 95 % interval over 2" in said
    assert f"next: cl-search evaluate {searched}" in said.splitlines()[-1]
    rows = {row[0]: row for row in outcome(searched).rows}
    assert list(rows) == ["finetune@B0-5tasks", "joint@B0-5tasks", "lwf@B0-5tasks"]
    from analysis import open_results

    trials = open_results(searched).runs
    means = trials.groupby(["cell", "trial"])["objective"].mean()
    mine = rows["lwf@B0-5tasks"]
    assert mine[1] == str(means["lwf@B0-5tasks"].idxmax())
    assert mine[2].startswith(f"{means['lwf@B0-5tasks'].max():.3f} ± ")
    assert mine[4:] == [f"{means[name, 0]:.3f}" for name in ("finetune@B0-5tasks", "joint@B0-5tasks")]


def test_an_evaluation_ends_with_test_rows_and_no_empty_column(judged: Path) -> None:
    said = judged.with_name("said-judged").read_text()
    assert "accuracy on test rows" in said
    assert "best" not in said
    assert f"next: cl-search export {judged}" in said.splitlines()[-1]
    assert outcome(judged).heading.startswith("average incremental accuracy on test rows")


def test_an_evaluation_says_what_it_will_cost_before_it_starts(searched: Path, judged: Path) -> None:
    prepared = prepare_evaluation(searched, local=True)
    first = judged.with_name("said-judged").read_text().splitlines()[0]
    assert first.startswith(f"{len(prepared.specs)} runs of 3 cells to train: ")
    assert "class orders natural, seed:1" in first
    assert "on one worker, by the times of the search" in first
    assert f"{len(prepared.specs)} runs of 3 cells to train" in call("evaluate", searched, "--dry-run").stdout
    for selected in prepared.selected:
        mine = [spec.purpose for spec in prepared.specs if spec.cell == selected.cell.name]
        expected = counts(prepared.run.study, selected.is_default)
        assert (mine.count("final"), mine.count("reference")) == expected


def test_the_time_of_an_evaluation_goes_by_recorded_runs_and_rows(searched: Path) -> None:
    specs = prepare_evaluation(searched, local=True).specs
    row = {"purpose": "search", "status": "completed", "increments": "2,2,2,2", "tasks": 5, "trial": 0}
    rows = {name: {**row, "cell": name, "seconds": 9.0} for name in {spec.cell for spec in specs}}
    final = sum(spec.purpose == "final" for spec in specs)
    assert seconds(specs, rows, 0.1) == pytest.approx(10.0 * final + 9.0 * (len(specs) - final))
    assert seconds(specs, {}, 0.1) is None
    assert seconds(specs, run_rows(searched), 0.1)


@pytest.mark.parametrize("room", [60, 80, 120])
def test_no_name_and_no_value_is_broken_on_a_narrow_terminal(searched: Path, judged: Path, room: int) -> None:
    for folder in (searched, judged):
        lines = shown(folder, room).splitlines()
        assert max(map(len, lines)) <= room
        for row in outcome(folder).rows:
            assert any(row[0] in line for line in lines)
            assert any(row[2] in line for line in lines)


@pytest.mark.parametrize("room", [60, 80, 120])
def test_no_table_of_cells_breaks_a_name(
    searched: Path, judged: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    monkeypatch.setattr("search.cli.printing.terminal", lambda: Console(width=room))
    monkeypatch.setattr("search.cli.steering.terminal", lambda: Console(width=room))
    study = searched.parent / "small.yaml"
    for arguments in (
        ["compare", searched, judged],
        ["run", study, "--dry-run", "--local", "--out", searched],
        ["evaluate", searched, "--dry-run", "--local"],
        ["status", searched],
    ):
        said = call(*arguments).stdout
        assert said.count("finetune@B0-5tasks") >= 1, said
        assert said.count("lwf@B0-5tasks") >= 1, said


def test_a_table_gives_way_before_a_name_does() -> None:
    def lines(room: int) -> list[str]:
        console = Console(width=room)
        with console.capture() as capture:
            console.print(named_table(["cell", "done", "failed", "of"], [[CELL, "3", "", "20"]], room))
        return [line.strip() for line in capture.get().splitlines()]

    assert any(line.startswith("│") and CELL in line for line in lines(60))
    assert lines(46)[1].split() == [CELL, "3", "20"]
    assert lines(40) == [CELL, "done 3, of 20"]


def test_columns_without_a_value_are_left_out() -> None:
    cell = CellProgress(CELL, budget=4, started=4, running=0, completed=3, stopped=1, failed=0, best=None)
    console = Console(width=80)
    with console.capture() as capture:
        console.print(cell_table([cell], 80))
    head = capture.get().splitlines()[1]
    assert [word for word in head.split() if word.isalpha()] == ["cell", "completed", "stopped", "trials"]


def test_a_plan_counts_the_evaluation(tmp_path: Path) -> None:
    study = write(tmp_path, methods=["joint", "lwf"], recipe={"epochs": 1, "lr": 0.05}, final={"orders": 2})
    arguments = ["plan", study, "--probe-seconds", 1, "--out", tmp_path / "run"]
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    assert "evaluate: at most 10 runs" in " ".join(result.stdout.split())  # 2 + 2, and 4 + 2


def test_a_run_is_named_by_a_beginning_that_only_one_has() -> None:
    known = ["lwf@B0/3", "lwf@B0/3/seed:1/s0", "lwf@B0/30/seed:1/s0", "icarl@B0/1/seed:1/s0"]
    assert named_run("lwf@B0/3", known) == "lwf@B0/3"
    assert named_run("lwf@B0/3/s", known) == "lwf@B0/3/seed:1/s0"
    assert named_run("lwf@B0/30", known) == "lwf@B0/30/seed:1/s0"
    assert named_run("lwf@B0/3/seed-1/s0", known) == "lwf@B0/3/seed:1/s0"
    assert named_run("icarl", known) == "icarl@B0/1/seed:1/s0"
    with pytest.raises(BadRequest, match="is the beginning of 3 runs"):
        named_run("lwf@B0", known)
    with pytest.raises(BadRequest, match="did you mean 'lwf@B0/3'"):
        named_run("lwf@B0/4", known)


def test_small_things_that_a_new_user_tries(searched: Path) -> None:
    assert call("list").stdout.split() == ["methods", "datasets", "nets", "scenarios", "presets", "views"]
    assert call("--version").stdout.startswith("cl-search ")
    line = refused("run", searched.parent / "small.yaml", "--set", "hp.kd_weight=3", "--out", searched)
    assert "methods.finetune.kd_weight=3" in line
    assert "a minute" not in call("status", searched).stdout
    assert call("logs", searched, "lwf@B0-5tasks/1/seed").exit_code == 0


READ = [["list", "methods"], ["list", "views"], ["describe", "lwf"], ["describe", "study"], ["run", "--help"]]


def _bytes(stream: io.TextIOWrapper) -> bytes:
    stream.flush()
    inner = stream.detach()
    assert isinstance(inner, io.BytesIO)
    return inner.getvalue()


def printed(encoding: str, arguments: Sequence[object], monkeypatch: pytest.MonkeyPatch) -> str:
    """Return what a command prints on a terminal of that encoding. It must end well."""
    with monkeypatch.context() as patch:
        out, error = (io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2))
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", error)
        patch.setattr(sys, "argv", ["cl-search", *map(str, arguments)])
        patch.setattr(atexit, "register", lambda *_: None)
        with pytest.raises(SystemExit) as end:
            main()
        text, told = (_bytes(stream).decode(encoding) for stream in (out, error))
    assert not end.value.code, told
    return text


def test_no_verb_ends_for_a_character_that_ascii_lacks(judged: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = judged.parent / "small.yaml"
    commands: list[list[object]] = [
        ["compare", judged, judged],
        ["plan", judged],
        ["status", judged],
        ["evaluate", judged, "--local"],
        ["run", study, "--local", "--out", judged],
        ["run", study, "--dry-run", "--local", "--out", judged],
        ["evaluate", judged, "--dry-run", "--local"],
        ["logs", judged, "lwf@B0-5tasks/0"],
        ["gather", judged],
        ["report", judged],
        *READ,
        ["describe", "survey-methods"],
        ["doctor"],
        ["--help"],
    ]
    assert "+-" in "".join(printed("ascii", command, monkeypatch) for command in commands)


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_no_verb_ends_for_a_character_that_another_encoding_lacks(
    judged: Path, encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for command in (["compare", judged, judged], ["status", judged], *READ):
        printed(encoding, command, monkeypatch)


def test_the_next_command_is_none_where_nothing_was_selected(tmp_path: Path, searched: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(searched, copy)
    for path in (copy / "tables").glob("*/[!s]*.parquet"):
        path.unlink()
    assert next_command(copy) is None
    assert outcome(copy).rows == []


def test_a_default_that_the_search_has_not_tried_is_named_so(tmp_path: Path) -> None:
    plan = Plan(labels=("lwf",), scenarios=(("B0-3tasks", (2, 2, 2)),), confirmed=(-1, 1, 3), start_from=())
    said = outcome(planted.write(tmp_path / "run", plan))
    assert said.columns == ["cell", "trial", "selected"]  # it is its own default, so that column is left out
    assert said.rows[0][1] == "default"


def test_the_table_gives_the_gain_of_a_confirmed_selection_and_after_the_evaluation_the_paired_one(
    tmp_path: Path,
) -> None:
    plan = Plan(
        labels=("lwf",), scenarios=(("B0-3tasks", (2, 2, 2)),), trials=6, confirmed=(0, 4), direction="min"
    )
    said = outcome(planted.write(tmp_path / "run", plan))
    assert said.columns == ["cell", "trial", "selected", "default", "gain"]
    assert "gain: over the default, by all runs of the cell" in said.heading
    gain, half = said.rows[0][4].split(" ± ")
    low, high = float(gain) - float(half), float(gain) + float(half)
    assert f": {gain} [{low:+.3f}, {high:+.3f}] against".replace("0.", ".") in said.confirmed[0]
    said = outcome(planted.write(tmp_path / "judged", replace(plan, evaluated=True)))
    (row,) = said.rows
    assert float(row[4]) == pytest.approx(float(row[2]) - float(row[3]), abs=0.0011)  # one class order


@pytest.mark.parametrize(("objective", "said"), [("last_accuracy", True), ("kept_bytes", False)])
def test_only_shares_of_rows_are_called_luck(tmp_path: Path, objective: str, said: bool) -> None:
    folder = planted.write(tmp_path / "run", Plan(labels=("lwf",), scenarios=(("B0-3tasks", (2, 2, 2)),)))
    path = folder / STUDY
    path.write_text(path.read_text().replace("average_incremental_accuracy", objective))
    assert any("are luck" in line for line in outcome(folder).lines) == said


GRID = {"lwf": {"kd_weight": {"choice": [0.25, 1.0, 4.0]}, "temperature": {"choice": [2.0, 4.0]}}}


@pytest.mark.usefixtures("no_lock_outlives_a_test")
@pytest.mark.parametrize(
    ("methods", "protocol", "search", "says"),
    [
        ({"lwf": None}, {}, {"trials": 3}, "selected on one class order"),
        ({"lwf": None}, {"seeds": 2}, {"trials": 3}, "selected on 2 runs of a trial"),
        (GRID, {}, {"trials": 20, "sampler": "grid"}, "--trials +12"),
        (GRID, {}, {"trials": 4, "sampler": "grid"}, "set search.trials to its size and 12 more"),
    ],
)
def test_a_search_that_is_not_confirmed_says_what_would_confirm_it(
    methods: Any, protocol: Any, search: Any, says: str, study: Any, tmp_path: Path
) -> None:
    resolved = begun(study(methods, protocol=protocol, **search), tmp_path)
    start_tables(tmp_path, study_schemas(resolved.methods))
    Driver(SearchQueue(resolved, tmp_path, bases=False), tmp_path).run().cells.close()
    (line,) = outcome(tmp_path).lines
    assert says in line


@pytest.mark.usefixtures("no_lock_outlives_a_test")
def test_failed_confirming_runs_are_why_nothing_is_confirmed(study: Any, tmp_path: Path) -> None:
    def ending(spec: RunSpec) -> Ending:
        return ("failed", None) if spec.purpose == CONFIRM else ("completed", worth(spec))

    resolved = begun(study({"lwf": None}, protocol={"confirm": {"top": 1, "orders": 2}}), tmp_path)
    start_tables(tmp_path, study_schemas(resolved.methods))
    driver = Driver(SearchQueue(resolved, tmp_path, bases=False), tmp_path)
    driver.run(9, ending=ending)  # eight trials, and one run that confirms
    assert outcome(tmp_path).lines == ["not confirmed, as confirming runs failed: lwf@B0-5tasks"]
    driver.cells.close()


@pytest.mark.parametrize(("aggregate", "confirm"), [("mean", True), ("worst", False)])
def test_a_warning_of_luck_names_only_what_the_protocol_may_have(
    aggregate: str, confirm: bool, study: Any
) -> None:
    (line,) = lucky(study({"lwf": None}, protocol={"aggregate": aggregate}))
    assert ("protocol.confirm" in line) == confirm
