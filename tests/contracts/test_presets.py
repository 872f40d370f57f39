"""The contracts of every preset, and those of the survey's presets."""

from __future__ import annotations

import re
from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import pytest

from cl_core.hparams import hparams
from cl_core.images.dataset import Data
from cl_core.images.loading import DATASETS
from cl_core.method import METHODS
from cl_core.training.checkpoint_keys import base_identity
from spaces import presets
from spaces.resolved.cell import Cell
from spaces.resolved.published import deviations
from spaces.resolved.resolve import resolve
from spaces.resolved.study import ResolvedStudy
from spaces.resolved.warnings import warnings_of
from spaces.study.study_file import load_study
from tests import costs_table

CLASSES = {
    "digits": (10, 8),
    "cifar10": (10, 32),
    "cifar100": (100, 32),
    "tiny-imagenet": (200, 64),
    "image-folder": (100, 32),
}
ALL = "survey-all"
SURVEYS = [name for name in presets.names() if name.startswith("survey-") and name != ALL]
PUBLISHED = [name for name in presets.names() if name.startswith("published-")]
SEARCHES = [name for name in presets.names() if name not in PUBLISHED]
TEN = ("lwf", "lwm", "icarl", "eeil", "bic", "lucir", "ss_il", "il2a", "pass", "praka")
REFERENCES = ("finetune", "replay", "joint")
OWN_FIRST_TASK = ("lucir", "il2a", "pass", "praka")  # what no plain cross-entropy can train


@cache
def stand_in(name: str) -> Data:
    """Data with the shape and the number of classes of a real data set."""
    classes, side = CLASSES[name]
    y = np.repeat(np.arange(classes), 20)
    x = np.random.default_rng(0).integers(0, 256, (len(y), side, side, 3), dtype=np.uint8)
    return Data.from_arrays(x, y, test=(x[::20], y[::20]), name=name)


@cache
def resolved(name: str) -> ResolvedStudy:
    study = load_study(name)
    return resolve(study, stand_in(study.data.name))


def given(study: ResolvedStudy, cell: Cell) -> dict[str, Any]:
    """The hyperparameters of a cell's first configuration."""
    (order, seed), *_ = study.runs(cell)
    configuration = study.configuration(cell, cell.space.defaults(), order, seed)
    return METHODS[cell.method](configuration.hp).values()


def labels(name: str, column: str) -> dict[str, dict[str, Any]]:
    """Label without its column -> method and hyperparameters as the study file writes them."""
    methods = load_study(name).methods
    return {
        label.removesuffix(f"-{column}"): {"method": entry.method, **entry.hp}
        for label, entry in methods.items()
        if label.endswith(f"-{column}")
    }


@pytest.mark.parametrize("name", presets.names())
def test_a_preset_resolves_and_is_named_as_its_file(name: str) -> None:
    study = resolved(name)
    assert study.name == name
    assert study.data.name in DATASETS.names()
    assert len(study.cells) == len(study.study.methods) * len(study.study.scenarios)


@pytest.mark.parametrize("name", SEARCHES)
def test_every_cell_of_a_preset_that_has_something_to_search_has_the_same_budget(name: str) -> None:
    study = resolved(name)
    searched = [cell for cell in study.cells if cell.space.searched]
    others = [cell for cell in study.cells if not cell.space.searched]
    ((trials, confirming),) = {(cell.budget, cell.confirmation_runs) for cell in searched}
    assert trials <= study.study.search.trials <= trials + confirming
    assert [(cell.budget, cell.note) for cell in others] == [(1, "nothing to search")] * len(others)
    if name not in (ALL, *SURVEYS):
        assert {cell.method for cell in others} <= {"finetune", "joint"}  # references


@pytest.mark.parametrize("name", presets.names())
def test_a_preset_says_in_its_first_line_what_it_is(name: str) -> None:
    assert presets.summary(name).endswith(".")


