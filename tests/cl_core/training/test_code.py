"""The code behind a run: which files count, and what of them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cl_core.nets.network import NETS
from cl_core.training.code import code_digest, code_of, files, own_code
from cl_core.training.trainer import Training
from tests import tiny

NET = "import torch\nfrom torch import nn\ndef make(shape, last_relu):\n    return nn.Flatten()\n"


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Write modules, by path without ending, into a folder from which they are imported."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(modules: dict[str, str]) -> None:
        for name, text in modules.items():
            path = tmp_path / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    yield write
    written = [n for n, m in sys.modules.items() if str(getattr(m, "__file__", "")).startswith(str(tmp_path))]
    for name in written:  # and no other: a part of torch that was loaded meanwhile cannot be loaded twice
        del sys.modules[name]


def test_a_run_is_made_of_the_trainer_and_of_its_own_parts() -> None:
    found = code_of(("lwf", "convnet-small", "synthetic"))
    assert {
        "cl_core/training/trainer.py",
        "cl_core/metrics.py",
        "cl_core/blocks/losses.py",
        "cl_core/methods/lwf.py",
        "cl_core/methods/finetune.py",
        "cl_core/nets/convnet.py",
        "cl_core/data/synthetic.py",
    } <= set(found)
    # Neither what it never trains with nor what only reads results.
    assert not {"cl_core/methods/pass_.py", "cl_core/methods/icarl.py", "cl_core/model/model.py"} & set(found)
    assert "cl_core/blocks/rotations.py" in code_of(("pass", "convnet-small", "synthetic"))
    assert all(name.startswith("cl_core/") for name in found)


def test_every_name_of_a_part_has_a_digest_of_its_own() -> None:
    plain = code_digest("lwf", "convnet-small", "synthetic")
    assert plain == code_digest("lwf", "convnet-small", "synthetic")
    assert len({plain, code_digest("lwm", "convnet-small", "synthetic")}) == 2


def test_imports_are_followed_through_a_tree_of_ones_own(tree: Callable[..., None]) -> None:
    tree(
        {
            "ownpkg/__init__": "",
            "ownpkg/nets": "from ownpkg.inner import layer as made\nimport beside\n" + NET,
            "ownpkg/inner/__init__": "from . import layer\n",
            "ownpkg/inner/layer": "from .deep import SIZE\nfrom ..far import away\n"
            "def f():\n    import lazy.thing\n",
            "ownpkg/inner/deep": "SIZE = 1\n",
            "ownpkg/far": "def away(): pass\n",
            "ownpkg/unused": "1 / 0\n",
            "beside": "import typing\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import typed\n"
            "if typing.TYPE_CHECKING:\n    import typed\nelse:\n    import run\n"
            "if not TYPE_CHECKING:\n    import untyped\n",
            "typed": "",
            "run": "",
            "untyped": "",
            "lazy/__init__": "",
            "lazy/thing": "raise ImportError('an optional part')\n",
        }
    )
    assert set(files(["ownpkg.nets"])) == {
        "ownpkg/__init__.py",
        "ownpkg/nets.py",
        "ownpkg/inner/__init__.py",
        "ownpkg/inner/layer.py",
        "ownpkg/inner/deep.py",
        "ownpkg/far.py",
        "beside.py",
        "run.py",
        "untyped.py",
        "lazy/__init__.py",
        "lazy/thing.py",
    }


def test_what_own_code_takes_from_the_core_counts_too(tree: Callable[..., None]) -> None:
    tree({"based_on_icarl": "from cl_core.methods.icarl import ICaRL\n"})
    found = files(["based_on_icarl"])
    assert {"based_on_icarl.py", "cl_core/methods/icarl.py", "cl_core/memory.py"} <= set(found)
    assert own_code("based_on_icarl") is not None
    assert own_code("cl_core.methods.icarl") is None


def test_of_an_installed_distribution_only_its_own_modules_count() -> None:
    assert {name.split("/")[0] for name in files(["yaml"])} <= {"yaml", "_yaml"}
    assert "yaml/loader.py" in files(["yaml"])


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (NET.replace("torch\nfrom", "torch\n# a comment\n\nfrom"), True),
        ('"""A text."""\n' + NET.replace(":\n    return", ":\n    'What it makes.'\n    return"), True),
        (NET.replace("    return", "  return"), True),
        (NET.replace("Flatten()", "Flatten(1)"), False),
        (NET + "MORE = 1\n", False),
    ],
)
def test_comments_docstrings_and_layout_do_not_count(
    other: str, same: bool, tree: Callable[..., None]
) -> None:
    tree({"net_of_text": NET})
    before = own_code("net_of_text")
    tree({"net_of_text": other})
    assert (own_code("net_of_text") == before) is same


@pytest.mark.parametrize("changed", ["plugin_net", "plugin_help"])
def test_the_base_key_follows_the_code_behind_an_entry_point(
    changed: str, tree: Callable[..., None], tmp_path: Path
) -> None:
    name = f"net-behind-{changed}"
    code = {
        "plugin_net": "from cl_core.nets.convnet import ConvNet\nimport plugin_help\n"
        "def make(shape, last_relu):\n    return ConvNet(shape[0], 4, last_relu)\n",
        "plugin_help": "SIZE = 1\n",
    }
    tree(code)
    info = tmp_path / "plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[cl_search.net]\n{name} = plugin_net:make\n")
    assert NETS.module(name) == "plugin_net"

    def key() -> str:
        return Training(tiny.configuration("lwf", net=name), tiny.data()).base_key()

    first = key()
    assert first == key()
    tree({changed: code[changed] + "MORE = 1\n"})
    assert key() != first
