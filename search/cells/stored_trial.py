"""A trial as Optuna's storage holds it: the names of its attributes, and its status."""

from __future__ import annotations

from optuna.storages import BaseStorage
from optuna.trial import TrialState

from spaces.space.space import Values

NUMBER = "number"  # in its cell; without it, the trial was never handed out
VALUES, ERROR, RETRY, AUDITED, SOURCE = "values", "error", "retry", "audited", "source"
PICKED = "picked"  # of a cell: the trials to confirm, once its trials have ended
STATUS = {TrialState.COMPLETE: "completed", TrialState.PRUNED: "stopped", TrialState.FAIL: "failed"}


def stored_values(storage: BaseStorage, study_id: int) -> dict[int, Values]:
    """Return the values of every trial of a cell, by number, exactly as they were sampled."""
    return {
        int(stored.user_attrs[NUMBER]): dict(stored.user_attrs[VALUES])
        for stored in storage.get_all_trials(study_id, deepcopy=False)
        if NUMBER in stored.user_attrs
    }
