"""A contestant of a benchmark in a process of its own, perhaps of another environment: only Python's library is needed.

When it is ready, a contestant prints one line of JSON, facts about itself. Then it answers each line "N" of its input,
which asks for N steps, with one line: wall seconds and processor seconds per step. It ends when its input ends.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

Turn = Callable[[int], "tuple[float, float]"]
"""Takes so many steps and gives wall and processor seconds per step."""


def plain(step: Callable[[], object]) -> Turn:
    """Turns of a step function, after one that does not count."""

    def turn(steps: int) -> tuple[float, float]:
        step()
        wall, processor = time.perf_counter(), time.process_time()
        for _ in range(steps):
            step()
        return (time.perf_counter() - wall) / steps, (time.process_time() - processor) / steps

    return turn


def serve(facts: Mapping[str, Any], turn: Turn) -> None:
    """Be a contestant until the input ends."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # what libraries print is no answer
        print(json.dumps(dict(facts)), file=answers, flush=True)
        for line in sys.stdin:
            print(*turn(int(line)), file=answers, flush=True)


@dataclass(frozen=True)
class Process:
    """A contestant as another process. ChildProcessError where it ends instead of answering, with its last words."""

    command: str
    child: subprocess.Popen[str]
    words: IO[str]

    def turn(self, steps: int) -> tuple[float, float]:
        """Wall and processor seconds per step of so many steps."""
        assert self.child.stdin is not None
        print(steps, file=self.child.stdin, flush=True)
        wall, processor = map(float, self.answer().split())
        return wall, processor

    def answer(self) -> str:
        """The next line that the contestant prints."""
        assert self.child.stdout is not None
        if line := self.child.stdout.readline():
            return line
        code = self.child.wait()
        self.words.seek(0)
        last = (self.words.read().strip() or "it wrote nothing").splitlines()[-1]
        raise ChildProcessError(f"`{self.command}` ended with code {code}: {last}")


@contextmanager
def started(command: Sequence[str], settings: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], Process]]:
    """The facts of a contestant that this command starts, and its process until the end; the settings are the
    command's last word, in JSON."""
    with (
        tempfile.TemporaryFile("w+") as words,
        subprocess.Popen(
            [*command, json.dumps(dict(settings))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=words,
            text=True,
        ) as child,
    ):
        process = Process(" ".join(command), child, words)
        yield json.loads(process.answer()), process
