"""The continual-learning trainer of cl-search. Knows torch; does not know Ray, Optuna or Parquet.

    from cl_core import run, load, Data
    result = run("lwf", load("digits"), "B0-5tasks", hp={"kd_weight": 1.0})
    result.average_incremental_accuracy

Nothing is imported until it is asked for, so `cl_core.records` and `cl_core.metrics` work without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cl_core.images.dataset import Data
    from cl_core.images.loading import load
    from cl_core.model.model import Model, load_model
    from cl_core.model.runs import Result, run
    from cl_core.training.configuration import Configuration

_HOME = {
    "run": "cl_core.model.runs",
    "Result": "cl_core.model.runs",
    "load": "cl_core.images.loading",
    "Data": "cl_core.images.dataset",
    "Model": "cl_core.model.model",
    "load_model": "cl_core.model.model",
    "Configuration": "cl_core.training.configuration",
}

__all__ = ["Configuration", "Data", "Model", "Result", "load", "load_model", "run"]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'cl_core' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
