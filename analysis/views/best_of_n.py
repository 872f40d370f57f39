"""The gain from more trials: the expected best of n trials, and the search as it went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from numpy.typing import NDArray
from scipy.special import gammaln

from analysis.lake.results import Results
from analysis.report.identity import colours
from analysis.report.section import VIEWS, Section
from analysis.report.style import panels, place
from analysis.selection.selection import Cell, cells, split_selected_on
from analysis.selection.trials import ADAPTIVE, best_of_trainings, span, trials
from cl_core.metrics import METRICS

TITLE = "Best of n trials"
NEAR = 0.005  # half a point: what counts as having arrived


@VIEWS.register("best_of_n")
def best_of_n(results: Results) -> Section:
    """Expected best value against the number of trials, and best so far against training time."""
    name, direction = results.study.objective
    tried = {cell.name: best_of_trainings(trials(results, cell), direction) for cell in cells(results)}
    shown = [cell for cell in cells(results) if (tried[cell.name]["status"] == "completed").sum() > 1]
    if not shown:
        return Section(TITLE, "No cell has two completed trials, so n is one.", optional=True)
    least = direction == "min"
    curves = {cell.name: expected_best(*_values(tried[cell.name]), least) for cell in shown}
    unit, factor = _unit(results)
    said = name.replace("_", " ")
    text = (
        f"Left: the best {said} that n of a cell's trials find on average, drawn from those that were tried. "
        f"Right: the best so far during the search, against the {unit} of all ended trials, stopped and "
        "failed ones included. Dotted: the published values (trial 0). A curve that still rises at its end "
        "says that more trials would help. Where two methods cross, the budget decides which one is better. "
        "All values are of the rows that trials are selected on, so the best of many is optimistic."
    )
    if any((tried[cell.name]["status"] == "stopped").any() for cell in shown):
        text += (
            "\n\nStopped trials have no value, and draws of stopped trials alone are left out. So where many "
            "were stopped, the left curves are too high for small n."
        )
    if results.study.reuses:
        text += "\n\nTrials that share a training count once, with the best of them."
    sampler = results.study.sampler
    if sampler in ADAPTIVE:
        text += (
            f"\n\nThe sampler {sampler} learns, so its later trials are better than its first ones, and the "
            "left curves are too high for small n. The right curves show the search as it was."
        )
    formulas = [
        "E[best of n] = Σ_i v_{(i)} · C(i−1, n−1) / C(N, n): v_{(1)}, … are the values of the N ended "
        "trials, the best last, and n of them are drawn without replacement (Dodge et al., EMNLP "
        "2019, arXiv 1909.03004; without replacement: Tang et al., ACL 2020, arXiv 2004.13705)",
        "stopped and failed trials take the first places i and are never best; the mean is over "
        "draws with at least one completed, so the sum is divided by 1 − C(N−M, n) / C(N, n), M completed",
        "seconds: as recorded with each task, a shared first task in every run",
    ]
    table = pd.DataFrame(
        [_row(cell, tried[cell.name], curves[cell.name], least, unit, factor, results) for cell in shown]
    )
    counts = [len(tried[cell.name]) for cell in shown]
    n = f"n = {span(counts)} ended trials a cell"
    figure = _figure(results, shown, tried, curves, (said, unit), least, factor)
    gains = table["last doubling"].abs()
    most = table.iloc[int(np.argmax(gains))]
    return Section(
        TITLE,
        text,
        formulas,
        n,
        table,
        figure,
        split=split_selected_on(results),
        question="Would more trials find better ones?",
        answer=f"The last doubling of the trials improved {said} by {gains.mean():.3f} on average; most in "
        f"{most['label']}@{most['scenario']}, by {gains.max():.3f}.",
    )


def expected_best(values: NDArray[np.float64], ended: int, least: bool = False) -> NDArray[np.float64]:
    """[ended]: the expected best of 1, 2, ... of `ended` trials, drawn without replacement, of which
    only those with `values` [completed] have completed; over the draws with at least one of them."""
    order = np.sort(-values if least else values)
    place = np.arange(ended - len(order) + 1, ended + 1)[None, :]  # 1-based among all
    n = np.arange(1, ended + 1)[:, None]

    def log_choose(of: NDArray[np.int64], out: NDArray[np.int64]) -> NDArray[np.float64]:
        """log C(of, out), minus infinity where out > of."""
        inside = np.where(out > of, 0, out)
        logs = gammaln(of + 1) - gammaln(inside + 1) - gammaln(of - inside + 1)
        return np.where(out > of, -np.inf, logs)

    weight = np.exp(log_choose(place - 1, n - 1) - log_choose(np.array([[ended]]), n))
    best: NDArray[np.float64] = weight @ order / weight.sum(axis=1)
    return -best if least else best


def trajectory(tried: pd.DataFrame, least: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Seconds of training spent, and the best value so far, after each trial in the order in which
    they ended; from the first completed one on."""
    order = tried.sort_values(["ended", "trial"], na_position="last")
    spent = order["seconds"].fillna(0.0).cumsum().to_numpy(dtype=np.float64)
    values = order["objective"].to_numpy(dtype=np.float64)
    best = np.fmin.accumulate(values) if least else np.fmax.accumulate(values)
    known = ~np.isnan(best)
    return spent[known], best[known]


