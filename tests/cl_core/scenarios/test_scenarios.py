from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cl_core.errors import BadRequest
from cl_core.scenarios.class_orders import class_order, order_text
from cl_core.scenarios.scenarios import SCENARIOS, parse_scenario

ICARL = (
    "87 0 52 58 44 91 68 97 51 15 94 92 10 72 49 78 61 14 8 86 84 96 18 24 32 45 88 11 4 67 69 66 77 "
    "47 79 93 29 50 57 83 17 81 41 12 37 59 25 20 80 73 1 28 6 46 62 82 53 9 31 75 38 63 33 74 27 22 "
    "36 3 16 21 60 19 70 90 89 43 5 42 65 76 40 30 23 85 2 95 56 48 71 64 98 13 99 7 34 55 54 26 35 "
    "39"
)


@pytest.mark.parametrize(
    ("name", "classes", "sizes"),
    [
        ("B0-10tasks", 100, (10,) * 10),
        ("B0-5tasks", 10, (2, 2, 2, 2, 2)),
        ("B0-3tasks", 10, (4, 4, 2)),
        ("B0-6tasks", 10, (2, 2, 2, 2, 1, 1)),
        ("B0-1tasks", 10, (10,)),
        ("B0-inc3", 10, (3, 3, 3, 1)),
        ("B4-inc2", 10, (4, 2, 2, 2)),
        ("B4-inc4", 10, (4, 4, 2)),
        ("B4-3tasks", 10, (4, 2, 2, 2)),
        ("B50-inc5", 100, (50, *(5,) * 10)),
        ("B50-5tasks", 100, (50, 10, 10, 10, 10, 10)),
        ("B4-3-2-1", 10, (4, 3, 2, 1)),
        ("b50-INC10", 100, (50, 10, 10, 10, 10, 10)),
    ],
)
def test_a_name_says_the_sizes_of_the_tasks(name: str, classes: int, sizes: tuple[int, ...]) -> None:
    assert parse_scenario(name).sizes(classes) == sizes


def test_a_smaller_last_task_takes_what_is_left() -> None:
    assert parse_scenario("B0-7tasks").sizes(100) == (15, 15, 15, 15, 15, 15, 10)
    assert parse_scenario("B40-inc25").sizes(100) == (40, 25, 25, 10)


def test_an_order_may_be_written_out() -> None:
    assert class_order("list:3-1-4-0-2", 5) == (3, 1, 4, 0, 2)
    spec = parse_scenario({"tasks": 5, "class_order": "list:3-1-4-0-2"})
    assert (spec.name, parse_scenario(spec.to_dict())) == ("B0-5tasks-list-3-1-4-0-2", spec)
    names = {
        parse_scenario({"tasks": 2, "class_order": order_text([*range(k, 100), *range(k)])}).name
        for k in range(100)
    }
    assert len(names) == 100
    assert max(map(len, names)) == len("B0-2tasks-list-01234567")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("list:", "needs class ids joined by '-', not ''"),
        ("list:0-a-2", "needs class ids joined by '-'"),
        ("list:0--1", "needs class ids joined by '-'"),
        ("list:0-1", "must name all 3 classes and leaves out 1, the first of them 2"),
        ("list:0-1-1", "names class 1 twice"),
        ("list:0-1-3", "names class 3 of 3: use ids 0..2"),
        ("hardest", "is searched by a study: give it to one of its scenarios"),
        ("easyest", "did you mean 'easiest'"),
    ],
)
def test_a_list_that_is_no_order_of_the_classes_is_refused(name: str, message: str) -> None:
    with pytest.raises(BadRequest, match=message) as error:
        class_order(name, 3)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("alias", "name", "sizes"),
    [
        ("10/10", "B0-10tasks", (10,) * 10),
        ("20/5", "B0-5tasks", (20,) * 5),
        ("50/11", "B50-10tasks", (50, *(5,) * 10)),
        ("50/6", "B50-5tasks", (50, *(10,) * 5)),
    ],
)
def test_first_task_and_number_of_tasks_is_another_way_to_write_it(
    alias: str, name: str, sizes: tuple[int, ...]
) -> None:
    spec = parse_scenario(alias)
    assert spec.name == name
    assert spec.sizes(100) == sizes


