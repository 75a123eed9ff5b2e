"""Study files: which recipes are compared, with which changes, over which training seeds, and for how long."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BeforeValidator, Field

from modiste import config, parts, schema
from modiste.config import Count, Name
from modiste.errors import UsageError
from modiste.schema import Section
from modiste.wording import quoted

Seed = Annotated[int, Field(ge=0, lt=2**31)]
MOST_SEEDS = 1000
SHORT_SECONDS, SHORT_IMAGES, SHORT_COUNT = 60.0, 20_000, 2_000
"""Runs that are shorter than either are judged by so many generated images where nobody says by how many: judging
10,000 takes a core a minute or more."""


def _dotted(tree: Any) -> Any:
    """`network.z_dim = 8` is a table in a table for TOML and one key here."""
    if not isinstance(tree, Mapping):
        return tree
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        inner = _dotted(value)
        flat |= {f"{key}.{leaf}": deep for leaf, deep in inner.items()} if isinstance(inner, dict) else {key: inner}
    return flat


Changes = Annotated[dict[str, Any], BeforeValidator(_dotted)]
Grid = Annotated[dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]], BeforeValidator(_dotted)]


class Configuration(Section):
    """A recipe with changes, under a name of its own."""

    name: Name
    """The name in tables, and the beginning of the run folders' names."""
    recipe: str
    """A shipped recipe's name, or a TOML file beside the study file."""
    about: str = ""
    """One sentence on what is different here."""
    set: Changes = Field(default_factory=dict)
    """Changes by dotted key, as in set = {"train.lr_generator" = 1e-4}."""


class Judging(Section):
    """How every run is evaluated when it is finished."""

    count: Annotated[int, Field(ge=2, le=1_000_000)] = 10_000
    """Generated images."""
    reference: Literal["test", "heldout", "train"] = "test"
    """The real images to compare with."""


class Study(Section):
    """Which configurations are compared over which seeds; recipes and configurations in the order of the table."""

    name: Name = "unnamed"
    """Short name; also the default study folder."""
    about: str = ""
    """The question, in a sentence."""
    source: str = ""
    """The publication or idea it follows."""
    recipes: tuple[str, ...] = ()
    """Recipes that take part as they are."""
    configuration: tuple[Configuration, ...] = ()
    """Recipes with changes."""
    grid: Grid = Field(default_factory=dict)
    """Values by dotted key; every configuration is repeated with every combination of them."""
    set: Changes = Field(default_factory=dict)
    """Changes of all configurations alike."""
    seeds: Annotated[int, Field(ge=1, le=MOST_SEEDS)] | Annotated[tuple[Seed, ...], Field(min_length=1)] = 3
    """How many seeds (0, 1, ...), or a list of them."""
    budget: str | None = None
    """The length of every run: 5min, 3 epochs or 60000 images; none = as the recipes say."""
    threads: Count | None = None
    """Processor threads of every run; none = all that there are, shared by the runs at a time."""
    evaluate: Judging = Judging()

    @property
    def seed_list(self) -> tuple[int, ...]:
        """The seeds one by one, each once."""
        return tuple(range(self.seeds)) if isinstance(self.seeds, int) else tuple(dict.fromkeys(self.seeds))


def shipped() -> list[str]:
    """Names of the studies in the package, sorted."""
    return schema.shipped("study")


def load(name_or_path: str | Path) -> Study:
    """The study of that shipped name, of that TOML file, or of that study folder."""
    if str(name_or_path) not in shipped() and (Path(name_or_path) / "study.toml").is_file():
        name_or_path = Path(name_or_path) / "study.toml"
    text, place = schema.read_toml(name_or_path, "study")
    study = build({"name": Path(place).stem, **schema.parse_toml(text, place)}, place)
    if place != str(Path(name_or_path)):  # the package's own, whose recipes are the package's
        return study
    folder = Path(place).parent
    study = with_own_parts(study, lambda text: parts.beside(text, folder))
    return with_recipes(study, {recipe: _beside(recipe, folder) for recipe in recipe_names(study)})


def with_own_parts(study: Study, change: Callable[[str], str]) -> Study:
    """The study with every reference in its changes to code of the user's own changed (see `modiste.parts`)."""

    def of(changes: Mapping[str, Any]) -> dict[str, Any]:
        return config.changed_parts(changes, change)

    configuration = tuple(one.model_copy(update={"set": of(one.set)}) for one in study.configuration)
    new = study.model_copy(update={"set": of(study.set), "grid": of(study.grid), "configuration": configuration})
    return study if new == study else new


