"""The registry: found when asked for, third parties by path, errors with the nearest name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cl_core.errors import BadRequest
from cl_core.method import METHODS
from cl_core.nets.network import NETS
from cl_core.registry import Registry


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry[str]:
    package = tmp_path / "fruit_shop"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "apple.py").write_text("from fruit_list import SHOP\nSHOP.register('apple')('an apple')\n")
    (package / "pear.py").write_text("from fruit_list import SHOP\nSHOP.register('pear')('a pear')\n")
    (tmp_path / "fruit_list.py").write_text(
        "from cl_core.registry import Registry\nSHOP = Registry('fruit', 'fruit_shop', "
        "lambda item: isinstance(item, str), 'a text')\nNUTS, STONE = 'nuts', 1\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in [n for n in sys.modules if n.startswith("fruit_")]:
        monkeypatch.delitem(sys.modules, name)
    import fruit_list  # type: ignore[import-not-found]

    registry: Registry[str] = fruit_list.SHOP
    return registry


def test_a_file_in_the_package_is_an_item(shop: Registry[str]) -> None:
    assert "fruit_shop.apple" not in sys.modules
    assert shop["apple"] == "an apple"
    assert shop.names() == ["apple", "pear"]
    assert list(shop) == ["apple", "pear"]
    assert "pear" in shop
    assert "plum" not in shop


def test_an_unknown_name_is_refused_with_the_nearest_one(shop: Registry[str]) -> None:
    with pytest.raises(
        BadRequest, match="unknown fruit 'peer': did you mean 'pear'\\? \\(known: apple, pear\\)"
    ):
        shop["peer"]


def test_two_items_of_one_name_are_a_mistake_of_the_programmer(shop: Registry[str]) -> None:
    with pytest.raises(ValueError, match="two fruit items are named 'pear'"):
        shop.names() and shop.register("pear")("another pear")


def test_an_item_of_one_s_own_is_named_by_module_and_attribute(shop: Registry[str]) -> None:
    assert shop["fruit_list:NUTS"] == "nuts"
    with pytest.raises(BadRequest, match="fruit 'fruit_list:STONE' must be a text, not int"):
        shop["fruit_list:STONE"]
    assert shop.names() == ["apple", "pear"]


@pytest.mark.parametrize(
    "path", ["fruit_list:", ":NUTS", "fruit list:NUTS", "fruit_list:NUTS.upper", "/tmp/x.py:f", "a:b:c"]
)
def test_other_paths_are_refused_in_one_line(shop: Registry[str], path: str) -> None:
    with pytest.raises(BadRequest, match="a fruit of one's own is named module:attribute") as caught:
        shop[path]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("path", "told"), [("fruit_list:PLUM", "PLUM"), ("no_such_shop:x", "no_such_shop")])
def test_what_cannot_be_loaded_is_refused_in_one_line(shop: Registry[str], path: str, told: str) -> None:
    with pytest.raises(BadRequest, match=f"cannot load fruit .*{told}.*PYTHONPATH") as caught:
        shop[path]
    assert "\n" not in str(caught.value)


def test_built_in_names_need_no_list_to_be_kept() -> None:
    import cl_core.methods

    folder = Path(cl_core.methods.__file__).parent
    # A keyword is no module's name, so `pass` lives in pass_.py.
    files = {p.stem.rstrip("_") for p in folder.glob("[a-z]*.py")}
    assert files == set(METHODS.names())
    assert {"finetune", "joint", "replay", "lwf", "icarl", "bic"} <= files
    assert {"convnet", "convnet-small", "resnet32", "resnet18"} <= set(NETS.names())


def test_a_method_of_ones_own_must_be_a_method() -> None:
    from cl_core.method import METHODS

    with pytest.raises(BadRequest, match=r"'os:getcwd' must be a subclass of cl_core\.method\.Method, not"):
        METHODS["os:getcwd"]
