"""The plan of an augmentation experiment: its options, the settings that follow from them, and the images chosen.

Everything is resolved and checked before the first file is written.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from modiste import config, environment, files, progress, runs, subprocesses
from modiste import parts as own_code
from modiste.config import Data, Recipe
from modiste.data import readers
from modiste.data.images import Images, content_digest
from modiste.data.sets import CLASS_NAMES, has_test, resolved_name
from modiste.errors import ModisteError, UsageError
from modiste.experiments import studies, study_config
from modiste.experiments.augmentation import experiment, linear, subsets
from modiste.experiments.augmentation.arms import Filter
from modiste.experiments.augmentation.experiment import SEED_STRIDE, Measurement, Settings, is_experiment
from modiste.experiments.augmentation.subsets import Budget, Parts
from modiste.experiments.folder import ExperimentFolder
from modiste.runs import Run
from modiste.sampling import discriminators, writers
from modiste.training import setup

LEAST_KEPT = 0.05  # 20 images are made for each one kept
CHANGEABLE = ("budgets", "seeds", "threads")
GENERATOR_FILES = ("recipe.toml", "generator.json", "generator.safetensors", "manifest.json")  # the last makes a run


@dataclass(frozen=True)
class AugmentOptions:
    """The options of `modiste augment`; None leaves a setting to the experiment's folder, or to its default."""

    budgets: Sequence[Budget] | None = None
    seeds: Sequence[int] | None = None
    ratio: Sequence[float] | None = None
    filter: Sequence[Filter] | None = None
    keep: float | None = None
    count: int | None = None
    steps: int | None = None
    flip: bool | None = None
    features: bool = False
    """Whether linear classifiers on frozen features learn too."""
    rare: Sequence[str] | None = None
    """Classes of which a tenth is kept, by name or number."""
    recipe: str | Path | None = None
    length: str | None = None
    overrides: Mapping[str, Any] | None = None
    """Changes of the generators' recipe, by key."""
    resize: int | None = None
    fit: str | None = None
    background: str | None = None
    jobs: int = 1
    """Measurements at a time."""
    ray: str | None = None
    """The address of a Ray cluster, or `local`."""

    def given_settings(self) -> dict[str, Any]:
        """The keys of Settings that are given, each value of a list once."""
        keys = ("budgets", "seeds", "ratio", "filter", "keep", "count", "steps", "flip")
        given = {key: value for key in keys if (value := getattr(self, key)) is not None}
        return {key: tuple(dict.fromkeys(value)) if isinstance(value, (list, tuple, range)) else value
                for key, value in given.items()}  # fmt: skip

    def image_changes(self) -> dict[str, Any]:
        """How images are opened, by the recipe's key."""
        return {"data.resize": self.resize, "data.fit": self.fit, "data.background": self.background}

    def of_generators(self) -> list[str]:
        """The names of the given options that say how generators are trained, and on which images."""
        values = {"recipe": self.recipe, "length": self.length, "set": self.overrides, "resize": self.resize,
                  "fit": self.fit, "background": self.background}  # fmt: skip
        return [f"--{name}" for name, value in values.items() if value]


@dataclass(frozen=True)
class Subset:
    """The labelled images of a measurement, and their indices in the data."""

    images: Images
    indices: list[int]


@dataclass(frozen=True)
class Plan:
    """An experiment with everything that follows from its options, checked."""

    path: Path
    settings: Settings
    recipe: Recipe
    """How the generators are trained."""
    parts: Parts
    subsets: dict[str, Subset]
    """By the measurement's name."""

    @property
    def measurements(self) -> list[Measurement]:
        """Every measurement, seed by seed."""
        return experiment.measurements(self.settings, self.path)

    @property
    def processes(self) -> int:
        """The processes that train one generator."""
        return _processes(self.settings.run, self.recipe)


def _processes(run: Run | str | None, recipe: Recipe) -> int:
    return 1 if run else setup.processes_of(recipe)


