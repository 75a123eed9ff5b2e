"""Commands that are killed, or find the disk full, at a change of the disk; run by test_faults.py.

python fault_lab.py FOLDER: FOLDER/template is what there is beforehand, with the folders work, cache and tmp. Reads
JSON from standard input, a list of {"words": the command, "how": "kill" or "full", "at": a list of numbers of changes
(from 1, or backwards from -1), or how many to draw, "grows": what is not half there if it is neither as before nor as
after}. Every trial begins with the template, meets its fault, and repeats the command undisturbed. Prints JSON: per
command how many changes it makes, how its trials ended, and what was not as it should be.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from modiste import cli, workers
from modiste.errors import ModisteError
from modiste.workers import Errand

TIMES = {"seconds", "images_per_second", "start", "end", "peak_memory_bytes", "command", "total_seconds"}
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}
SPACE = {"open", "os.mkdir"}
"""What needs room on a disk."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
Tree = dict[str, str]


def changes_the_disk(event: str, arguments: tuple[Any, ...]) -> bool:
    """Whether an event of the interpreter is about to change something in the laboratory's folder."""
    if event == "open":
        path, mode, flags = arguments
        if isinstance(path, int) or not (flags & WRITING if mode is None else set(mode) & set("wax+")):
            return False
    elif event not in CHANGES:
        return False
    return Path(os.fsdecode(arguments[0])).absolute().is_relative_to(ROOT)


def counting(at: int = 0, fault: Callable[[str], None] = lambda _: None, on: bool = False) -> list[int]:
    """Count this process's changes of the disk, and meet the fault at that one, with `on` also at all after it."""
    counted = [0]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if (event == "open" or event in CHANGES) and changes_the_disk(event, arguments):
            counted[0] += 1
            if counted[0] == at or (on and counted[0] > at > 0):
                fault(event)

    sys.addaudithook(hook)
    return counted


