"""Parts of an installed distribution and of files beside it, from the command line."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis.report.section import VIEWS
from cl_core.images.loading import DATASETS
from cl_core.method import METHODS
from cl_core.nets.network import NETS
from tests.search.terminal import call, refused

CODE = '''
from dataclasses import dataclass
import numpy as np
from torch import nn
from torch.nn import functional as F
from analysis.report.section import Section
from cl_core.images.dataset import Data
from cl_core.method import Method
from cl_core.task import Term

class Mine(Method):
    """Cross-entropy."""
    name, title, paper, equation = "mine", "Mine", "none", "CE"
    paradigm, level, kind = "baseline", "none", "none"
    memories = ()
    def loss(self, s, b, task):
        return {"ce": Term(F.cross_entropy(s.net(b.x).logits, b.y))}

class Untitled(Method):
    name = "untitled"

class Bare(Mine):
    def loss(self, s, b, task):
        return F.cross_entropy(s.net(b.x).logits, b.y)

class Empty(Mine):
    def loss(self, s, b, task):
        return {}

class Vector(Mine):
    def loss(self, s, b, task):
        return {"ce": Term(F.cross_entropy(s.net(b.x).logits, b.y, reduction="none"))}

class Deaf(Mine):
    def loss(self, s, b, task):
        return {"ce": Term(F.cross_entropy(s.net(b.x).logits, b.y).detach())}

class Wild(Mine):
    def loss(self, s, b, task):
        raise KeyError("first, then second")

class Hoarder(Mine):
    def end(self, s, task, data, g):
        s.kept["means"] = [1.0]

class Idle(Mine):
    def phases(self, s, task, data, g):
        return None

def flat(shape, last_relu):
    """One layer."""
    return nn.Sequential(nn.Flatten(), nn.Linear(shape[0] * shape[1] * shape[2], 5))

def load(root):
    """Grey noise."""
    x = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    return (x[:40], np.arange(40) % 4), (x[40:], np.arange(20) % 4)

def asked(spec):
    x = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8)
    return Data.from_arrays(x, np.arange(60) % (spec.classes or 4), net="convnet-small")

def raises(root): return {}["x"]
def missing(root): return open("/no/such/file")
def nothing(root): return None
def flat_arrays(root): return (np.zeros(3), np.zeros(3)), None
def two(a, b): return None

def count(results):
    """Return the number of runs."""
    return Section("Runs", "None.")
'''
POINTS = """
[cl_search.method]
pip-mine = own_parts:Mine
pip-untitled = own_parts:Untitled
[cl_search.net]
pip-flat = own_parts:flat
pip-gone = own_parts_gone:make
[cl_search.data_set]
pip-noise = own_parts:load
[cl_search.view]
pip_count = own_parts:count
"""
DIGITS = ("--data", "digits", "--scenario", "B0-2tasks")
SMALL = ("--set", "recipe.epochs=1", "--set", "data.per_class=10")


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The distribution as pip leaves it: a module, and its entry points in a dist-info folder."""
    place = tmp_path / "site"
    told = place / "own_parts-1.0.dist-info"
    told.mkdir(parents=True)
    (told / "METADATA").write_text("Metadata-Version: 2.1\nName: own-parts\nVersion: 1.0\n")
    (told / "entry_points.txt").write_text(POINTS)
    (place / "own_parts.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(place))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "own_parts", raising=False)
    importlib.invalidate_caches()
    with METHODS.temporarily(), NETS.temporarily(), DATASETS.temporarily(), VIEWS.temporarily():
        yield place / "own_parts.py"


def line(path: Path, text: str) -> str:
    """The place of the first line that begins with `text`."""
    found = next(
        n for n, code in enumerate(path.read_text().splitlines(), 1) if code.strip().startswith(text)
    )
    return f"{path}:{found}"


def test_what_is_installed_is_listed_and_what_is_broken_is_told_beside_the_others(installed: Path) -> None:
    methods = json.loads(call("list", "methods", "--json", code=0).stdout)
    assert methods["pip-mine"]["title"] == "Mine"
    assert methods["pip-untitled"]["paradigm"] == "broken"
    assert methods["pip-untitled"]["title"].startswith("must say its title, paper, equation, paradigm")
    assert line(installed, "class Untitled") in methods["pip-untitled"]["title"]
    assert {"lwf", "icarl"} <= set(methods)
    nets = json.loads(call("list", "nets", "--json", code=0).stdout)
    assert nets["pip-flat"] == "One layer."
    assert (
        "No module named 'own_parts_gone'; mend or uninstall the entry point of own-parts" in nets["pip-gone"]
    )
    assert json.loads(call("list", "datasets", "--json", code=0).stdout)["pip-noise"] == "Grey noise."
    views = json.loads(call("list", "views", "--json", code=0).stdout)
    assert views["pip_count"] == "Return the number of runs."
    assert "pip-untitled" in call("list", "methods").stdout


def test_describe_finds_out_which_kind_of_part_a_name_is(installed: Path) -> None:
    kinds = {"Mine": "method", "flat": "net", "load": "data set", "asked": "data set", "count": "view"}
    for name, kind in kinds.items():
        assert next(iter(json.loads(call("describe", f"own_parts:{name}", "--json", code=0).stdout))) == kind
    for name, kind in {
        "pip-flat": "net",
        "digits": "data set",
        "leaderboard": "view",
        "bic": "method",
    }.items():
        assert next(iter(json.loads(call("describe", name, "--json", code=0).stdout))) == kind
    card = json.loads(call("describe", "own_parts:flat", "--json", code=0).stdout)
    assert card["file"] == line(installed, "def flat")
    assert (card["features of 3x32x32"], card["maps of 3x32x32"]) == (5, [])
    assert "maps of 3x32x32: 16x32x32, 32x16x16, 64x8x8" in call("describe", "resnet32").stdout
    assert "must be a subclass of Method, a net (shape, last_relu)" in refused(
        "describe", "own_parts:CODE_IS_NONE"
    ) or "no attribute" in refused("describe", "own_parts:CODE_IS_NONE")
    assert "not module" in refused("describe", "own_parts:np")
    assert "method 'own_parts:Untitled' must say its title" in refused("describe", "own_parts:Untitled")
    assert "net 'pip-gone' cannot be used" in refused("describe", "pip-gone")


@pytest.mark.parametrize("data", ["pip-noise", "own_parts:load", "own_parts:asked"])
def test_a_data_set_of_one_s_own_is_called_alike_by_either_name(data: str) -> None:
    run = ("train", "--method", "pip-mine", "--data", data, "--scenario", "B0-2tasks", "--threads", 1)
    more = ("--set", "recipe.epochs=1", "--set", "data.classes=2", "--json")
    assert len(json.loads(call(*run, *more, code=0).stdout)["accuracy_matrix"]) == 2


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("raises", "failed: {}: KeyError: 'x'; mend it"),
        ("missing", "failed: {}: FileNotFoundError: "),
        ("nothing", "must return Data or ((x, y), (x, y)) of training and test, not NoneType ({})"),
        ("flat_arrays", "no empty axis, not [3]: reshape it ({})"),
        ("two", "must take the root, or the whole request as `spec`, or nothing, not (a, b) ({})"),
    ],
)
def test_a_data_set_that_does_not_work_is_refused_in_one_line(name: str, told: str, installed: Path) -> None:
    run = ("train", "--method", "finetune", "--data", f"own_parts:{name}", "--scenario", "B0-2tasks")
    assert told.format(line(installed, f"def {name}(")) in refused(*run)


