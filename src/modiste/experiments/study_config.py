"""Study files: which recipes with which changes, over which seeds, for how long; and the runs that follow from them.

Seed k means the same for every configuration: the noise follows from (seed, images shown), the order of the data from
(seed, epoch), and every run is judged on images from the same noise seeds. So runs of one seed are paired.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BeforeValidator, Field

from modiste import config, progress, runs, schema
from modiste.config import Count, Data, Name, Recipe
from modiste.data.images import Images, Note
from modiste.data.sets import has_test, native_data, open_data
from modiste.errors import ModisteError, UsageError
from modiste.networks import summary
from modiste.schema import Section
from modiste.training import resume, setup

Seed = Annotated[int, Field(ge=0, lt=2**31)]
MOST_SEEDS = 1000
FILE = "plan.json"
"""What a study folder holds of what was planned."""
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


@dataclass(frozen=True)
class RunSpec:
    """One run of a study: its recipe as the run folder will say it, and the commands that make and measure it."""

    configuration: str
    seed: int
    recipe: Recipe
    folder: Path
    commands: tuple[tuple[str, ...], ...]
    """Arguments of `modiste`: first the training, then the evaluation."""
    record: Path
    """Where the evaluation writes."""
    gflop_per_image: float
    notes: tuple[Note, ...] = ()
    """What the user must be told of its data."""

    @property
    def name(self) -> str:
        """CONFIGURATION-seedK, which is also the run folder's name."""
        return self.folder.name

    @property
    def processes(self) -> int:
        """Those of its training."""
        return setup.processes_of(self.recipe)


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
    return with_recipes(study, {recipe: _beside(recipe, Path(place).parent) for recipe in recipe_names(study)})


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
    match = re.fullmatch(r"([0-9][0-9_,]*(?:\.[0-9]+)?)\s*(epochs?|images)", text.strip().lower())
    if match is None:
        try:
            return {"train.budget_seconds": config.parse_seconds(text)}
        except UsageError:
            raise UsageError(f"{what} {text!r} is no length; write it as 5min, 3 epochs or 60000 images") from None
    number = float(match[1].replace(",", "").replace("_", ""))
    if number <= 0 or (match[2] == "images" and number != int(number)):
        raise UsageError(f"{what} {text!r} is no length; write it as 5min, 3 epochs or 60000 images")
    whole = int(number) if number == int(number) else number
    return {"train.epochs" if match[2].startswith("epoch") else "train.images": whole}


def judged_count(study: Study) -> int:
    """How many generated images of each run are judged: as the study says, else by its budget."""
    if "count" in study.evaluate.model_fields_set or study.budget is None:
        return study.evaluate.count
    length = budget_changes(study.budget)
    short = length.get("train.budget_seconds", SHORT_SECONDS) < SHORT_SECONDS
    return SHORT_COUNT if short or length.get("train.images", SHORT_IMAGES) < SHORT_IMAGES else study.evaluate.count


def undone_by(budget: str, keys: Iterable[str]) -> str | None:
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


def most_processes(study: Study, out: Path) -> int:
    """Processes of the run that has most of them."""
    found = []
    for one in configurations(study):
        try:
            found.append(setup.processes_of(setup.resolve_run(one.recipe, out, one.set)[0]))
        except UsageError as error:
            raise UsageError(f"{one.name}: {error}") from None
    return max(found)


def _word(value: Any) -> str:
    text = "x".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-") or "none"


