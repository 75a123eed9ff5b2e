"""Commands that meet a fault, run by test_faults.py in a process of their own.

python fault_lab.py FOLDER: FOLDER/template is what there is beforehand, with the folders work, cache and tmp. Reads
JSON from standard input, a list of {"words": the command, "how": the fault, "at": where, "grows": what is not half
there if it is neither as before nor as after}. Every trial begins with the template, meets its fault, and repeats the
command undisturbed. Prints JSON: per command how many changes of the disk it makes, how its trials ended, and what was
not as it should be. The faults:

    kill    SIGKILL right before those changes (from 1, or backwards from -1), or before so many drawn by lot
    full    no room from that change on, as the system says it
    disk    a disk with that many KiB left (needs root)
    random  SIGKILL at so many instants drawn by lot; the processes that it has started are real ones
    twice   two at a time, so many times
"""

from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import io
import itertools
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modiste import cli
from modiste.errors import ModisteError
from modiste.experiments import runner
from modiste.experiments.runner import Job, JobResult

TIMES = {"seconds", "images_per_second", "start", "end", "peak_memory_bytes", "command", "git_commit"}
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}
SPACE = {"open", "os.mkdir"}
"""What needs room on a disk."""
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
Tree = dict[str, str]
NUMBERS = itertools.count()
PATIENCE_SECONDS = 90.0
REFUSED = re.compile(r"in use by another|is not empty; choose a new folder")
"""What the second of two says that cannot both go on."""


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


def run_locally(jobs: Sequence[Job], *_: Any) -> Iterator[tuple[int, JobResult]]:
    """The runs of a study in this process, which has the fault."""
    for position, job in enumerate(jobs):
        try:
            for command in job.all_commands:
                cli.app(list(command), standalone_mode=False)
            yield position, JobResult("finished")
        except ModisteError as error:
            yield position, JobResult("failed", str(error))


@dataclass
class Child:
    """A command under way in a forked process."""

    pid: int
    pipe: int
    said: Path

    def end(self) -> tuple[str, int, str]:
        """How it ended, its changes of the disk, what it said."""
        _, status = os.waitpid(self.pid, 0)
        with os.fdopen(self.pipe, "rb") as pipe:
            changes = int(pipe.read() or 0)
        ended = f"exit {os.WEXITSTATUS(status)}"
        if os.WIFSIGNALED(status):
            ended = signal.Signals(os.WTERMSIG(status)).name
        return ended, changes, self.said.read_text(encoding="utf-8", errors="replace")


def begin(words: Sequence[str], how: str = "", at: int = 0) -> Child:
    """Start a command in a forked child, with its fault."""
    end, start = os.pipe()
    said = ROOT.parent / f"said-{next(NUMBERS)}"
    pid = os.fork()
    if pid:
        os.close(start)
        return Child(pid, end, said)
    descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    sys.stdout, sys.stderr = (os.fdopen(number, "w", encoding="utf-8") for number in (1, 2))
    sys.argv = ["modiste", *words]
    if how != "random":
        runner.run_locally = run_locally
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
    os.write(start, str(counted[0]).encode())
    os._exit(code)


def in_child(words: Sequence[str], how: str = "", at: int = 0) -> tuple[str, int, str]:
    """Carry out a command in a forked child."""
    return begin(words, how, at).end()


def killed_after(words: Sequence[str], seconds: float) -> tuple[str, int, str]:
    """Kill a command at that instant; in the end all is gone that it has started."""
    child = begin(words, "random")
    time.sleep(seconds)
    os.kill(child.pid, signal.SIGKILL)
    found = child.end()
    end = time.monotonic() + PATIENCE_SECONDS
    while left := left_behind():
        if time.monotonic() > end:
            return found[0], found[1], f"left behind: {left}"
        time.sleep(0.1)
    return found


