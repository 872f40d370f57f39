"""The quality of the search without training: the recorded grid, replayed through the searcher and stopper.

Every figure is over `seeds` searches, paired by seed: what is compared begins with the same configuration.
Objectives are fractions; "within" counts the seeds in which the winner with a stopper is no more than
CLOSE below the winner without one. `tests/search/cells/test_search_quality.py` says what must hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from scipy.stats import binomtest, spearmanr, wilcoxon

from tests.search.replay.backend import Search, search
from tests.search.replay.record import AXES
from tests.search.replay.recording import Recording, recorded

SEEDS = 20
TRIALS = 60
CLOSE = 0.005

Figures = dict[str, float]
Floats = NDArray[np.float64]


def measure() -> Figures:
    """All of it, with 20 seeds; by the names below, joined with dots."""
    table, out = recorded(), Figures()
    out |= named("table", of_table(table))
    for trials in (40, TRIALS):
        out |= named(f"tpe_{trials}", against_random(table, SEEDS, trials, "tpe"))
    out |= named("gp_40", against_random(table, SEEDS, 40, "gp"))  # its asks are what takes minutes
    noisy = recorded("recorded-lwf")
    out |= named("noisy_table", of_table(noisy))
    out |= named("noisy_tpe_40", against_random(noisy, SEEDS, 40, "tpe"))
    for tasks in (10, 5):
        cut = table.first(tasks)
        for sampler in ("random", "tpe"):
            for stopper in ("asha", "hyperband", "median"):
                for concurrent in (1, 4) if stopper == "asha" else (1,):
                    name = f"{stopper}_{sampler}_{tasks}tasks_{concurrent}at_a_time"
                    found = stopped(cut, SEEDS, TRIALS, sampler, stopper, concurrent)
                    out |= named(name, found)
    for increments in (1, 3):
        for stopper in ("asha", "median"):
            found = around_bad(table, SEEDS, TRIALS, stopper, increments)
            out |= named(f"bad_after_{increments}_{stopper}", found)
    out |= named("naive_asha", naively(table, SEEDS, TRIALS, "asha"))
    for axis in AXES:
        for sampler in ("random", "tpe"):
            found = found_optimum(planted_optimum(table, axis), axis, SEEDS, TRIALS, sampler)
            out |= named(f"optimum_{axis}_{sampler}", found)
    for sampler in ("random", "tpe"):
        out |= named(f"audit_{sampler}", audited(table, SEEDS, TRIALS, sampler))
    return out


def named(name: str, figures: Figures) -> Figures:
    return {f"{name}.{key}": float(value) for key, value in figures.items()}


def of_table(table: Recording) -> Figures:
    """The grid itself: how far configurations differ, and how well a rung tells the end."""
    objective, increments = table.objective, table.increments
    out: Figures = {
        "configurations": len(objective),
        "objective_best": objective.max(),
        "objective_median": float(np.median(objective)),
        "objective_sd": objective.std(),
    }
    for task in (1, 2, 3, 6):  # 0-based
        out[f"rank_correlation_after_{task}_increments"] = spearmanr(increments[:, task], objective).statistic
    return out


# Samplers


def against_random(table: Recording, seeds: int, trials: int, sampler: str) -> Figures:
    """The best recorded objective that a sampler finds, less that of random search."""
    own, other = (
        np.array([search(table, seed, trials, sampler=name).best for seed in range(seeds)])
        for name in (sampler, "random")
    )
    return {
        "n": seeds,
        "best": own.mean(),
        "best_of_random": other.mean(),
        "better": int((own > other).sum()),
        "worse": int((own < other).sum()),
        "p": one_sided(own - other),
    }


def one_sided(leads: Floats) -> float:
    """The p of Wilcoxon's signed-rank test that leads are above zero; ties count half to either side."""
    return float(wilcoxon(leads, alternative="greater", zero_method="zsplit").pvalue)


# Stoppers


def stopped(
    table: Recording, seeds: int, trials: int, sampler: str, stopper: str, concurrent: int = 1
) -> Figures:
    """Return what a stopper saves, and what its winner loses against the winner without one."""
    saved, lost = [], []
    for seed in range(seeds):
        plain = search(table, seed, trials, concurrent, sampler)
        found = search(table, seed, trials, concurrent, sampler, stopper=stopper)
        saved.append(found.saved)
        lost.append(plain.best - found.best)
    return {
        "n": seeds,
        "saved": float(np.mean(saved)),
        "saved_least": min(saved),
        "within": int((np.array(lost) <= CLOSE).sum()),
        "lost": float(np.mean(lost)),
        "lost_most": max(lost),
    }


# A planted bad trial


def planted_bad(table: Recording, row: int, increments: int) -> Recording:
    """The recording with one configuration that is the best of all up to so many increments, by a hair, and
    answers nothing right from then on."""
    accuracy = table.accuracy.copy()
    accuracy[row, 1] = table.accuracy[:, 1].max() + 0.001
    if increments > 1:
        left = increments * (table.increments[:, increments].max() + 0.001) - accuracy[row, 1]
        accuracy[row, 2 : increments + 1] = left / (increments - 1)
    accuracy[row, increments + 1 :] = 0.0
    return table.remade(accuracy)