@pytest.mark.parametrize(
    ("mapping", "name"),
    [
        ({"base": 50, "increments": [5] * 10}, "B50-inc5"),
        ({"base": 50, "increments": [5, 3, 2]}, "B50-5-3-2"),
        ({"increments": [4, 4, 2]}, "B0-4-4-2"),
        ({"base": 50, "increment": 5}, "B50-inc5"),
        ({"base": 50, "tasks": 5}, "B50-5tasks"),
        ({"base": 0, "tasks": 5, "class_order": "natural"}, "B0-5tasks"),
        ({"base": 50, "increment": 5, "class_order": "seed:7"}, "B50-inc5-seed7"),
        ({"name": "B50-inc5", "class_order": "numpy-1993"}, "B50-inc5-numpy-1993"),
        ({"base": 50, "increment": 5, "class_order": "orders/my first.txt"}, "B50-inc5-my-first"),
        ({"base": 50, "increment": 5, "name": "months"}, "months"),
    ],
)
def test_a_mapping_gets_the_canonical_name(mapping: dict[str, Any], name: str) -> None:
    assert parse_scenario(mapping).name == name


def test_a_long_list_of_uneven_increments_has_a_short_name() -> None:
    name = parse_scenario({"base": 10, "increments": [1, 2] * 40}).name
    assert len(name) < 60
    assert name != parse_scenario({"base": 10, "increments": [2, 1] * 40}).name


@pytest.mark.parametrize(
    ("value", "classes", "message"),
    [
        ("B50-inc5", 50, "base of 50 classes, but the data has 50"),
        ("B60-5tasks", 50, "make the base smaller"),
        ("B0-inc20", 10, "only 10 follow"),
        ("B5-inc6", 10, "only 5 follow"),
        ("B0-11tasks", 10, "ask for fewer tasks"),
        ({"base": 50, "increments": [5, 5]}, 100, "make 100 classes and leave 40 out"),
        ({"base": 50, "increments": [30, 30]}, 100, "10 too many"),
        ({"increments": [5, 4]}, 10, "data.classes=9"),
    ],
)
def test_a_split_that_does_not_fit_the_classes_is_refused(value: Any, classes: int, message: str) -> None:
    with pytest.raises(BadRequest, match=message) as caught:
        parse_scenario(value).sizes(classes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("B0-10task5", "did you mean 'B0-10tasks'"),
        ("B0-inc0", "increment must lie in"),
        ("B0-0tasks", "tasks must lie in"),
        ("B0-5-0", "increments must lie in"),
        ("B-5-inc2", "unknown scenario"),
        ("B0-10", "unknown scenario"),
        ("0/5", "at least two tasks"),
        ("50/1", "at least two tasks"),
        ("", "unknown scenario"),
        (7, "a name like B0-10tasks or a mapping"),
        ({"base": 50}, "got none"),
        ({"base": 50, "tasks": 5, "increment": 5}, "got increment and tasks"),
        ({"base": -1, "tasks": 5}, "base must lie in"),
        ({"base": 5, "increment": 0}, "increment must lie in"),
        ({"base": 5, "increment": -2}, "increment must lie in"),
        ({"base": 5, "increments": []}, "a list with one number a task"),
        ({"base": 5, "increments": "5,5"}, "a list with one number a task"),
        ({"base": 5, "increments": [5, "five"]}, "must be a whole number"),
        ({"base": 5, "incremets": [5]}, "did you mean 'increments'"),
        ({"base": 5, "increment": 5, "name": "a/b"}, "name has letters"),
        ({"base": 5, "increment": 5, "class_order": 7}, "class_order must be one of"),
    ],
)
def test_what_is_no_scenario_is_a_bad_request(value: Any, message: str) -> None:
    with pytest.raises(BadRequest, match=message) as caught:
        parse_scenario(value)
    assert "\n" not in str(caught.value)


@given(st.integers(1, 120), st.integers(0, 60), st.integers(1, 60), st.booleans())
def test_sizes_sum_to_the_classes_and_the_base_comes_first(
    n: int, base: int, amount: int, tasks: bool
) -> None:
    spec = parse_scenario(f"B{base}-{amount}tasks" if tasks else f"B{base}-inc{amount}")
    if base + amount > n:
        with pytest.raises(BadRequest):
            spec.sizes(n)
        return
    sizes = spec.sizes(n)
    later = sizes[1:] if base else sizes
    assert sum(sizes) == n
    assert min(sizes) >= 1
    assert not base or sizes[0] == base
    assert list(later) == sorted(later, reverse=True)
    assert len(later) == amount if tasks else set(later[:-1]) <= {amount}


