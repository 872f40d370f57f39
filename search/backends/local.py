"""The loop without Ray: one job after another in this process."""

from __future__ import annotations

import time

from search.jobs.dispatcher import Dispatcher
from search.worker.worker import Worker

LOOKS = 100  # fruitless looks for a job, one after another, until the loop gives up


def run_local(dispatcher: Dispatcher) -> None:
    """Carry out all jobs. Raises StorageError if the run folder cannot be written any more."""
    idle = 0
    while not dispatcher.finished:  # all is done, the budget is spent, or the rest is paused
        job = dispatcher.next()
        if job is None:
            # A cell may have been resumed by another command since the last look.
            idle += 1
            if idle == LOOKS:
                raise RuntimeError("nothing runs and nothing can start, though the study is not finished")
            time.sleep(0.01)
            continue
        idle = 0
        worker = Worker(job, dispatcher.space)
        try:
            while True:
                answer = worker.step()
                if dispatcher.answer(answer) or answer.done:
                    break
        finally:
            worker.close()
