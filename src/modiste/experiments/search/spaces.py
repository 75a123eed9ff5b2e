"""Space files: which settings of a recipe a search may change, by which score, and for how long.

Trials and finalists train on the `fit` part of the data and are evaluated on the held-out part. The test images are
not used, so that a score of the best recipe on them stays a score on unseen images.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BeforeValidator, Field, model_validator

from modiste import config, parts, schema
from modiste.config import Count, Name, Recipe
from modiste.errors import UsageError
from modiste.experiments import study_config
from modiste.experiments.study_config import Changes, Configuration, Seed
from modiste.metrics.metric_names import MEANINGS
from modiste.metrics.transforms import Scale
from modiste.schema import Section
from modiste.training import resume

DISCRIMINATOR = "discriminator_accuracy"
WARNING = (
    "discriminator accuracy is a bad objective: half of all answers right may mean a good generator or merely a weak "
    "discriminator, and the quality of the images is not in it; prefer objective = \"frechet\""
)  # fmt: skip
FIXED = ("seed", "name", "about", "source", "train.threads", "data", "evaluate")
"""Keys and sections that no trial may change: data and evaluation are the same for all."""
PROSE = {"name", "about", "source", "seed"}
"""Keys of the recipe that do not make another search."""


class Axis(Section):
    """The values of one setting: choices, or a range with both ends in it."""

    choices: Annotated[tuple[Any, ...], Field(min_length=1)] | None = None
    """The values themselves; lists are possible."""
    low: int | float | None = None
    """The least value; whole numbers make a range of whole numbers."""
    high: int | float | None = None
    """The greatest value."""
    log: bool = False
    """Whether ratios of values matter and not differences, as with learning rates."""
    step: int | float | None = None
    """Only low, low + step, ...; none = every value."""

    @model_validator(mode="after")
    def _one_kind(self) -> Axis:
        if self.choices is not None:
            if {"low", "high", "log", "step"} & self.model_fields_set:
                raise ValueError("has choices and a range; leave one of them out")
            return self
        if self.low is None or self.high is None:
            raise ValueError("needs choices = [...], or low and high")
        if self.low >= self.high:
            raise ValueError(f"low {self.low} must be less than high {self.high}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("log goes with a positive low and without step")
        if self.step is not None and not 0 < self.step <= self.high - self.low:
            raise ValueError(f"step {self.step} must be positive and at most high - low")
        return self

    @property
    def is_integer(self) -> bool:
        """Whether the values of the range are integers."""
        return all(isinstance(value, int) for value in (self.low, self.high, self.step) if value is not None)

    @property
    def extremes(self) -> tuple[Any, ...]:
        """The choices, or both ends: if these are possible, so is what lies between."""
        return self.choices if self.choices is not None else (self.low, self.high)

    @property
    def count(self) -> float:
        """How many values there are; infinity for a range of real numbers."""
        if self.choices is not None:
            return len(self.choices)
        step = self.step or (1 if self.is_integer else 0)
        return math.floor(((self.high or 0) - (self.low or 0)) / step + 1e-9) + 1 if step else math.inf

    @property
    def words(self) -> str:
        """The axis in words, for a table."""
        if self.choices is not None:
            return ", ".join(study_config.literal(value) for value in self.choices)
        step = f" in steps of {self.step}" if self.step else ""
        return f"{self.low} to {self.high}{step}{' (log)' if self.log else ''}"


def _axes(tree: Any) -> Any:
    """`network.z_dim.low = 8` is tables in tables for TOML; a table that holds other things than tables is an axis."""
    if not isinstance(tree, Mapping):
        return tree
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value and all(isinstance(inner, Mapping) for inner in value.values()):
            flat |= {f"{key}.{leaf}": axis for leaf, axis in _axes(value).items()}
        else:
            flat[key] = value
    return flat


class Finalists(Section):
    """The best trials, trained again over seeds before one of them is called the best."""

    count: Annotated[int, Field(ge=0, le=100)] = 3
    """How many; 0 = none, the search ends with its trials."""
    seeds: Annotated[int, Field(ge=1, le=1000)] = 3
    """Training seeds of each, none of them that of the trials."""
    budget: str | None = None
    """The length of their runs: 5min, 3 epochs or 60000 images; none = as the trials."""


class HeldOut(Section):
    """How trials and finalists are evaluated, always against the held-out images."""

    count: Annotated[int, Field(ge=2, le=1_000_000)] = 2_000
    """Generated images."""


class Space(Section):
    """The settings of a search."""

    name: Name = "unnamed"
    """Short name; also the default folder of the search."""
    about: str = ""
    """One sentence on what is searched for."""
    source: str = ""
    """The publication or idea it follows."""
    recipe: str
    """Where the search starts: a shipped recipe's name, or a TOML file beside the space file."""
    space: Annotated[dict[str, Axis], BeforeValidator(_axes), Field(min_length=1)]
    """Axes by dotted key; network.generator_widths.0 is the first number of that list."""
    set: Changes = Field(default_factory=dict)
    """Changes of the recipe for all trials, the finalists and the best."""
    trial_set: Changes = Field(default_factory=dict)
    """Changes for the trials only, as a smaller data set."""
    trials: Count = 20
    """How many trials in all."""
    budget: str | None = None
    """The length of every trial: 5min, 3 epochs or 60000 images; none = as the recipe says."""
    sampler: Literal["random", "tpe"] = "tpe"
    """How trials are chosen: at random, or by a tree-structured Parzen estimator of the trials so far."""
    pruner: Literal["none", "median"] = "none"
    """median: end a trial that is worse than the median of those before it at the same point."""
    objective: str = "frechet"
    """A kind of score of `modiste evaluate` on held-out images, or discriminator_accuracy (its distance from 0.5)."""
    direction: Literal["lower", "higher", "near"] | None = None
    """Which way is better; redundant, as the score decides it."""
    seed: Seed = 0
    """Fixes which trials are made, and is the training seed of all of them."""
    finalists: Finalists = Finalists()
    evaluate: HeldOut = HeldOut()

    @property
    def better(self) -> str:
        """Which way is better: lower, higher, or near (to the score of real images)."""
        return "lower" if self.objective == DISCRIMINATOR else MEANINGS[self.objective].better

    @property
    def scale(self) -> Scale:
        """On which the objective is averaged and compared over seeds; a distance from 0.5 may be 0 and stays plain."""
        return "plain" if self.objective == DISCRIMINATOR else MEANINGS[self.objective].scale

    @property
    def settings_count(self) -> float:
        """How many different trials there can be."""
        return math.prod(axis.count for axis in self.space.values())

    @property
    def warnings(self) -> list[str]:
        """Warnings about this search, in sentences."""
        found = [WARNING] if self.objective == DISCRIMINATOR else []
        if self.trials > self.settings_count:
            found.append(f"the space has only {self.settings_count:,.0f} points, so some trials will repeat others")
        return found