@progress.stage("checking every configuration")
def expand(study: Study, out: Path, track: str | None = None) -> list[RunSpec]:
    """Every run of the study, seed by seed, checked against its data; folders are OUT/runs/CONFIGURATION-seedK."""
    length = budget_changes(study.budget) if study.budget else {}
    planned: dict[tuple[int, str], RunSpec] = {}
    judged: dict[Data, str] = {}
    opened: dict[Data, Images] = {}
    costs: dict[Any, float] = {}  # what takes time is done once for all that share it
    for one in configurations(study):
        if study.budget and (undone := undone_by(study.budget, one.set)):
            raise UsageError(
                f"{one.name}: the budget of {study.budget} would undo {undone} = {one.set[undone]}; "
                "leave one of the two out"
            )
        changes = {**one.set, **({"train.threads": study.threads} if study.threads else {}), **length}
        try:
            recipe, _ = setup.resolve_run(one.recipe, out, changes)
            folders = {seed: out / "runs" / f"{one.name}-seed{seed}" for seed in study.seed_list}
            if started := _started(one.name, out, folders.values()):
                changes |= resume.data_changes(recipe, started)
                recipe = resume.with_data_of(recipe, started)
            dataset = opened.get(recipe.data) or opened.setdefault(recipe.data, open_data(recipe.data))
            notes = setup.noticed(recipe, dataset)
            recipe = setup.resolve(recipe, dataset, changes)
            setup.check_fit(recipe, dataset)
            if study.evaluate.reference == "test" and not has_test(recipe.data):
                raise UsageError(
                    f"{recipe.data.name} has no test images to judge by; use --reference heldout "
                    'or, in a study file, evaluate.reference = "heldout"'
                )
        except UsageError as error:
            raise UsageError(f"{one.name}: {error}") from None
        native = native_data(recipe.data)
        judged[native.model_copy(update={"resize_filter": "box"})] = one.name
        if len(judged) > 1:
            raise UsageError(
                f"{' and '.join(judged.values())} would be judged on different images; a study has one data set, "
                "so compare them in two studies"
            )
        shape = setup.image_shape(recipe, dataset)
        key = (recipe.network, recipe.loss, recipe.train.discriminator_steps, shape)
        gflop = costs.get(key) or costs.setdefault(key, summary.training_flops(recipe, shape) / 1e9)
        for seed, folder in folders.items():
            commands = (train_command(one, changes, study, seed, folder, track), evaluate_command(study, folder))
            own = recipe.model_copy(update={"seed": seed})
            record = folder / ("metrics.json" if study.evaluate.reference == "test" else
                               f"metrics-{study.evaluate.reference}.json")  # fmt: skip
            planned[seed, one.name] = RunSpec(one.name, seed, own, folder, commands, record, gflop, notes)
    return [planned[seed, one.name] for seed in study.seed_list for one in configurations(study)]


def _started(configuration: str, out: Path, folders: Iterable[Path]) -> Recipe | None:
    """The recipe with which the study in that folder was begun, by its plan, or else by a run of the configuration."""
    planned = read(out)["configurations"] if (out / FILE).is_file() else {}
    if configuration in planned:
        return config.build(config.with_older_defaults(planned[configuration]), f"{out / FILE}: {configuration}")
    return next((runs.Run(folder).read_recipe() for folder in folders if runs.exists(folder)), None)


def read(path: Path) -> dict[str, Any]:
    """The plan that a study folder holds; ModisteError where it cannot be read."""
    place = path / FILE
    try:
        tree = json.loads(place.read_text(encoding="utf-8"))
        if {"hash", "threads", "configurations", "evaluate", "runs"} <= tree.keys():
            return dict(tree)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, AttributeError) as error:
        raise ModisteError(f"cannot read {place} ({error}); move the folder away and run the study again") from None
    raise ModisteError(f"{place} is no plan of a study; move the folder away and run the study again")


def train_command(
    one: Configuration, changes: Mapping[str, Any], study: Study, seed: int, folder: Path, track: str | None
) -> tuple[str, ...]:
    """The words after `modiste` that train this run."""
    words = ["train", one.recipe, "--out", str(folder), "--seed", str(seed)]
    timed = study.budget is not None and "train.budget_seconds" in budget_changes(study.budget)
    for key, value in changes.items():
        if not (timed and key == "train.budget_seconds"):
            words += ["--set", f"{key}={literal(value)}"]
    if study.budget and timed:
        words += ["--budget", study.budget]
    return (*words, *(("--track", track) if track else ()))


