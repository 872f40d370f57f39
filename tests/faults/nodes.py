"""A Ray cluster on this machine: a head without CPUs, two nodes, and one that does not see the folders."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tests.faults.processes import descendants, end_tree, named, send

STARTING = 90.0  # seconds
ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "token"}


class Nodes:
    """The nodes, each a process of `ray start`. `place` is what the blind one does not see.

    `environment` is that of the nodes beside this process's own.
    """

    def __init__(self, place: Path, environment: dict[str, str], blind: bool = True) -> None:
        self._place, self._environment = place, {**ENVIRONMENT, **environment}
        self._started: list[subprocess.Popen[bytes]] = []
        self._hides = blind and shutil.which("unshare") is not None
        self.begin()

    def begin(self) -> str:
        """Start a head and its nodes; return the address of the cluster."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.address = f"{socket.gethostbyname(socket.gethostname())}:{port}"
        ends = [f"--node-ip-address={self.address.split(':')[0]}", f"--port={port}", "--num-cpus=0"]
        self._head = self._start("--head", "--include-dashboard=false", *ends)
        self._wait()
        self.good = [self._join(), self._join()]
        if self._hides:
            self._join(blind=True)
        return self.address

    def _start(self, *words: str, before: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *words]
        node = subprocess.Popen(
            [*before, *command, "--object-store-memory=80000000"],
            env={**os.environ, **self._environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        self._started.append(node)
        return node

    def _join(self, blind: bool = False) -> subprocess.Popen[bytes]:
        hide = f'mount -t tmpfs tmpfs {self._place} && exec "$@"'
        before = ("unshare", "-m", "sh", "-c", hide, "-") if blind else ()
        return self._start(f"--address={self.address}", "--num-cpus=1", before=before)

    def _wait(self) -> None:
        host, port = self.address.split(":")
        end = time.monotonic() + STARTING
        while True:
            try:
                socket.create_connection((host, int(port)), 1).close()
                return
            except OSError:
                if time.monotonic() > end or self._head.poll() is not None:
                    raise RuntimeError(f"no Ray started at {self.address}") from None
                time.sleep(0.3)

    def workers(self, *texts: str) -> list[int]:
        """The processes on nodes that see the folders, by their command lines."""
        return [pid for node in self.good for pid in named(node.pid, *texts)]

    def lose(self, index: int, number: signal.Signals, whole: bool) -> None:
        """End a node: its raylet alone, or all of its processes."""
        node = self.good[index]
        raylets = [pid for pid in named(node.pid, "raylet/raylet") if _is_raylet(pid)]
        send([*descendants(node.pid), node.pid] if whole else raylets, number)

    def replace(self, index: int) -> None:
        """Bring a new node for one that was lost."""
        end_tree(self.good[index].pid)
        self.good[index].wait()
        self.good[index] = self._join()

    def lose_head(self) -> None:
        """Kill the head with all of its processes. The other nodes end by themselves a minute later."""
        end_tree(self._head.pid)

    def close(self) -> None:
        """End all nodes."""
        for node in reversed(self._started):
            end_tree(node.pid)
            node.wait()


def _is_raylet(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == "raylet"
    except OSError:
        return False
