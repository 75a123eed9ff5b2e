"""What an augmentation experiment is asked to do, its folder, and its pieces: one per label budget and seed.

augment/NAME/settings.toml         everything that was asked
             recipe.toml           how the generators are trained
             data.json             digests of the images to choose from and of the test images
             300-seed0/subset.npz  the budget's images of that seed, all that its generator and judge may see
                       subset.json their indices in the data
                       generator/  the run folder
                       synthetic.npz (and synthetic-FILTER.npz)  labelled images, each written once
                       arms.jsonl  one line per arm
             records.csv, records.jsonl, report.md, accuracy.png, accuracy.svg
             logs/                 what the commands said
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import Field

from modiste import config, environment, files, progress, runs, schema
from modiste.config import Count, Data, Recipe
from modiste.data import readers
from modiste.data.images import Images, content_digest
from modiste.data.sets import CLASS_NAMES, has_test, open_data, resolved_name
from modiste.errors import ModisteError, UsageError
from modiste.experiments import studies, study_config
from modiste.experiments.augmentation import arms, subsets
from modiste.experiments.augmentation.subsets import Budget, Parts
from modiste.experiments.folder import ExperimentFolder
from modiste.sampling import writers
from modiste.schema import Section
from modiste.training import setup

Seed = Annotated[int, Field(ge=0, lt=2**31)]
Share = Annotated[float, Field(gt=0, lt=1)]

FEWEST_SYNTHETIC, MOST_SYNTHETIC = 1_000, 20_000
SEED_STRIDE = 10**6  # between the first noise seeds of two pieces, and so the most images of one
LEAST_KEPT = 0.05  # 20 images are made for each one kept
CHANGEABLE = ("budgets", "seeds", "threads")
POSSIBLE = {
    "budgets": "give numbers of images from 2 on, or all, as 100,300,all",
    "seeds": f"give a count, or seeds from 0 to {2**32 // SEED_STRIDE - 1}",  # noise has seeds of 32 bits
    "ratio": "give shares above 0 and below 1, as 0.25,0.5",
    "filter": "choose among none, confidence and distance",
    "keep": "a filter keeps a share from 0.05 to 1",
}
"""What settings may be, where that says more than the rule that was broken."""
GENERATOR_FILES = ("recipe.toml", "generator.json", "generator.safetensors", "manifest.json")  # the last makes a run


class Settings(Section):
    """All that makes an experiment, but for the recipe of its generators."""

    data: Data
    """Where the labelled images are; `split` says whether the held-out ones take part."""
    budgets: Annotated[tuple[Annotated[int, Field(ge=2)] | Literal["all"], ...],
                       Field(min_length=1)]  # fmt: skip
    """Numbers of labelled images, or all."""
    seeds: Annotated[tuple[Annotated[Seed, Field(lt=2**32 // SEED_STRIDE)], ...], Field(min_length=1)] = (0, 1, 2, 3, 4)
    """Each chooses its own images, generator, synthetic images and initial weights."""
    threads: Count = 1
    """Processor threads of every piece."""
    run: str | None = None
    """The run whose generator is used; none: every budget and seed trains one."""
    rare: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Classes of which only a tenth is kept."""
    ratio: Annotated[tuple[Share, ...], Field(min_length=1)] = (0.5,)
    """Shares of synthetic images in the batches of the arms that mix."""
    filter: Annotated[tuple[arms.Filter, ...], Field(min_length=1)] = ("none",)
    """Which synthetic images are kept."""
    keep: Annotated[float, Field(gt=0, le=1)] = 0.5
    """The share that a filter keeps; of new experiments at least LEAST_KEPT."""
    count: Count | None = None
    """Synthetic images of a set; none: ten per real one, from 1,000 to 20,000."""
    steps: Count | None = None
    """Gradient steps of every arm; none: by the budget."""
    flip: bool = False
    """Whether a mirrored image keeps its label."""


