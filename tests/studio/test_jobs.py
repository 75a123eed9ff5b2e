"""Slow work is done once, one piece at a time, and says what it does."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from modiste.errors import ModisteError, UsageError
from modiste.studio import jobs


@pytest.fixture(autouse=True)
def none_yet(monkeypatch):
    monkeypatch.setattr(jobs, "_jobs", type(jobs._jobs)())


def finished(key, work):
    for _ in range(2000):
        if not isinstance(answer := jobs.ask(key, work), jobs.Working):
            return answer
        time.sleep(0.005)
    raise TimeoutError


def test_work_is_begun_once_and_tells_its_step():
    go, calls = threading.Event(), []

    def work(tell):
        calls.append(1)
        tell("counting")
        go.wait(20)
        return 7

    for _ in range(3):
        answer = jobs.ask("a", work)
    assert answer == jobs.Working("counting")
    assert jobs.ask("b", lambda tell: 8) == jobs.Working("waiting for other work")
    go.set()
    assert (finished("a", work), finished("b", work), len(calls)) == (7, 8, 1)


def test_an_error_is_raised_and_the_work_may_be_asked_for_again():
    def fail(tell):
        raise ModisteError("no data")

    with pytest.raises(ModisteError, match="no data"):
        finished("a", fail)
    assert finished("a", lambda tell: 1) == 1


def test_few_results_are_kept_and_few_wait():
    for k in range(jobs.KEPT + 5):
        assert finished(k, lambda tell, k=k: k) == k
    assert len(jobs._jobs) <= jobs.KEPT + 1
    go = threading.Event()
    try:
        for k in range(jobs.MOST_WAITING):
            jobs.ask(("slow", k), lambda tell: go.wait(20))
        with pytest.raises(UsageError, match="8 pieces of work are waiting; ask again when one is done"):
            jobs.ask("more", lambda tell: 0)
    finally:
        go.set()


def test_the_studio_does_not_wait_for_work_when_it_ends():
    program = """
import sys, time
from concurrent.futures import ThreadPoolExecutor
from modiste.cli import main
from modiste.studio import jobs, server

def slow(tell):
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(time.sleep, [1] * 600))

server.serve = lambda *_: jobs.ask("slow", slow)
sys.argv[1:] = ["studio"]
main()
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stdout) == (0, "")