def shipped() -> list[str]:
    """Names of the spaces in the package, sorted."""
    return schema.shipped("search space")


def load(name_or_path: str | Path) -> Space:
    """The space of that shipped name, of that TOML file, or of that search's folder."""
    of_search = str(name_or_path) not in shipped() and (Path(name_or_path) / "space.toml").is_file()
    name_or_path = Path(name_or_path) / "space.toml" if of_search else name_or_path
    text, place = schema.read_toml(name_or_path, "search space")
    tree = {"name": Path(place).stem, **schema.parse_toml(text, place)}
    return build(tree, place, Path(place).parent, from_elsewhere=of_search)


def build(tree: Mapping[str, Any], place: str, beside: Path | None = None, from_elsewhere: bool = False) -> Space:
    """A checked space from nested plain values; `place` is named in error sentences, recipe files lie in `beside`.

    Code of the user's own is pinned, and so may run (see `modiste.parts`); a space `from_elsewhere`, the folder of a
    search that somebody may have sent, is refused unless it has run here before.
    """
    space = schema.validate(Space, tree, place, missing="a search needs a recipe and a [space]")
    if beside and space.recipe.endswith(".toml") and not Path(space.recipe).is_absolute():
        space = space.model_copy(update={"recipe": str(beside / space.recipe)})
    if beside and from_elsewhere:
        parts.require_trusted(own_parts(space), beside)
    space = _with_own_parts(space, lambda text: parts.pin(parts.beside(text, beside) if beside else text))
    _check(space, place)
    return space