@dataclass(frozen=True)
class Measurement:
    """One budget and one seed."""

    budget: Budget
    seed: int
    folder: Path

    @property
    def name(self) -> str:
        """BUDGET-seedK, which is also the folder's name."""
        return self.folder.name

    @property
    def generator(self) -> Path:
        """The run folder of its generator."""
        return self.folder / "generator"

    @property
    def subset(self) -> Images:
        """The labelled images that it may see."""
        return open_data(Data(name=str(self.folder / "subset.npz")))

    @property
    def outcomes(self) -> list[dict[str, Any]]:
        """The records of its finished arms."""
        place = self.folder / "arms.jsonl"
        try:
            return [json.loads(line) for line in place.read_text(encoding="utf-8").splitlines()]
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            raise ModisteError(f"cannot read {place} ({error}); remove it and run the experiment again") from None


def is_experiment(path: Path) -> bool:
    """Whether the folder holds an experiment."""
    return (path / "settings.toml").is_file() and (path / "recipe.toml").is_file()


def read(path: Path) -> tuple[Settings, Recipe]:
    """What the experiment in that folder was asked to do; UsageError when there is none."""
    if not is_experiment(path):
        raise UsageError(f"{path} is no experiment (it has no settings.toml); `modiste augment toy` makes one")
    place = path / "settings.toml"
    settings = build(
        config.with_older_defaults(schema.parse_toml(place.read_text(encoding="utf-8"), str(place))), str(place)
    )
    return settings, config.load(path / "recipe.toml")


def build(tree: Mapping[str, Any], place: str | None = None) -> Settings:
    """Settings from nested plain values; error sentences name the file that they are from (`place`), or the option."""
    return schema.validate(Settings, tree, place, allowed=POSSIBLE)


def parse_budgets(text: str) -> tuple[Budget, ...]:
    """Budgets from text like `100,300,all`."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or not all(word == "all" or word.isdecimal() for word in words):
        raise UsageError(f"--budgets {text!r} are no numbers of images; write them as 100,300,all")
    return tuple("all" if word == "all" else int(word) for word in words)


def resolve_experiment(
    what: str | Path,
    out: str | Path | None = None,
    *,
    recipe: str | Path | None = None,
    length: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    resize: int | None = None,
    fit: str | None = None,
    background: str | None = None,
    rare: Sequence[str] | None = None,
    jobs: int = 1,
    **asked: Any,
) -> tuple[Settings, Recipe, Path, Parts]:
    """The settings, the generators' recipe, the folder (`out`, the experiment that `what` is, or augment/NAME) and
    the opened images.

    `asked` are keys of Settings, of lists every value once; those that are None are left to the experiment's folder, or
    to their defaults.
    """
    if jobs < 1:
        raise UsageError(f"--jobs {jobs} does nothing; give at least 1")
    given = {key: tuple(dict.fromkeys(value)) if isinstance(value, (list, tuple, range)) else value
             for key, value in asked.items() if value is not None}  # fmt: skip
    shape = {"resize": resize, "fit": fit, "background": background}
    making = {"recipe": recipe, "length": length, "set": overrides, **shape, "rare": rare}
    words = [f"--{key}" for key, value in making.items() if value]
    if is_experiment(Path(what)):
        words += ["--out"] if out is not None else []
        words += [f"--{key}" for key in given if key not in CHANGEABLE]
        if words:
            raise UsageError(
                f"{what} is an experiment with settings of its own, to which only --seeds and --budgets can be given, "
                f"not {words[0]}; start another one from its data with --out"
            )
        settings, generators = read(Path(what))
        settings = build({**settings.model_dump(exclude_unset=True), **given})
        return settings, generators, Path(what), opened(settings, Path(what))
    if "ratio" in given and rare:
        raise UsageError("--ratio has no meaning with --rare, where synthetic images fill the rare classes; leave it")
    if run := runs.find_run(what):
        if used := [word for word in words if word != "--rare"]:
            raise UsageError(f"{what} is a run, whose generator is made already; leave {used[0]} out")
        dataset, generators, name = *_of_run(run, given, rare), Path(what).resolve().name
        given["run"] = str(run.path)
    else:
        path_given = readers.expanded(what)
        name = path_given.stem if path_given.suffix.lower() in (".npz", ".parquet") else path_given.name
        dataset = _of_data(str(what), shape)
        generators = _generators(recipe or "swift", length, overrides or {})
    path = Path("augment") / name if out is None else Path(out)
    if is_experiment(path):
        begun = read(path)[0].data
        kept: dict[str, str] = {"heldout": begun.heldout}
        if not run and fit is None:  # begun, maybe, when there was no such choice
            kept["fit"] = begun.fit
        dataset = dataset.model_copy(update=kept)
    parts = subsets.open_parts(dataset)
    if run and content_digest(parts.images) != run.read_manifest().data.digest:
        raise UsageError(f"{dataset.name} is not what {what} was trained on any more; put its images back")
    images = subsets.split(parts, 0)[0]
    numbers = subsets.rare_classes(rare, images) if rare else ()
    given.setdefault("budgets", _budgets(images, numbers) if "run" not in given else ("all",))
    given.setdefault("flip", images.class_names == CLASS_NAMES)
    together = studies.at_a_time(jobs, processes_of(run, generators))
    given["threads"] = read(path)[0].threads if is_experiment(path) else max(1, environment.cores() // together)
    settings = build({"data": dataset.model_dump(), "rare": numbers, **given})
    if settings.keep < LEAST_KEPT and not is_experiment(path):
        raise UsageError(f"--keep {settings.keep} is not possible: {POSSIBLE['keep']}")
    if "keep" in given and set(settings.filter) == {"none"}:
        raise UsageError(f"--keep {settings.keep} is the share that a filter keeps; name one with --filter")
    return settings, generators, path, opened(settings, path, parts)


def processes_of(run: runs.Run | str | None, generators: Recipe) -> int:
    """The processes of the training of a piece's generator; that of a run is trained already."""
    return 1 if run else setup.processes_of(generators)


