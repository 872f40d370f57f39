"""The figures and tables of a report as files for a paper."""

from __future__ import annotations

import shutil
import subprocess
import sys

import plotly.graph_objects as go
import pytest

from analysis.lake.open import open_results
from analysis.paper.export import caption, export_paper
from analysis.paper.figures import COLUMN, FORMATS, PAGE, fitted, write
from analysis.report.page import section
from analysis.report.section import VIEWS
from analysis.report.style import panels
from cl_core.errors import BadRequest

BROWSERS = ("chromium", "google-chrome", "chrome")


@pytest.fixture(scope="module")
def exported(kept_lake, tmp_path_factory):
    """The files of a small lake where the renderer of figures is missing."""
    folder = tmp_path_factory.mktemp("paper") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "kaleido", None)  # an import of it raises ImportError
        with pytest.raises(BadRequest) as caught:
            export_paper(kept_lake, folder)
    return folder, str(caught.value)


def test_without_a_renderer_the_tables_are_there_and_the_error_names_the_remedy(exported):
    folder, error = exported
    assert "pip install 'cl-search[paper]'" in error
    assert "\n" not in error
    for name in ("leaderboard.csv", "leaderboard.tex", "forgetting.csv"):
        assert (folder / "tables" / name).stat().st_size


def test_a_caption_says_data_rows_n_and_selection(exported):
    folder, _ = exported
    text = (folder / "captions.md").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("**tables/leaderboard**"))
    for part in ("Data: digits", "On validation rows.", "n = 1 class order", "protocol validation"):
        assert part in line


def test_a_caption_names_no_net_and_scenario_before_a_run_has_ended(kept_lake):
    results = open_results(kept_lake)
    results.runs = results.runs.iloc[:0]
    found = section(results, "time_spent")
    assert caption(results, found).startswith("Time spent. Data: digits. n = ")


def test_every_part_is_in_the_document(exported):
    folder, _ = exported
    text = (folder / "all.tex").read_text(encoding="utf-8")
    for path in folder.glob("*/*.tex"):
        assert f"\\input{{{path.relative_to(folder).with_suffix('')}}}" in text


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex")
def test_the_tables_compile(exported):
    folder, _ = exported
    text = (folder / "all.tex").read_text(encoding="utf-8").splitlines()
    (folder / "tables.tex").write_text("\n".join(line for line in text if "figures/" not in line))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "tables.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout


@pytest.mark.parametrize(("titles", "width"), [(["a"], COLUMN), (["a", "b"], COLUMN), (list("abcde"), PAGE)])
def test_panels_stand_in_one_column_or_over_both_and_never_overlap(titles, width):
    figure, _ = fitted(panels(titles, 2, 200))
    assert figure.layout.width == width
    places = [
        (figure.layout[f"xaxis{i or ''}"].domain, figure.layout[f"yaxis{i or ''}"].domain)
        for i in (0, *range(2, len(titles) + 1))
    ]
    for number, (x, y) in enumerate(places):
        assert 0 <= x[0] < x[1] <= 1
        assert 0 <= y[0] < y[1] <= 1
        for a, b in places[:number]:
            assert x[0] > a[1] or y[1] < b[0]


def test_a_figure_without_panels_has_the_width_of_a_column():
    figure, wide = fitted(go.Figure(go.Scatter(x=[1], y=[2])))
    assert figure.layout.width == COLUMN
    assert not wide


def test_a_view_that_fails_is_named_in_the_captions(kept_lake, tmp_path, monkeypatch):
    results = open_results(kept_lake)
    monkeypatch.setitem(sys.modules, "kaleido", None)
    with VIEWS.temporarily():
        VIEWS.register("broken_view")(lambda results: 1 / 0)
        with pytest.raises(BadRequest):
            export_paper(results, tmp_path)
    assert "**broken-view**: This view failed:" in (tmp_path / "captions.md").read_text(encoding="utf-8")


@pytest.mark.skipif(not any(map(shutil.which, BROWSERS)), reason="no Chrome or Chromium")
def test_a_figure_is_written_as_svg_and_pdf(tmp_path):
    pytest.importorskip("kaleido")
    figure, _ = fitted(panels(["a"], 1, 200))
    files = write({tmp_path / "one": figure})
    assert [path.suffix for path in files] == [f".{suffix}" for suffix in FORMATS]
    assert b'width="324"' in files[0].read_bytes()
    assert files[1].read_bytes().startswith(b"%PDF")
