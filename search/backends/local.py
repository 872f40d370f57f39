"""The same loop in one process, without Ray: one job after another."""

from __future__ import annotations

import time

from search.jobs.dispatcher import Session
from search.worker.worker import Work

LOOKS = 100  # in a row that find nothing to start, though something is left


def run_local(session: Session) -> None:
    """Work the session off here. Raises StorageError when the run's folder cannot be written any more."""
    idle = 0
    while not session.finished:  # all is done, the budget is spent, or what is left is paused
        order = session.next()
        if order is None:
            # A cell that was paused when the next job was looked for, and woken since, is looked at again.
            idle += 1
            if idle == LOOKS:
                raise RuntimeError("nothing runs and nothing can start, though the study is not finished")
            time.sleep(0.01)
            continue
        idle = 0
        work = Work(order)
        try:
            while True:
                answer = work.step()
                if session.answer(answer) or answer.done:
                    break
        finally:
            work.close()