def own_parts(space: Space) -> list[str]:
    """The references to code of the user's own in the space and its recipe."""
    found = config.own_parts(config.load(space.recipe))

    def collect(text: str) -> str:
        found.append(text)
        return text

    _with_own_parts(space, collect)
    return found


def _with_own_parts(space: Space, change: Callable[[str], str]) -> Space:
    def of(changes: Mapping[str, Any]) -> dict[str, Any]:
        return config.changed_parts(changes, change)

    choices = of({key: axis.choices for key, axis in space.space.items() if axis.choices is not None})
    axes = {key: axis.model_copy(update={"choices": choices[key]}) if key in choices else axis
            for key, axis in space.space.items()}  # fmt: skip
    new = space.model_copy(update={"set": of(space.set), "trial_set": of(space.trial_set), "space": axes})
    return space if new == space else new


def revise(space: Space, place: str = "modiste search", **changes: Any) -> Space:
    """The space with the keys replaced that are not None, and checked anew; `set` is added to what is set."""
    tree = space.model_dump(exclude_unset=True)
    given = {key: value for key, value in changes.items() if value is not None}
    changes_given = given.get("set", {})
    given["set"] = {**space.set, **changes_given}
    given["trial_set"] = {key: value for key, value in space.trial_set.items() if key not in changes_given}
    finalists = {key: value for key, value in given.pop("finalists", {}).items() if value is not None}
    given["finalists"] = {**tree.get("finalists", {}), **finalists}
    return build({**tree, **given}, place)


def _check(space: Space, place: str) -> None:
    """UsageError where the space does not fit its recipe or the scores."""
    known = [*MEANINGS, DISCRIMINATOR]
    if space.objective not in known:
        raise UsageError(
            f"{place}: no score is named {space.objective!r}{schema.nearest(space.objective, known)}; "
            f"there are {', '.join(known)}"
        )
    if space.direction not in (None, space.better):
        raise UsageError(
            f"{place}: direction = {space.direction!r}, but {space.objective} is better {space.better}; leave it out"
        )
    if space.seed + space.finalists.seeds >= 2**31:
        raise UsageError(f"{place}: seed = {space.seed} leaves no seeds for the finalists after it; use a smaller one")
    for what, text in (("budget", space.budget), ("finalists.budget", space.finalists.budget)):
        if text and (undone := study_config.conflicting_key(text, [*space.space, *space.set, *space.trial_set])):
            raise UsageError(f"{place}: {what} = {text!r} would undo {undone}; leave one of the two out")
    for key in [*space.space, *space.set, *space.trial_set]:
        if key in ("seed", "train.threads") or (key in space.space and {key, key.partition(".")[0]} & set(FIXED)):
            raise UsageError(
                f"{place}: {key} must be the same for all trials; "
                f"{'write seed = 1 at the top instead' if key == 'seed' else 'leave it out'}"
            )
    if "data.split" in {*space.set, *space.trial_set}:
        raise UsageError(f"{place}: data.split is fit in every search, as held-out images judge it; leave it out")
    base = base_recipe(space, place)
    for key, axis in space.space.items():
        for value in axis.extremes:
            config.override(base, point_changes(base, {key: value}, place), f"{place}: space")
    if space.pruner == "median":
        if space.objective not in ("frechet", DISCRIMINATOR):
            raise UsageError(
                f"{place}: a training does not log {space.objective}, so nothing can be pruned by it; write "
                'pruner = "none" or objective = "frechet"'
            )
        if not base.evaluate.every_images:
            raise UsageError(f"{place}: pruning needs scores while training; set evaluate.every_images above 0")


