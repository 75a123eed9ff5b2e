"""The command line: parsing and printing only. Every verb imports what it needs when it is called."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any, NoReturn

import typer
from typer import Option

from modiste import progress, subprocesses
from modiste.cli import augment, evaluate, export, inspect, report, search, study, train, verify
from modiste.errors import ModisteError, is_out_of_memory
from modiste.version import __version__

app = typer.Typer(
    name="modiste",
    help="Train, judge and compare GANs on small images. Start with: modiste train swift --budget 4min",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verbs in (train, evaluate, study, search, augment, report, inspect, export, verify):
    app.add_typer(verbs.app)


def main() -> NoReturn:
    """Run the command line; a failure is one sentence on standard error and exit code 1, or 2 for wrong use."""
    # Threads that wait should soon sleep: where anything else uses a core, ones that spin as long as libgomp lets them
    # bring a step to a standstill (docs/performance.md). Read when torch is imported, which no module above does.
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    subprocesses.hold()
    progress.accept_any_text()
    with progress.heartbeat(f"modiste {_verb(sys.argv[1:])}".rstrip()):
        _carry_out()


def _carry_out() -> NoReturn:
    try:
        status = app(standalone_mode=False)
    except typer.TyperException as error:
        if complaint := _wrong_use(error):
            print(f"modiste: {complaint}", file=sys.stderr)
        sys.exit(2)
    except ModisteError as error:
        print(f"modiste: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        print(
            "modiste: this needs more memory than there is; ask for fewer images or a smaller network", file=sys.stderr
        )
        sys.exit(1)
    except UnicodeEncodeError as error:  # not by printing, which takes everything
        name = error.object[error.object.rfind("\n", 0, error.start) + 1 :].partition("\n")[0]
        print(
            f"modiste: {name!r} cannot be written in {error.encoding}; rename the file or folder or, if this system's "
            "locale is at fault, set PYTHONUTF8=1",
            file=sys.stderr,
        )
        sys.exit(1)
    except BrokenPipeError:  # the reader, as `head`, has seen enough
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        print(
            f"modiste: {place}{error.strerror or error}; check the path, its permissions and the room on the disk",
            file=sys.stderr,
        )
        sys.exit(1)
    sys.exit(status or 0)


def _verb(words: Sequence[str]) -> str:
    """What the command line asks for, for the lines that say what is under way."""
    found = list(itertools.takewhile(str.isalpha, words[:2]))
    return " ".join(found if found[:1] == ["judge"] else found[:1])


def _wrong_use(error: typer.TyperException) -> str:
    """What the parser found wrong, with the value that it leaves out and where to read on; nothing after its help."""
    complaint = error.format_message().replace("Value error, ", "").rstrip(".")
    if not complaint:
        return ""
    given: list[Any] = getattr(error.__cause__, "errors", list)()  # Pydantic's, which Typer checks values with
    value = f" (given: {given[0]['input']!r})" if given and repr(given[0]["input"]) not in complaint else ""
    context, verb = getattr(error, "ctx", None), ""
    while context and context.parent:  # a verb of a verb, as judge train, has two words
        context, verb = context.parent, f" {context.info_name}{verb}"
    end = " See" if complaint.endswith("?") else "; see"
    return f"{complaint[0].lower()}{complaint[1:]}{value}{end} `modiste{verb} --help`"


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"modiste {__version__}")
        raise typer.Exit
