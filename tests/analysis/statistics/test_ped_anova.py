"""PED-ANOVA on drawn trials: the numbers of Optuna's own evaluator."""

from __future__ import annotations

import warnings

import numpy as np
import optuna
import pytest

from analysis.statistics.ped_anova import gridded, ped_anova
from cl_core.hparams import Choice, Float, Int


@pytest.mark.parametrize("seed", range(6))
def test_every_importance_is_that_of_optuna(seed: int) -> None:
    rng, n = np.random.default_rng(seed), 60
    domains = {
        "rate": (Float(0.001, 1.0, log=True), optuna.distributions.FloatDistribution(0.001, 1.0, log=True)),
        "share": (Float(0.0, 1.0), optuna.distributions.FloatDistribution(0.0, 1.0)),
        "count": (Int(3, 9), optuna.distributions.IntDistribution(3, 9)),
        "size": (Int(1, 300, log=True), optuna.distributions.IntDistribution(1, 300, log=True)),
        "kind": (Choice("a", "b", "c"), optuna.distributions.CategoricalDistribution([0, 1, 2])),
        "order": (Choice(1, 2, 4), optuna.distributions.IntDistribution(0, 2)),
    }
    drawn = [
        {
            "rate": float(10 ** rng.uniform(-3, 0)),
            "share": float(rng.uniform()),
            "count": int(rng.integers(3, 10)),
            "size": int(np.exp(rng.uniform(0, np.log(300)))),
            "kind": int(rng.integers(3)),
            "order": int(rng.integers(3)),
        }
        for _ in range(n)
    ]
    for number in range(0, n, 3):
        del drawn[number]["share"], drawn[number]["kind"]  # of another branch
    score = np.array([-abs(np.log10(one["rate"]) + 1) + one["count"] / 5 for one in drawn])
    score[rng.integers(n, size=8)] = np.nan
    columns = [
        gridded(domain, [one.get(name) for one in drawn], ordered=name != "kind")
        for name, (domain, _) in domains.items()
    ]
    study = optuna.create_study(direction="minimize")
    for one in drawn:
        kinds = {name: domains[name][1] for name in one}
        study.add_trial(optuna.trial.create_trial(params=one, distributions=kinds, value=0.0))
    evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=0.15)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = optuna.importance.get_param_importances(
            study, evaluator=evaluator, target=lambda trial: -float(score[trial.number]), normalize=False
        )
    found = dict(zip(domains, ped_anova(columns, score[None], 0.15)[0], strict=True))
    assert found == pytest.approx(wanted, rel=1e-9)