def _of_data(what: str, shape: Mapping[str, int | str | None]) -> Data:
    given = {"name": resolved_name(what), "split": "train", **shape}
    changes = {f"data.{key}": value for key, value in given.items() if value is not None}
    dataset = config.override(Recipe(), changes, "modiste augment").data
    return dataset.model_copy(update={"split": "fit"}) if has_test(dataset) else dataset


def _of_run(run: runs.Run, given: Mapping[str, Any], rare: Sequence[str] | None) -> tuple[Data, Recipe]:
    """A run's data and recipe; refused unless the experiment's only budget is what its generator was trained on."""
    recipe, manifest = run.read_recipe(), run.read_manifest()
    if recipe.network.conditioning == "none":
        raise UsageError(f"{run.path} was trained without labels, so it makes no labelled images; train swift instead")
    if manifest.status != "finished":
        going_on = shlex.join(["modiste", "train", str(run.path)])
        raise UsageError(f"{run.path} is not finished ({manifest.status}); go on with `{going_on}`")
    seen = f"{manifest.data.count:,} images of {recipe.data.name}"
    if rare or any(budget != "all" for budget in given.get("budgets", ())):
        raise UsageError(
            f"the generator of {run.path} has seen the labels of {seen}, so that is the only fair budget; "
            f"leave --budgets and --rare out, or give the data ({recipe.data.name}) to train one generator per budget"
        )
    if recipe.data.split == "train" and not has_test(recipe.data):
        raise UsageError(
            f"{run.path} has seen every image of {recipe.data.name}, and there are no test images; add some"
        )
    return recipe.data, recipe


def _generators(recipe: str | Path, length: str | None, overrides: Mapping[str, Any]) -> Recipe:
    """The recipe of all generators, but for their data and seeds: every image counts, none is held out for choosing."""
    for key in ("data", "seed"):
        if taken := next((name for name in overrides if name.partition(".")[0] == key), None):
            raise UsageError(f"--set {taken} is the experiment's to choose; leave it out")
    given = {**overrides, **(study_config.budget_changes(length, "--length") if length else {})}
    settled = config.override(config.load(recipe), given)
    if settled.network.conditioning == "none":
        raise UsageError(f"the recipe {settled.name} makes no labelled images; use a conditional one, such as swift")
    own = {"data.split": "train", "data.count": None, "data.resize": None, "evaluate.every_images": 0, "seed": 0}
    return config.override(settled, own)