def resolve(what: str | Path, out: str | Path | None, options: AugmentOptions) -> Plan:
    """The plan for a data set, a run, or the folder of an experiment; its own folder is `out`, or augment/NAME."""
    if options.jobs < 1:
        raise UsageError(f"--jobs {options.jobs} does nothing; give at least 1")
    if is_experiment(Path(what)):
        return _continued(Path(what), out, options)
    given, rare = options.given_settings(), options.rare
    if "ratio" in given and rare:
        raise UsageError("--ratio has no meaning with --rare, where synthetic images fill the rare classes; leave it")
    if run := runs.find_run(what):
        if used := options.of_generators():
            raise UsageError(f"{what} is a run, whose generator is made already; leave {used[0]} out")
        dataset, recipe, name = *_of_run(run, given, rare), Path(what).resolve().name
        given["run"] = str(run.path)
        if options.features and not discriminators.exists(run):
            raise UsageError(
                f"{what} was kept without its discriminator, of whose features to learn; leave --features out"
            )
    else:
        expanded = readers.expanded(what)
        name = expanded.stem if expanded.suffix.lower() in (".npz", ".npy", ".parquet") else expanded.name
        dataset, recipe = _dataset(str(what), options), _generator_recipe(options)
    path = Path("augment") / name if out is None else Path(out)
    before = experiment.read(path)[0] if is_experiment(path) else None
    if before:
        kept: dict[str, str] = {"heldout": before.data.heldout}
        if not run and options.fit is None:  # an experiment may be older than this setting
            kept["fit"] = before.data.fit
        dataset = dataset.model_copy(update=kept)
    parts = subsets.open_parts(dataset)
    if run and content_digest(parts.images) != run.read_manifest().data.digest:
        raise UsageError(f"{dataset.name} is not what {what} was trained on any more; put its images back")
    images = subsets.split(parts, 0)[0]
    classes = subsets.rare_classes(rare, images) if rare else ()
    given.setdefault("budgets", ("all",) if run else usual_budgets(images, classes))
    given.setdefault("flip", images.class_names == CLASS_NAMES)
    together = studies.jobs_at_a_time(options.jobs, _processes(run, recipe))
    given["threads"] = before.threads if before else max(1, environment.cores() // together)
    settings = experiment.build({"data": dataset.model_dump(), "rare": classes, **given})
    if options.features:
        settings = settings.model_copy(update={"features": linear.available(dataset)})
    if settings.keep < LEAST_KEPT and not before:
        raise UsageError(f"--keep {settings.keep} is not possible: {experiment.POSSIBLE['keep']}")
    if "keep" in given and set(settings.filter) == {"none"}:
        raise UsageError(f"--keep {settings.keep} is the share that a filter keeps; name one with --filter")
    check_images(settings, path, parts)
    return make_plan(settings, recipe, path, parts)


def _continued(path: Path, out: str | Path | None, options: AugmentOptions) -> Plan:
    """The plan of an experiment that goes on, with seeds and budgets that may be new."""
    given = options.given_settings()
    fixed = [*options.of_generators(), *(["--rare"] if options.rare else []), *(["--out"] if out is not None else []),
             *(["--features"] if options.features else [])]  # fmt: skip
    fixed += [f"--{key}" for key in given if key not in CHANGEABLE]
    if fixed:
        raise UsageError(
            f"{path} is an experiment with settings of its own, to which only --seeds and --budgets can be given, "
            f"not {fixed[0]}; start another one from its data with --out"
        )
    before, recipe = experiment.read(path)
    own_code.require_trusted(config.own_parts(recipe), path)
    settings = experiment.build({**before.model_dump(exclude_unset=True), **given})
    return make_plan(settings, recipe, path, open_images(settings, path))


def _dataset(name: str, options: AugmentOptions) -> Data:
    given = {"data.name": resolved_name(name), "data.split": "train", **options.image_changes()}
    changes = {key: value for key, value in given.items() if value is not None}
    dataset = config.override(Recipe(), changes, "modiste augment").data
    return dataset.model_copy(update={"split": "fit"}) if has_test(dataset) else dataset


def _of_run(run: Run, given: Mapping[str, Any], rare: Sequence[str] | None) -> tuple[Data, Recipe]:
    """A run's data and recipe; refused unless the experiment's only budget is what its generator was trained on."""
    recipe, manifest = run.read_recipe(), run.read_manifest()
    own_code.require_trusted(config.own_parts(recipe), run.path)
    if recipe.network.conditioning == "none":
        raise UsageError(f"{run.path} was trained without labels, so it makes no labelled images; train swift instead")
    if manifest.status != "finished":
        going_on = subprocesses.printable(["train", str(run.path)])
        raise UsageError(f"{run.path} is not finished ({manifest.status}); go on with `{going_on}`")
    if rare or any(budget != "all" for budget in given.get("budgets", ())):
        raise UsageError(
            f"the generator of {run.path} has seen the labels of {manifest.data.count:,} images of {recipe.data.name}, "
            "so that is the only fair budget; leave --budgets and --rare out, or give the data "
            f"({recipe.data.name}) to train one generator per budget"
        )
    if recipe.data.split == "train" and not has_test(recipe.data):
        raise UsageError(
            f"{run.path} has seen every image of {recipe.data.name}, and there are no test images; add some"
        )
    return recipe.data, recipe


def _generator_recipe(options: AugmentOptions) -> Recipe:
    """The recipe of all generators, but for their data and seeds: every image counts, none is held out."""
    overrides = options.overrides or {}
    if taken := next((key for key in overrides if key == "seed" or key.split(".")[0] == "data"), None):
        raise UsageError(f"--set {taken} is the experiment's to choose; leave it out")
    length = study_config.budget_changes(options.length, "--length") if options.length else {}
    recipe = config.override(config.load(options.recipe or "swift"), {**overrides, **length})
    if recipe.finetune.ancestor:
        raise UsageError(
            f"finetune.ancestor = {recipe.finetune.ancestor!r} has seen more than a budget's images; leave it out, "
            "or give a run that started from it"
        )
    if recipe.network.conditioning == "none":
        raise UsageError(f"the recipe {recipe.name} makes no labelled images; use a conditional one, such as swift")
    own = {"data.split": "train", "data.count": None, "data.resize": None, "evaluate.every_images": 0, "seed": 0}
    return config.with_own_parts(config.override(recipe, own), own_code.pin)


def usual_budgets(images: Images, rare: Sequence[int]) -> tuple[Budget, ...]:
    """The usual budgets that leave every class an image, and all."""
    most = len(subsets.choose(images, "all", 0, rare))
    possible: list[Budget] = []
    for budget in subsets.BUDGETS:
        if budget < most:
            with suppress(UsageError):  # a class would be left with no image
                subsets.choose(images, budget, 0, rare)
                possible.append(budget)
    return (*possible, "all")


def make_plan(settings: Settings, recipe: Recipe, path: Path, parts: Parts) -> Plan:
    """The plan with the images of every measurement; all is checked here."""
    by_name = {}
    for measurement in experiment.measurements(settings, path):
        images, _ = subsets.split(parts, measurement.seed)
        indices = subsets.choose(images, measurement.budget, measurement.seed, settings.rare)
        subset = images.select(indices)
        _check_rare(settings.rare, subset)
        _check_counts(settings, subset, is_experiment(path))
        setup.check_fit(config.override(recipe, batch_changes(recipe, len(subset))), subset)
        by_name[measurement.name] = Subset(subset, indices.tolist())
    return Plan(path, settings, recipe, parts, by_name)


def _check_rare(rare: Sequence[int], subset: Images) -> None:
    """UsageError where no class that was named as rare has fewer images than another, so that none is to be filled."""
    if not rare:
        return
    assert subset.labels is not None
    if not subsets.missing_to_balance(subset.labels, len(subset.class_names))[list(rare)].any():
        raise UsageError(
            f"with {len(subset)} labels the rare classes have as many images as any other, so nothing is left to "
            "fill; ask for more with --budgets, or name other classes with --rare"
        )


def _check_counts(settings: Settings, subset: Images, begun: bool) -> None:
    """UsageError where a set needs more images than a measurement has noise seeds; it names what can be changed."""
    most = max(experiment.generated_count(settings, subset, kind) for kind in settings.filter)
    if most <= SEED_STRIDE:
        return
    fewest = experiment.synthetic_count(settings.model_copy(update={"count": 1}), subset)
    remedies = []
    if not begun and fewest < experiment.synthetic_count(settings, subset):
        remedies.append("fewer with --count")
    if not begun and settings.keep < 1 and set(settings.filter) != {"none"}:
        remedies.append("a greater share of them with --keep")
    remedies = remedies or ["smaller budgets with --budgets" + (", or start another experiment" if begun else "")]
    raise UsageError(
        f"{most:,} images would be made for one synthetic set, and {SEED_STRIDE:,} are the most; ask for "
        f"{', or for '.join(remedies)}"
    )


def open_images(settings: Settings, path: Path) -> Parts:
    """The images to choose from and to test on, checked."""
    parts = subsets.open_parts(settings.data)
    check_images(settings, path, parts)
    return parts


def check_images(settings: Settings, path: Path, parts: Parts) -> None:
    """UsageError unless these are the images that the experiment in the folder began with, if there is one.

    Otherwise a fold drawn from them could hold images of a subset drawn before. The oldest experiments have no
    data.json and are taken as they are.
    """
    place = path / "data.json"
    if is_experiment(path) and place.is_file() and place.read_text(encoding="utf-8") != _digests(parts):
        raise UsageError(
            f"the images of {settings.data.name} are not those that {path} was begun with; put those back, or start "
            "another experiment with --out"
        )


def _digests(parts: Parts) -> str:
    of_test = content_digest(parts.test) if parts.test is not None else None
    return json.dumps({"images": content_digest(parts.images), "test": of_test}) + "\n"


def batch_changes(recipe: Recipe, images: int) -> dict[str, int]:
    """Changes of the recipe where so few images cannot fill a batch: the largest power of two that they can."""
    if recipe.train.batch_size <= images:
        return {}
    return {"train.batch_size": 2 ** (images.bit_length() - 1), "train.accumulate": 1}


@progress.stage("writing the images of every budget")
def write(plan: Plan) -> None:
    """Write the settings and every measurement's images, after checking them against what is there."""
    path, settings = plan.path, plan.settings
    if is_experiment(path):
        _refuse_other_settings(plan)
    try:
        (path / "logs").mkdir(parents=True, exist_ok=True)
        for name in plan.subsets:
            (path / name).mkdir(exist_ok=True)
    except OSError as error:
        raise ModisteError(
            f"cannot make the experiment's folder {path}: {error.strerror}; choose another with --out"
        ) from None
    files.write_text(path / "recipe.toml", config.to_toml(plan.recipe))
    own_code.write_copies(path, config.own_parts(plan.recipe))
    files.write_text(path / "settings.toml", tomli_w.dumps(settings.model_dump(mode="json", exclude_none=True)))
    if not (path / "data.json").is_file():
        files.write_text(path / "data.json", _digests(plan.parts))
    for one in plan.measurements:
        subset = plan.subsets[one.name]
        if not (one.folder / "subset.json").is_file():
            (one.folder / "subset.npz").unlink(missing_ok=True)  # of a preparation that was killed here
            writers.write(subset.images, None, one.folder / "subset.npz", "npz")
            facts = {"data": subset.images.name, "budget": one.budget, "seed": one.seed,
                     "digest": content_digest(subset.images), "indices": subset.indices}  # fmt: skip
            files.write_text(one.folder / "subset.json", json.dumps(facts) + "\n")
        if settings.run and not runs.exists(one.generator):
            _copy_generator(Path(settings.run), one, plan.measurements, "discriminator" in settings.features)


def _copy_generator(
    run: Path, measurement: Measurement, others: Sequence[Measurement], with_discriminator: bool
) -> None:
    """Copy the run's generator into the measurement; UsageError unless the others have the same."""
    weights = (run / "generator.safetensors").read_bytes()
    for other in others:
        if runs.exists(other.generator) and (other.generator / "generator.safetensors").read_bytes() != weights:
            raise UsageError(
                f"the generator of {run} is another than the one that {other.folder.parent} was begun with, and an "
                "experiment is about one; put that one back, or start another experiment with --out"
            )
    measurement.generator.mkdir(exist_ok=True)
    own_code.write_copies(measurement.generator, config.own_parts(runs.Run(run).read_recipe()))
    if with_discriminator:
        discriminators.save(measurement.generator, discriminators.load(run))
    for name in GENERATOR_FILES:
        files.write_bytes(measurement.generator / name, (run / name).read_bytes())


def _refuse_other_settings(plan: Plan) -> None:
    before, recipe_before = experiment.read(plan.path)
    old, new = (one.model_dump(exclude={*CHANGEABLE}) for one in (before, plan.settings))
    changes = [config.Change(key, old[key], new[key]) for key in new if old[key] != new[key]]
    changes += config.differences(recipe_before, plan.recipe)
    ExperimentFolder(plan.path, "experiment").refuse_other_settings(list(map(str, changes)), "seeds and budgets")
