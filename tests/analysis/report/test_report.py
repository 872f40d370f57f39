"""The page: self-contained, escaped, honest about references, and written whole."""

from __future__ import annotations

import json
import re
import sys
from dataclasses import replace

import pandas as pd
import plotly.graph_objects as go
import plotly.offline
import pyarrow.parquet as pq
import pytest
import yaml

from analysis import write_report
from analysis.lake.open import open_results
from analysis.lake.study import ProtocolRecord
from analysis.report.figure import embedded
from analysis.report.html_table import grid
from analysis.report.page import render, section
from analysis.report.section import VIEWS
from analysis.selection.sanity import checks
from analysis.selection.selection import cells
from cl_core.errors import BadRequest
from tests.analysis.planted import Plan, write


@pytest.fixture(scope="module")
def page(kept_lake, tmp_path_factory):
    """The report of the small lake."""
    return render(open_results(kept_lake))


def test_the_page_is_written_into_the_folder_and_nothing_is_left_aside(lake):
    path = write_report(lake)
    assert path == lake / "report.html"
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [p.name for p in lake.glob(".report*")] == []


def test_the_page_asks_for_nothing_from_outside(page):
    head = page[: page.index("<script>")]
    assert "default-src 'none'" in head
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=", page)
    assert page.count("* plotly.js v") == 1


def test_no_figure_has_a_button_and_no_page_a_link_that_leaves_it(page):
    """The plotting library's own "Share chart" opened a public service with the data."""
    configs = re.findall(r'"modeBarButtons": (\[\[.*?\]\])', page)
    figures = page.count('class="figure"')
    assert len(configs) == figures > 5
    known = {"toImage", "zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "autoScale2d", "resetScale2d"}
    for config in configs:
        assert {button for group in json.loads(config) for button in group} == known
    assert page.count('"displaylogo": false') == page.count('"showSendToCloud": false') == figures
    library = plotly.offline.get_plotlyjs()
    assert library in page
    own = page.replace(library, "")
    assert own.index("window.open = () => null") < page.index("* plotly.js v")
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', own)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert {name for name, value in rules.items() if value == "'none'"} == {
        *("default-src", "connect-src", "form-action", "frame-src", "object-src", "base-uri")
    }
    assert not re.search("https?:", " ".join(rules.values()))
    assert set(re.findall(r"(?:href|action|src)\s*=\s*\\?[\"']([^\"']*)", own)) == {
        f"#{name}" for name in re.findall(r'<section id="([^"]*)"', own)
    }
    assert not re.findall(r"https?://", own)


def test_a_link_in_a_label_is_shown_as_text_in_a_figure():
    label = 'x <a href="http://example.org">click</a> <b>bold</b> a<b'
    figure = go.Figure(go.Scatter(x=[1.0], y=[label], text=[label.upper()], name="<a>y</a>"))
    figure.add_annotation(text='<a\nhref="http://example.org">y</a> <a\r\nhref="http://example.org">z</a>')
    text = embedded(figure, "figure-x")
    assert not re.search(r"(<|\\u003c)a\\", text)
    assert "<a" not in text.lower()
    assert "\\u003ca " not in text.lower()
    assert text.count("&lt;a href") == 1
    assert text.count("&lt;A HREF") == 1
    assert re.search(r"(<|\\u003c)b(>|\\u003e)bold", text)


def test_every_view_has_its_section_formula_and_n(page):
    titles = re.findall(r"<h2>([^<]*)</h2>", page)
    assert titles[:2] == ["Leaderboard, on validation rows", "Accuracy over tasks, on validation rows"]
    # This lake has nothing for them.
    left_out = {"survey", "class_orders", "final", "importance", "planned_and_spent", "range_edges"}
    shown = set(VIEWS.names()) - {
        *left_out,
        "early_stopping",
        "selected_trials",
        "selection_gap",
        "task_values",
        "worth",
    }
    assert len(titles) == len(shown) == page.count('<p class="n">')
    assert "This view failed" not in page
    assert page.count('class="figure"') == len(titles)
    assert "non-causal: selection looked at all tasks" in page
    assert "Σ<sub>j&lt;T−1</sub>" in page


