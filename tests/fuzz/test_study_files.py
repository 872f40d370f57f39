"""Study files with values, keys and bytes that do not belong there."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.damage import SCALARS, VALUES, answers, damaged, fuzzed

STUDY: dict[str, Any] = {
    "study": "small",
    "data": {"name": "digits", "per_class": 20, "size": 8, "classes": 10},
    "scenarios": ["B0-5tasks", {"base": 4, "increments": [3, 3], "class_order": "seed:1"}],
    "methods": {
        "lwf": {"kd_weight": {"float": [0.1, 10.0], "log": True}, "temperature": {"choice": [1.0, 2.0]}},
        "plain": {"method": "lwf", "distill": False, "recipe": {"epochs": 1}},
        "icarl": {"exemplars_per_class": 2, "loss": "ce"},
    },
    "recipe": {
        "epochs": 1,
        "lr": 0.1,
        "batch": 16,
        "optimizer": "sgd",
        "schedule": "step",
        "net": "convnet-small",
        "base": {"epochs": 2},
        "increment": {"lr": {"float": [0.01, 0.2], "log": True}},
    },
    "search": {
        "trials": 2,
        "sampler": "tpe",
        "sampler_args": {"n_startup_trials": 2},
        "stopper": "asha",
        "stopper_args": {"reduction_factor": 3},
        "objective": {"average_incremental_accuracy": "max"},
        "seed": 0,
        "audit": 0.1,
        "start_from": ["paper"],
    },
    "protocol": {
        "select_on": "validation",
        "validation": 0.2,
        "orders": 1,
        "spread": 1,
        "confirm": {"top": 1},
    },
    "final": {"orders": 1, "seeds": 1},
    "resources": {"cpu": 1, "gpu": 0, "concurrent": 1},
    "storage": {"optuna": "journal", "share": True, "checkpoint_bytes": "1GB"},
    "budget": {"wall": "3h", "grace": "2s"},
}
TEXT = yaml.safe_dump(STUDY).encode()


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in _places(item, (*path, key)))]


PLACES = _places(STUDY)[1:]


@st.composite
def studies(draw: st.DrawFn) -> Any:
    """The study with one to three values replaced, removed, or put under another key."""
    study = copy.deepcopy(STUDY)
    for _ in range(draw(st.integers(1, 3))):
        *before, last = draw(st.sampled_from(PLACES))
        at = _at(study, before)
        if _at(at, [last]) is _NOTHING:  # an earlier change took it away
            continue
        how = draw(st.sampled_from(["value", "value", "value", "remove", "key"]))
        if how == "remove":
            del at[last]
        elif how == "key" and isinstance(at, dict):
            at[draw(SCALARS)] = at.pop(last)
        else:
            at[last] = draw(VALUES)
    return study


_NOTHING = object()


def _at(value: Any, path: list[Any]) -> Any:
    """Return what lies at a path in a study; `_NOTHING` where it ends before."""
    for key in path:
        try:
            value = value[key] if isinstance(value, dict | list) else _NOTHING
        except (LookupError, TypeError):
            return _NOTHING
    return value


@given(plain=studies())
@fuzzed
def test_a_study_file_with_wrong_values_is_refused_in_one_line(tmp_path: Path, plain: Any) -> None:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.dump(plain), encoding="utf-8")
    answers("run", path, "--dry-run", "--local", "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@given(content=damaged(TEXT))
@fuzzed
def test_a_damaged_study_file_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "small.yaml"
    path.write_bytes(content)
    answers("run", path, "--dry-run", "--local", "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()
