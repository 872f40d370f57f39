"""Verbs on a folder of runs: status, logs, rerun, gather, report."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from analysis import equal
from tests.search.terminal import call, refused, write


def test_a_damaged_study_or_journal_is_said_in_one_line(finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(finished), str(copy)], check=True)
    for text in ("resolved: 3", "resolved: {cells: 3}\nsearch: 3", "3", "{"):
        (copy / "study.yaml").write_text(text)
        refused("status", copy)
        refused("rerun", copy, "finetune@B0-5tasks/1")
        refused("run", finished.parent / "small.yaml", "--local", "--out", copy, "--trials", "+1")
    subprocess.run(["cp", str(finished / "study.yaml"), str(copy)], check=True)
    journal = (copy / "optuna.journal").read_text().splitlines()
    (copy / "optuna.journal").write_text("\n".join([journal[0], "garbage", *journal[1:], ""]))
    assert "optuna.journal is damaged" in refused("status", copy)
    again = call("run", finished.parent / "small.yaml", "--local", "--out", copy)
    assert again.exit_code == 0, again.output
    assert "optuna.journal was damaged (line 2, not its last)" in again.stderr
    assert "2 runs completed\n" in again.stdout


def test_status_counts_and_names_the_best(finished: Path) -> None:
    shown = call("status", finished).stdout
    assert "finished, 2 runs completed" in shown
    assert "best so far:" in shown
    state = json.loads(call("status", finished, "--json").stdout)
    assert state["runs"] == {"completed": 2, "stopped": 0, "failed": 0}
    assert (state["active"], state["errors"]) == (False, {})
    assert state["left"] == {"trials": 0, "confirming runs": 0}
    assert state["cells"][0]["completed"] == state["cells"][0]["budget"] == 2


def test_logs_are_those_of_the_run(finished: Path) -> None:
    result = call("logs", finished, "finetune@B0-5tasks/1")
    assert result.exit_code == 0
    assert "5 of 5 tasks" in result.stdout
    assert "did you mean 'finetune@B0-5tasks/" in refused("logs", finished, "finetune@B0-5tasks/7")
    assert "is not the name of a run" in refused("logs", finished, "../../../etc/passwd")


def test_a_recorded_run_comes_out_the_same_again(finished: Path) -> None:
    result = call("rerun", finished, "finetune@B0-5tasks/1")
    assert result.exit_code == 0, result.output
    assert "equal: 1 run," in result.stdout
    assert "finetune@B0-5tasks/1" in refused("rerun", finished, "finetune@B0-5tasks/11")


def test_a_report_for_a_paper_without_a_renderer_leaves_the_tables(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "kaleido", None)  # an import of it raises ImportError
    said = refused("report", finished, "--export", tmp_path / "paper")
    assert "pip install 'cl-search[paper]'" in said
    assert (tmp_path / "paper" / "tables" / "leaderboard.tex").exists()
    assert not (tmp_path / "report.html").exists()


def test_gathered_tables_hold_the_same_rows(finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    subprocess.run(["cp", "-r", str(finished), str(copy)], check=True)
    result = call("gather", copy)
    assert result.exit_code == 0
    assert "runs: 2 rows" in result.stdout
    assert equal(finished, copy)
    assert call("report", copy).exit_code == 0
    again = call("run", finished.parent / "small.yaml", "--local", "--out", copy)
    assert "nothing to do: 2 runs completed" in again.stdout


def test_several_runs_make_one_page(finished: Path, tmp_path: Path) -> None:
    other = write(tmp_path, study="other", methods=["lwf"], search={"trials": 1})
    assert call("run", other, "--local", "--out", tmp_path / "other").exit_code == 0
    page = tmp_path / "page.html"
    result = call("report", finished, tmp_path / "other", "--out", page)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"report: {page}\n"
    assert all(label in page.read_text() for label in ("finetune", "lwf"))
    assert "name its page with --out" in refused("report", finished, tmp_path / "other")
    assert call("report", finished, "--out", tmp_path / "one.html").exit_code == 0
    assert "lwf@" in page.read_text()
    assert "lwf@" not in (tmp_path / "one.html").read_text()
