"""The folder of a study, a search or an augmentation experiment: its lock, its recipe files, and whose files are in it.

recipes/NAME.toml   copies of recipe files, so that the folder needs nothing beside it
parts/NAME-PIN.py   copies of losses and networks of the user's own (see `modiste.parts`)
runs/NAME/          the run folders
logs/NAME.log       the output of each run's commands
.lock               held by the process that works in the folder
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import filelock

from modiste import config, files, parts, schema
from modiste.errors import UsageError

DIFFERENCES_SHOWN = 3


@dataclass(frozen=True)
class ExperimentFolder:
    """A folder in which an experiment begins or continues."""

    path: Path
    kind: Literal["study", "search", "experiment"]

    @property
    def recipes(self) -> Path:
        return self.path / "recipes"

    @property
    def runs(self) -> Path:
        return self.path / "runs"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    def log(self, name: str) -> Path:
        """The file for the output of a run's commands."""
        return self.logs / f"{name}.log"

    def refuse_foreign_files(self, expected: Mapping[str, str], ignored: Sequence[str] = ()) -> None:
        """UsageError unless the folder could be new: it may hold what a start that was cut off leaves.

        These are the files of `expected` (path in the folder: text) with the same text, other copies of recipes, and
        entries whose names match a pattern in `ignored`.
        """
        tops = {Path(name).parts[0] for name in expected}
        files.refuse_foreign_folder(self.path, self.kind, ("recipes", parts.FOLDER, *tops, *ignored))
        files.refuse_foreign_folder(self.recipes, f"{self.kind}'s folder of recipes", ("*.toml",))
        files.refuse_changed({self.path / name: text for name, text in expected.items()}, self.kind)

    def refuse_other_settings(
        self,
        differences: Sequence[str],
        changeable: str,
        holder: str = "",
        remedy: str = "choose another folder with --out",
    ) -> None:
        """UsageError where settings differ from those of the experiment in the folder (or in its `holder`).

        `changeable` names what may be added to it.
        """
        if not differences:
            return
        more = len(differences) - DIFFERENCES_SHOWN
        listed = "; ".join(differences[:DIFFERENCES_SHOWN]) + (f" and {more} more" if more > 0 else "")
        raise UsageError(
            f"{holder or self.path} holds another {self.kind} ({listed}); only {changeable} can be added to it, so "
            f"{remedy}"
        )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for this process alone; InUse where another one holds it.

        Unlike the lock of a run folder, it removes no unfinished files: the runs' own processes do that.
        """
        with files.locked(self.path, self.kind):
            yield

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Hold the folder for one step of several processes that share it; waits for the others."""
        self.path.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(self.path / f".{name}"):
            yield

    def make(self) -> None:
        """Make the folders for runs and logs."""
        for folder in (self.runs, self.logs):
            folder.mkdir(parents=True, exist_ok=True)

    def write_recipes(self, copies: Sequence[RecipeCopy]) -> None:
        """Write the copies into `recipes`."""
        for copy in copies:
            self.recipes.mkdir(exist_ok=True)
            files.write_text(self.recipes / copy.name, copy.text)


@dataclass(frozen=True)
class RecipeCopy:
    """A recipe file's copy in the folder of an experiment."""

    source: str
    name: str
    text: str

    @property
    def portable(self) -> str:
        """Its path from the experiment's folder."""
        return f"recipes/{self.name}"


def recipe_copies(recipes: Sequence[str]) -> list[RecipeCopy]:
    """The copies of those recipes that are files; files of one name with unlike texts get numbers.

    Code of the user's own that they name is pinned (see `modiste.parts`).
    """
    copies: list[RecipeCopy] = []
    for source in (recipe for recipe in recipes if recipe.endswith(".toml")):
        text, stem, number = _pinned(source), Path(source).stem, 1
        taken = {copy.name for copy in copies if copy.text != text}
        name = f"{stem}.toml"
        while name in taken:
            number += 1
            name = f"{stem}-{number}.toml"
        copies.append(RecipeCopy(source, name, text))
    return copies


def _pinned(source: str) -> str:
    """The text of a recipe file, as it is but for references to the user's own code, which are pinned."""
    text, place = schema.read_toml(source)
    for section, key in (name.split(".") for name in config.PART_KEYS):
        value = schema.parse_toml(text, place).get(section, {}).get(key)
        if parts.parse(value):
            pinned = parts.pin(parts.beside(value, Path(place).parent))
            for quote in "\"'":
                text = text.replace(f"{quote}{value}{quote}", f"{quote}{pinned}{quote}")
    return text
