"""The end of a command whose cluster has lost its head.

Ray tries to reach the head for a minute, then ends the process from a thread of its own, with no line that
says how to continue. So the command ends a little earlier. Nothing is lost that a killed driver would keep.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator

HEAD_LOOKS = 5.0  # seconds between two looks
HEAD_PATIENCE = 45.0  # seconds that a head may be away: Ray itself waits 60
HEAD_WAIT = 5.0  # seconds for a connection
HEAD_MISSES = 3  # looks in a row without an answer: a process that was stopped has passed much time in none


@contextlib.contextmanager
def head_watched(address: str, patience: float = HEAD_PATIENCE, every: float = HEAD_LOOKS) -> Iterator[None]:
    """Watch the head of a cluster at `address` (host:port) while the block runs.

    If it does not answer for `patience` seconds and HEAD_MISSES looks, print a line and end this process with
    exit code 1.
    """
    done = threading.Event()
    watch = threading.Thread(target=_watch, args=(address, patience, every, done), name="head", daemon=True)
    watch.start()
    try:
        yield
    finally:
        done.set()
        watch.join()


def _watch(address: str, patience: float, every: float, done: threading.Event) -> None:
    last, missed = time.monotonic(), 0
    while not done.wait(every):
        if _answers(address):
            last, missed = time.monotonic(), 0
            continue
        missed += 1
        if missed >= HEAD_MISSES and time.monotonic() - last >= patience:
            sys.stderr.write(
                f"\nerror: the head of Ray at {address} must answer, and has not for {patience:.0f} s: give "
                "the same command again, with the address of a cluster that runs. It continues from the last "
                "checkpoints.\n"
            )
            sys.stderr.flush()
            os._exit(1)  # the main thread waits for Ray


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), HEAD_WAIT).close()
    except OSError:
        return False
    return True
