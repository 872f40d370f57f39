"""Levels, coverage and power of what the analysis decides, on lakes with 143 rows whose truth is known.

`compare` between two searches of one method, the verdicts on the survey's claims, and importance. Every
figure is a share of lakes, cells, contrasts, claims or cells; `tests/analysis/statistics/test_levels.py` says
what must hold.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analysis import open_results
from analysis.report.section import VIEWS
from analysis.statistics.counting_error import share
from analysis.statistics.intervals import OUTCOMES, holm
from analysis.statistics.sample import Sample
from analysis.survey.roles import PARADIGMS, Roles
from analysis.survey.verdict import Judged, judge
from tests.analysis.chance_lakes import ROWS
from tests.analysis.planted_effects import Planted, plant
from tests.analysis.planted_search import ranged, search
from tests.analysis.survey_lakes import BOUNDS, ten

Figures = dict[str, float]
LAKES = 200
ORDERS = (3, 5, 10)
CELLS = 3
ERROR = float(np.sqrt(0.7 * 0.3 / ROWS))  # standard error of an accuracy of .7
BUDGETS = ((3, 30), (15, 15), (1, 30))
SPLIT: Mapping[str, tuple[int, ...]] = {"B0-2tasks": (1, 1)}
TRIALS = 60  # of a cell with four hyperparameters


def measure() -> Figures:
    """All of it, in about ten minutes of one core."""
    out = Figures()
    for orders in ORDERS:
        for budgets in BUDGETS:
            for apart in (0.0, 1.5):
                named = f"compare.{budgets[0]}_against_{budgets[1]}.apart_{apart:g}.{orders}_orders"
                out |= {f"{named}.{key}": v for key, v in searched(orders, budgets, apart).items()}
        out |= {f"claims.{orders}_orders.{key}": v for key, v in claims(orders).items()}
        out |= {f"importance.{orders}_orders.{key}": v for key, v in importance(orders).items()}
    return out


# Two searches of one method


def searched(
    orders: int, budgets: tuple[int, int], apart: float, lakes: int = LAKES, known: bool = False
) -> Figures:
    """Shares of lakes of three cells with a false claim, and with "B is better"; of cells, covered ones.

    The numbers are those that `compare` computes from such lakes. Both sides draw their trials from one law:
    accuracies with a deviation of `apart` standard errors of their counts. A claim is false where the two
    selected trials do not differ in its direction. `known` leaves the luck of the selection in.
    """
    draw = np.random.default_rng(1000 * orders + budgets[0])
    false = better = covered = 0
    for _ in range(lakes):
        shift = draw.normal(0, 0.03, (CELLS, 1, orders))
        true = [np.clip(0.7 + apart * ERROR * draw.standard_normal((CELLS, k)), 0.4, 0.95) for k in budgets]
        sides = [_counts(draw, one, shift) for one in true]
        selected = [counts.mean(axis=2).argmax(axis=1) for counts in sides]  # the first of equal ones
        gap = [float(true[1][c, selected[1][c]] - true[0][c, selected[0][c]]) for c in range(CELLS)]
        samples = [
            [sample(counts[c, best[c]]) for c in range(CELLS)]
            for counts, best in zip(sides, selected, strict=True)
        ]
        found = [(b - a).best_of(1 if known else max(budgets)) for a, b in zip(*samples, strict=True)]
        claimed = [p <= 0.05 for p in holm([p or 0.0 for _, p in found])]
        shown = [mean.value or 0.0 for mean, _ in found]
        false += any(c and s * g <= 0 for c, s, g in zip(claimed, shown, gap, strict=True))
        better += any(c and s > 0 for c, s in zip(claimed, shown, strict=True))
        covered += sum(
            abs(s - g) <= (mean.half or 0.0) for (mean, _), s, g in zip(found, shown, gap, strict=True)
        )
    return {"false": false / lakes, "b_better": better / lakes, "covered": covered / (lakes * CELLS)}


def sample(counts: NDArray[np.int64]) -> Sample:
    """Return the accuracies of 143 rows by class order."""
    values = {order: float(right) / ROWS for order, right in enumerate(counts)}
    return Sample(values, {order: share(value, ROWS) ** 2 for order, value in values.items()})


def _counts(
    draw: np.random.Generator, true: NDArray[np.float64], shift: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Return right answers [cells, trials, orders]: trials differ on each class order by half an error."""
    own = draw.normal(0, ERROR / 2, (*true.shape, shift.shape[2]))
    counts: NDArray[np.int64] = draw.binomial(ROWS, np.clip(true[:, :, None] + shift + own, 0.0, 1.0))
    return counts


