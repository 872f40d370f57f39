"""The registry: found when asked for, third parties by path, errors with the nearest name."""

from __future__ import annotations

import importlib
import re
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
        "from cl_core.registry import Registry\n"
        "def fault(item): return None if isinstance(item, str) else 'must be a text'\n"
        "SHOP = Registry('fruit', 'fruit_shop', fault)\nNUTS, STONE = 'nuts', 1\n"
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
    with pytest.raises(BadRequest, match="fruit 'fruit_list:STONE' must be a text \\(int\\)"):
        shop["fruit_list:STONE"]
    assert shop.names() == ["apple", "pear"]


@pytest.mark.parametrize(
    "path", ["fruit_list:", ":NUTS", "fruit list:NUTS", "fruit_list:NUTS.upper", "/tmp/x.py:f", "a:b:c"]
)
def test_other_paths_are_refused_in_one_line(shop: Registry[str], path: str) -> None:
    with pytest.raises(BadRequest, match="a fruit of your own is named module:attribute") as caught:
        shop[path]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("fruit_list:PLUM", r"no attribute 'PLUM'; name what .*fruit_list.py defines"),
        ("no_such_shop:x", r"No module named 'no_such_shop'; is the module on PYTHONPATH\?"),
        ("fruit_shop.gone:x", r"No module named 'fruit_shop.gone'; is the module on PYTHONPATH\?"),
        ("fruit_bad.syntax:x", r"fruit_bad/syntax.py:2: SyntaxError: .*; mend the module"),
        ("fruit_bad.needs:x", r"fruit_bad/needs.py:1: ModuleNotFoundError: .*'no_such_stone'; mend"),
        ("fruit_bad.ends:x", r"fruit_bad/ends.py:3: SystemExit: 7; mend the module"),
    ],
)
def test_what_cannot_be_loaded_is_told_with_file_line_and_remedy(
    shop: Registry[str], path: str, told: str, tmp_path: Path
) -> None:
    (tmp_path / "fruit_bad").mkdir()
    (tmp_path / "fruit_bad" / "syntax.py").write_text("x = 1\ndef (:\n")
    (tmp_path / "fruit_bad" / "needs.py").write_text("import no_such_stone\n")
    (tmp_path / "fruit_bad" / "ends.py").write_text("import sys\n\nsys.exit(7)\n")
    with pytest.raises(BadRequest, match=f"cannot load fruit {path!r}: .*{told}") as caught:
        shop[path]
    assert "\n" not in str(caught.value)