def die(_: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def full(event: str) -> None:
    if event in SPACE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def locally(errands: Sequence[Errand], *_: Any) -> Iterator[tuple[int, str]]:
    """The runs of a study in this process, which has the fault."""
    for k, errand in enumerate(errands):
        try:
            for command in errand.commands:
                cli.app(list(command), standalone_mode=False)
            yield k, ""
        except ModisteError as error:
            yield k, str(error)


def in_child(words: Sequence[str], at: int, how: str) -> tuple[str, int, str]:
    """Carry out a command in a forked child: how it ended, its changes of the disk, what it said."""
    end, begin = os.pipe()
    said = ROOT.parent / "said"
    pid = os.fork()
    if not pid:
        descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8") for number in (1, 2))
        sys.argv = ["modiste", *words]
        workers.locally = locally
        counted = counting(at, {"kill": die, "full": full}.get(how, lambda _: None), on=how == "full")
        code = 70
        try:
            cli.main()
        except SystemExit as error:
            code = int(error.code or 0)
        except BaseException as error:
            print(f"unexpected: {error!r}")
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os.write(begin, str(counted[0]).encode())
        os._exit(code)
    os.close(begin)
    _, status = os.waitpid(pid, 0)
    with os.fdopen(end, "rb") as pipe:
        changes = int(pipe.read() or 0)
    ended = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"
    return ended, changes, said.read_text(encoding="utf-8", errors="replace")


def restore() -> None:
    for place in ("work", "cache", "tmp"):
        shutil.rmtree(ROOT / place, ignore_errors=True)
        shutil.copytree(ROOT / "template" / place, ROOT / place)
    os.chdir(ROOT / "work")


def timeless(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: timeless(value) for key, value in tree.items() if key not in TIMES and value is not None}
    return [timeless(value) for value in tree] if isinstance(tree, list) else tree


def content(path: Path) -> str:
    """A file's content without times, which no two trainings share."""
    if path.suffix in (".log", ".lock", ".db") or path.name in (".lock", ".finals"):
        return ""
    if path.suffix == ".json":
        return json.dumps(timeless(json.loads(path.read_text(encoding="utf-8"))))
    if path.suffix == ".jsonl":
        return json.dumps([timeless(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()])
    if path.suffix == ".csv":
        table = csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"), newline=""))
        return json.dumps([timeless(row) for row in table])
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tree() -> Tree:
    """Every file and folder of the laboratory, a state by the images it was saved at."""
    found: Tree = {}
    for place in ("work", "cache", "tmp"):
        for path in sorted((ROOT / place).rglob("*")):
            name = str(path.relative_to(ROOT))
            if path.name == ".ses":  # a note that onnxruntime leaves
                continue
            if path.is_dir():
                found[f"{name}/"] = ""
            elif path.parent.name == "state" and path.suffix == ".pt":
                found[f"{path.parent.relative_to(ROOT)}/{path.name.partition('-')[0]}"] = ""
            else:
                try:
                    found[name] = content(path)
                except (ValueError, OSError) as error:
                    found[name] = f"damaged: {error}"
    return found


def unlike(found: Tree, *wanted: Tree) -> list[str]:
    """The entries of a tree that are in none of the others as they are."""
    return [name for name, value in found.items() if all(one.get(name) != value for one in wanted)]


def half(found: Tree, before: Tree, after: Tree, grows: Sequence[str]) -> list[str]:
    """What is half there: neither as before nor as after, but for what grows; hidden files are nobody's yet."""
    hidden = [name for name in found if any(part.startswith(".") for part in Path(name).parts)]
    return [
        name
        for name in unlike(found, before, after)
        if name not in hidden and (found[name].startswith("damaged") or not any(part in name for part in grows))
    ]


def trials(words: Sequence[str], how: str, at: Any, grows: Sequence[str]) -> dict[str, Any]:
    """One command's trials."""
    restore()
    before = tree()
    ended, changes, said = in_child(words, 0, "")
    after = tree()
    wrong = [] if ended == "exit 0" else [f"undisturbed: {ended}: {said[-600:]}"]
    if how == "kill":
        restore()
        in_child(words, 0, "")
        wrong += [f"{name} is another one each time" for name in unlike(tree(), after)]
    chosen = at if isinstance(at, list) else random.Random(0).sample(range(1, changes + 1), min(at, changes))
    endings = []
    for k in sorted(k if k > 0 else changes + 1 + k for k in chosen):  # -1 is the last
        restore()
        ended, _, said = in_child(words, k, how)
        endings.append(ended)
        found = tree()
        wrong += [f"at {k}: {name} is half there" for name in half(found, before, after, grows)]
        if how == "full":
            if ended not in ("exit 0", "exit 1") or "Traceback" in said:
                wrong.append(f"at {k}: {ended}: {said[-600:]}")
            if ended == "exit 1" and "modiste: " not in said:
                wrong.append(f"at {k}: no sentence: {said[-600:]}")
            wrong += [f"at {k}: {name} is left" for name in found if name.endswith((".writing", ".writing/"))]
        elif ended != "SIGKILL":
            wrong.append(f"at {k}: {ended} and not killed: {said[-300:]}")
        ended, _, said = in_child(words, 0, "")
        if ended != "exit 0":
            wrong.append(f"after {k}: {ended}: {said[-600:]}")
        found = tree()
        wrong += [f"after {k}: {name} is {'another one' if name in after else 'left'}" for name in unlike(found, after)]
        wrong += [f"after {k}: {name} is missing" for name in after if name not in found]
    return {"words": words, "changes": changes, "endings": endings, "wrong": wrong}


if __name__ == "__main__":
    ROOT = Path(sys.argv[1]).absolute()
    os.environ["MODISTE_CACHE"], os.environ["TMPDIR"] = str(ROOT / "cache"), str(ROOT / "tmp")
    import modiste.evaluation  # what the children need, loaded once
    import modiste.exports
    import modiste.report
    import modiste.sets  # noqa: F401

    start = time.monotonic()
    told = []
    for task in json.load(sys.stdin):
        told.append(trials(task["words"], task["how"], task["at"], task.get("grows", ())))
        told[-1]["seconds"] = round(time.monotonic() - start, 1)
    print(json.dumps(told))
