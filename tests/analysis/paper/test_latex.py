"""Tables as CSV and LaTeX, from the same cells as on the page."""

from __future__ import annotations

import io
import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.paper.latex import escaped, figure, table
from analysis.report.html_table import grid

ROWS = [
    ("B0", "finetune", 0.9, 0.1, 0.9),
    ("B0", "lwf", 0.50012, 0.01, 0.3),
    ("B0", "bic_x", 0.6, 0.02, 0.2),
    ("B0", "icarl", 0.55, 0.03, 0.4),
    ("B4", "lwf", 0.1, 0.01, 0.3),
]
FRAME = pd.DataFrame(ROWS, columns=["scenario", "label", "last accuracy", "last accuracy ±", "forgetting"])


def rows(text: str) -> dict[str, str]:
    """The rows of the body by their label."""
    found = [line for line in text.splitlines() if line.endswith("\\\\") and line.startswith("B0")]
    return {line.split(" & ")[1]: line for line in found}


def test_the_best_value_is_bold_and_the_second_underlined_without_references():
    found = rows(table(grid(FRAME), "c", "l", {"finetune"}))
    assert r"\textbf{0.600} {\scriptsize $\pm$ 0.020}" in found[r"bic\_x"]
    assert r"\underline{0.550}" in found["icarl"]
    assert "textbf" not in found["finetune"]


def test_lower_is_better_where_the_metric_says_so():
    found = rows(table(grid(FRAME), "c", "l", {"finetune"}))
    assert r"\textbf{0.200}" in found[r"bic\_x"]
    assert r"\underline{0.300}" in found["lwf"]


def test_a_scenario_with_few_rows_gets_no_mark_and_begins_apart():
    text = table(grid(FRAME), "c", "l", {"finetune"})
    last = text.split("\\addlinespace\n")[1].splitlines()[0]
    assert last == r"B4 & lwf & 0.100 {\scriptsize $\pm$ 0.010} & 0.300 \\"


@pytest.mark.parametrize("names", [("class", "accuracy"), ("factor", "last accuracy"), ("n", "seconds")])
def test_parts_of_a_label_and_the_time_of_a_search_are_no_rivals(names):
    frame = pd.DataFrame([["lwf", n, n / 10] for n in range(5)], columns=["label", *names])
    assert not re.search("textbf|underline", table(grid(frame), "c", "l"))


def test_a_heading_in_a_script_that_latex_cannot_type_is_left_out():
    frame = pd.DataFrame([["A1", "蒸馏效果好", "BiC wins", 0.5]], columns=["claim", "text", "said", "value"])
    text = table(grid(frame, "claim", ("claim", "text", "said")), "c", "l")
    assert r"\relax}}{A1 BiC wins} \\" in text


@pytest.mark.parametrize(("name", "environment"), [("lwf", "table"), ("lwf-with-a-long-name", "table*")])
def test_a_table_too_wide_for_a_column_goes_over_both(name, environment):
    frame = pd.DataFrame([[name, name, name, 0.5]], columns=["label", "class", "mistaken for", "value"])
    assert table(grid(frame), "c", "l").startswith(f"\\begin{{{environment}}}\n")


def test_two_header_rows_become_groups_over_a_rule():
    frame = pd.DataFrame([["lwf", 0.1, 0.2, 0.3]])
    frame.columns = pd.MultiIndex.from_tuples([("", "label"), ("B0", "a"), ("B0", "b"), ("B4", "a")])
    text = table(grid(frame), "c", "l")
    assert r" & \multicolumn{2}{c}{B0} & \multicolumn{1}{c}{B4} \\" in text
    assert r"\cmidrule(lr){2-3}\cmidrule(lr){4-4}" in text
    assert "label & a & b & a" in text
    assert grid(frame).csv().splitlines()[0] == "label,B0: a,B0: b,B4: a"


def test_csv_has_every_digit():
    back = pd.read_csv(io.StringIO(grid(FRAME).csv()))
    value = back["last accuracy"]
    assert value.tolist() == FRAME["last accuracy"].tolist()
    assert back["last accuracy ±"].dropna().tolist() == FRAME["last accuracy ±"].tolist()


def test_a_missing_value_is_empty_in_csv():
    frame = pd.DataFrame([["a", None, 1.0], ["b", "cat", None]], columns=["label", "mistaken for", "in"])
    assert grid(frame).csv() == "label,mistaken for,in\na,,1.0\nb,cat,\n"


@given(st.text(max_size=40))
def test_no_text_is_a_command(text):
    out = escaped(text)
    plain = re.sub(r"\\[a-z]+(\{[a-z2]*\})?|\\.|\$\\?[-a-zA-Z]+\$|\{[\[\]*]\}", "", out)
    assert not re.search(r"[&%$#_{}~^\\\[\]<>|]", plain)
    assert "\n" not in out


def test_a_script_in_a_label_is_text():
    assert escaped("<script>&\\input{x}") == (r"\textless{}script\textgreater{}\&\textbackslash{}input\{x\}")


@pytest.mark.parametrize(("wide", "environment"), [(True, "figure*"), (False, "figure")])
def test_a_wide_figure_goes_over_both_columns(wide, environment):
    assert f"\\begin{{{environment}}}" in figure("a.pdf", "c", "l", wide)
