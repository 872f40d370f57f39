"""A guest node: how a command joins a cluster from a machine that is none of its nodes.

Ray's drivers talk to the raylet of their own machine. Where there is none, one without CPUs and GPUs is
started for the time of the command, so nothing is ever trained here. The nodes of the cluster must reach this
machine.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator

from cl_core.errors import BadRequest
from search.backends.cluster_nodes import cluster_nodes
from search.backends.ray_address import bootstrap_address
from search.backends.ray_private import local_nodes

STARTING = 60.0  # seconds until the guest must have joined
_STORE = 80_000_000  # bytes of its object store, about the least that Ray takes


@contextlib.contextmanager
def guest_node(named: str) -> Iterator[None]:
    """Make this machine a node of the cluster `named` while the block runs, unless it is one already.

    Raises BadRequest if it cannot become one.
    """
    if _is_node():
        yield
        return
    address = bootstrap_address(named)
    words = ["start", f"--address={address}", "--num-cpus=0", "--num-gpus=0", "--block"]
    raylet = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", *words, f"--object-store-memory={_STORE}"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # Ctrl-C is for this command, which needs the raylet until it ends
    )
    try:
        end = time.monotonic() + STARTING
        while not _is_node():
            if raylet.poll() is not None or time.monotonic() > end:
                raise BadRequest(
                    f"this machine must be able to join the Ray cluster at {address} as a node without CPUs, "
                    f"and cannot ({_last_line(raylet)}): give the command on a node of the cluster"
                )
            time.sleep(0.2)
        yield
    finally:
        raylet.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            raylet.communicate(timeout=10)
        raylet.kill()


def _is_node() -> bool:
    """Tell whether a raylet of the cluster runs on this machine."""
    here = local_nodes()
    return any(node.id in here for node in cluster_nodes() or ())


def _last_line(raylet: subprocess.Popen[str]) -> str:
    """Return the last line that a process printed which has ended; else that it takes too long."""
    if raylet.poll() is None or raylet.stdout is None:
        return f"it has not joined within {STARTING:g} s"
    lines = raylet.stdout.read().strip().splitlines()
    return lines[-1] if lines else f"ray start ended with {raylet.returncode}"