def test_the_header_names_data_versions_counts_and_warnings(page):
    header = page[page.index("<header>") : page.index("</header>")]
    for text in ("digits", "B0-3tasks", "torch 2.15.0, cl-search 0.1.0", "9 completed, 0 stopped, 0 failed"):
        assert text in header
    assert "Warning: icarl: hp.exemplars_per_class is searched for accuracy alone" in header


def test_text_of_files_is_escaped(tmp_path):
    plan = Plan(labels=("finetune", "lwf"), scenarios=(("B0-2tasks", (2, 2)),), trials=2, failed=(1,))
    folder = write(tmp_path / "run", plan)
    study = yaml.safe_load((folder / "study.yaml").read_text(encoding="utf-8"))
    study["study"] = "<script>alert(1)</script>"
    (folder / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    text = render(open_results(folder))
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<b>kd</b>" not in text
    assert "&lt;b&gt;kd&lt;/b&gt; is nan in task 1" in text
    assert "2 failed" in text


def test_a_broken_view_keeps_the_page_and_shows_one_line(lake):
    with VIEWS.temporarily():

        @VIEWS.register("broken")
        def broken(results):
            raise KeyError("first line\nsecond line")

        text = render(open_results(lake))
    line = rf"This view failed: {re.escape(__file__)}:\d+: KeyError: &#39;first line\\nsecond line&#39;"
    assert re.search(line, text)
    assert "<h2>Task confusion, on validation rows</h2>" in text


def test_a_view_that_gives_no_section_is_told_where_it_is_defined(lake):
    with VIEWS.temporarily():
        VIEWS.register("wrong")(lambda results: "a text")
        found = section(open_results(lake), "wrong")
    assert re.fullmatch(
        rf"This view failed: it must return a Section, not str \({re.escape(__file__)}:\d+\)", found.text
    )


def test_references_that_forget_and_learn_are_ok(kept_lake):
    (row,) = checks(open_results(kept_lake))
    assert (row["finetune"], row["joint"]) == ("OK", "OK")


def test_references_that_do_not_are_marked(tmp_path):
    one = write(
        tmp_path / "one", Plan(labels=("finetune", "lwf"), scenarios=(("B0-1tasks", (4,)),), trials=1)
    )
    (row,) = checks(open_results(one))
    assert (row["finetune"], row["joint"]) == ("NOT OK", "not in the study")
    failed = write(tmp_path / "two", Plan(labels=("joint",), trials=1, failed=(0,)))
    assert [row["joint"] for row in checks(open_results(failed))] == ["no completed run"] * 2


def test_the_leaderboard_shows_the_recorded_numbers_of_the_best_configuration(kept_lake):
    results = open_results(kept_lake)
    frame = section(results, "leaderboard").table
    trials = results.runs
    for _, row in frame.iterrows():
        mine = trials[trials["label"] == row["label"]]
        best = mine.loc[mine["objective"].idxmax()]
        assert row["trial"] == best["trial"]
        assert row["average incremental accuracy"] == pytest.approx(best["average_incremental_accuracy"])
        assert row["last accuracy"] == pytest.approx(best["last_accuracy"])
        assert row["forgetting"] == pytest.approx(best["forgetting"])
        default = mine.loc[mine["trial"] == 0, "objective"]
        assert row["default"] == pytest.approx(default.iloc[0])
        assert row["s in all"] == pytest.approx(mine["seconds"].sum())
    by = frame.set_index("label")
    gap = by.loc["icarl", "last accuracy"] - by.loc["joint", "last accuracy"]
    assert by.loc["icarl", "to joint"] == pytest.approx(gap)
    assert by.loc["icarl", "bytes kept"] == 64 * 20 * 5
    assert pd.isna(by.loc["joint", "to joint"])


def test_class_orders_give_an_interval_and_test_rows_are_named(tmp_path):
    plan = Plan(labels=("finetune", "joint"), trials=2, orders=3, splits=("val", "test"), rows=6)
    found = section(open_results(write(tmp_path / "run", plan)), "leaderboard")
    assert found.text.startswith("Measured on test rows.")
    assert found.n.startswith("n = 3 class orders, 1 seed; ±")
    assert found.table["last accuracy ±"].notna().all()
    assert (found.table["done"] == 6).all()


def test_a_stopped_run_with_a_better_average_is_not_chosen(tmp_path):
    plan = Plan(labels=("finetune",), scenarios=(("B0-5tasks", (2, 2, 2, 2, 2)),), trials=3, stopped=(1,))
    results = open_results(write(tmp_path / "run", plan))
    trials = results.runs.set_index("trial")
    assert trials.loc[1, "objective"] > trials.loc[[0, 2], "objective"].max()
    assert cells(results)[0].selected_trial in (0, 2)


def test_a_configuration_with_fewer_class_orders_is_not_ranked(tmp_path):
    plan = Plan(labels=("lwf",), scenarios=(("B0-2tasks", (2, 2)),), trials=3, orders=2)
    folder = write(tmp_path / "run", plan)
    best = cells(open_results(folder))[0].selected_trial
    (folder / "tables" / "runs" / f"lwf@B0-2tasks--{best}--seed-1--s0.parquet").unlink()
    assert cells(open_results(folder))[0].selected_trial != best


def test_the_same_values_drawn_twice_do_not_shut_out_the_others(lake):
    trials = lake / "tables" / "runs"
    parts = {p.stem[-1]: pq.read_table(p) for p in trials.glob("icarl*.parquet")}
    config = parts["1"].column("trial_digest")
    pq.write_table(
        parts["2"].set_column(parts["2"].column_names.index("trial_digest"), "trial_digest", config),
        trials / "icarl@B0-3tasks--2.parquet",
    )
    icarl = next(cell for cell in cells(open_results(lake)) if cell.label == "icarl")
    assert len(icarl.ranking) == 3
    assert len(icarl.best) == 1
    assert icarl.best["objective"].iloc[0] == icarl.runs["objective"].max()


def test_a_minimised_objective_ranks_the_smallest_first(lake):
    study = yaml.safe_load((lake / "study.yaml").read_text(encoding="utf-8"))
    study["search"]["objective"] = {"forgetting": "min"}
    (lake / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    results = open_results(lake)
    assert results.study.objective == ("forgetting", "min")
    for cell in cells(results):
        assert cell.selected["objective"].iloc[0] == cell.runs["objective"].min()


def test_a_table_puts_numbers_right_and_intervals_in_their_column():
    frame = pd.DataFrame({"label": ["<a>", "b"], "x": [0.5, None], "x ±": [0.01, None], "k": [12800, 3]})
    found = grid(frame)
    assert [one.text for one in found.head[0]] == ["label", "x", "k"]
    assert [[(one.text, one.kind, one.half) for one in row.cells] for row in found.rows] == [
        [("<a>", "text", ""), ("0.500", "num", "0.010"), ("12,800", "num", "")],
        [("b", "text", ""), ("–", "num", ""), ("3", "num", "")],
    ]


def test_a_number_that_is_rounded_to_nothing_has_no_sign():
    found = grid(pd.DataFrame({"x": [-1e-16, -0.25], "k": [-3, 0]}))
    assert [one.text for row in found.rows for one in row.cells] == ["0.000", "−3", "−0.250", "0"]


@pytest.mark.skipif(sys.platform == "win32", reason="folders are protected otherwise there")
def test_a_page_that_cannot_be_written_is_a_bad_request(lake):
    (lake / "report.html").mkdir()
    with pytest.raises(BadRequest, match=r"cannot write .*report\.html"):
        write_report(lake)
    assert [p.name for p in lake.glob(".report*")] == []


def _lake_with(lake, changes):
    """Change the rows of `trials`: trial's number -> columns, in the first cell."""
    from tests.analysis.planted_tables import put

    results = open_results(lake)
    first = results.runs["cell"].iloc[0]
    for row in results.runs.to_dict("records"):
        if row["cell"] == first and row["trial"] in changes:
            known = {k: None if isinstance(v, float) and v != v else v for k, v in row.items()}
            stem = row["run"].replace("/", "--").replace(":", "-")
            put(lake, "runs", stem, [{**known, **changes[row["trial"]]}])
    return open_results(lake), first


def test_the_rate_of_false_stops_is_that_of_audited_trials_that_would_have_won(lake):
    changes = {
        0: {"objective": 0.5},
        1: {"objective": 0.6, "audited_after": 1},
        2: {"objective": 0.4, "audited_after": 2},
    }
    results, first = _lake_with(lake, changes)
    results.study = replace(results.study, stopper="asha")
    found = section(results, "early_stopping")
    row = found.table[(found.table["label"] + "@" + found.table["scenario"]) == first].iloc[0]
    assert (row["audited"], row["false stops"], row["false stop rate"]) == (2, 1, 0.5)
    assert row["loss"] == pytest.approx(0.1)
    assert "Stopper: asha." in found.text
    assert "2 ran on as an audit: 1 of them (50%, 95 % interval 1% to 99%)" in found.text


def test_a_study_without_a_stopper_has_no_section_on_stopping(kept_lake):
    found = section(open_results(kept_lake), "early_stopping")
    assert found.optional
    assert found.bare


def test_a_configuration_that_ends_between_two_runs_counts_as_stopped_and_saves_those_to_come(tmp_path):
    plan = Plan(labels=("lwf",), scenarios=(("B0-3tasks", (2, 2, 1)),), trials=3, orders=4)
    folder = write(tmp_path / "run", plan)
    for order in (2, 3):  # the race ended trial 1 after two class orders
        (folder / f"tables/runs/lwf@B0-3tasks--1--seed-{order}--s0.parquet").unlink()
        (folder / f"tables/tasks/lwf@B0-3tasks--1--seed-{order}--s0.parquet").unlink()
    results = open_results(folder)
    results.study = replace(results.study, stopper="wilcoxon")
    (row,) = section(results, "early_stopping").table.to_dict("records")
    assert (row["trials"], row["stopped"]) == (3, 1)
    assert (row["tasks trained"], row["tasks saved"]) == (30, 6)
    assert row["share saved"] == pytest.approx(6 / 36)


def test_a_run_that_is_stopped_saves_its_tasks_and_the_runs_that_never_start(tmp_path):
    plan = Plan(labels=("lwf",), scenarios=(("B0-4tasks", (2, 2, 2, 2)),), trials=3, orders=3, stopped=(2,))
    folder = write(tmp_path / "run", plan)
    for order in (1, 2):
        for table_ in ("runs", "tasks"):
            (folder / f"tables/{table_}/lwf@B0-4tasks--2--seed-{order}--s0.parquet").unlink()
    results = open_results(folder)
    results.study = replace(results.study, stopper="asha")
    (row,) = section(results, "early_stopping").table.to_dict("records")
    assert row["stopped"] == 1
    assert row["tasks trained"] == 2 * 3 * 4 + 2
    assert row["tasks saved"] == 2 + 2 * 4


def test_a_front_leaves_out_a_configuration_with_fewer_class_orders(tmp_path):
    plan = Plan(labels=("lwf",), scenarios=(("B0-2tasks", (2, 2)),), trials=3, orders=2)
    folder = write(tmp_path / "run", plan)
    before = section(open_results(folder), "pareto_front")
    assert before.n == "n = 3 completed trials in 1 cells"
    best = int(before.table["trial"].iloc[0])
    (folder / f"tables/runs/lwf@B0-2tasks--{best}--seed-1--s0.parquet").unlink()
    after = section(open_results(folder), "pareto_front")
    assert after.n == "n = 2 completed trials in 1 cells"
    assert best not in set(after.table["trial"])


def test_a_front_holds_what_no_other_configuration_beats(lake):
    study = yaml.safe_load((lake / "study.yaml").read_text())
    study["search"]["objective"] = {"last_accuracy": "max", "forgetting": "min"}
    (lake / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    changes = {
        0: {"last_accuracy": 0.5, "forgetting": 0.1},
        1: {"last_accuracy": 0.6, "forgetting": 0.3},
        2: {"last_accuracy": 0.5, "forgetting": 0.2},
    }
    results, first = _lake_with(lake, changes)
    frame = section(results, "pareto_front").table
    mine = frame[(frame["label"] + "@" + frame["scenario"]) == first]
    assert sorted(mine["trial"]) == [0, 1]
    assert {"last accuracy", "forgetting"} <= set(frame.columns)


def test_the_worst_class_order_ranks_where_the_protocol_says_so(tmp_path):
    results = open_results(write(tmp_path / "run", Plan(labels=("lwf",), trials=2, orders=2)))
    results.study = replace(results.study, protocol=ProtocolRecord(worst=True))
    for cell in cells(results):
        worst = cell.runs.groupby("trial")["objective"].min()
        assert cell.selected_trial == worst.idxmax()
        assert cell.ranking["objective"].tolist() == sorted(worst, reverse=True)