@given(
    st.integers(0, 50),
    st.one_of(
        st.fixed_dictionaries({"increment": st.integers(1, 50)}),
        st.fixed_dictionaries({"tasks": st.integers(1, 50)}),
        st.fixed_dictionaries({"increments": st.lists(st.integers(1, 50), min_size=1, max_size=40)}),
    ),
    st.sampled_from(["natural", "seed:3", "numpy-1993", "orders/mine.txt"]),
)
def test_plain_values_give_the_same_scenario_again(base: int, split: dict[str, Any], order: str) -> None:
    spec = parse_scenario({"base": base, "class_order": order} | split)
    assert parse_scenario(spec.to_dict()) == spec
    if order == "natural" and "increments" not in split:
        assert parse_scenario(spec.name) == spec


def test_every_listed_scenario_can_be_read() -> None:
    assert [parse_scenario(name).name for name in SCENARIOS] == list(SCENARIOS)


def test_the_order_of_numpy_1993_is_the_published_one() -> None:
    assert class_order("numpy-1993", 100)[:10] == (68, 56, 78, 8, 23, 84, 90, 65, 74, 76)
    assert class_order("numpy-1993", 10) == (4, 2, 7, 6, 0, 3, 5, 8, 9, 1)


def test_the_order_of_icarl_is_the_published_one_and_for_100_classes_only() -> None:
    assert class_order("icarl-cifar", 100) == tuple(int(c) for c in ICARL.split())
    with pytest.raises(BadRequest, match="100 classes, not 10"):
        class_order("icarl-cifar", 10)


def test_a_seeded_order_never_changes() -> None:
    assert class_order("natural", 4) == (0, 1, 2, 3)
    assert class_order("seed:1", 10) == class_order("seed:1", 10) != class_order("seed:2", 10)
    assert class_order("seed:1", 10) == (2, 0, 9, 4, 1, 5, 3, 6, 8, 7)
    for bad in ("seed:", "seed:-1", "seed:x"):
        with pytest.raises(BadRequest, match="whole number"):
            class_order(bad, 10)


@given(st.integers(1, 200), st.sampled_from(["natural", "seed:0", "seed:12345", "numpy-1993"]))
def test_an_order_is_a_permutation(n: int, name: str) -> None:
    order = class_order(name, n)
    assert sorted(order) == list(range(n))
    assert all(type(c) is int for c in order)


def test_an_order_can_be_read_from_a_file_of_ids_or_names(tmp_path: Path) -> None:
    path = tmp_path / "order.txt"
    path.write_text("2\n0\n\n1\n")
    assert class_order(str(path), 3) == (2, 0, 1)
    path.write_text("cow\nant\r\n  bee  \n")
    assert class_order(str(path), 3, ["ant", "bee", "cow"]) == (2, 0, 1)
    path.write_text("bee\ncafe\u0301\n", encoding="utf-8")  # the other Unicode form of the same name
    assert class_order(str(path), 2, ["caf\u00e9", "bee"]) == (1, 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0\n1\n", "leaves out 1, the first of them 2"),
        ("0\n1\n1\n", "names class 1 twice"),
        ("0\n1\n3\n", "names class 3 of 3"),
        ("", "leaves out 3"),
        ("ant\nbee\ncwo\n", "did you mean 'cow'"),
        ("\x00\xff", "unknown class"),
    ],
)
def test_a_file_that_is_no_permutation_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "order.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(BadRequest, match=message):
        class_order(str(path), 3, ["ant", "bee", "cow"])


def test_an_unknown_order_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"did you mean 'natural'.*nor is there a file"):
        class_order("natrual", 10)
    path = tmp_path / "order.txt"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadRequest, match="not a readable text file"):
        class_order(str(path), 3)
    path.write_text("ant\n")
    with pytest.raises(BadRequest, match="one class id a line"):
        class_order(str(path), 1)
