"""The command line: parsing and printing only. Each command imports what it needs when it is called."""

from __future__ import annotations

import atexit
import gc
import itertools
import json
import os
import select
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer import Option

from modiste import environment, progress, subprocesses
from modiste.cli import (
    augment,
    blind,
    detect,
    directions,
    evaluate,
    export,
    inspect,
    project,
    report,
    search,
    studio,
    study,
    train,
    verify,
)  # fmt: skip
from modiste.environment import __version__
from modiste.errors import ModisteError, UsageError, is_out_of_memory

app = typer.Typer(
    name="modiste",
    help="Train, evaluate and compare GANs on small images. Start with: modiste train swift --budget 4min",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for commands in (
    train, evaluate, project, directions, study, search, augment, report, blind, detect, inspect, export, verify,
    studio,
):  # fmt: skip
    app.add_typer(commands.app)


def main() -> NoReturn:
    """Run the command line; a failure is one sentence on standard error and exit code 1, or 2 for wrong use."""
    environment.let_threads_sleep()
    # Importing torch makes a million objects that stay: looking for garbage among them, on the way and at the end,
    # would take a third of a short command's time.
    gc.set_threshold(5000)
    atexit.register(gc.freeze)
    subprocesses.hold()
    progress.accept_any_text()
    if sys.argv[1:] == [subprocesses.SERVE]:
        _serve()
    with progress.heartbeat(f"modiste {_command_name(sys.argv[1:])}".rstrip()):
        sys.exit(_run())


def _refuse_empty(words: Sequence[str]) -> None:
    """UsageError for an empty argument, as a variable of the shell gives that is not set."""
    for before, word in itertools.pairwise(["modiste", *words]):
        if not word or (word.startswith("--") and word.endswith("=") and word.count("=") == 1):
            place = f"the value of {word[:-1]}" if word else f"the word after {before}"
            raise UsageError(f"{place} is empty; write one, or leave it out")


def _has_no_reader(descriptor: int) -> bool:
    """Whether the other end of a pipe is closed, where the system can tell (not on Windows)."""
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return any(event & (select.POLLERR | select.POLLNVAL) for _, event in poll.poll(0))


def _run() -> int:
    """Run the command; its exit code."""
    try:
        _refuse_empty(sys.argv[1:])
        status = app(standalone_mode=False)
        if sys.stdout is not None:  # it is None where the shell closed it
            sys.stdout.flush()
        return status or 0
    except (BrokenPipeError, SystemExit) as error:  # Typer and Rich turn a closed pipe into a SystemExit
        if not isinstance(error.__context__ if isinstance(error, SystemExit) else error, BrokenPipeError):
            raise
        unheard = _has_no_reader(2)
        for descriptor in (1, 2) if unheard else (1,):  # for what Python flushes at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
        return 1 if unheard else 0  # a reader of the output, as `head`, has seen enough
    except typer.TyperException as error:
        message, code = _usage_message(error), 2
    except ModisteError as error:
        message, code = str(error), error.exit_code
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        message, code = "this needs more memory than there is; ask for fewer images or a smaller network", 1
    except UnicodeEncodeError as error:  # of a path: what is printed takes every text
        name = error.object[error.object.rfind("\n", 0, error.start) + 1 :].partition("\n")[0]
        remedy = "rename the file or folder or, if this system's locale is at fault, set PYTHONUTF8=1"
        message, code = f"{name!r} cannot be written in {error.encoding}; {remedy}", 1
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        reason = error.strerror or error
        message, code = f"{place}{reason}; check the path, its permissions and the room on the disk", 1
    if message:
        print(f"modiste: {message}", file=sys.stderr)
    return code


def _serve() -> NoReturn:
    """Carry out the commands that standard input names, one after the other, in this process; studies evaluate so.

    Each line is JSON: the words of the command line, and the file that the output is added to. The answer, on standard
    output, is `exit CODE`. Trainings go first, as the priority of this process is the lowest.
    """
    if hasattr(os, "nice"):
        os.nice(19)
        if os.getsid(0) == os.getpid():  # Linux shares time among sessions first, and this one may be its own
            with suppress(OSError):
                Path("/proc/self/autogroup").write_text("19", encoding="ascii")
    answers = os.dup(1)
    while True:
        request = json.loads(subprocesses.asked())
        log = os.open(request["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        for descriptor in (1, 2):
            os.dup2(log, descriptor)
        os.close(log)
        sys.argv[1:] = request["words"]
        code = _run()
        os.write(answers, f"exit {code}\n".encode())


def _command_name(words: Sequence[str]) -> str:
    """The command among the words of a command line, for progress messages; `judge train` has two words."""
    names = list(itertools.takewhile(str.isalpha, words[:2]))
    return " ".join(names if names[:1] == ["judge"] else names[:1])


def _usage_message(error: typer.TyperException) -> str:
    """The parser's message with the value that it leaves out and the help to read; empty after the help itself."""
    message = error.format_message().replace("Value error, ", "").rstrip(".")
    if not message:
        return ""
    invalid: list[Any] = getattr(error.__cause__, "errors", list)()  # Pydantic's, which Typer checks values with
    value = f" (given: {invalid[0]['input']!r})" if invalid and repr(invalid[0]["input"]) not in message else ""
    context, command = getattr(error, "ctx", None), ""
    while context and context.parent:  # a command of a command, as judge train, has two words
        context, command = context.parent, f" {context.info_name}{command}"
    see = " See" if message.endswith("?") else "; see"
    return f"{message[0].lower()}{message[1:]}{value}{see} `modiste{command} --help`"


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"modiste {__version__}")
        raise typer.Exit
