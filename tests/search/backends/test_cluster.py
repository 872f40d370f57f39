"""A study on a cluster of two nodes of this machine. One of them does not see the folders of the other.

The node's mount namespace hides them, so it has folders of its own of the same names.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from analysis import equal
from analysis.lake.run_rows import run_rows
from search.backends.cluster_nodes import cluster_nodes
from search.backends.ray_environment import ray_environment
from search.commands.run import run_study
from search.commands.status import status
from search.jobs.nodes import NoNodeLeft

UNSHARE = shutil.which("unshare")
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.skipif(
        UNSHARE is None or subprocess.run([UNSHARE, "-m", "true"], capture_output=True).returncode != 0,
        reason="the system allows no mount namespace",
    ),
]

NET = """
from cluster_parts import small

def make(*args, **kwargs):
    return small(*args, **kwargs)
"""
PARTS = """
from cl_core.nets.network import NETS

small = NETS["convnet-small"]
"""


class Nodes:
    """A head of one CPU, and beside it a node of two CPUs that sees another folder `shared`."""

    def __init__(self, place: Path) -> None:
        self.place, self.shared = place, place / "shared"


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    place = tmp_path_factory.mktemp("nodes")
    for name in ("shared", "empty", "work"):
        (place / name).mkdir()
    _project(place / "work")
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch, ray_environment():
        warnings.simplefilter("ignore")
        from ray.cluster_utils import Cluster

        small = {"object_store_memory": 80_000_000, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, **small})
        hide = f"mount --bind {place / 'empty'} {place / 'shared'}"
        start = f"{sys.executable} -m ray.scripts.scripts start --address={cluster.address} --num-cpus=2"
        start += " --object-store-memory=80000000 --block"
        blind = subprocess.Popen(
            [str(UNSHARE), "-m", "sh", "-c", f"{hide} && exec {start}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        patch.setenv("RAY_ADDRESS", cluster.address)
        patch.chdir(place / "work")
        try:
            _wait_for(2)
            yield Nodes(place)
        finally:
            os.killpg(blind.pid, signal.SIGTERM)
            blind.wait(30)
            cluster.shutdown()


def _wait_for(count: int) -> None:
    end = time.monotonic() + 60
    while len(cluster_nodes() or ()) < count:
        assert time.monotonic() < end, "the second node did not join"
        time.sleep(0.2)


def _project(place: Path) -> None:
    """A working directory with images, a class order and a network of your own."""
    random = np.random.RandomState(0)
    for split, images in (("train", 8), ("test", 2)):
        for name in "abcd":
            folder = place / "images" / split / name
            folder.mkdir(parents=True)
            for number in range(images):
                pixels = random.randint(0, 255, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    (place / "own_net.py").write_text(NET)
    (place / "cluster_parts.py").write_text(PARTS)
    (place / "order.txt").write_text("3\n1\n0\n2\n")


def study(**changes: Any) -> dict[str, Any]:
    """Images by a relative path, a class order in a file, a network in the working directory."""
    return {
        "study": "small",
        "data": {"name": "image-folder", "root": "images", "size": 8},
        "scenarios": [{"base": 2, "increments": [2], "class_order": "order.txt"}],
        "methods": ["finetune"],
        "recipe": {
            "epochs": 1,
            "net": "own_net:make",
            "batch": 8,
            "increment": {"lr": {"float": [0.01, 0.2]}},
        },
        "search": {"trials": 3, "sampler": "random"},
        "storage": {"share": False},
        **changes,
    }


def test_a_node_without_the_folder_costs_no_run_and_what_runs_need_is_shipped(nodes: Nodes) -> None:
    said: list[str] = []
    summary = run_study(study(), nodes.shared / "run", warn=said.extend)
    assert (summary.completed, summary.failed) == (3, 0)
    assert len(run_rows(summary.folder)) == 3
    assert not list((nodes.place / "empty").iterdir())
    (line,) = [line for line in said if line.startswith("node ")]
    assert f"does not see the driver's folder {nodes.shared / 'run'}" in line
    assert status(summary.folder)["left out"] == [line.removesuffix(". It gets no further run.")]
    whole = run_study(study(), nodes.place / "alone", local=True)
    assert equal(summary.folder, whole.folder), equal(summary.folder, whole.folder)


@pytest.mark.slow
def test_the_command_ends_where_only_that_node_could_train(nodes: Nodes) -> None:
    with pytest.raises(NoNodeLeft, match="mount that folder there"):
        run_study(study(resources={"cpu": 2}), nodes.shared / "none")
    assert run_rows(nodes.shared / "none") == {}