# Claims of the survey

EQUAL = tuple(ten(0.6))
APART = tuple(
    Planted(name, name, level)
    for paradigm, level in zip(PARADIGMS, (0.5, 0.75, 0.6), strict=True)
    for name in PARADIGMS[paradigm]
)


def claims(orders: int, lakes: int = LAKES, powerful: int = 40) -> Figures:
    """Shares of lakes with a false verdict among ten equal methods, of contrasts covered, of verdicts found.

    The truth is what the same lake gives without noise and with 200,000 rows.
    """
    draw = np.random.default_rng(orders)
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder)
        null, truth = (_judged(at / name, planted, 5) for name, planted in (("0", EQUAL), ("1", APART)))
        known = {(j.claim.id, s.contrast.text): s.difference.value for j in null for s in j.shown}
        said = {j.claim.id: j.verdict.name for j in null}
        false, covered = 0, list[bool]()
        for number in range(lakes):
            found = _judged(at / f"null{number}", EQUAL, orders, draw)
            false += any(j.verdict.name in OUTCOMES and j.verdict.name != said[j.claim.id] for j in found)
            for j in found:
                for s in j.shown:
                    true = known[j.claim.id, s.contrast.text]
                    if None not in (true, s.difference.value, s.difference.half):
                        gap = abs((s.difference.value or 0.0) - (true or 0.0))
                        covered.append(gap <= (s.difference.half or 0.0))
        decided = {j.claim.id: j.verdict.name for j in truth if j.verdict.name in OUTCOMES}
        right = 0
        for number in range(powerful):
            found = _judged(at / f"planted{number}", APART, orders, draw)
            right += sum(decided.get(j.claim.id) == j.verdict.name for j in found)
    return {
        "false": false / lakes,
        "covered": float(np.mean(covered)),
        "power": right / (powerful * len(decided)),
    }


def _judged(
    folder: Path, planted: Sequence[Planted], orders: int, draw: np.random.Generator | None = None
) -> list[Judged]:
    small = {} if draw is None else {"rows": ROWS // 2, "draw": draw, "noise": 0.02}
    made = plant(folder, [*BOUNDS, *planted], SPLIT, orders=orders, **{"noise": 0.0, **small})
    return judge(Roles(open_results(made)))


# Importance


def importance(orders: int, cells: int = LAKES, powerful: int = 30) -> Figures:
    """Shares of empty cells with a hyperparameter above its mark, and of cells whose planted one is above.

    Values are means over class orders of binomial counts. The planted one moves accuracy by ten points from
    the middle of its range to its ends.
    """
    draw = np.random.default_rng(orders)
    with tempfile.TemporaryDirectory() as folder:
        above = [_above(Path(folder) / f"{k}", draw, orders, 0.0).any() for k in range(cells)]
        found = [_above(Path(folder) / f"p{k}", draw, orders, 0.1)[0] for k in range(powerful)]
    return {"false": float(np.mean(above)), "power": float(np.mean(found))}


def _above(folder: Path, draw: np.random.Generator, orders: int, curve: float) -> NDArray[np.bool_]:
    """Tell of each of four hyperparameters whether its importance is above its mark."""
    names = "wxyz"
    points = draw.random((TRIALS, len(names)))
    true = 0.7 - 4 * curve * (points[:, 0] - 0.5) ** 2
    value = draw.binomial(ROWS, true[:, None], (TRIALS, orders)).mean(axis=1) / ROWS
    rows = [
        {**{f"hp.{name}": float(x) for name, x in zip(names, point, strict=True)}, "objective": float(v)}
        for point, v in zip(points, value, strict=True)
    ]
    made = search(folder, rows, [ranged(name, 0.0, 1.0) for name in names])
    table = VIEWS["importance"](open_results(made)).table
    assert table is not None
    shown = table.set_index("hyperparameter").loc[list(names)]
    return (shown["importance"] > shown["chance"]).to_numpy(dtype=bool)