def require_trusted(study: Study, folder: Path) -> None:
    """UsageError where the study in that folder names code, itself or in its recipes, that has not run here before."""
    found: list[str] = []

    def collect(text: str) -> str:
        found.append(text)
        return text

    with_own_parts(study, collect)
    for recipe in recipe_names(study):
        found += config.own_parts(config.load(recipe)) if recipe.endswith(".toml") else []
    parts.require_trusted(found, folder)


def recipe_names(study: Study) -> list[str]:
    """Every recipe (name or file) that takes part, once."""
    return list(dict.fromkeys([*study.recipes, *(one.recipe for one in study.configuration)]))


def _beside(recipe: str, folder: Path) -> str:
    return str(folder / recipe) if recipe.endswith(".toml") and not Path(recipe).is_absolute() else recipe


def with_recipes(study: Study, places: Mapping[str, str]) -> Study:
    """The study with its recipes under other paths; one listed by its path keeps the file's name as its own."""
    named = [
        Configuration(name=Path(recipe).stem, recipe=places.get(recipe, recipe)) if recipe.endswith(".toml") else None
        for recipe in study.recipes
    ]
    plain = tuple(recipe for recipe, moved in zip(study.recipes, named, strict=True) if moved is None)
    others = (one.model_copy(update={"recipe": places.get(one.recipe, one.recipe)}) for one in study.configuration)
    return study.model_copy(update={"recipes": plain, "configuration": (*filter(None, named), *others)})


def build(tree: Mapping[str, Any], place: str) -> Study:
    """A study from nested plain values; `place` is named in error sentences."""
    return schema.validate(Study, tree, place, missing="each [[configuration]] has a name and a recipe")


def revise(study: Study, place: str = "modiste study", **changes: Any) -> Study:
    """The study with some keys replaced (those that are not None) and checked anew; `set` is added to what is set."""
    tree = study.model_dump(exclude_unset=True)
    given = {key: value for key, value in changes.items() if value is not None}
    for key in given.get("set", {}):
        if own := [one.name for one in study.configuration if key in one.set] or ["the grid"] * (key in study.grid):
            raise UsageError(
                f"--set {key} would change nothing where the study {study.name} sets it itself ({', '.join(own)}); "
                "change it in a study file of your own"
            )
    given["set"] = {**study.set, **given.get("set", {})}
    return build({**tree, **given}, place)


def parse_seeds(text: str) -> int | tuple[int, ...]:
    """A count of seeds (`3`), or the seeds themselves (`0,2,5` or `4,`)."""
    numbers = [part.strip() for part in text.split(",") if part.strip()]
    if not numbers or not all(number.isdecimal() for number in numbers):
        raise UsageError(f"--seeds {text!r} is neither a count such as 3 nor a list such as 0,2,5")
    if "," not in text:
        return checked_count(int(numbers[0]), ", or the seeds themselves with commas, as 0,2,5")
    if too_large := [number for number in numbers if int(number) >= 2**31]:
        raise UsageError(f"--seeds {text}: {too_large[0]} is no seed; give seeds from 0 to {2**31 - 1}")
    return tuple(map(int, numbers))


def checked_count(seeds: int, otherwise: str = "") -> int:
    """That count of seeds; UsageError, with what may be given `otherwise`, where it is none or too large."""
    if not 1 <= seeds <= MOST_SEEDS:
        raise UsageError(f"--seeds {seeds} is no possible count of seeds; give one from 1 to {MOST_SEEDS:,}{otherwise}")
    return seeds


def budget_changes(text: str, what: str = "the budget") -> dict[str, Any]:
    """The recipe's keys that a length sets: 5min, 3 epochs or 60000 images; `what` it is, for the error sentence."""
    problem = f"{what} {quoted(text)} is no length; write it as 5min, 3 epochs or 60000 images"
    match = re.fullmatch(r"([0-9][0-9_,]*(?:\.[0-9]+)?)\s*(epochs?|images)", text.strip().lower())
    if match is None:
        try:
            return {"train.budget_seconds": config.parse_seconds(text)}
        except UsageError:
            raise UsageError(problem) from None
    number = float(match[1].replace(",", "").replace("_", ""))
    if number <= 0 or (match[2] == "images" and number != int(number)):
        raise UsageError(problem)
    whole = int(number) if number == int(number) else number
    return {"train.epochs" if match[2].startswith("epoch") else "train.images": whole}


