"""Protocols: what belongs to which, what a run of each is, and what may not change."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cl_core.errors import BadRequest
from cl_core.images.dataset import Data
from search.preparation.prepared import prepare
from spaces.resolved.resolve import resolve
from spaces.resolved.run_spec import RunSpec, evaluated
from spaces.resolved.study import ResolvedStudy
from spaces.resolved.study_yaml import study_yaml
from spaces.resolved.warnings import warnings_of
from spaces.study.study_file import load_study

SELECTS = ("validation", "first-k", "gtep", "chf", "adaptive", "oracle-test", "shared-base", "fixed")


def data(classes: int = 10) -> Data:
    """Classes of noise, with a test split."""
    y = np.repeat(np.arange(classes), 12)
    x = np.random.default_rng(0).integers(0, 256, (len(y), 8, 8), dtype=np.uint8)
    return Data.from_arrays(x, y, test=(x[::2], y[::2]), name="arrays")


def made(protocol: Any = None, classes: int = 10, **changes: Any) -> ResolvedStudy:
    plain = {
        "study": "s",
        "data": "digits",
        "scenarios": ["B0-5tasks"],
        "methods": {"lwf": {"temperature": 3.0}},
        "protocol": protocol or {},
        **changes,
    }
    return resolve(load_study(plain), data(classes))


def first_run(study: ResolvedStudy) -> RunSpec:
    (cell,) = study.cells
    return study.run_specs(cell, 0, cell.space.defaults())[0]


@pytest.mark.parametrize(
    ("protocol", "says"),
    [
        ({"select_on": "test"}, "take validation, or oracle-test"),
        ({"select_on": "vaildation"}, "did you mean 'validation'"),
        ({"select_on": "first-k"}, "needs a number of tasks: set protocol.first to 3"),
        ({"first": 3}, "protocol.first needs select_on first-k, but select_on is validation"),
        ({"select_on": "first-k", "first": 1}, "protocol.first must be at least 2"),
        ({"select_on": "first-k", "first": 6}, "protocol.first 6 is more than the 5 tasks of scenario"),
        ({"evaluate_on": "cifar10"}, "protocol.evaluate_on needs select_on gtep"),
        (
            {"select_on": "gtep", "evaluate_on": {"nmae": "x"}},
            "unknown study key 'protocol.evaluate_on.nmae'",
        ),
        ({"select_on": "gtep", "evaluate_on": {"root": "x"}}, "protocol.evaluate_on.name is missing"),
        ({"select_on": "gtep", "evaluate_on": 3}, "must be a data set or 'other half', not 3"),
        (
            {"select_on": "gtep", "evaluate_on": {"name": "digits", "root": "/x"}},
            "not be the images of data",
        ),
        ({"chf": {}}, "protocol.chf needs select_on chf"),
        ({"select_on": "chf", "chf": {"lrs": "0.1,none"}}, "protocol.chf: lrs must be different positive"),
        ({"select_on": "chf", "chf": {"decay": 1.0}}, "protocol.chf: decay must lie in"),
        ({"select_on": "chf", "adaptive": {}}, "protocol.adaptive needs select_on adaptive"),
        ({"select_on": "adaptive", "adaptive": {"attempts": 0}}, "adaptive.attempts must be at least 1"),
    ],
)
def test_what_does_not_fit_together_is_refused_in_one_line(protocol: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequest) as caught:
        made(protocol)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"recipe": {"lr": {"float": [0.01, 0.1]}}}, "recipe.lr, which decides it, is searched for lwf"),
        ({"recipe": {"base": {"lr": {"float": [0.01, 0.1]}}}}, "recipe.base.lr, which decides it, is"),
        ({"recipe": {"net": {"choice": ["convnet", "convnet-small"]}}}, "recipe.net, which decides it, is"),
        (
            {"methods": {"lwf": None, "own": {"method": "icarl", "recipe": {"epochs": 3}}}},
            "recipe.epochs is 50 for lwf and 3 for own",
        ),
        (
            {"methods": {"lwf": None, "own": {"method": "lwf", "recipe": {"net": "convnet-small"}}}},
            "recipe.net is convnet for lwf and convnet-small for own",
        ),
    ],
)
def test_a_shared_base_that_would_not_be_shared_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequest, match=f"has one first task for all methods, but {says}"):
        made({"select_on": "shared-base"}, **changes)
    made(**changes)


def test_with_a_shared_base_increments_may_differ_and_be_searched() -> None:
    own = {"method": "icarl", "recipe": {"increment": {"epochs": 3}}}
    lr = {"increment": {"lr": {"float": [0.01, 0.1]}}}
    study = made({"select_on": "shared-base"}, methods={"lwf": None, "own": own}, recipe=lr)
    assert [cell.label for cell in study.cells] == ["lwf", "own"]


def test_what_could_not_be_judged_is_not_begun(tmp_path: Path) -> None:
    plain = {"study": "s", "data": {"name": "digits", "classes": 7, "per_class": 20}, "methods": ["lwf"]}
    gtep = {**plain, "protocol": {"select_on": "gtep"}, "scenarios": ["B0-4tasks"]}
    with pytest.raises(
        BadRequest, match=r"lwf@B0-4tasks on the 3 classes judged on: .*4 tasks for 3 classes"
    ):
        prepare(gtep, tmp_path / "run", local=True)
    elsewhere = {"select_on": "gtep", "evaluate_on": "digts"}
    with pytest.raises(BadRequest, match="did you mean 'digits'"):
        prepare({**gtep, "protocol": elsewhere}, tmp_path / "run", local=True)
    assert not (tmp_path / "run").exists()


def test_a_single_factor_of_the_learning_rate_may_stand_alone() -> None:
    study = made({"select_on": "chf", "chf": {"lrs": 0.5}})
    assert study.study.protocol.chf is not None
    assert study.study.protocol.chf.lrs == "0.5"


@pytest.mark.parametrize(
    ("protocol", "stopper", "says"),
    [
        ({"select_on": "chf"}, "asha", "under protocol.select_on chf a cell has one"),
        ({"select_on": "adaptive"}, "asha", "under protocol.select_on adaptive a cell has one"),
        ({"select_on": "first-k", "first": 2}, "median", "set protocol.first to 3 or more"),
    ],
)
def test_a_stopper_that_has_nothing_to_stop_is_refused(
    protocol: dict[str, Any], stopper: str, says: str
) -> None:
    with pytest.raises(BadRequest, match=says):
        made(protocol, search={"stopper": stopper})


def test_the_first_tasks_are_trained_in_the_search_and_all_of_them_afterwards() -> None:
    study = made({"select_on": "first-k", "first": 3}, search={"stopper": "asha"})
    assert study.cells[0].tasks == 3
    assert study.cells[0].sizes == (2, 2, 2, 2, 2)
    spec = first_run(study)
    assert (spec.configuration.until, spec.measured) == (3, "val")
    final = evaluated(spec.configuration, "final", study.study.judging_data)
    assert (final.until, final.unsealed, final.validation) == (None, True, 0.0)
    reference = evaluated(spec.configuration, "reference", study.study.judging_data)
    assert (reference.until, reference.unsealed, reference.validation) == (None, True, 0.1)


def test_half_of_the_classes_is_searched_on_and_the_other_one_judged() -> None:
    study = made({"select_on": "gtep", "evaluate_on": "other half"}, classes=5)
    assert (study.study.tuning_data.half, study.study.judging_data.half) == ("tune", "evaluate")
    configuration = first_run(study).configuration
    assert configuration.data.half == "tune"
    assert evaluated(configuration, "final", study.study.judging_data).data.half == "evaluate"
    assert evaluated(configuration, "reference", study.study.judging_data).data.half == "tune"


def test_another_data_set_may_be_judged_on_wherever_it_lies() -> None:
    there = {"name": "cifar10", "root": "/there"}
    study = made({"select_on": "gtep", "evaluate_on": there})
    assert study.study.tuning_data.half is None
    assert study.study.judging_data.name == "cifar10"
    moved = made({"select_on": "gtep", "evaluate_on": {**there, "root": "/here"}})
    assert moved.identity == study.identity
    assert made({"select_on": "gtep", "evaluate_on": "cifar100"}).identity != study.identity


def test_chf_has_one_trial_and_keeps_what_the_study_fixes() -> None:
    study = made({"select_on": "chf"}, search={"trials": 9, "start_from": []})
    (cell,) = study.cells
    assert (cell.budget, cell.note) == (1, "chosen task by task")
    spec = first_run(study)
    assert spec.configuration.hp == {"temperature": 3.0}
    assert spec.configuration.chf == {"lrs": "0.1,0.3,1,3", "drop": 0.2, "decay": 0.5, "attempts": 6}
    # What chooses inside the run needs held-out rows there as well.
    assert evaluated(spec.configuration, "final", study.study.judging_data).validation == 0.1
    assert warnings_of(study) == ["search.trials 9 is not used: under chf a cell has one trial"]


def test_an_adaptive_cell_has_one_trial_which_begins_with_the_defaults() -> None:
    study = made(
        {"select_on": "adaptive", "adaptive": {"attempts": 4}},
        methods={"lwf": {"temperature": 3.0, "kd_weight": {"float": [1.0, 4.0]}}},
        recipe={"increment": {"lr": {"float": [0.01, 0.1]}}},
        search={"trials": 9, "start_from": [], "seed": 5},
    )
    (cell,) = study.cells
    assert (cell.budget, cell.note) == (1, "chosen task by task")
    assert cell.searched == "hp.kd_weight [1, 4] log, recipe.lr [0.01, 0.1] log, at every task"
    configuration = first_run(study).configuration
    assert configuration.hp["kd_weight"] == 1.0  # the published 0.25, moved into the range
    assert configuration.adaptive is not None
    assert configuration.adaptive["attempts"] == 4
    proposer = configuration.adaptive["proposer"]
    assert proposer["seed"] == 5
    assert [p["name"] for p in proposer["parameters"]] == ["hp.distill", "hp.kd_weight", "recipe.lr"]
    assert evaluated(configuration, "final", study.study.judging_data).validation == 0.1
    assert warnings_of(study) == ["search.trials 9 is not used: under adaptive a cell has one trial"]


def test_where_nothing_can_be_adapted_a_run_is_plain() -> None:
    study = made({"select_on": "adaptive"}, methods={"lwf": {"temperature": 3.0, "kd_weight": 1.0}})
    assert first_run(study).configuration.adaptive is None


@pytest.mark.parametrize(
    ("protocol", "methods", "says"),
    [
        ({"select_on": "adaptive"}, ["joint"], "joint: adaptive sets nothing of joint, which trains every"),
        ({"select_on": "adaptive"}, ["finetune"], "finetune: adaptive sets nothing of finetune: no searched"),
        ({"select_on": "adaptive"}, ["lwf"], None),
        (
            {"select_on": "chf"},
            ["finetune"],
            "finetune: chf sets the learning rate of finetune and relaxes no",
        ),
        (
            {"select_on": "chf"},
            {"a": {"method": "lwf", "kd_weight": 1.0}},
            "a: chf sets the learning rate of",
        ),
        ({"select_on": "chf"}, ["joint"], "joint: chf sets nothing of joint, which trains every task anew"),
        ({"select_on": "chf"}, ["lwf"], None),
        ({"select_on": "shared-base"}, ["finetune", "lwf"], "shared-base changes nothing: every method"),
        ({"select_on": "shared-base"}, ["finetune", "lucir"], None),
        (
            {"select_on": "first-k", "first": 5},
            ["lwf"],
            "protocol.first 5 is all tasks of B0-5tasks: same as val",
        ),
        ({"select_on": "first-k", "first": 3}, ["lwf"], None),
    ],
)
def test_a_protocol_that_finds_nothing_to_act_on_is_told(
    protocol: dict[str, Any], methods: Any, says: str | None
) -> None:
    found = warnings_of(made(protocol, methods=methods, search={"trials": 1}))
    assert [line.startswith(says or "-") for line in found] == ([True] if says else [])


def test_the_oracle_selects_on_test_rows_and_is_labelled() -> None:
    study = made({"select_on": "oracle-test"})
    spec = first_run(study)
    assert (spec.configuration.unsealed, spec.measured, spec.configuration.validation) == (True, "test", 0.1)
    assert warnings_of(study)[0].startswith("selected on the test split (oracle-test)")
    assert "selected on the test split (oracle-test)" in study_yaml(study)
    assert first_run(made()).configuration.unsealed is False


def test_an_oracle_needs_a_test_split() -> None:
    plain = load_study(
        {"study": "s", "data": "digits", "scenarios": ["B0-5tasks"], "methods": ["lwf"]},
        ["protocol.select_on=oracle-test"],
    )
    with pytest.raises(BadRequest, match="has no test split to open"):
        resolve(plain, dataclasses.replace(data(), test=None))


@pytest.mark.parametrize("select", SELECTS)
def test_every_protocol_says_what_it_has_looked_at_and_is_read_back(select: str) -> None:
    study = made({"select_on": select, **({"first": 2} if select == "first-k" else {})})
    assert f"causal: '{study.study.protocol.causal}'" in study_yaml(study).replace('"', "'")
    assert load_study(study.study.to_plain()).to_plain() == study.study.to_plain()
    assert first_run(study).configuration.shared_base is (select == "shared-base")


def continued(new: ResolvedStudy, existing: dict[str, Any]) -> ResolvedStudy:
    """`new` in a folder whose study.yaml is `existing`."""
    return resolve(new.study, new.data, existing)


def test_a_study_of_before_the_protocols_is_continued_and_no_other_protocol_is() -> None:
    old = made().study.to_plain()
    for key in ("first", "evaluate_on", "chf", "adaptive"):
        del old["protocol"][key]
    assert continued(made(), old).identity == made().identity
    assert "chf" not in "".join(made().study.fixed_part())
    with pytest.raises(BadRequest, match=r"protocol\.select_on was 'validation'"):
        continued(made({"select_on": "shared-base"}), old)
    first = made({"select_on": "first-k", "first": 2}).study.to_plain()
    with pytest.raises(BadRequest, match=r"protocol\.first was 2 when this folder was begun and is 3 now"):
        continued(made({"select_on": "first-k", "first": 3}), first)
