"""A command whose Ray dies under it: it ends with one line, and given again it goes on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from analysis.lake.run_rows import run_rows

NET = """
import os, pathlib, signal
from cl_core.nets.network import NETS

def make(*args, **kwargs):
    mark = pathlib.Path(__file__).parent / "killed"
    if os.environ.get("RAY_RAYLET_PID") and not mark.exists():
        mark.touch()
        os.kill(int(os.environ["RAY_RAYLET_PID"]), signal.SIGKILL)
    return NETS["convnet-small"](*args, **kwargs)
"""


@pytest.mark.slow
def test_a_command_whose_only_node_dies_ends_with_one_line_and_continues(tmp_path: Path) -> None:
    (tmp_path / "own_net.py").write_text(NET)
    study = {
        "study": "small",
        "data": {"name": "digits", "per_class": 30},
        "scenarios": ["B0-5tasks"],
        "methods": {"finetune": None, "own": {"method": "finetune", "recipe": {"net": "own_net:make"}}},
        "recipe": {"epochs": 1},
        "search": {"trials": 1},
        "resources": {"concurrent": 1},
    }
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(study))
    command = [sys.executable, "-m", "search.cli", "run", "small.yaml", "--out", "run", "--own-code"]
    paths = os.pathsep.join([str(tmp_path), *(p for p in sys.path if p)])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    died = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert died.returncode == 1, died.stderr
    assert died.stderr.splitlines()[-1].startswith("error: no node is left that can hold a run"), died.stderr
    again = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert again.returncode == 0, again.stderr
    assert [row["status"] for row in run_rows(tmp_path / "run").values()] == ["completed", "completed"]
