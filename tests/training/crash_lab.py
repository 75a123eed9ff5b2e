"""Trainings that are killed, run by test_resume.py in a process of their own.

Each line of standard input is JSON, [MODE, RECIPE.toml, OUT, KILLS]: trains RECIPE into OUT by forked children, each of
which is ended as MODE says (`random` kills so many), until the run is finished; prints as JSON how the children ended.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import safetensors.torch  # noqa: F401 - what each child would import anew, as torch._dynamo
import torch
import torch._dynamo

from modiste import config, files, runs
from modiste.errors import ModisteError
from modiste.training import trainer


def in_child(work: Callable[[], object]) -> int:
    """Start the work in a forked child; it exits with 0, or 3 on a ModisteError, whose text goes to OUT.error."""
    pid = os.fork()
    if pid:
        return pid
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            work()
    except ModisteError as error:
        Path(f"{OUT}.error").write_text(str(error), encoding="utf-8")
        os._exit(3)
    except BaseException as error:
        print(f"unexpected: {error!r}", file=sys.stderr)
        os._exit(4)
    os._exit(0)


def ending(pid: int) -> str:
    """How a child ended: exit code or signal name."""
    _, status = os.waitpid(pid, 0)
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"


def train() -> None:
    torch.set_num_threads(1)
    trainer.train(RECIPE, OUT)


def train_and_die_in_write(which: int) -> Callable[[], None]:
    """Training that kills itself half-way through the atomic write of this number."""

    def work() -> None:
        count = 0
        write_bytes = files.write_bytes

        def dying(path: Path, content: bytes) -> None:
            nonlocal count
            count += 1
            if count == which:
                files.temporary_beside(path).write_bytes(content[: len(content) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            write_bytes(path, content)

        files.write_bytes = dying
        train()

    return work


def train_with_quota() -> None:
    """Training in which no file may grow to the size of a state."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    train()


def killed_at_random(kills: int, randomness: random.Random) -> list[str]:
    start = time.perf_counter()
    endings = [ending(in_child(lambda: trainer.train(RECIPE, f"{OUT}-timing")))]
    duration = time.perf_counter() - start
    while endings.count("SIGKILL") < kills:
        pid = in_child(train)
        time.sleep(randomness.uniform(0, 0.5 * duration))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        endings.append(ending(pid))
        if endings[-1] == "exit 0" and endings.count("SIGKILL") < kills:  # finished too soon: keep it, start another
            OUT.rename(f"{OUT}-{len(endings)}")
    return [*endings, ending(in_child(train))]


def train_and_signal(number: signal.Signals) -> Callable[[], None]:
    """Training that gets the signal right after its first tick is in the log."""

    def work() -> None:
        append_log = runs.append_log

        def signalling(run: runs.Run, record: dict[str, object]) -> None:
            append_log(run, record)
            os.kill(os.getpid(), number)

        runs.append_log = signalling
        train()

    return work


def stopped_by(number: signal.Signals) -> list[str]:
    signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    endings = []
    while not (runs.exists(OUT) and runs.Run(OUT).read_manifest().status == "finished") and len(endings) < 20:
        endings.append(ending(in_child(train_and_signal(number))))
    return endings


def main(mode: str, kills: int) -> list[str]:
    if mode == "random":
        return killed_at_random(kills, random.Random(0))
    if mode == "in-write":
        return [ending(in_child(train_and_die_in_write(which))) for which in range(1, 11)] + [ending(in_child(train))]
    if mode == "quota":
        first = ending(in_child(train_and_signal(signal.SIGTERM)))
        return [first, ending(in_child(train_with_quota)), ending(in_child(train))]
    return stopped_by(signal.Signals[mode])


if __name__ == "__main__":
    for line in sys.stdin:
        mode, recipe, out, kills = json.loads(line)
        RECIPE, OUT = config.load(recipe), Path(out)
        print(json.dumps(main(mode, kills)), flush=True)