def base_recipe(space: Space, place: str = "modiste search", trial: bool = True) -> Recipe:
    """The recipe from which the trials (or else the finalists) differ only by the point in the space."""
    changes = {**space.set, "data.split": "fit", **(space.trial_set if trial else {})}
    return config.with_own_parts(config.override(config.load(space.recipe), changes, f"{place}: set"), parts.pin)


def point_changes(base: Recipe, point: Mapping[str, Any], place: str = "modiste search") -> dict[str, Any]:
    """The changes of the recipe at a point of the space; a number in a list becomes a changed list."""
    changes: dict[str, Any] = {}
    for key, value in point.items():
        name, _, last = key.rpartition(".")
        if not last.isdecimal():
            changes[key] = value
            continue
        section, _, leaf = name.rpartition(".")
        if name not in config.KEYS:
            raise UsageError(f"{place}: no key is named {name!r}{schema.nearest(name, config.KEYS)}")
        before = changes.get(name) or getattr(getattr(base, section) if section else base, leaf)
        if not isinstance(before, (list, tuple)) or int(last) >= len(before):
            there = f"has {len(before)} numbers" if isinstance(before, (list, tuple)) else "is no list"
            raise UsageError(f"{place}: {key} is nowhere, as {name} of {base.name} {there}")
        changes[name] = [value if k == int(last) else old for k, old in enumerate(before)]
    return changes


def configuration(space: Space, name: str, point: Mapping[str, Any], trial: bool = True) -> Configuration:
    """A point of the space as a configuration with all its changes."""
    changes = {**space.set, "data.split": "fit", **(space.trial_set if trial else {})}
    changes |= point_changes(base_recipe(space, trial=trial), point)
    return Configuration(name=name, recipe=space.recipe, set=changes)


def identity(space: Space) -> dict[str, Any]:
    """What must not change while a search goes on: the recipe, the axes and how trials are chosen and judged."""
    axes = {key: axis.model_dump(mode="json") for key, axis in space.space.items()}
    kept = ("budget", "sampler", "pruner", "objective", "seed")
    recipe = base_recipe(space).model_dump(mode="json", exclude=PROSE)
    tree = {"space": axes, "recipe": recipe, "evaluate": space.evaluate.model_dump()}
    return json.loads(json.dumps({**{key: getattr(space, key) for key in kept}, **tree}))  # type: ignore[no-any-return]


def with_begun_data(space: Space, before: Mapping[str, Any]) -> Space:
    """The space with the way of reading and holding out images of the search with that identity."""
    return revise(space, set=resume.settings_changes(base_recipe(space), _recipe_in(before), space.set))


def updated_identity(before: Mapping[str, Any]) -> dict[str, Any]:
    """The identity of a search of an older version, with newer keys of recipes set to what that version did."""
    recipe = _recipe_in(before).model_dump(mode="json", exclude=PROSE)
    return {**before, "recipe": json.loads(json.dumps(recipe))}


def _recipe_in(identity: Mapping[str, Any]) -> Recipe:
    return config.build(config.with_older_defaults(identity["recipe"]), "the search's recipe")


def differences(old: Any, new: Any, prefix: str = "") -> list[str]:
    """One line per thing in which two identities differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = dict.fromkeys([*old, *new])
        return [line for key in keys for line in differences(old.get(key), new.get(key), f"{prefix}{key}.")]
    return [] if old == new else [f"{prefix.rstrip('.')}: {old} -> {new}"]


def to_toml(space: Space) -> str:
    """Every setting of the space as TOML text."""
    return tomli_w.dumps(space.model_dump(mode="json", exclude_none=True, exclude_defaults=True))
