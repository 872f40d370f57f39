"""Names in study files: refused before anything is loaded, and never one that exists."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cl_core.errors import BadRequest
from cl_core.images.loading import DATASETS
from cl_core.method import METHODS
from cl_core.nets.network import NETS
from cl_core.registry import listed
from spaces.study.names import PACKAGES
from spaces.study.study_file import load_study

PLAIN: dict[str, Any] = {"study": "s", "data": "digits", "scenarios": ["B0-5tasks"], "methods": ["lwf"]}
TWO_NETS = {"net": {"choice": ["convnet", "resnet33"]}}


def test_names_read_from_files_are_those_that_the_registries_have() -> None:
    code = (
        "from cl_core.registry import listed\n"
        f"for kind, package in {PACKAGES!r}.items(): print(*listed(kind, package))\n"
        "import sys\nassert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    registries = (METHODS, DATASETS, NETS)
    assert done.stdout.splitlines() == [" ".join(registry.names()) for registry in registries]


def test_names_that_a_file_computes_are_not_guessed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "my_parts"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "one.py").write_text('@register("one")\ndef one() -> None: ...\n')
    monkeypatch.syspath_prepend(tmp_path)
    assert listed("part", "my_parts") == ["one"]
    (package / "two.py").write_text("@PARTS.register(name)\ndef two() -> None: ...\n")
    assert listed("part", "my_parts") is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": {"a": {"method": "lwff"}}}, "unknown method 'lwff': did you mean 'lwf'"),
        ({"data": "digit"}, "unknown data set 'digit': did you mean 'digits'"),
        ({"recipe": TWO_NETS}, "unknown net 'resnet33': did you mean 'resnet32'"),
        ({"methods": {"lwf": {"recipe": TWO_NETS}}}, "unknown net 'resnet33'"),
        (
            {"protocol": {"select_on": "gtep", "evaluate_on": "cifar11"}},
            "unknown data set 'cifar11': did you mean 'cifar10'",
        ),
    ],
)
def test_an_unknown_name_is_refused_when_the_file_is_read(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        load_study({**PLAIN, **changes})


def test_code_of_ones_own_is_not_looked_up_when_the_file_is_read() -> None:
    assert load_study({**PLAIN, "data": "nowhere:data", "recipe": {"net": "nowhere:net"}})
