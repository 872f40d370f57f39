"""The report's page: sections, sanity of references, escaped text, tables."""

from __future__ import annotations

import base64
import gzip
import json
import re
import sys

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import plotly.offline
import pytest
import yaml

from analysis import write_report
from analysis.lake.open import open_results
from analysis.report.figure import embedded, library
from analysis.report.html_table import grid
from analysis.report.page import render, section
from analysis.report.section import VIEWS
from analysis.selection.sanity import checks
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


def test_a_page_elsewhere_names_the_folder_of_its_tables(lake, tmp_path):
    assert "beside this page" in write_report(lake).read_text(encoding="utf-8")
    text = write_report(lake, tmp_path / "elsewhere.html").read_text(encoding="utf-8")
    assert "beside this page" not in text
    assert f"<code>tables/</code> of {lake}." in text


def test_the_page_asks_for_nothing_from_outside(page):
    head = page[: page.index("<script")]
    assert "default-src 'none'" in head
    assert not re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=", page)
    assert page.count('id="plotly"') == 1


def test_the_library_in_the_page_is_the_installed_one():
    assert gzip.decompress(base64.b64decode(library())).decode() == plotly.offline.get_plotlyjs()
    assert len(library()) < 2_000_000


def test_no_figure_has_a_button_and_no_page_a_link_that_leaves_it(page):
    """The plotting library's own "Share chart" opened a public service with the data."""
    assert page.count('class="figure"') > 5
    assert "displayModeBar: false, displaylogo: false, showSendToCloud: false" in page
    own = page.replace(library(), "")
    assert own.index("window.open = () => null") < own.index('id="plotly"')
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', own)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert {name for name, value in rules.items() if value == "'none'"} == {
        *("default-src", "connect-src", "form-action", "frame-src", "object-src", "base-uri")
    }
    assert not re.search("https?:", " ".join(rules.values()))
    sections = re.findall(r'<section id="([^"]*)"', own)
    assert set(re.findall(r"(?:href|action|src)=\"([^\"]*)", own)) == {
        "#content",
        *(f"#{name}" for name in sections if name != "answer"),
    }
    assert set(re.findall(r"https?://[^\"' ]*", own)) == {"http://www.w3.org/2000/svg"}


def test_a_link_in_a_label_is_shown_as_text_in_a_figure():
    label = 'x <a href="http://example.org">click</a> <b>bold</b> a<b'
    figure = go.Figure(go.Scatter(x=[1.0], y=[label], text=[label.upper()], name="<a>y</a>"))
    figure.add_annotation(text='<a\nhref="http://example.org">y</a> <a\r\nhref="http://example.org">z</a>')
    text = embedded(figure)
    assert "<" not in text
    assert not re.search(r"\\u003ca[ \\>]", text.lower())
    assert text.lower().count("&lt;a") == 5
    assert "\\u003cb>bold" in text


def test_numbers_of_a_figure_have_five_digits_and_missing_ones_are_null():
    figure = go.Figure(go.Scatter(x=np.array([0.123456789, np.nan]), y=[1.0, 1234567.8]))
    trace = json.loads(embedded(figure))["data"][0]
    assert (trace["x"], trace["y"]) == ([0.12346, None], [1, 1234600])


def test_every_section_has_a_question_an_answer_a_formula_and_n(page):
    found = dict(re.findall(r'<section id="([^"]*)">(.*?)</section>', page, re.DOTALL))
    assert list(found)[:3] == ["answer", "leaderboard", "accuracy-curves"]
    assert "This view failed" not in page
    del found["answer"], found["about"]
    assert len(found) > 12
    for name, text in found.items():
        assert re.search(r"<h2>[^<]*\?</h2>", text), name
        assert 'class="answer"' in text or name == "training-loss", name  # one epoch has no trend
        assert '<span class="n">n = ' in text, name
    assert "non-causal: selection looked at all tasks" in page
    assert "Σ<sub>j&lt;T−1</sub>" in page


def test_the_header_names_data_versions_counts_and_warnings(page):
    header = page[page.index("<header>") : page.index("</header>")]
    about = page[page.index('<section id="about">') : page.index("</main>")]
    assert "digits" in header
    assert "9 completed, 0 stopped, 0 failed" in header
    for text in ("B0-3tasks", "torch 2.15.0, cl-search 0.1.0", "9 completed, 0 stopped, 0 failed"):
        assert text in about
    answer = page[page.index('<section id="answer">') : page.index('<section id="leaderboard">')]
    assert "Warning: icarl: hp.exemplars_per_class is searched for accuracy alone" in answer


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
    assert "<h2>Are rows taken for classes of another task?</h2>" in text


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


def test_a_table_puts_numbers_right_and_intervals_in_their_column():
    frame = pd.DataFrame({"label": ["<a>", "b"], "x": [0.5, None], "x ±": [0.01, None], "k": [12800, 3]})
    found = grid(frame)
    assert [one.text for one in found.head[0]] == ["label", "x", "k"]
    assert [[(one.text, one.kind, one.half) for one in row.cells] for row in found.rows] == [
        [("<a>", "text", ""), ("0.500", "num", "0.010"), ("12,800", "num", "")],
        [("b", "text", ""), ("–", "num", ""), ("3", "num", "")],
    ]


def test_a_p_value_is_never_written_as_nought():
    found = grid(pd.DataFrame({"p": [0.0008, 0.0316, None]}))
    assert [row.cells[0].text for row in found.rows] == ["< .001", "0.032", "–"]
    assert found.rows[0].cells[0].value == 0.0008


def test_a_number_that_is_rounded_to_nothing_has_no_sign():
    found = grid(pd.DataFrame({"x": [-1e-16, -0.25], "k": [-3, 0]}))
    assert [one.text for row in found.rows for one in row.cells] == ["0.000", "−3", "−0.250", "0"]


@pytest.mark.skipif(sys.platform == "win32", reason="folders are protected otherwise there")
def test_a_page_that_cannot_be_written_is_a_bad_request(lake):
    (lake / "report.html").mkdir()
    with pytest.raises(BadRequest, match=r"cannot write .*report\.html"):
        write_report(lake)
    assert [p.name for p in lake.glob(".report*")] == []