@pytest.mark.parametrize("name", presets.names())
def test_nothing_in_a_preset_is_hardly_meant(name: str) -> None:
    assert warnings_of(resolved(name)) == []


def test_the_quickstart_needs_no_download_and_compares_at_least_four_methods() -> None:
    study = load_study("quickstart")
    assert study.data.name == "digits"
    assert len(study.methods) >= 4
    assert study.search.trials >= 6


def test_the_sweep_searches_weight_temperature_and_buffer_and_nothing_else() -> None:
    study = resolved("sweep")
    searched = {cell.label: {p.name.removeprefix("hp.") for p in cell.space.searched} for cell in study.cells}
    whole = {"kd_weight", "temperature", "exemplars_per_class"}
    assert searched == {
        "finetune": set(),
        "lwf": {"kd_weight", "temperature"},
        "icarl": whole,
        "eeil": whole,
        "bic": {"kd_lambda", "temperature", "exemplars_per_class"},
        "lucir": {"kd_weight", "exemplars_per_class"},
        "ss_il": whole,
        "joint": set(),
    }
    assert study.study.search.objective == {"last_accuracy": "max", "kept_bytes": "min"}
    for cell in study.cells:  # what is fixed stands at its published default
        (order, seed), *_ = study.runs(cell)
        values = METHODS[cell.method](
            study.configuration(cell, cell.space.defaults(), order, seed).hp
        ).values()
        defaults = {name: param.default for name, param in hparams(METHODS[cell.method].HP).items()}
        moved = {name for name, value in values.items() if value != defaults[name]}
        assert moved <= {"loss", "kd_schedule", "lr_task_decay"}, cell.name


def test_the_sweep_has_three_increments_with_a_base_task_and_without() -> None:
    sizes = {cell.scenario.name: cell.sizes for cell in resolved("sweep").cells}
    assert sizes == {
        "B0-inc2": (2, 2, 2, 2, 2),
        "B0-3-3-4": (3, 3, 4),
        "B0-inc5": (5, 5),
        "B4-inc2": (4, 2, 2, 2),
        "B4-inc3": (4, 3, 3),
        "B4-inc6": (4, 6),
    }


@pytest.mark.parametrize("name", SURVEYS)
def test_a_survey_runs_every_hyperparameter_at_its_default_or_as_its_label_says(name: str) -> None:
    study = resolved(name)
    assert (study.study.search.trials, study.study.search.start_from) == (1, ["paper"])
    for cell in study.cells:
        said = study.study.methods[cell.label].hp
        defaults = {key: param.default for key, param in hparams(METHODS[cell.method].HP).items()}
        assert given(study, cell) == {**defaults, **said}, cell.name
        assert not any(p.name.startswith("recipe.") for p in cell.space.searched)


@pytest.mark.parametrize("name", SURVEYS)
def test_no_two_labels_of_a_survey_are_the_same_run(name: str) -> None:
    study = resolved(name)
    runs = Counter(
        (repr(sorted(given(study, c).items())), c.method, repr(study.study.methods[c.label].recipe))
        for c in study.cells
        if c.scenario == study.cells[0].scenario
    )
    assert max(runs.values()) == 1


def _published_shape(method: str, survey: str) -> dict[str, Any]:
    """The recipe of a label of a survey's column "paper": what a method's own file leaves to its preset.

    Rates, batches and epochs follow the images. Methods with recipes of their own need none here.
    """
    if method not in ("lwf", "icarl", "eeil", "bic", "ss_il") or "losses" in survey:
        return {}
    recipe = load_study(f"published-{method.replace('_', '-')}").recipe
    known = {**recipe, **recipe.get("increment", {})}
    if method == "icarl":  # its family has the rate and the decay of both forms of its loss
        return {key: known[key] for key in ("schedule", "gamma", "milestones")}
    return {"increment": {key: known[key] for key in ("weight_decay", "schedule", "gamma", "milestones")}}


