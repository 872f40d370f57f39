"""A worker ends when the process that started it has died."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

from tests.architecture.sources import ROOT

WORKER = """
import time
from search.backends.orphan import end_with_raylet

end_with_raylet()
print("begun", flush=True)
time.sleep(60)
"""
RAYLET = f"""
import os, subprocess, sys, time

os.environ["RAY_RAYLET_PID"] = str(os.getpid())
worker = subprocess.Popen([sys.executable, "-c", {WORKER!r}])
time.sleep(60)
"""


def test_a_worker_ends_soon_after_its_raylet_was_killed() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RAYLET], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as raylet:
        assert raylet.stdout is not None
        assert raylet.stdout.readline() == "begun\n"
        os.kill(raylet.pid, signal.SIGKILL)
        assert raylet.stdout.read() == ""  # the pipe closes when the worker has ended as well
