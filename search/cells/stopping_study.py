"""The second Optuna study of a cell, which holds what stopping compares if the first one cannot.

Optuna takes no intermediate values with several objectives, and with one that is minimised they would point
the other way. Then a study of one objective, named "<cell>/stopping", holds them.
"""

from __future__ import annotations

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState, create_trial

from search.cells.stored_trial import NUMBER
from search.cells.trials import Trial

OF = "of"  # the attribute with the number of the trial in the cell's first study


class StoppingStudy:
    """The accuracy over the increments of every trial of a cell, by step."""

    def __init__(self, study: optuna.Study, storage: BaseStorage) -> None:
        self._study, self._storage = study, storage
        self._ids: dict[int, int] = {}  # number of a trial -> Optuna's id here

    def load(self, trials: dict[int, Trial]) -> None:
        """Add the values that are stored to the courses of `trials`."""
        for stored in self._study.get_trials(deepcopy=False):
            trial = trials[int(stored.user_attrs[NUMBER])]
            if stored.user_attrs[OF] == trial.optuna_number:
                self._ids[trial.number] = stored._trial_id
                trial.course.values.update(stored.intermediate_values)

    def forget(self, number: int) -> None:
        """Begin anew for a trial that is tried again."""
        self._ids.pop(number, None)

    def report(self, trial: Trial, step: int, increments: float) -> None:
        """Store a value of a trial."""
        if trial.number not in self._ids:
            stored = self._storage.get_trial(trial.optuna_id)
            template = create_trial(
                state=TrialState.RUNNING,
                params=stored.params,
                distributions=stored.distributions,
                user_attrs={NUMBER: trial.number, OF: trial.optuna_number},
            )
            self._ids[trial.number] = self._storage.create_new_trial(self._study._study_id, template)
        self._storage.set_trial_intermediate_value(self._ids[trial.number], step, increments)

    def end(self, trial: Trial, state: TrialState, value: float | None) -> None:
        """End a trial in `state`; a completed one without a `value` fails here."""
        if trial.number not in self._ids:
            return
        stored = self._storage.get_trial(self._ids[trial.number])
        if not stored.state.is_finished():
            complete = state == TrialState.COMPLETE
            self._study.tell(
                stored.number,
                value if complete else None,
                TrialState.FAIL if complete and value is None else state,
            )
