"""The folder of an augmentation experiment: its settings and its measurements, one per label budget and seed.

augment/NAME/settings.toml         the settings
             recipe.toml           how the generators are trained
             data.json             digests of the images to choose from and of the test images
             300-seed0/subset.npz  the budget's images of that seed, all that its generator and judge may see
                       subset.json their indices in the data
                       generator/  the run folder
                       synthetic.npz (and synthetic-FILTER.npz)  labelled images, each written once
                       arms.jsonl  one line per arm
             records.csv, records.jsonl, report.md, accuracy.png, accuracy.svg
             logs/                 the output of the commands
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from modiste import config, files, schema
from modiste.config import Count, Data, Recipe
from modiste.data.images import Images
from modiste.data.sets import open_data
from modiste.errors import ModisteError, UsageError
from modiste.experiments.augmentation import arms, subsets
from modiste.experiments.augmentation.arms import Arm, ArmRow
from modiste.experiments.augmentation.subsets import Budget
from modiste.schema import Section

Seed = Annotated[int, Field(ge=0, lt=2**31)]
Share = Annotated[float, Field(gt=0, lt=1)]

FEWEST_SYNTHETIC, MOST_SYNTHETIC = 1_000, 20_000
SEED_STRIDE = 10**6  # between the first noise seeds of two measurements, and so the most images of one
POSSIBLE = {
    "budgets": "give numbers of images from 2 on, or all, as 100,300,all",
    "seeds": f"give a count, or seeds from 0 to {2**32 // SEED_STRIDE - 1}",  # noise has seeds of 32 bits
    "ratio": "give shares above 0 and below 1, as 0.25,0.5",
    "filter": "choose among none, confidence and distance",
    "keep": "a filter keeps a share from 0.05 to 1",
}
"""The values that settings may have, where that says more than the rule that was broken."""
ROW_KEYS = ("budget", "seed", "rare")
"""Of a row, what its place in the folder and the settings tell, so that arms.jsonl does not hold it."""


class Settings(Section):
    """The settings of an experiment, but for the recipe of its generators."""

    data: Data
    """Where the labelled images are; `split` says whether the held-out ones take part."""
    budgets: Annotated[tuple[Annotated[int, Field(ge=2)] | Literal["all"], ...],
                       Field(min_length=1)]  # fmt: skip
    """Numbers of labelled images, or all."""
    seeds: Annotated[tuple[Annotated[Seed, Field(lt=2**32 // SEED_STRIDE)], ...], Field(min_length=1)] = (0, 1, 2, 3, 4)
    """Each has its own images, generator, synthetic images and initial weights."""
    threads: Count = 1
    """Processor threads of each measurement."""
    run: str | None = None
    """The run whose generator is used; None: every budget and seed trains one."""
    rare: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Classes of which only a tenth is kept."""
    ratio: Annotated[tuple[Share, ...], Field(min_length=1)] = (0.5,)
    """Shares of synthetic images in the batches of the arms that mix."""
    filter: Annotated[tuple[arms.Filter, ...], Field(min_length=1)] = ("none",)
    """Which synthetic images are kept."""
    keep: Annotated[float, Field(gt=0, le=1)] = 0.5
    """The share that a filter keeps; in new experiments at least `plan.LEAST_KEPT`."""
    count: Count | None = None
    """Synthetic images of a set; None: ten per real one, from 1,000 to 20,000."""
    steps: Count | None = None
    """Gradient steps of every arm; None: by the budget."""
    flip: bool = False
    """Whether a mirrored image keeps its label."""
    features: tuple[arms.LinearFeatures, ...] = ()
    """The features on which linear classifiers learn too; older experiments have none."""