def evaluate_command(study: Study, folder: Path) -> tuple[str, ...]:
    """The words after `modiste` that measure this run."""
    judging = study.evaluate
    return ("evaluate", str(folder), "--count", str(judging.count), "--reference", judging.reference)


def literal(value: Any) -> str:
    """A value as `--set key=VALUE` takes it."""
    if value is None:
        return "none"
    if isinstance(value, str) and re.fullmatch(r"(?!(true|false|none|null|inf|nan)$)[a-z/][A-Za-z0-9_/.-]*", value):
        return value
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)


def study_command(study: Study, folder: Path) -> tuple[str, ...]:
    """Arguments of `modiste` that make the study anew in that folder: by its name and changes if it ships, else by its
    file; its threads are left to the environment (see `shown`)."""
    by_file = ("study", str(folder / "study.toml"), "--out", str(folder))
    if study.name not in shipped():
        return by_file
    usual = load(study.name)
    changes = {key: value for key, value in study.set.items() if (key, value) not in usual.set.items()}
    asked: dict[str, Any] = {
        "seeds": study.seeds,
        "budget": study.budget,
        "set": changes,
        "evaluate": study.evaluate.model_dump(),
    }
    try:
        again = revise(usual, **asked)
    except UsageError:  # somebody's own study under that name
        return by_file
    words = {"about", "source", "threads"}
    reference = study.evaluate.reference == usual.evaluate.reference
    if not reference or again.model_dump(exclude=words) != study.model_dump(exclude=words):
        return by_file
    seeds = str(study.seeds) if isinstance(study.seeds, int) else ",".join(map(str, study.seeds))
    options = ["--seeds", seeds] if study.seeds != usual.seeds else []
    options += ["--budget", study.budget] if study.budget and study.budget != usual.budget else []
    options += [word for key, value in changes.items() for word in ("--set", f"{key}={literal(value)}")]
    options += ["--count", str(study.evaluate.count)] if study.evaluate.count != usual.evaluate.count else []
    return ("study", study.name, *options, "--out", str(folder))


def shown(command: Sequence[str], threads: int | None = None) -> str:
    """A command as a person would type it."""
    return (f"OMP_NUM_THREADS={threads} " if threads else "") + shlex.join(["modiste", *command])


def identity(study: Study, planned: Sequence[RunSpec]) -> dict[str, Any]:
    """What makes it this study and no other: every configuration's settings and how it is judged, not the seeds."""
    settings = {
        run.configuration: run.recipe.model_dump(mode="json", exclude={"name", "about", "source", "seed"})
        for run in planned
    }
    return {"configurations": settings, "evaluate": study.evaluate.model_dump(mode="json")}


def content_hash(study_identity: Mapping[str, Any]) -> str:
    """SHA-256 of a study's identity, as 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(study_identity, sort_keys=True).encode()).hexdigest()


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One line per thing in which two identities differ."""
    before, after = old["configurations"], new["configurations"]
    lines = [f"no {name} here" for name in before if name not in after]
    lines += [f"{name} is new" for name in after if name not in before]
    for name in before.keys() & after.keys():
        pair = (config.build(config.with_older_defaults(tree), name) for tree in (before[name], after[name]))
        lines += [f"{name}: {line}" for line in config.differences(*pair)]
    changed = [key for key in new["evaluate"] if old["evaluate"].get(key) != new["evaluate"][key]]
    lines += [f"evaluate.{key}: {old['evaluate'].get(key)} -> {new['evaluate'][key]}" for key in changed]
    return sorted(lines)


def to_toml(study: Study) -> str:
    """Every setting of the study as TOML text."""
    return tomli_w.dumps(study.model_dump(mode="json", exclude_none=True))
