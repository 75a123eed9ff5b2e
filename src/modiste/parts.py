"""Code of the user's own in a recipe: a loss or a pair of networks, which code runs, and when.

    loss.adversarial = "my_losses.py:hinged"     NAME in a file beside the recipe
    network.family   = "package.module:Pair"     NAME in a module that Python can import

Where a training is asked for, by a recipe file, --set or a call in Python, `pin` adds 16 digits of the SHA-256 of the
source to such a reference (my_losses.py:hinged@3f2a91c0d4e5b607) and keeps the source in the user's cache. All
that Modiste writes (run folders, studies, searches) has pinned references, and a copy of the source in its `parts`.

Nothing but the sources in the cache is ever run, and only `pin` and `trust` put one there: so a folder that somebody
sent runs no code before its user asks for it with --trust, while one's own runs load as they are. The cache belongs to
one user: whoever can write to it can run code.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import linecache
import re
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from modiste import files
from modiste.errors import ModisteError, UsageError, first_line, is_out_of_memory

PATTERN = r"^(?:[^:@]+\.py|[^:@]:[^:@]+\.py|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):[A-Za-z_]\w*(?:@[0-9a-f]{16})?$"
FOLDER = "parts"
"""The folder of the copies, in run folders and experiments."""


@dataclass(frozen=True)
class Reference:
    """A reference taken apart."""

    place: str
    """A file that ends in .py, or a module with dots."""
    name: str
    pin: str = ""
    """16 hexadecimal digits of the source's SHA-256; empty where it is not pinned."""

    def __str__(self) -> str:
        return f"{self.place}:{self.name}" + (f"@{self.pin}" if self.pin else "")

    @property
    def is_file(self) -> bool:
        return self.place.endswith(".py")

    @property
    def copy_name(self) -> str:
        """The file name of a pinned source's copy."""
        return f"{self.place.removesuffix('.py')}-{self.pin}.py"


def parse(text: object) -> Reference | None:
    """The parts of a reference; None for anything else, such as the name of a loss that ships."""
    if not isinstance(text, str) or not re.fullmatch(PATTERN, text):
        return None
    whole, _, pin = text.partition("@")
    place, _, name = whole.rpartition(":")
    return Reference(place, name, pin)


def short(text: str) -> str:
    """A reference without the digits of its source, for messages."""
    return text.partition("@")[0]


def beside(text: str, folder: Path) -> str:
    """The reference with its file, if it is not pinned, taken to lie in that folder."""
    reference = parse(text)
    if reference is None or reference.pin or not reference.is_file or Path(reference.place).is_absolute():
        return text
    return str(Reference(str(folder / reference.place), reference.name))


def pin(text: str) -> str:
    """The reference pinned to the source as it is now, which is kept in the cache: the user has asked to run it.

    Pinned references stay as they are. UsageError where there is no such file or module.
    """
    reference = parse(text)
    if reference is None or reference.pin:
        return text
    source = _read_file(text, Path(reference.place)) if reference.is_file else _read_module(text, reference.place)
    place = Path(reference.place).name if reference.is_file else reference.place
    return str(Reference(place, reference.name, keep(source)))