def around_bad(
    table: Recording, seeds: int, trials: int, stopper: str, increments: int, naive: bool = False
) -> Figures:
    """Search by TPE after a first trial that is planted bad. Shares are of what is asked after the
    random start and lies within a level of it on every axis; beside it those of a search in which that trial
    is what was recorded."""
    chosen = early = 0
    shares: dict[str, list[float]] = {"planted": [], "recorded": [], "random": []}
    for seed in range(seeds):
        row = search(table, seed, 1).trials[0].row
        near = table.near(row)
        made = planted_bad(table, row, increments)
        found = search(made, seed, trials, stopper=stopper, naive=naive)
        chosen += found.winner.row == row
        early += sum(
            t.state == "COMPLETE" and t.value is not None and abs(t.value - made.objective[t.row]) > 1e-9
            for t in found.trials
        )
        for name, one in (
            ("planted", found),
            ("recorded", search(table, seed, trials, stopper=stopper, naive=naive)),
            ("random", search(made, seed, trials, sampler="random", stopper=stopper)),
        ):
            shares[name].append(float(np.mean([near[t.row] for t in one.trials[10:]])))
    return {
        "n": seeds,
        "chosen": chosen,
        "told_early_value": early,
        **{f"share_near_{name}": float(np.mean(share)) for name, share in shares.items()},
    }


def naively(table: Recording, seeds: int, trials: int, stopper: str) -> Figures:
    """Search with stopped trials told as completed: the recorded objective of the
    winner, with PRUNED and without."""
    best = {
        naive: [search(table, seed, trials, stopper=stopper, naive=naive).best for seed in range(seeds)]
        for naive in (False, True)
    }
    return {
        "n": seeds,
        "best": float(np.mean(best[False])),
        "best_naive": float(np.mean(best[True])),
        "naive_worse": sum(n < o for o, n in zip(best[False], best[True], strict=True)),
    }


# A planted optimum


def planted_optimum(table: Recording, axis: str) -> Recording:
    """A made table in which one axis alone decides, up to noise: best near a quarter of its levels."""
    levels = table.levels(axis)
    place = np.searchsorted(levels, table.values[axis]) / (len(levels) - 1)
    best = round(0.25 * (len(levels) - 1)) / (len(levels) - 1)
    worth = 0.2 + 0.3 * np.exp(-(((place - best) / 0.3) ** 2))
    falling = worth[:, None] * np.linspace(1.3, 0.8, table.tasks)
    noise = np.random.default_rng(0).normal(0, 0.01, falling.shape)
    return table.remade(falling + noise)


def found_optimum(table: Recording, axis: str, seeds: int, trials: int, sampler: str = "tpe") -> Figures:
    """Return how often the winner lies at the planted level, and how often the importance names the axis."""
    by_level = {level: table.objective[table.values[axis] == level].mean() for level in table.levels(axis)}
    best = max(by_level, key=lambda level: by_level[level])
    hit, first, shares = 0, 0, []
    for seed in range(seeds):
        found = search(table, seed, trials, sampler=sampler)
        hit += bool(table.values[axis][found.winner.row] == best)
        importance = importances(found)
        first += max(importance, key=lambda name: importance[name]) == axis
        shares.append(importance[axis])
    return {"n": seeds, "found": hit, "named": first, "importance": float(np.mean(shares))}


def importances(found: Search) -> dict[str, float]:
    """The share of each axis by PED-ANOVA over the completed trials: what sets the best quarter apart in the
    whole space.

    A tenth of 60 trials is too few, and within what a good sampler asks nothing decides any more.
    """
    evaluator = PedAnovaImportanceEvaluator(target_quantile=0.25, evaluate_on_local=False)
    shares = get_param_importances(found.study, evaluator=evaluator)
    return {name.rsplit(".", 1)[-1]: share for name, share in shares.items()}


# Audits


def audited(table: Recording, seeds: int, trials: int, sampler: str, audit: float = 0.3) -> Figures:
    """The rate of false stops among the audited, with its interval, and among all that were to be stopped."""
    counts = np.array([_false_stops(found) for found in _audits(table, seeds, trials, sampler, audit)])
    false, checked, truly, to_stop = counts.sum(axis=0)
    low, high = binomtest(int(false), int(checked)).proportion_ci(0.95)
    return {
        "n": seeds,
        "audited": checked,
        "rate": false / checked,
        "low": low,
        "high": high,
        "to_stop": to_stop,
        "true_rate": truly / to_stop,
    }


def _audits(table: Recording, seeds: int, trials: int, sampler: str, audit: float) -> Iterator[Search]:
    for seed in range(seeds):
        yield search(table, seed, trials, sampler=sampler, stopper="asha", audit=audit)


def _false_stops(found: Search) -> Sequence[int]:
    """(false, of audited; false, of all that were to be stopped) as the report counts them: better in the end
    than every completed trial that was not to be stopped."""
    objective = found.recording.objective
    best = max(objective[t.row] for t in found.trials if t.state == "COMPLETE" and not t.audited)
    checked = [objective[t.row] > best for t in found.trials if t.audited]
    to_stop = [objective[t.row] > best for t in found.trials if t.audited or t.state == "PRUNED"]
    return sum(checked), len(checked), sum(to_stop), len(to_stop)


def arguments_compared(
    table: Recording, seeds: int, trials: int, known: dict[str, dict[str, Any]]
) -> dict[str, Figures]:
    """For each set of TPE arguments: what it finds, less random search. For trying out defaults."""
    other = np.array([search(table, seed, trials, sampler="random").best for seed in range(seeds)])
    out = {}
    for name, args in known.items():
        own = np.array([search(table, seed, trials, sampler_args=args).best for seed in range(seeds)])
        out[name] = {"best": own.mean(), "lead": (own - other).mean(), "p": one_sided(own - other)}
    return out