@pytest.mark.parametrize(
    ("name", "told", "at"),
    [
        ("Bare", "must return a dict of Terms, not a tensor []", "def loss"),
        ("Empty", "must return at least one Term, not an empty dict", ""),
        ("Vector", "must give the value of 'ce' as a scalar tensor, not a tensor [", ""),
        ("Deaf", "none of its terms ('ce') has a gradient", ""),
        ("Wild", ": KeyError: 'first, then second'", "raise KeyError"),
        ("Hoarder", "State.kept must hold tensors: 'means' is a list", "class Hoarder"),
        ("Idle", "TypeError: 'NoneType' object is not iterable", "class Idle"),
    ],
)
def test_a_method_that_fails_in_training_is_told_with_its_file(
    name: str, told: str, at: str, installed: Path
) -> None:
    result = call("train", "--method", f"own_parts:{name}", *DIGITS, *SMALL, code=1)
    assert told in result.stderr
    assert str(installed) in result.stderr
    if at and at != "def loss":
        assert line(installed, at) in result.stderr


def test_methods_that_read_maps_refuse_a_net_without_them_before_any_work(tmp_path: Path) -> None:
    study = tmp_path / "s.yaml"
    study.write_text(
        "study: s\ndata: {name: digits, per_class: 10}\nscenarios: [B0-2tasks]\n"
        "methods: {finetune: , lwm: }\nrecipe: {net: pip-flat, epochs: 1}\nsearch: {trials: 1}\n"
    )
    out = tmp_path / "out"
    assert "lwm@B0-2tasks: lwm needs a net whose features" in refused("run", study, "--local", "--out", out)
    assert not out.exists()
    said = refused(
        "train", "--method", "distill", "--set", "hp.loss=pod", "--net", "pip-flat", *DIGITS, *SMALL
    )
    assert "loss 'pod' needs a net that gives its maps" in said
    assert "write mine: {method: 'own_parts:Mine'}" in refused(
        "run", study, "--local", "--out", out, "--set", "methods=['own_parts:Mine']"
    )