def _read_file(text: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{text} cannot be read ({error.strerror}); put {path.name} beside the recipe") from None


def _read_module(text: str, name: str) -> bytes:
    try:
        found = importlib.util.find_spec(name)  # which imports the packages around it
    except ModuleNotFoundError:
        found = None
    except Exception as error:  # of the user's own packages
        reason = worded(error) or f"{type(error).__name__}: {error}"
        raise UsageError(f"{text}: the package around it cannot be imported ({reason}); mend it") from None
    if found is None or found.origin is None or not found.origin.endswith(".py"):
        raise UsageError(
            f"{text}: Python finds no module {name} with a source; install it, or name a file beside the recipe as "
            f"{name.rpartition('.')[2]}.py:{text.rpartition(':')[2]}"
        )
    return Path(found.origin).read_bytes()


# --- the sources that may run


def _stored(digest: str) -> Path:
    from modiste.cache import cache_root

    return cache_root() / "parts" / f"{digest}.py"


def digest_of(source: bytes) -> str:
    """The digits that pin this source."""
    return hashlib.sha256(source).hexdigest()[:16]


def keep(source: bytes) -> str:
    """Keep a source in the cache, from where it may run; returns its digits."""
    place = _stored(digest := digest_of(source))
    if not place.is_file() or place.read_bytes() != source:
        with files.errors_name_place(place):
            place.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(place, source)
    return digest


def is_trusted(reference: Reference) -> bool:
    """Whether the source is in the user's cache."""
    place = _stored(reference.pin)
    return bool(reference.pin) and place.is_file() and digest_of(place.read_bytes()) == reference.pin


def require_pinned(texts: Iterable[str], folder: Path) -> None:
    """UsageError for the first of these references, read from a folder that Modiste writes, that is not pinned."""
    for text in texts:
        if (reference := parse(text)) and not reference.pin:
            raise UsageError(
                f"{folder} names the code {text} in a way that Modiste does not write into such a folder, so it is not "
                "run; train from a recipe file instead"
            )


def require_trusted(texts: Iterable[str], folder: Path) -> None:
    """UsageError for the first of these references, read from that folder, whose source may not run."""
    texts = list(texts)
    require_pinned(texts, folder)
    for text in texts:
        reference = parse(text)
        if reference is not None and not is_trusted(reference):
            copy = folder / FOLDER / reference.copy_name
            if not copy.is_file():
                raise UsageError(
                    f"{folder} needs the code {text}, and lacks the copy {FOLDER}/{reference.copy_name}; ask for it "
                    "where the folder comes from"
                )
            raise UsageError(
                f"{folder} holds code that this machine has not run before ({FOLDER}/{reference.copy_name}); read it, "
                f"and if you trust it, add --trust once (in Python: modiste.trust({str(folder)!r}))"
            )


def trust(folder: str | Path) -> list[Path]:
    """Let the code run that a run, a study or a search brings in its `parts`; returns these files.

    Like `--trust` on the command line, once for each source. Read them first: code can do whatever you can.
    """
    folder = Path(folder)
    folder = folder.parent if folder.is_file() else folder
    found = sorted(
        [*folder.glob(f"{FOLDER}/*.py"), *folder.glob(f"*/{FOLDER}/*.py"), *folder.glob(f"*/*/{FOLDER}/*.py")]
    )
    for path in found:
        keep(path.read_bytes())
    return found


def copies(texts: Iterable[str]) -> dict[str, bytes]:
    """The sources of pinned references by the paths of their copies in a folder."""
    pinned = [reference for text in texts if (reference := parse(text)) and is_trusted(reference)]
    return {f"{FOLDER}/{one.copy_name}": _stored(one.pin).read_bytes() for one in pinned}


def write_copies(folder: Path, texts: Iterable[str]) -> None:
    """Write the sources of pinned references into the folder's `parts`."""
    for name, source in copies(texts).items():
        (folder / FOLDER).mkdir(parents=True, exist_ok=True)
        files.write_bytes(folder / name, source)


# --- running them


def load(text: str) -> Any:
    """What a pinned reference names; UsageError where its source may not run or has no such name."""
    reference = parse(text)
    if reference is None or not is_trusted(reference):
        raise UsageError(
            f"{text} is code that this machine has not run before; read it in the folder's `{FOLDER}`, and if you "
            "trust it, add --trust once"
        )
    module = _module(reference.place, reference.pin)
    if not hasattr(module, reference.name):
        raise UsageError(f"{reference.place} has no {reference.name}; define it there, or correct the name in {text}")
    return getattr(module, reference.name)


_sources: set[str] = set()
"""The file names of the user's code in tracebacks."""


@functools.cache
def _module(place: str, digest: str) -> ModuleType:
    """The module of a source in the cache; imports with a dot in front are those of its package."""
    source = _stored(digest).read_bytes()
    module = ModuleType(f"modiste_part_{digest}")
    module.__file__, module.__package__ = place, "" if place.endswith(".py") else place.rpartition(".")[0]
    _sources.add(place)
    lines = source.decode(errors="replace").splitlines(keepends=True)
    linecache.cache[place] = (len(source), None, lines, place)  # for tracebacks, wherever the file is now
    sys.modules[module.__name__] = module  # dataclasses look there
    with errors_named():
        exec(compile(source, place, "exec"), module.__dict__)
    return module


class PartError(ModisteError):
    """The user's own code fails; the message has its file, line and error."""


def worded(error: BaseException) -> str:
    """The error with the last line of the user's own code that it went through; empty where it went through none."""
    if isinstance(error, SyntaxError) and error.filename in _sources:
        return f"{error.filename}, line {error.lineno}: {type(error).__name__}: {error.msg}; mend it and start again"
    steps = traceback.extract_tb(error.__traceback__)
    own = [step for step in steps if step.filename in _sources]
    if not own:
        return ""
    return (
        f"{own[-1].filename}, line {own[-1].lineno}, in {own[-1].name} ({own[-1].line}): "
        f"{type(error).__name__}: {first_line(error)}; mend it and start again"
    )


@contextmanager
def errors_named(call: str = "") -> Iterator[None]:
    """Turns an error of the user's own code into a PartError that names its line; want of memory passes.

    With `call`, what is called, so does an error before its first line, as of a function that takes other arguments.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, ModisteError) or is_out_of_memory(error):
            raise
        sentence = worded(error) or (f"{call} fails: {type(error).__name__}: {first_line(error)}" if call else "")
        if not sentence:
            raise
        raise PartError(sentence) from None