def _values(tried: pd.DataFrame) -> tuple[NDArray[np.float64], int]:
    return tried["objective"].dropna().to_numpy(dtype=np.float64), len(tried)


def _unit(results: Results) -> tuple[str, float]:
    """Name the unit of training time, with its factor a second."""
    devices = {str(device) for device in results.runs["device"].dropna()}
    if not devices or not all(device.startswith("cuda") for device in devices):
        return "seconds of training", 1.0
    share = results.study.gpu
    if share:
        return f"GPU-seconds (a run holds {share:g} GPU)", share
    return "GPU-seconds (a run counted as one GPU)", 1.0


def _default(results: Results, cell: Cell) -> float | None:
    tried = trials(results, cell)
    first = tried[(tried["trial"] == 0) & tried["objective"].notna()]
    return float(first["objective"].iloc[0]) if results.study.starts_from_paper and len(first) else None


def _row(
    cell: Cell,
    tried: pd.DataFrame,
    curve: NDArray[np.float64],
    least: bool,
    unit: str,
    factor: float,
    results: Results,
) -> dict[str, object]:
    sign = -1.0 if least else 1.0
    default = _default(results, cell)
    row: dict[str, object] = {"scenario": cell.scenario, "label": cell.label, "ended": len(tried)}
    row["completed"] = int(tried["objective"].notna().sum())
    row["default"] = default
    for n in (1, 5, 10, 20):
        row[f"best of {n}"] = float(curve[n - 1]) if n <= len(curve) else None
    row["best of all"] = float(curve[-1])
    row["last doubling"] = sign * float(curve[-1] - curve[(len(curve) - 1) // 2])
    if results.study.objective[0] in METRICS:  # bytes and seconds have no half a point
        row["n within half a point"] = int(np.flatnonzero(sign * (curve[-1] - curve) <= NEAR)[0]) + 1
    better = sign * (curve - (curve[-1] if default is None else default)) > 0
    row["n above default"] = int(better.argmax()) + 1 if better.any() else None
    row[unit.split(" (")[0]] = factor * float(tried["seconds"].fillna(0.0).sum())
    return row


def _figure(
    results: Results,
    shown: Sequence[Cell],
    tried: Mapping[str, pd.DataFrame],
    curves: Mapping[str, NDArray[np.float64]],
    said: tuple[str, str],
    least: bool,
    factor: float,
) -> go.Figure:
    """Two panels a scenario: against trials, and against training time."""
    names = list(dict.fromkeys(cell.scenario for cell in shown))
    titles = [title for name in names for title in (f"{name}: expected", f"{name}: as it went")]
    figure = panels(titles, columns=2, height=300, legend=True)
    colour = colours(results)
    listed: set[str] = set()
    for cell in shown:
        frame, curve = tried[cell.name], curves[cell.name]
        spent, best = trajectory(frame, least)
        index = 2 * names.index(cell.scenario)
        lines = (
            (index, np.arange(1, len(curve) + 1), curve, "linear", "n = %{x}: %{y:.3f}"),
            (index + 1, factor * spent, best, "hv", "%{x:.0f} s: %{y:.3f}"),
        )
        for at, x, y, shape, hover in lines:
            figure.add_trace(
                go.Scatter(
                    x=list(x),
                    y=list(y),
                    mode="lines+markers" if len(x) < 30 else "lines",
                    name=cell.label,
                    legendgroup=cell.label,
                    showlegend=cell.label not in listed,
                    line={"color": colour[cell.label], "width": 2, "shape": shape},
                    marker={"size": 5},
                    hovertemplate=f"{cell.label}<br>{hover}<extra></extra>",
                ),
                **place(at, figure),
            )
            listed.add(cell.label)
            default = _default(results, cell)
            if default is not None and len(x):
                figure.add_trace(
                    go.Scatter(
                        x=[float(x[0]), float(x[-1])],
                        y=[default, default],
                        mode="lines",
                        legendgroup=cell.label,
                        showlegend=False,
                        line={"color": colour[cell.label], "width": 1.2, "dash": "dot"},
                        hovertemplate=f"{cell.label}, published values: %{{y:.3f}}<extra></extra>",
                    ),
                    **place(at, figure),
                )
    for index in range(len(names)):
        figure.update_xaxes(title_text="trials n", **place(2 * index, figure))
        figure.update_xaxes(title_text=said[1], rangemode="tozero", **place(2 * index + 1, figure))
    figure.update_yaxes(title_text=said[0])
    return figure