def _budgets(images: Images, rare: Sequence[int]) -> tuple[Budget, ...]:
    """The usual budgets that leave every class an image, and all."""
    most = len(subsets.choose(images, "all", 0, rare))
    found: list[Budget] = []
    for budget in subsets.BUDGETS:
        if budget < most:
            with suppress(UsageError):  # a class would be left with no image
                subsets.choose(images, budget, 0, rare)
                found.append(budget)
    return (*found, "all")


def pieces(settings: Settings, path: Path) -> list[Measurement]:
    """Every piece of the experiment, seed by seed."""
    return [
        Measurement(budget, seed, path / f"{budget}-seed{seed}")
        for seed in dict.fromkeys(settings.seeds)
        for budget in dict.fromkeys(settings.budgets)
    ]


def all_arms(settings: Settings) -> list[arms.Arm]:
    """The experiment's arms."""
    return arms.arms_for(settings.ratio, settings.filter, bool(settings.rare))


def chosen(settings: Settings, recipe: Recipe, path: Path, parts: Parts) -> dict[str, tuple[Images, list[int]]]:
    """The images of every piece by its name, with their indices; all is checked here, before anything is written."""
    found = {}
    for piece in pieces(settings, path):
        images, _ = subsets.split(parts, piece.seed)
        indices = subsets.choose(images, piece.budget, piece.seed, settings.rare)
        subset = images.select(indices)
        _check_rare(settings.rare, subset)
        _check_made(settings, subset, is_experiment(path))
        setup.check_fit(config.override(recipe, fitting(recipe, len(subset))), subset)
        found[piece.name] = subset, indices.tolist()
    return found


def _check_rare(rare: Sequence[int], subset: Images) -> None:
    """UsageError where classes that were named as rare are not, so that there is nothing for synthetic images to do."""
    if not rare:
        return
    assert subset.labels is not None
    if not subsets.missing_to_balance(subset.labels, len(subset.class_names))[list(rare)].any():
        raise UsageError(
            f"with {len(subset)} labels the rare classes have as many images as any other, so nothing is left to "
            "fill; ask for more with --budgets, or name other classes with --rare"
        )


def _check_made(settings: Settings, subset: Images, begun: bool) -> None:
    """UsageError where a set needs more images than a piece has noise seeds; it names what can still be changed."""
    made = max(made_count(settings, subset, kind) for kind in settings.filter)
    if made <= SEED_STRIDE:
        return
    fewest = synthetic_count(settings.model_copy(update={"count": 1}), subset)
    remedies = ["fewer with --count"] if not begun and fewest < synthetic_count(settings, subset) else []
    if not begun and settings.keep < 1 and set(settings.filter) != {"none"}:
        remedies.append("a greater share of them with --keep")
    remedies = remedies or ["smaller budgets with --budgets" + (", or start another experiment" if begun else "")]
    raise UsageError(
        f"{made:,} images would be made for one synthetic set, and {SEED_STRIDE:,} are the most; ask for "
        f"{', or for '.join(remedies)}"
    )


def opened(settings: Settings, path: Path, parts: Parts | None = None) -> Parts:
    """The images to choose from and to test on; UsageError unless they are those that the experiment began with.

    Else a fold drawn from others could hold images of a subset drawn before. An experiment without data.json, as they
    were made once, is taken as it is.
    """
    parts, place = parts or subsets.open_parts(settings.data), path / "data.json"
    if is_experiment(path) and place.is_file() and place.read_text(encoding="utf-8") != _digests(parts):
        raise UsageError(
            f"the images of {settings.data.name} are not those that {path} was begun with; put those back, or start "
            "another experiment with --out"
        )
    return parts


