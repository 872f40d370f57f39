"""Study files: what they may say, what is refused in one line, what may grow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cl_core.errors import BadRequest
from cl_core.images.dataset import Data
from cl_core.method import METHODS
from cl_core.yaml_text import read_yaml
from spaces import presets
from spaces.resolved.checks import corners
from spaces.resolved.resolve import resolve
from spaces.resolved.study import ResolvedStudy
from spaces.resolved.study_yaml import study_yaml
from spaces.resolved.warnings import warnings_of
from spaces.study.study_file import existing_study, load_study
from tests.spaces.study.small_study import PLAIN, study


def test_a_domain_is_refused_whose_ends_the_method_cannot_run_with(data: Data) -> None:
    small = {"method": "bic", "budget": "total", "exemplars_total": {"int": [10, 50]}}
    with pytest.raises(
        BadRequest, match=r"m@B0-5tasks: exemplars_total must leave every class 2 .* 20 or more"
    ):
        resolve(study(methods={"m": small}), data)
    resolve(study(methods={"m": {**small, "exemplars_total": {"int": [20, 50]}}}), data)


def test_the_ends_of_a_domain_are_tried_in_the_branch_where_it_acts(data: Data) -> None:
    memory = {"budget": {"choice": ["per_class", "total"]}, "exemplars_total": {"choice": [5, 50]}}
    space = resolve(study(methods=["lwf"]), data).cells[0].space
    assert [config["hp.kd_weight"] for config in corners(space)][:2] == [0.02, 8.0]
    with pytest.raises(BadRequest, match="exemplars_total must leave"):
        resolve(study(methods={"replay": memory}), data)


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ({"net": "os:getcwd"}, r"must take \(shape, last_relu\)"),
        ({"init": "/none.safetensors"}, "/none.safetensors"),
        ({"batch": 1}, "BatchNorm, .* but recipe.batch is 1"),
        ({"increment": {"batch": {"int": [1, 64]}}}, "BatchNorm, .* but recipe.batch is 1"),
    ],
)
def test_a_network_or_weights_that_do_not_fit_are_refused_before_work(
    data: Data, recipe: dict[str, str], says: str
) -> None:
    with pytest.raises(BadRequest, match=says):
        resolve(study(recipe=recipe), data)


def test_classes_of_too_few_images_are_refused_before_work() -> None:
    y = np.repeat(np.arange(10), [2] + 9 * [20])  # one row of each class and more are held out
    few = Data.from_arrays(np.zeros((len(y), 8, 8), np.uint8), y, name="arrays")
    resolve(study(methods=["lwf"]), few)
    with pytest.raises(BadRequest, match=r"bic@.*: bic needs 2 training images of every class, .* has 1;"):
        resolve(study(methods=["lwf", "bic"]), few)
    with pytest.raises(BadRequest, match=r"every class needs at least 3 training images for validation 0.9"):
        resolve(study(methods=["lwf"], protocol={"validation": 0.9}), few)


def test_the_last_batch_is_searched_and_fixed_as_any_field_of_the_recipe(data: Data) -> None:
    recipe = {"last_batch": "drop", "increment": {"last_batch": {"choice": ["keep", "complete"]}}}
    resolved = resolve(study(methods=["lwf"], recipe=recipe), data)
    (cell,) = resolved.cells
    assert "recipe.increment.last_batch" in [p.name for p in cell.space.searched]
    made = resolved.configuration(cell, cell.space.defaults(), "natural", 0)
    base, increment = made.recipes(data, METHODS[made.method](made.hp))
    assert (base.last_batch, increment.last_batch) == ("drop", "keep")
    with pytest.raises(BadRequest, match="last_batch must be one of 'keep', 'complete', 'drop', not 'short'"):
        resolve(study(recipe={"last_batch": "short"}), data)


def test_numbers_that_no_study_can_mean_are_refused() -> None:
    with pytest.raises(BadRequest, match=r"search.trials must be at most 1000000, not 2000000"):
        study("search.trials=2000000")
    with pytest.raises(BadRequest, match=r"protocol.seeds must be at most 1000"):
        study("protocol.seeds=2000")
    with pytest.raises(BadRequest, match=r"search.trials must lie in \[1, 1000000\]"):
        study().with_trials(10**20)


def test_the_defaults_are_the_documented_ones() -> None:
    plain = study().to_plain()
    assert plain["search"] == {
        "sampler": "tpe",
        "sampler_args": {
            "n_startup_trials": 10,
            "n_ei_candidates": 24,
            "multivariate": True,
            "group": True,
            "constant_liar": True,
        },
        "trials": 20,
        "seed": 0,
        "objective": {"average_incremental_accuracy": "max"},
        "stopper": "none",
        "stopper_args": {},
        "audit": 0.0,
        "start_from": ["paper"],
        "reuse": False,
    }
    assert plain["protocol"] == {
        "select_on": "validation",
        "first": None,
        "evaluate_on": None,
        "chf": None,
        "adaptive": None,
        "validation": 0.1,
        "orders": 1,
        "spread": "auto",
        "seeds": 1,
        "aggregate": "mean",
        "confirm": "auto",
        "keep_default": 0.7,
    }
    assert plain["budget"] == {"gpu_hours": None, "wall": None, "until": None, "grace": "25s"}
    assert plain["scenarios"][0]["class_order"] == "natural"
    assert plain["storage"] == {
        "root": "runs/",
        "checkpoints": None,
        "share": True,
        "checkpoint_bytes": None,
        "every": "10min",
        "optuna": None,
    }


def test_a_study_file_with_every_default_spelled_out_is_the_same_study() -> None:
    first = study(methods={"a": {"method": "icarl", "loss": "ce", "recipe": {"epochs": 3}}, "lwf": None})
    assert load_study(first.to_plain()) == load_study(yaml.safe_load(yaml.safe_dump(first.to_plain())))
    assert load_study(first.to_plain()).to_plain() == first.to_plain()


def test_the_example_of_a_study_file_is_understood(data: Data) -> None:
    example = """
    study: c100-b50
    data: {name: cifar100, root: ~/data, per_class: 200}
    scenarios: [B0-10tasks, {base: 5, increments: [2, 3], class_order: "seed:7"}]
    methods:
      lwf:
      lwf-all: {method: lwf, ce_scope: all_seen}
      icarl: {exemplars_per_class: 3, temperature: {choice: [1, 2, 4]},
              old_weight: {float: [0.1, 10], log: true}}
    recipe: {net: resnet32, epochs: 100, lr: 0.1, batch: 128, optimizer: sgd, schedule: step,
             weight_decay: 5e-4, base: {epochs: 160}, increment: {lr: {float: [0.01, 0.2], log: true}}}
    search: {sampler: tpe, trials: 30, seed: 0, objective: {average_incremental_accuracy: max}, stopper: asha,
             start_from: [paper]}
    protocol: {select_on: validation, validation: 0.1, orders: 1, seeds: 1}
    final: {orders: 5, seeds: 1}
    resources: {cpu: 1, gpu: 0.25, concurrent: 8}
    storage: {root: runs/, checkpoints: null, optuna: null}
    """
    resolved = resolve(load_study(read_yaml(example, "example")), data)
    assert [c.name for c in resolved.cells][:2] == ["lwf@B0-10tasks", "lwf@B5-2-3-seed7"]
    assert len(resolved.cells) == 6
    config = resolved.cells[0].space.defaults()
    assert config["recipe.weight_decay"] == 5e-4
    assert config["recipe.increment.lr"] == 0.1
    assert warnings_of(resolved) == [
        "icarl: hp.temperature has no effect and is left out: it acts only where hp.loss = ce and "
        "hp.distill = True"
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methds": []}, "unknown study key 'methds': did you mean 'methods'"),
        ({"search": {"trails": 3}}, "unknown study key 'search.trails': did you mean 'search.trials'"),
        ({"search": {"trials": "many"}}, "search.trials must be a whole number, not 'many'"),
        ({"search": {"trials": True}}, "search.trials must be a whole number, not True"),
        ({"search": {"trials": 0}}, "search.trials must be at least 1, not 0"),
        (
            {"search": {"sampler": "tpee"}},
            "search.sampler must be random, grid, tpe, gp or nsga2, .* did you mean 'tpe'",
        ),
        ({"search": {"objective": "accuracy"}}, "unknown objective 'accuracy'"),
        (
            {"search": {"objective": [{"last_accuracy": "max"}, {"last_accuracy": "min"}]}},
            "search.objective names last_accuracy twice, as max and min: keep one",
        ),
        (
            {"search": {"objective": {"last_accuracy": "max", "forgetting": "max"}}},
            "search.objective.forgetting must be min, not max",
        ),
        ({"search": {"objective": {}}}, "search.objective must not be empty"),
        (
            {"search": {"sampler": "gp", "sampler_args": {"n_startup": 3}}},
            "unknown argument of gp .* did you mean 'n_startup_trials'",
        ),
        (
            {"search": {"sampler_args": {"n_ei_candidates": 0}}},
            "search.sampler_args.n_ei_candidates must be at least 1, not 0",
        ),
        (
            {"search": {"sampler_args": {"multivariate": False}}},
            "search.sampler_args.group needs multivariate",
        ),
        (
            {"search": {"stopper": "asha", "stopper_args": {"reduction_factor": 1}}},
            "search.stopper_args.reduction_factor must be at least 2",
        ),
        ({"search": {"audit": 0.1}}, "search.audit 0.1 .* search.stopper is none"),
        (
            {"search": {"stopper": "wilcoxon"}, "protocol": {"orders": 4}},
            "needs 5 class orders, but protocol.orders is 4",
        ),
        (
            {"search": {"sampler": "gp"}, "methods": {"icarl": {"loss": {"choice": ["bce", "ce"]}}}},
            "icarl: search.sampler gp needs a space without branches, but hp.[a-z_]+ acts only in one",
        ),
        (
            {"search": {"sampler": "random", "start_from": ["runs/x"]}},
            "needs a sampler that learns, but .* random: take tpe or gp",
        ),
        ({"search": {"start_from": ["paper", "paper"]}}, "each once"),
        ({"budget": {"wall": "3 hours"}}, "budget.wall must be a time span, not .3 hours.: write 45s"),
        ({"budget": {"until": "tomorrow"}}, "budget.until must be a date and time"),
        (
            {"budget": {"gpu_hours": 0}},
            "budget.gpu_hours must be greater than 0, not 0",
        ),
        ({"search": {"objective": {"last_accuracy": "min"}}}, "search.objective.last_accuracy must be max"),
        ({"search": {"sampler": "grid"}}, "lwf: a grid needs finite domains, but hp.kd_weight"),
        ({"protocol": {"select_on": "test"}}, "take validation, or oracle-test"),
        ({"protocol": {"validation": 1.0}}, "protocol.validation must be less than 1, not 1.0"),
        ({"resources": {"cpu": float("inf")}}, "resources.cpu must be a finite number"),
        ({"study": "a/b"}, "study's name .* not 'a/b'"),
        ({"study": ".."}, "study's name .* not '..'"),
        ({"data": ...}, "data is missing: write data: digits"),
        ({"data": {"root": "x"}}, "data.name is missing"),
        ({"methods": ["lfw"]}, "unknown method 'lfw': did you mean 'lwf'"),
        ({"methods": {"a b": {"method": "lwf"}}}, "label .* not 'a b'"),
        ({"methods": ["lwf", "lwf"]}, "methods names 'lwf' twice"),
        ({"methods": {"lwf": {"kd_wight": 2}}}, "unknown hyperparameter of lwf 'kd_wight'"),
        ({"methods": {"lwf": {"kd_weight": 1e6}}}, r"methods\.lwf\.kd_weight must lie in"),
        ({"scenarios": ["B10-inc1"]}, "base of 10 classes, but the data has 10"),
        ({"scenarios": ["B0-5tasks", "B0-5tasks"]}, "scenarios names 'B0-5tasks' twice"),
        ({"scenarios": []}, "scenarios must not be empty"),
        (
            {"scenarios": ["B0-1tasks"], "search": {"stopper": "median"}},
            "has one task: set search.stopper to none",
        ),
        (
            {"scenarios": ["B0-1tasks"], "search": {"objective": {"forgetting": "min"}}},
            "search.objective forgetting needs a second task, but scenario B0-1tasks has one",
        ),
        ({"recipe": {"net": "resnet33"}}, "unknown net 'resnet33': did you mean 'resnet32'"),
        ({"recipe": {"epochs": 0}}, r"recipe\.epochs must lie in"),
        ({"methods": {"replay": {"exemplars_per_class": -1}}}, r"exemplars_per_class must lie in"),
    ],
)
def test_bad_input_is_refused_in_one_line(changes: dict[str, Any], message: str, data: Data) -> None:
    with pytest.raises(BadRequest, match=message) as caught:
        resolve(study(**changes), data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2", "expected ',' or ']'"),
        ("a: 1\nb: 2\na: 3", "file.yaml, line 3: the key 'a' occurs twice"),
        ("- lwf", "a study file must be a mapping"),
        ("", "a study file must be a mapping"),
        ("study: !!python/object/apply:os.getcwd []", "could not determine a constructor"),
    ],
)
def test_a_file_that_is_no_study_is_refused_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(text)
    with pytest.raises(BadRequest, match=message.replace("[", r"\[")) as caught:
        load_study(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["quickstar", "nowhere/quickstart.yaml"])
def test_a_study_that_is_not_there_names_the_presets(name: str) -> None:
    with pytest.raises(BadRequest, match=r"cifar100-small, .*quickstart"):
        load_study(name)


def test_a_file_without_a_name_is_named_after_its_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in PLAIN.items() if k != "study"}))
    assert load_study(path).study == "mine"


def test_what_a_run_writes_down_is_a_study_file_again(data: Data, tmp_path: Path) -> None:
    resolved: ResolvedStudy = resolve(study(), data)
    (tmp_path / "study.yaml").write_text(study_yaml(resolved))
    assert load_study(tmp_path / "study.yaml") == load_study(resolved.study.to_plain())
    found = (existing_study(tmp_path / "study.yaml") or {})["resolved"]
    assert found["identity"] == resolved.identity
    assert {"python", "torch", "ray", "optuna", "cl-search"} <= set(found["versions"])
    assert [c["name"] for c in found["cells"]] == ["finetune@B0-5tasks", "lwf@B0-5tasks"]
    again = yaml.safe_load(study_yaml(resolved, {"resolved": {"created": "then"}}))
    assert again["resolved"]["created"] == "then"
    assert existing_study(tmp_path / "nowhere" / "study.yaml") is None


def test_a_searched_memory_for_accuracy_alone_is_warned_of(data: Data) -> None:
    resolved = resolve(study(methods={"replay": {"exemplars_per_class": {"int": [1, 30]}}}), data)
    assert len(warnings_of(resolved)) == 1
    assert "largest wins by construction" in warnings_of(resolved)[0]


def test_a_preset_is_read_by_its_name() -> None:
    for name in presets.names():
        assert load_study(name, ["search.trials=2"]).search.trials == 2


@pytest.mark.parametrize("key", ["storage.root", "storage.checkpoints"])
def test_a_store_that_is_no_folder_is_refused(key: str) -> None:
    with pytest.raises(
        BadRequest, match="must be folders, or URLs of s3://, gs:// or az://, not 'hdfs://b/x'"
    ):
        study(f"{key}=hdfs://b/x")
