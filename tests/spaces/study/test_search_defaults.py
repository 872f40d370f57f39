"""Search defaults: the confirmation and the class orders that a number of trials pays for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from cl_core.errors import BadRequest
from spaces.resolved.resolve import resolve
from spaces.resolved.study import ResolvedStudy
from spaces.resolved.study_yaml import study_yaml
from spaces.study.confirmation import ConfirmPart
from spaces.study.search_defaults import CONFIRMED, SPREAD, with_defaults
from spaces.study.study_file import load_study, standing_study
from tests.search.simulation import images

PAGE = Path(__file__).parents[3] / "search" / "README.md"
PLAIN: dict[str, Any] = {
    "study": "s",
    "data": "digits",
    "scenarios": ["B0-5tasks"],
    "methods": ["finetune", "lwf"],
}


def made(existing: Any = None, **changes: Any) -> ResolvedStudy:
    return resolve(load_study({**PLAIN, **changes}), images(), existing)


def confirmed(**changes: Any) -> Any:
    return with_defaults(load_study({**PLAIN, **changes})).protocol.confirm


def test_the_page_of_the_search_shows_the_table() -> None:
    lines = PAGE.read_text(encoding="utf-8").split("<!-- confirm -->\n")[1].split("<!-- /confirm -->")[0]
    rows = [f"| fewer than {min(CONFIRMED)} | all on one class order | nothing |"]
    for least, part in CONFIRMED.items():
        turns = max((turns for trials, turns in SPREAD.items() if trials <= least), default=1)
        trained = f"on {turns} class orders in turn" if turns > 1 else "all on one class order"
        confirmed = (
            f"the best {part.top} and the default, on {part.orders} class order{'s' * (part.orders > 1)}"
        )
        rows.append(f"| {least} or more | {trained} | {confirmed} |")
    assert set(SPREAD) <= set(CONFIRMED)
    assert lines.splitlines()[2:] == rows


def test_the_budget_decides_what_is_confirmed() -> None:
    assert confirmed(search={"trials": 9}) is None
    assert confirmed(search={"trials": 15}) == ConfirmPart(top=2, orders=2)
    assert confirmed(search={"trials": 30}) == ConfirmPart(top=3, orders=2)
    assert confirmed(search={"trials": 30}, protocol={"confirm": None}) is None
    assert confirmed(search={"trials": 30}, protocol={"confirm": "none"}) is None
    assert confirmed(search={"trials": 3}, protocol={"confirm": {"top": 1}}) == ConfirmPart(top=1)


@pytest.mark.parametrize(
    "changes",
    [
        {"protocol": {"select_on": "chf"}},
        {"protocol": {"select_on": "oracle-test"}},
        {"protocol": {"select_on": "first-k", "first": 3}},
        {"protocol": {"orders": 2, "aggregate": "worst"}},
        {"search": {"trials": 30, "objective": ["kept_bytes", "last_accuracy"]}},
    ],
)
def test_a_protocol_that_cannot_confirm_leaves_it_off(changes: dict[str, Any]) -> None:
    assert confirmed(**{"search": {"trials": 30}, **changes}) is None


@pytest.mark.parametrize(
    ("protocol", "says"),
    [
        ({"select_on": "chf", "confirm": {}}, "under select_on chf a cell has one trial"),
        ({"select_on": "oracle-test", "confirm": {}}, "the test split itself selects"),
        ({"aggregate": "worst", "orders": 2, "confirm": {}}, "protocol.aggregate is worst"),
        ({"confirm": 3}, "protocol.confirm must be a mapping, none or auto, not 3"),
        ({"confirm": {"top": 0}}, "protocol.confirm.top must be at least 1"),
        ({"confirm": {"orderz": 2}}, "unknown study key 'protocol.confirm.orderz'"),
        ({"keep_default": 0.3}, "protocol.keep_default must be at least 0.5"),
    ],
)
def test_what_cannot_be_confirmed_is_refused_in_one_line(protocol: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequest) as caught:
        load_study({**PLAIN, "protocol": protocol})
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_confirmation_that_leaves_nothing_to_search_is_refused_with_the_number_that_does() -> None:
    with pytest.raises(BadRequest, match=r"lwf: protocol.confirm takes 12 runs.*: set it to 14 or more"):
        made(search={"trials": 10}, protocol={"confirm": {}})
    assert [cell.budget for cell in made(search={"trials": 14}, protocol={"confirm": {}}).cells] == [1, 2]


def spread(**changes: Any) -> Any:
    return with_defaults(load_study({**PLAIN, **changes})).protocol.spread


def test_the_budget_decides_over_how_many_class_orders_trials_are_spread() -> None:
    assert spread(search={"trials": 24}) == 1
    assert spread(search={"trials": 25}) == 2
    assert spread(search={"trials": 25}, protocol={"spread": 4}) == 4
    assert spread(search={"trials": 25}, protocol={"spread": 1}) == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"protocol": {"orders": 2}}, "but protocol.orders is 2: set it to 1"),
        ({"protocol": {"confirm": None}}, "but protocol.confirm is none: set it to {top: 3, orders: 2}"),
        ({"search": {"trials": 30, "start_from": []}}, "but search.start_from leaves it out: add paper"),
        ({"search": {"trials": 30, "sampler": "grid"}}, "but search.sampler is grid: take another"),
        ({"protocol": {"select_on": "chf"}}, "but protocol.confirm is none"),
    ],
)
def test_what_cannot_be_spread_is_left_alone_unless_it_is_asked_for(
    changes: dict[str, Any], says: str
) -> None:
    methods = {"lwf": {"kd_weight": {"choice": [0.1, 1, 4]}, "temperature": {"choice": [1, 2]}}}
    plain = {"methods": methods, "search": {"trials": 30}, **changes}
    assert spread(**plain) == 1
    with pytest.raises(BadRequest) as caught:
        made(**{**plain, "protocol": {**plain.get("protocol", {}), "spread": 2}})
    assert says in str(caught.value)
    assert str(caught.value).endswith(", or set protocol.spread to 1")


@pytest.mark.parametrize("spread", [0, 1001, 1.5, "2", "all", True, None])
def test_a_spread_that_is_no_number_of_class_orders_is_refused(spread: object) -> None:
    with pytest.raises(BadRequest, match=r"protocol.spread must be auto or a whole number in \[1, 1000\]"):
        load_study({**PLAIN, "protocol": {"spread": spread}})


def test_a_folder_keeps_its_spread_and_refuses_another() -> None:
    old = yaml.safe_load(study_yaml(made(search={"trials": 16})))
    assert old["protocol"]["spread"] == 1
    assert made(old, search={"trials": 40}).study.protocol.spread == 1
    with pytest.raises(BadRequest, match=r"protocol.spread was 1 when this folder was begun and is 2 now"):
        made(old, search={"trials": 40}, protocol={"spread": 2})
    before = yaml.safe_load(study_yaml(made(search={"trials": 30})))
    with pytest.raises(BadRequest, match=r"but protocol.confirm is none: .*, or use another --out$"):
        made(before, search={"trials": 30}, protocol={"confirm": None})
    assert before["resolved"]["cells"][1]["runs"] == ["natural/s0", "seed:1/s0"]
    assert made(before, search={"trials": 30}).study.protocol.spread == 2
    del before["protocol"]["spread"]
    assert standing_study(before).protocol.spread == 1


def test_a_cell_without_a_search_is_trained_on_the_class_orders_that_confirm_the_others() -> None:
    reference, searched = made(search={"trials": 30}).cells
    assert (reference.budget, reference.confirmation_runs) == (1, 2)
    assert (searched.budget, searched.confirmation_runs) == (22, 8)


def test_a_grid_is_not_cut_for_its_confirmation() -> None:
    methods = {"lwf": {"kd_weight": {"choice": [0.1, 1, 4]}, "temperature": {"choice": [1, 2]}}}
    for trials, confirms in ((17, None), (18, ConfirmPart())):
        search = {"sampler": "grid", "trials": trials}
        (cell,) = made(methods=methods, search=search, protocol={"confirm": {}}).cells
        assert (cell.budget, cell.confirm) == (6, confirms)


def test_a_study_without_the_key_is_off_in_its_folder_and_may_be_confirmed_later() -> None:
    old = yaml.safe_load(study_yaml(made(search={"trials": 40}, protocol={"confirm": None})))
    identity = old["resolved"]["identity"]
    for key in ("confirm", "keep_default"):
        del old["protocol"][key]
    assert standing_study(old).protocol.confirm is None
    assert [cell.budget for cell in made(old, search={"trials": 40}).cells] == [1, 40]
    later = made(old, search={"trials": 52}, protocol={"confirm": {}})
    assert [cell.budget for cell in later.cells] == [1, 40]
    assert later.identity == identity


def test_a_folder_keeps_its_confirmation_when_it_is_continued() -> None:
    old = yaml.safe_load(study_yaml(made(search={"trials": 16})))
    assert old["protocol"]["confirm"] == {"top": 2, "orders": 2}
    assert made(old, search={"trials": 40}).study.protocol.confirm == ConfirmPart(top=2, orders=2)
    assert made(old, protocol={"confirm": None}).study.protocol.confirm is None


@pytest.mark.parametrize(("protocol", "kept"), [({}, 0.95), ({"keep_default": 0.8}, 0.8)])
def test_the_probability_that_keeps_the_default_stays_until_it_is_set_anew(
    protocol: dict[str, Any], kept: float
) -> None:
    before = yaml.safe_load(study_yaml(made(protocol={"keep_default": 0.95})))
    assert made(before, protocol=protocol).study.protocol.keep_default == kept
