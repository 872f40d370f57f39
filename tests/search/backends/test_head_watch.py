"""A command whose cluster loses its head ends with one line, before Ray ends it without one."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time

COMMAND = """
import sys, time
from search.backends.head_watch import head_watched

with head_watched(sys.argv[1], patience=0.5, every=float(sys.argv[3])):
    print("begun", flush=True)
    time.sleep(float(sys.argv[2]))
print("ended")
"""


def _begun(address: str, seconds: float, every: float = 0.1) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", COMMAND, address, str(seconds), str(every)]
    command = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert command.stdout is not None
    assert command.stdout.readline() == "begun\n"
    return command


def test_a_head_that_is_gone_ends_the_command_with_a_line_and_one_that_answers_does_not() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=100) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        whole, lost = _begun(address, 1.0), _begun(address, 60.0)
        assert whole.communicate(timeout=30) == ("ended\n", "")
    out, said = lost.communicate(timeout=30)
    assert (lost.returncode, out) == (1, "")
    assert said.strip().startswith(f"error: the head of Ray at {address} must answer")
    assert said.strip().count("\n") == 0


def test_a_command_that_was_stopped_for_long_looks_more_than_once() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=100) as head:
        place = head.getsockname()
        command = _begun(f"127.0.0.1:{place[1]}", 2.0, every=0.5)
        command.send_signal(signal.SIGSTOP)
        time.sleep(0.8)
    command.send_signal(signal.SIGCONT)
    time.sleep(0.15)
    with socket.create_server(place, backlog=100):
        assert command.communicate(timeout=30) == ("ended\n", "")