def default_count(study: Study) -> int:
    """How many generated images of each run are judged: as the study says, else by its budget."""
    if "count" in study.evaluate.model_fields_set or study.budget is None:
        return study.evaluate.count
    length = budget_changes(study.budget)
    short = length.get("train.budget_seconds", SHORT_SECONDS) < SHORT_SECONDS
    return SHORT_COUNT if short or length.get("train.images", SHORT_IMAGES) < SHORT_IMAGES else study.evaluate.count


def conflicting_key(budget: str, keys: Iterable[str]) -> str | None:
    """The first of these keys that says in its own way the length that the budget sets; None where none does."""
    (sets,) = budget_changes(budget)
    same = {sets} if sets == "train.budget_seconds" else {"train.images", "train.epochs"}
    return next((key for key in keys if key in same), None)


def configurations(study: Study) -> list[Configuration]:
    """All configurations with every change in its `set`: their own, the grid's, the study's; names are unique."""
    bases = [Configuration(name=recipe, recipe=recipe) for recipe in study.recipes] + list(study.configuration)
    if not bases:
        raise UsageError(f"the study {study.name} compares nothing; give it recipes or [[configuration]] tables")
    found = []
    for base in bases:
        for values in itertools.product(*study.grid.values()):
            chosen = dict(zip(study.grid, values, strict=True))
            words = [f"{key.rpartition('.')[2]}-{_word(value)}" for key, value in chosen.items()]
            name = "-".join([base.name, *words] if len(bases) > 1 or not words else words)
            changes = {**study.set, **base.set, **chosen}
            found.append(base.model_copy(update={"name": name, "set": changes}))
    for name in (one.name for one in found):
        if sum(other.name == name for other in found) > 1:
            raise UsageError(f"two configurations of the study {study.name} are named {name!r}; give each its own name")
    for one in found:
        if own := {"seed", "train.threads"} & one.set.keys():
            key = own.pop()
            remedy = "seeds = 3" if key == "seed" else "threads = 1"
            raise UsageError(f"{one.name}: {key} is the same for the whole study; write {remedy} at its top instead")
    return found


def _word(value: Any) -> str:
    if own := parts.parse(value):
        return own.name
    text = "x".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-") or "none"


def literal(value: Any) -> str:
    """A value as `--set key=VALUE` takes it."""
    if value is None:
        return "none"
    if isinstance(value, str) and re.fullmatch(r"(?!(true|false|none|null|inf|nan)$)[a-z/][A-Za-z0-9_/.-]*", value):
        return value
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)


def set_options(changes: Mapping[str, Any]) -> list[str]:
    """The options `--set key=value` of a command line that make these changes."""
    return [word for key, value in changes.items() for word in ("--set", f"{key}={literal(value)}")]


def study_argv(study: Study, folder: Path) -> tuple[str, ...]:
    """The arguments of `modiste` that repeat the study in that folder: a shipped study by its name and changes, any
    other by its file. Threads are left to the environment (see `subprocesses.printable`)."""
    by_file = ("study", str(folder / "study.toml"), "--out", str(folder))
    if study.name not in shipped():
        return by_file
    usual = load(study.name)
    changes = {key: value for key, value in study.set.items() if (key, value) not in usual.set.items()}
    evaluate = study.evaluate.model_dump()
    try:
        again = revise(usual, seeds=study.seeds, budget=study.budget, set=changes, evaluate=evaluate)
    except UsageError:  # somebody's own study under that name
        return by_file
    prose = {"about", "source", "threads"}
    same_reference = study.evaluate.reference == usual.evaluate.reference
    if not same_reference or again.model_dump(exclude=prose) != study.model_dump(exclude=prose):
        return by_file
    seeds = str(study.seeds) if isinstance(study.seeds, int) else ",".join(map(str, study.seeds))
    options = ["--seeds", seeds] if study.seeds != usual.seeds else []
    options += ["--budget", study.budget] if study.budget and study.budget != usual.budget else []
    options += set_options(changes)
    options += ["--count", str(study.evaluate.count)] if study.evaluate.count != usual.evaluate.count else []
    return ("study", study.name, *options, "--out", str(folder))


def to_toml(study: Study) -> str:
    """Every setting of the study as TOML text."""
    return tomli_w.dumps(study.model_dump(mode="json", exclude_none=True))
