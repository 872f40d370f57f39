"""The same loop in one process, without Ray: one job after another."""

from __future__ import annotations

from search.session import Session
from search.work import Work


def run_local(session: Session) -> None:
    """Work the session off here. Raises StorageError when the run's folder cannot be written any more."""
    while not session.finished:
        order = session.next()
        if order is None:
            if session.finished:  # all is done, the budget is spent, or what is left is paused
                return
            raise RuntimeError("nothing runs and nothing can start, though the study is not finished")
        work = Work(order)
        try:
            while True:
                answer = work.step()
                if session.answer(answer) or answer.done:
                    break
        finally:
            work.close()