@pytest.mark.parametrize("name", SURVEYS)
def test_a_survey_has_every_label_in_both_columns_and_one_common_recipe(name: str) -> None:
    study = load_study(name)
    common = {label for label in study.methods if label.endswith("-common")}
    paper = {label for label in study.methods if label.endswith("-paper")}
    assert common | paper == set(study.methods)
    for label in paper:
        assert study.methods[label].recipe == _published_shape(study.methods[label].method, name), label
    assert len({repr(entry.recipe) for label, entry in study.methods.items() if label in common}) == 1
    assert set(study.recipe) == {"net", "epochs"}
    assert study.protocol.orders == 3


@pytest.mark.parametrize("name", SURVEYS)
def test_base_stages_are_shared_inside_a_column_wherever_the_family_allows_it(name: str) -> None:
    study = resolved(name)
    for scenario in study.study.specs():
        first: dict[str, dict[str, Any]] = {}
        for cell in study.cells:
            if cell.scenario == scenario:
                configuration = study.configuration(cell, cell.space.defaults(), "natural", 0)
                first[cell.label] = base_identity(configuration, study.data)
        for column in ("common", "paper"):
            families: dict[str, list[Any]] = {}
            for label, identity in first.items():
                if label.endswith(column):
                    families.setdefault(repr(identity["base"]), []).append(identity)
            # One family, one first task: whoever has the family has its recipe.
            assert all(identity == same[0] for same in families.values() for identity in same)
        plain = {
            study.study.methods[label].method
            for label, identity in first.items()
            if label.endswith("-common") and identity == first["finetune-common"]
        }
        everyone = {cell.method for cell in study.cells}
        assert plain == everyone - set(OWN_FIRST_TASK)


def test_the_survey_of_methods_has_all_ten_and_the_references() -> None:
    for column in ("common", "paper"):
        found = labels("survey-methods", column)
        assert tuple(found) == (*REFERENCES, *TEN)
        assert {label: entry["method"] for label, entry in found.items()} == {m: m for m in found}
    assert labels("survey-methods", "common")["icarl"] == {"method": "icarl", "loss": "ce"}
    assert labels("survey-methods", "paper")["icarl"] == {"method": "icarl"}


def test_the_survey_without_distillation_pairs_every_label_with_its_plain_one() -> None:
    for column in ("common", "paper"):
        found = labels("survey-without-distillation", column)
        without = {label: entry for label, entry in found.items() if entry.get("distill") is False}
        assert {entry["method"] for entry in without.values()} == set(TEN)
        pairs = {label: label.split("-without")[0] for label in without}
        assert set(found) == {*REFERENCES, *pairs, *pairs.values()}
        for label, plain in pairs.items():
            rest = {k: v for k, v in without[label].items() if k not in ("distill", "old_targets", "without")}
            assert rest == found[plain]
        assert [without[f"lucir-without-{form}"]["without"] for form in ("term", "official")] == [
            "term",
            "official",
        ]
        assert found["bic-per-task"]["bias_layers"] == "per_task"
    paper = labels("survey-without-distillation", "paper")
    assert [paper[f"icarl-without-{form}"]["old_targets"] for form in ("labels", "none")] == [
        "labels",
        "none",
    ]
    # The form with cross-entropy has no targets but the labels.
    assert "old_targets" not in labels("survey-without-distillation", "common")["icarl-without"]


def test_the_surveys_of_losses_have_every_loss_that_their_method_knows() -> None:
    for column in ("common", "paper"):
        alone = labels("survey-losses", column)
        options = hparams(METHODS["distill"].HP)["loss"].domain.options  # type: ignore[union-attr]
        assert len(options) == 12
        assert {label for label in alone if label in options} == set(options)
        assert {label: alone[label] for label in options} == {
            loss: {"method": "distill", "loss": loss} for loss in options
        }
        assert set(alone) - set(options) == {
            "finetune",
            "joint",
            "cross-entropy-no-t-squared",
            "none-all-seen",
            "kl-all-seen",
        }
        replayed = labels("survey-replay-losses", column)
        options = hparams(METHODS["replay"].HP)["loss"].domain.options  # type: ignore[union-attr]
        assert replayed == {
            "finetune": {"method": "finetune"},
            "joint": {"method": "joint"},
            **{
                f"{softmax}-{loss}": {"method": "replay", "softmax": softmax, "loss": loss}
                for softmax in ("global", "separated")
                for loss in options
            },
        }


