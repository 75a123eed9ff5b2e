"""Slow work: begun when it is first asked for, one piece at a time beside everything else, and kept when it is done."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from modiste.errors import UsageError

MOST_WAITING = 8
KEPT = 4
"""Results in memory, those asked for last."""
AT_ONCE_SECONDS = 0.05
"""What takes no longer is answered at once."""

Result = TypeVar("Result")
Tell = Callable[[str], None]
"""Takes what the work does now, for people who wait."""


@dataclass
class Job:
    """A piece of work: what it does now, and in the end its result or its error."""

    step: str = "waiting for other work"
    result: Any = None
    error: Exception | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def tell(self, step: str) -> None:
        self.step = step


@dataclass(frozen=True)
class Working:
    """Work that is not done yet."""

    step: str


_jobs: OrderedDict[Hashable, Job] = OrderedDict()
_lock = threading.Lock()
_turn = threading.Lock()


def ask(key: Hashable, work: Callable[[Tell], Result]) -> Result | Working:
    """The result of the work under this key, which is begun where nobody has yet; an error is raised once."""
    with _lock:
        job = _jobs.get(key)
        if job is None:
            if sum(not other.done.is_set() for other in _jobs.values()) >= MOST_WAITING:
                raise UsageError(f"{MOST_WAITING} pieces of work are waiting; ask again when one is done")
            job = _jobs[key] = Job()
            threading.Thread(target=_run, args=(job, work), name="studio-job", daemon=True).start()
        _jobs.move_to_end(key)
        finished = [other for other, one in _jobs.items() if one.done.is_set()]
        for other in finished[: max(0, len(finished) - KEPT)]:
            del _jobs[other]
    if not job.done.wait(AT_ONCE_SECONDS):
        return Working(job.step)
    if job.error is not None:
        with _lock:
            _jobs.pop(key, None)
        raise job.error
    result: Result = job.result
    return result


def under_way() -> bool:
    """Whether any work is not done; what it writes appears whole or not at all, so it may be left."""
    with _lock:
        return any(not job.done.is_set() for job in _jobs.values())


def _run(job: Job, work: Callable[[Tell], Any]) -> None:
    with _turn:
        try:
            job.result = work(job.tell)
        except Exception as error:  # raised again in the thread that asks
            job.error = error
    job.done.set()
