"""The live view: what a person sees while a command works."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from analysis.lake.amounts import clock
from search.cli.printing import terminal
from search.display.cells import fewer, with_running
from search.display.live import Live
from search.display.runs import run_lines
from search.jobs.progress import CellProgress
from search.worker.progress import RunProgress, write_progress

LONG = "distill-feature-cosine@B0-10tasks"


def cell(
    name: str = "lwf@B0-5tasks", running: int = 0, best: float | None = None, **counts: int
) -> CellProgress:
    return CellProgress(name, 4, 4, running, counts.get("completed", 0), 0, counts.get("failed", 0), best)


def at(run: str, task: int = 2, epoch: int = 11) -> RunProgress:
    return RunProgress(run, task, 10, "train", epoch, 50, 0.0)


def seen(cells: Sequence[CellProgress], folder: Path, width: int = 80, height: int = 24, **how: str) -> str:
    """Everything that a terminal gets until the work ends, with its colours."""
    console = Console(
        file=io.StringIO(), force_terminal=True, width=width, height=height, color_system="standard"
    )
    with Live(lambda: cells, folder, console=console, **how):
        pass
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_terminal_shows_task_and_epoch_of_each_running_run_with_a_bar(tmp_path: Path) -> None:
    write_progress(tmp_path, at("lwf@B0-5tasks/3"))
    shown = seen([cell()], tmp_path)
    assert "lwf@B0-5tasks/3  task 3/10  epoch 12/50  " in shown
    assert "━━" in shown


def test_the_metric_and_split_of_best_are_named_above_the_table(tmp_path: Path) -> None:
    best = "best: average incremental accuracy, validation rows"
    assert best in seen([cell(best=0.5)], tmp_path, best=best)
    assert best not in seen([cell()], tmp_path, best=best)


def test_completed_is_green_running_yellow_and_failed_red(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = [cell(completed=2, failed=1)]
    write_progress(tmp_path, at("lwf@B0-5tasks/3"))
    shown = seen(cells, tmp_path)
    for colour, count in ((32, 2), (33, 1), (31, 1)):
        assert re.search(rf"\x1b\[{colour}m +{count}", shown)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[32m" not in seen(cells, tmp_path)


@pytest.mark.parametrize("width", [60, 80])
def test_the_view_is_no_higher_and_no_wider_than_the_terminal(tmp_path: Path, width: int) -> None:
    for number in range(8):
        write_progress(tmp_path, at(f"{LONG}-20/{number}/seed:1/s0"))
    cells = [cell(f"{LONG}-{k}", completed=k % 5) for k in range(40)]
    drawn = io.StringIO()
    console = Console(file=drawn, force_terminal=True, width=width, height=20)
    with pytest.raises(KeyboardInterrupt), Live(lambda: cells, tmp_path, console=console):
        raise KeyboardInterrupt
    first = drawn.getvalue().split("\r")[0]  # then the cursor goes back, and the frame is erased
    frame = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", first).strip().split("\n")
    assert 10 < len(frame) < 20
    assert max(map(cell_len, frame)) <= width
    assert f"{LONG}-20" in "\n".join(frame)
    assert "more cells" in "\n".join(frame)


def test_cells_that_work_are_kept_where_there_is_no_room_for_all() -> None:
    cells = [cell("a"), cell("b", completed=4), cell("c", running=1), cell("d", completed=1)]
    assert [one.cell for one in fewer(cells, 2)] == ["a", "c"]
    assert fewer(cells, 9) == cells


def test_elsewhere_a_plain_line_says_all_of_it(tmp_path: Path) -> None:
    cells = [
        CellProgress("a@s", 4, 3, 1, 1, 1, 0, 0.25),
        CellProgress("b@s", 4, 1, 0, 0, 0, 1, None),
    ]
    console = Console(file=io.StringIO(), force_terminal=False)
    live = Live(lambda: cells, tmp_path, console=console)
    assert live.line().startswith("3/8 trials ended, 1 failed, best 0.2500 (a@s), 0 s")
    write_progress(tmp_path, at("a@s/3"))
    assert "1 running (a@s/3 task 3/10 epoch 12/50)" in live.line()


def test_only_what_trains_counts_as_running() -> None:
    waiting = [cell("a@s", running=3), cell("b@s", running=1)]
    seen = with_running(waiting, [at("a@s/3"), at("a@s/4/seed:1/s0"), at("a@s/4/seed:2/s0")])
    assert [one.running for one in seen] == [2, 0]


def test_a_narrow_terminal_has_a_run_s_name_above_its_bar() -> None:
    wide, narrow = run_lines([at(f"{LONG}/3")], 80), run_lines([at(f"{LONG}/3")], 50)
    assert len(wide) == 1
    assert narrow[0].plain == f"{LONG}/3"
    assert narrow[1].plain.startswith("  task 3/10  epoch 12/50  ━")
    assert all(len(line.plain) <= 50 for line in narrow)


def test_durations_are_read_at_a_glance() -> None:
    assert [clock(s) for s in (5, 119.4, 600, 3 * 3600 + 61)] == ["5 s", "119 s", "10 min", "3 h 01 min"]


def test_a_terminal_shows_the_view_while_a_run_in_this_process_sends_output_to_its_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console = terminal()
    with contextlib.redirect_stdout(io.StringIO()) as log:
        console.print("2 running")
    assert (log.getvalue(), capsys.readouterr().out) == ("", "2 running\n")
