"""Values for every attempt at a task, proposed by Optuna: the protocol adaptive.

Each task has a fresh Optuna study, as in AdaCL. The first half of the attempts is random, the default values
before them; the tree-structured Parzen estimator proposes the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import FixedTrial, TrialState, create_trial

from cl_core.errors import BadRequest
from cl_core.hparams import Value, digest
from cl_core.training.adaptive_options import Attempt
from cl_core.training.configuration import Configuration
from spaces.space.space import Space
from spaces.space.task_space import from_plain


def task_proposer(configuration: Configuration) -> TaskProposer:
    """Return the proposer that an adaptive configuration describes. Raises BadRequest."""
    options = configuration.adaptation()
    plain = options.proposer if options is not None else None
    if options is None or not plain:
        raise BadRequest(
            "adaptive needs the parameters to search in adaptive.proposer: run a study with "
            "protocol.select_on adaptive"
        )
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    own = [plain["seed"], configuration.class_order, configuration.seed]
    return TaskProposer(from_plain(plain["parameters"]), options.attempts, own)


class TaskProposer:
    """Proposes values of a space. The same history gives the same values, whatever came before."""

    def __init__(self, space: Space, attempts: int, seed: Sequence[Any]) -> None:
        self.space, self.attempts, self.seed = space, attempts, list(seed)

    def propose(self, task: int, history: Sequence[Attempt]) -> Mapping[str, Value]:
        """Return values for the next attempt at a task; empty values in `history` are the defaults."""
        seed = int(digest([*self.seed, task, len(history)], 8), 16)
        random = max(1, self.attempts // 2)
        sampler = RandomSampler(seed) if len(history) < random else TPESampler(n_startup_trials=1, seed=seed)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for attempt in history:
            study.add_trial(self._known(attempt))
        return self.space.searched_in(self.space.sample_with(study.ask()))

    def _known(self, attempt: Attempt) -> optuna.trial.FrozenTrial:
        values = dict(attempt.values) or self.space.searched_in(self.space.defaults())
        fixed = FixedTrial(values)
        self.space.sample_with(fixed)
        state = TrialState.FAIL if attempt.accuracy is None else TrialState.COMPLETE
        return create_trial(
            params=fixed.params, distributions=fixed.distributions, value=attempt.accuracy, state=state
        )