def _digests(parts: Parts) -> str:
    of_test = content_digest(parts.test) if parts.test is not None else None
    return json.dumps({"images": content_digest(parts.images), "test": of_test}) + "\n"


def fitting(recipe: Recipe, images: int) -> dict[str, int]:
    """What to change for a batch that so few images can fill: the largest power of two, where its own is too large."""
    if recipe.train.batch_size <= images:
        return {}
    return {"train.batch_size": 2 ** (images.bit_length() - 1), "train.accumulate": 1}


@progress.stage("writing the images of every budget")
def prepare(
    settings: Settings, recipe: Recipe, path: Path, parts: Parts, found: Mapping[str, tuple[Images, list[int]]]
) -> list[Measurement]:
    """Write the settings and what `chosen` found for every piece, after checking them against what is there."""
    if is_experiment(path):
        _check_same(settings, recipe, path)
    try:
        (path / "logs").mkdir(parents=True, exist_ok=True)
        for name in found:
            (path / name).mkdir(exist_ok=True)
    except OSError as error:
        raise ModisteError(
            f"cannot make the experiment's folder {path}: {error.strerror}; choose another with --out"
        ) from None
    files.write_text(path / "recipe.toml", config.to_toml(recipe))
    files.write_text(path / "settings.toml", tomli_w.dumps(settings.model_dump(mode="json", exclude_none=True)))
    if not (path / "data.json").is_file():
        files.write_text(path / "data.json", _digests(parts))
    made = pieces(settings, path)
    for piece in made:
        subset, indices = found[piece.name]
        if not (piece.folder / "subset.json").is_file():
            (piece.folder / "subset.npz").unlink(missing_ok=True)  # of a preparation that was killed here
            writers.write(subset, None, piece.folder / "subset.npz", "npz")
            facts = {"data": subset.name, "budget": piece.budget, "seed": piece.seed, "digest": content_digest(subset)}
            files.write_text(piece.folder / "subset.json", json.dumps({**facts, "indices": indices}) + "\n")
        if settings.run and not runs.exists(piece.generator):
            _copy_generator(Path(settings.run), piece, made)
    return made


def _copy_generator(run: Path, piece: Measurement, made: Sequence[Measurement]) -> None:
    """The run's generator into the piece; UsageError unless the other pieces have the same."""
    weights = (run / "generator.safetensors").read_bytes()
    for other in made:
        if runs.exists(other.generator) and (other.generator / "generator.safetensors").read_bytes() != weights:
            raise UsageError(
                f"the generator of {run} is another than the one that {other.folder.parent} was begun with, and an "
                "experiment is about one; put that one back, or start another experiment with --out"
            )
    piece.generator.mkdir(exist_ok=True)
    for name in GENERATOR_FILES:
        files.write_bytes(piece.generator / name, (run / name).read_bytes())


def _check_same(settings: Settings, recipe: Recipe, path: Path) -> None:
    before, recipe_before = read(path)
    old, new = (one.model_dump(exclude={*CHANGEABLE}) for one in (before, settings))
    found = [f"{key}: {old[key]} -> {new[key]}" for key in new if old[key] != new[key]]
    found += map(str, config.differences(recipe_before, recipe))
    ExperimentFolder(path, "experiment").refuse_other_settings(found, "seeds and budgets")


def synthetic_count(settings: Settings, real: Images) -> int:
    """Images of a piece's synthetic set: as many of each class, and enough to fill the rare ones."""
    classes = len(real.class_names)
    asked = settings.count or min(MOST_SYNTHETIC, max(FEWEST_SYNTHETIC, 10 * len(real)))
    if settings.rare:
        assert real.labels is not None
        asked = max(asked, classes * int(subsets.missing_to_balance(real.labels, classes).max()))
    return -(-asked // classes) * classes


def made_count(settings: Settings, real: Images, kind: arms.Filter) -> int:
    """Images that are made for that set, as many of each class: those that the filter drops too."""
    count, classes = synthetic_count(settings, real), len(real.class_names)
    return count if kind == "none" else -(-round(count / settings.keep) // classes) * classes