def left_behind() -> list[str]:
    """The commands of other processes that work in the laboratory's folder."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            here = (place / "cwd").resolve() == ROOT / "work"
            if here and int(place.name) != os.getpid() and " -m modiste " in f" {command}":
                found.append(command)
    return found


def both(words: Sequence[str]) -> tuple[str, int, str]:
    """The same command twice at a time: the ending of the worse, as "exit 1" with a sentence of use by another."""
    children = [begin(words, "random") for _ in range(2)]
    found = [child.end() for child in children]
    refused = [said for ended, _, said in found if ended in ("exit 1", "exit 2") and REFUSED.search(said)]
    if len(refused) > 1 or any(ended != "exit 0" and said not in refused for ended, _, said in found):
        return "wrong", 0, "; ".join(f"{ended}: {said[-400:]}" for ended, _, said in found)
    return "exit 0", 0, ""


@contextlib.contextmanager
def small_disk(free: int) -> Iterator[None]:
    """The folder `work` on a disk of its own, with so many KiB left until the context ends."""
    work = ROOT / "work"
    os.chdir(ROOT)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(work)], check=True)
    try:
        shutil.copytree(ROOT / "template" / "work", work, dirs_exist_ok=True)
        os.chdir(work)
        with (ROOT / "work" / ".filler").open("wb") as filler:
            filler.write(bytes(max(0, shutil.disk_usage(work).free - free * 1024)))
        yield
    finally:
        os.chdir(ROOT)
        subprocess.run(["umount", "-l", str(work)], check=True)


def restore() -> None:
    os.chdir(ROOT)
    for place in ("work", "cache", "tmp"):
        shutil.rmtree(ROOT / place, ignore_errors=True)
        shutil.copytree(ROOT / "template" / place, ROOT / place)
    os.chdir(ROOT / "work")


def timeless(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: timeless(value) for key, value in tree.items() if key not in TIMES and value is not None}
    return [timeless(value) for value in tree] if isinstance(tree, list) else tree


PAGE_TIMES = r"\d{4}-\d\d-\d\dT[\d:]+(\+00:00)?|\b[\d,.]+ (s|min|h|images/s)\b|; [0-9a-f]{16} -->"
"""When a page says that a training began, how long it took and how fast it was, and the digest of all that."""


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
    if path.suffix in (".html", ".md"):
        return re.sub(PAGE_TIMES, "", path.read_text(encoding="utf-8"))
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
    before, start = tree(), time.monotonic()
    ended, changes, said = in_child(words, "random" if how in ("random", "twice") else "")
    after, seconds = tree(), time.monotonic() - start
    wrong = [] if ended == "exit 0" else [f"undisturbed: {ended}: {said[-600:]}"]
    lot = random.Random(0)
    chosen = at
    if how == "twice":
        chosen = [*range(at)]
    elif not isinstance(at, list):
        chosen = [lot.uniform(0, seconds) for _ in range(at)] if how == "random" else lot.sample(
            range(1, changes + 1), min(at, changes))  # fmt: skip
    endings = []
    for k in sorted(k if k >= 0 else changes + 1 + k for k in chosen):
        restore()
        with small_disk(k) if how == "disk" else contextlib.nullcontext():
            if how == "random":
                ended, _, said = killed_after(words, k)
            else:
                ended, _, said = both(words) if how == "twice" else in_child(words, how, k)
            endings.append(ended)
            (ROOT / "work" / ".filler").unlink(missing_ok=True)
            found = tree()
            wrong += [f"at {k}: {name} is half there" for name in half(found, before, after, grows)]
            wrong += [f"at {k}: {line}" for line in unfit(how, ended, said, found)]
            ended, _, said = in_child(words, "random" if how == "random" else "")
            if ended != "exit 0" and not REFUSED.search(said):  # it was finished, and is to be a new folder
                wrong.append(f"after {k}: {ended}: {said[-600:]}")
            found = tree()
        wrong += [f"after {k}: {name} is {'another one' if name in after else 'left'}" for name in unlike(found, after)]
        wrong += [f"after {k}: {name} is missing" for name in after if name not in found]
    return {"words": words, "changes": changes, "endings": endings, "wrong": wrong}


def unfit(how: str, ended: str, said: str, found: Tree) -> Iterator[str]:
    """What is wrong with how a command ended in its fault."""
    if "left behind" in said[:20] or ended == "wrong":
        yield said
    if how in ("full", "disk"):
        if ended not in ("exit 0", "exit 1") or "Traceback" in said:
            yield f"{ended}: {said[-1500:]}"
        if ended == "exit 1" and "modiste: " not in said:
            yield f"no sentence: {said[-600:]}"
        yield from (f"{name} is left" for name in found if name.endswith((".writing", ".writing/")))
    if how == "kill" and ended != "SIGKILL":
        yield f"{ended} and not killed: {said[-300:]}"


if __name__ == "__main__":
    ROOT = Path(sys.argv[1]).absolute()
    os.environ["MODISTE_CACHE"], os.environ["TMPDIR"] = str(ROOT / "cache"), str(ROOT / "tmp")
    # What each child would import anew.
    import safetensors.torch  # noqa: F401

    import modiste.evaluation.baselines
    import modiste.evaluation.evaluate
    import modiste.exports.samples
    import modiste.exports.synthetic_set  # noqa: F401

    start = time.monotonic()
    told = []
    for task in json.load(sys.stdin):
        told.append(trials(task["words"], task["how"], task["at"], task.get("grows", ())))
        told[-1]["seconds"] = round(time.monotonic() - start, 1)
    print(json.dumps(told))