def test_the_survey_of_all_has_a_line_for_every_method_that_is_no_study_of_losses() -> None:
    study = resolved(ALL)
    assert set(study.study.methods) == {name for name in METHODS if name != "distill"}
    assert all(entry.method == label for label, entry in study.study.methods.items())
    common = {k: v for k, v in study.study.recipe.items() if k not in ("net", "epochs")}
    assert common == load_study("survey-methods").methods["lwf-common"].recipe


@pytest.mark.parametrize("name", [ALL, *SURVEYS])
def test_the_command_in_a_surveys_header_sets_the_papers_size(name: str) -> None:
    header = presets.text(name).split("study:")[0]
    sets = re.findall(r"--set (?:'([^']+)'|(\S+))", header)
    overrides = [quoted or plain for quoted, plain in sets]
    study = load_study(name, overrides)
    assert (study.data.name, study.data.root) == ("cifar100", "~/data")
    assert [spec.name for spec in study.specs()] == ["B0-10tasks", "B50-10tasks"]
    assert {key: study.recipe[key] for key in ("net", "epochs")} == {"net": "resnet32", "epochs": 100}
    assert study.protocol.orders == 5
    sizes = {cell.scenario.name: cell.sizes for cell in resolve(study, stand_in("cifar100")).cells}
    assert sizes == {"B0-10tasks": (10,) * 10, "B50-10tasks": (50, *(5,) * 10)}


def test_a_label_that_is_changed_alone_leaves_those_that_share_its_recipe() -> None:
    study = load_study("survey-methods", ["methods.lwf-common.recipe.lr=0.5"])
    before = load_study("survey-methods")
    assert study.methods["lwf-common"].recipe["lr"] == 0.5
    others = [label for label in study.methods if label != "lwf-common"]
    assert all(study.methods[label] == before.methods[label] for label in others)


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_preset_fixes_every_value_and_says_where_each_comes_from(name: str) -> None:
    study = resolved(name)
    assert study.study.protocol.select_on == "fixed"
    ((label, entry),) = study.study.methods.items()
    assert name == f"published-{label}".replace("ss_il", "ss-il")
    for cell in study.cells:
        values = given(study, cell)
        active = {n for n, p in hparams(METHODS[cell.method].HP).items() if p.searched and p.active(values)}
        assert active <= {*entry.hp, "distill"}  # the method as it is distils
        run = study.run_specs(cell, 0, cell.space.defaults())[0]
        assert (run.configuration.validation, run.configuration.unsealed, run.measured) == (0.0, True, "test")
    body = presets.text(name).partition("\nmethods:")[2].partition("\nprotocol:")[0]
    plain = [line for line in body.splitlines() if re.match(r" +[a-z_0-9]+: [^{]", line)]
    assert [line for line in plain if "#" not in line and not re.match("  *(schedule|budget): ", line)] == []


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_command_in_a_published_presets_header_resolves_on_ten_classes(name: str) -> None:
    header = presets.text(name).split("study:")[0]
    sets = re.findall(r"--set (?:'([^']+)'|(\S+))", header.partition("On other images")[2])
    study = load_study(name, [quoted or plain for quoted, plain in sets])
    assert study.data.name == "image-folder"
    assert resolve(study, stand_in("cifar10")).cells
    assert any(line.startswith("data.name") for line in deviations(study))


def test_the_table_of_costs_has_methods_of_the_survey_of_all_in_its_order() -> None:
    rows = re.findall(r"^\| `(\w+)` \|", costs_table.written(), re.MULTILINE)
    assert "lwf" in rows
    assert rows == [label for label in load_study(ALL).methods if label in rows]