def test_a_broken_file_stops_nobody_but_who_asks_for_it(shop: Registry[str], tmp_path: Path) -> None:
    folder = tmp_path / "fruit_shop"
    (folder / "fig.py").write_text(
        "from fruit_list import SHOP\nSHOP.register('fig')('a fig')\nrot = {}['x']\n"
    )
    (folder / "kiwi.py").write_text("def (:\n")
    (folder / "stone.py").write_text("from fruit_list import SHOP\nSHOP.register('stone')(3)\n")
    (folder / "pear2.py").write_text("from fruit_list import SHOP\nSHOP.register('pear')('another')\n")
    assert shop["apple"] == "an apple"
    assert shop["pear"] == "a pear"
    assert shop.names() == ["apple", "pear"]
    broken = shop.broken()
    assert list(broken) == ["fig", "kiwi", "pear2", "stone"]
    for name, told in (
        ("fig", f"{folder / 'fig.py'}:3: KeyError: 'x'; mend the file or remove it"),
        ("kiwi", f"{folder / 'kiwi.py'}:1: SyntaxError: invalid syntax; mend the file or remove it"),
        ("stone", "must be a text (int)"),
    ):
        assert broken[name] == told
        with pytest.raises(BadRequest, match=re.escape(f"fruit {name!r} cannot be used: {told}")):
            shop[name]
    assert "pear2.py:2: ValueError: two fruit items are named 'pear'" in broken["pear2"]
    # Its file's name may be another than the one that it would have registered.
    with pytest.raises(BadRequest, match=r"unknown fruit 'kiwis': .*kiwi.py:1: SyntaxError") as caught:
        shop["kiwis"]
    assert "\n" not in str(caught.value)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A distribution with entry points, as pip would install it."""
    told = tmp_path / "fruit_farm-1.0.dist-info"
    told.mkdir()
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: fruit-farm\nVersion: 1.0\n")
    points = (
        "good = fruit_farm:GOOD\nnumber = fruit_farm:NUMBER\ngone = fruit_farm:GONE\nhole = fruit_hole:X\n"
    )
    (told / "entry_points.txt").write_text(f"[cl_search.fruit]\n{points}")
    (tmp_path / "fruit_farm.py").write_text("GOOD, NUMBER = 'a good one', 3\n")
    (tmp_path / "fruit_hole.py").write_text("\nraise RuntimeError('no hole\\nat all')\n")
    importlib.invalidate_caches()
    return tmp_path


@pytest.mark.usefixtures("installed")
def test_an_entry_point_is_an_item_and_a_broken_one_stops_nobody_else(
    shop: Registry[str], tmp_path: Path
) -> None:
    assert shop["good"] == "a good one"
    assert shop.names() == ["apple", "gone", "good", "hole", "number", "pear"]
    broken = shop.broken()
    assert list(broken) == ["gone", "hole", "number"]
    assert shop.names() == ["apple", "good", "pear"]
    assert broken["number"] == "must be a text (int)"
    assert broken["hole"].startswith(f"{tmp_path / 'fruit_hole.py'}:2: RuntimeError: no hole; mend or ")
    assert broken["hole"].endswith("uninstall the entry point of fruit-farm")
    assert "GONE" in broken["gone"]
    with pytest.raises(BadRequest, match="fruit 'hole' cannot be used: ") as caught:
        shop["hole"]
    assert "\n" not in str(caught.value)


def test_an_entry_point_that_is_uninstalled_is_listed_no_longer(installed: Path, shop: Registry[str]) -> None:
    assert shop["good"] == "a good one"
    (installed / "fruit_farm-1.0.dist-info" / "entry_points.txt").unlink()
    assert shop.names() == ["apple", "pear"]


def test_built_in_names_need_no_list_to_be_kept() -> None:
    import cl_core.methods

    folder = Path(cl_core.methods.__file__).parent
    # A keyword is no module's name, so `pass` lives in pass_.py.
    files = {p.stem.rstrip("_") for p in folder.glob("[a-z]*.py")}
    assert files == set(METHODS.names())
    assert {"finetune", "joint", "replay", "lwf", "icarl", "bic"} <= files
    assert {"convnet", "convnet-small", "resnet32", "resnet18"} <= set(NETS.names())


HP = "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass HP: "
CARD = "name = title = paper = equation = paradigm = level = kind = 'x'\n"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("name = 'own'\n", "must say its title, paper, equation, paradigm, level, kind: give each as a text"),
        (CARD + "title = 3\n", "must say its title: give each"),
        (CARD + "class HP: pass\n", r"must have its hyperparameters in a class HP below @dataclass\(frozen"),
        (CARD + "HP = None\n", "must have its hyperparameters in a class HP"),
        (CARD + HP.replace("frozen=True", "") + "pass\n", "must have its hyperparameters in a class HP"),
        (
            CARD + HP + "pass\ndef loss(self, *a): pass\ndef base(self): return 5\n",
            r"must give a Base from base\(\), not int",
        ),
        (CARD + HP + "weight: float = 1.0\n", r"must declare HP.weight as hp\(default, domain\)"),
    ],
)
def test_a_method_of_one_s_own_is_told_what_it_lacks(
    body: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "".join(f"    {line}\n" for line in body.splitlines())
    (tmp_path / "own_method.py").write_text(
        f"from cl_core.method import Method\n\nclass Mine(Method):\n{lines}"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "own_method", raising=False)
    with pytest.raises(BadRequest, match=rf"method 'own_method:Mine' {told}.*own_method.py:3") as caught:
        METHODS["own_method:Mine"]
    assert "\n" not in str(caught.value)


def test_a_method_of_ones_own_must_be_a_method() -> None:
    from cl_core.method import METHODS

    with pytest.raises(
        BadRequest, match=r"'os:getcwd' must be a subclass of cl_core\.method\.Method, not 'getcwd'"
    ):
        METHODS["os:getcwd"]