@dataclass(frozen=True)
class Measurement:
    """One budget and one seed of an experiment, and their folder."""

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

    def read_subset(self) -> Images:
        """The labelled images that its generator and its classifiers may see."""
        return open_data(Data(name=str(self.folder / "subset.npz")))

    def read_rows(self, settings: Settings) -> list[ArmRow]:
        """The results of its finished arms."""
        path = self.folder / "arms.jsonl"
        known = {arm.name: arm for arm in all_arms(settings)}
        place = {"budget": str(self.budget), "seed": self.seed}
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
            rows = [ArmRow.from_json({**json.loads(line), **place}, known) for line in lines]
        except FileNotFoundError:
            return []
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModisteError(f"cannot read {path} ({error}); remove it and run the experiment again") from None
        return [replace(row, rare=_rare_accuracy(row, settings.rare)) for row in rows]

    def write_rows(self, rows: Sequence[ArmRow]) -> None:
        """Write the results of its finished arms."""
        trees = [{key: value for key, value in row.to_json().items() if key not in ROW_KEYS} for row in rows]
        files.write_text(self.folder / "arms.jsonl", "".join(json.dumps(tree) + "\n" for tree in trees))

    def is_finished(self, settings: Settings) -> bool:
        """Whether every arm is measured."""
        return {row.arm for row in self.read_rows(settings)} >= set(all_arms(settings))


def _rare_accuracy(row: ArmRow, rare: Sequence[int]) -> float | None:
    recalls = list(row.per_class.values())
    known = [recall for k in rare if (recall := recalls[k]) is not None]
    return sum(known) / len(known) if known else None


def measurements(settings: Settings, path: Path) -> list[Measurement]:
    """Every measurement of the experiment, seed by seed."""
    return [
        Measurement(budget, seed, path / f"{budget}-seed{seed}")
        for seed in dict.fromkeys(settings.seeds)
        for budget in dict.fromkeys(settings.budgets)
    ]


def all_arms(settings: Settings) -> list[Arm]:
    """The experiment's arms."""
    return arms.arms_for(settings.ratio, settings.filter, bool(settings.rare), settings.features)


def is_experiment(path: Path) -> bool:
    """Whether the folder holds an experiment."""
    return (path / "settings.toml").is_file() and (path / "recipe.toml").is_file()


def read(path: Path) -> tuple[Settings, Recipe]:
    """The settings of the experiment in that folder, and the recipe of its generators; UsageError if there is none."""
    if not is_experiment(path):
        raise UsageError(f"{path} is no experiment (it has no settings.toml); `modiste augment toy` makes one")
    place = path / "settings.toml"
    tree = schema.parse_toml(place.read_text(encoding="utf-8"), str(place))
    return build(config.with_older_defaults(tree), str(place)), config.load(path / "recipe.toml")


def build(tree: Mapping[str, Any], place: str | None = None) -> Settings:
    """Settings from nested plain values; errors name the file that they are from (`place`), or the option."""
    return schema.validate(Settings, tree, place, missing="an experiment needs data", allowed=POSSIBLE)


def parse_budgets(text: str) -> tuple[Budget, ...]:
    """Budgets from text like `100,300,all`."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words or not all(word == "all" or word.isdecimal() for word in words):
        raise UsageError(f"--budgets {text!r} are no numbers of images; write them as 100,300,all")
    return tuple("all" if word == "all" else int(word) for word in words)


def synthetic_count(settings: Settings, real: Images) -> int:
    """Images of a synthetic set: as many of each class, and enough to fill the rare ones."""
    classes = len(real.class_names)
    count = settings.count or min(MOST_SYNTHETIC, max(FEWEST_SYNTHETIC, 10 * len(real)))
    if settings.rare:
        assert real.labels is not None
        count = max(count, classes * int(subsets.missing_to_balance(real.labels, classes).max()))
    return -(-count // classes) * classes


def generated_count(settings: Settings, real: Images, kind: arms.Filter) -> int:
    """Images that are generated for that set, as many of each class, with those that the filter drops."""
    count, classes = synthetic_count(settings, real), len(real.class_names)
    return count if kind == "none" else -(-round(count / settings.keep) // classes) * classes
