"""How well detectors find a class that they have never seen: one training without it for each class left out.

detect/NAME-leave-out/settings.json         the recipe's hash, the judge's and the options
                      runs/without-CLASS/   the run folder
                      scores/CLASS.json     the scores of test images by each detector
                      leave-out.json, leave-out.csv, leave-out.md, leave-out.png

Finished runs are reused, and so are scores that fit their weights: a measurement that was stopped goes on.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from modiste import config, files, progress, runs
from modiste.config import Data, Recipe
from modiste.data.classes import class_number
from modiste.data.images import Images, content_digest
from modiste.data.sets import has_test, open_data, resolved_name
from modiste.data.subsets import drawn_subset
from modiste.errors import ModisteError, UsageError
from modiste.evaluation import records
from modiste.experiments import statistics, study_config
from modiste.experiments.detection import areas, detect, detectors
from modiste.experiments.detection.areas import Area, Placements, Vector
from modiste.experiments.detection.detectors import STEPS, Detector
from modiste.experiments.statistics import Verdict
from modiste.metrics import features
from modiste.plotting import charts, figures
from modiste.plotting.charts import Dot
from modiste.runs import Run
from modiste.training import trainer

OURS = ("settings.json", "runs", "scores", "leave-out.*")
SIMPLE = ("neighbours", "components", "cosine", "forest")
"""The detectors that need no generator and no discriminator."""
FEWEST_IMAGES = 10
"""Of a kind. Of two detectors that know nothing, one is found better in 8 % of comparisons with ten images and in 27 %
with two, where 5 % are promised (4,000 draws; a test has the like)."""
ALPHA = 0.05


@dataclass(frozen=True)
class LeaveOutOptions:
    """The options of `modiste detect --leave-out`."""

    classes: tuple[str, ...] = ()
    """The classes to leave out, by name or number; none: each in turn."""
    budget: str | None = None
    """The length of each training: 2min, 3 epochs or 60000 images; None: the recipe's own."""
    seed: int = 0
    """Of the trainings."""
    detectors: tuple[str, ...] = ()
    """Their names; none: all usual ones."""
    count: int = 1000
    """Test images of the class left out, and of the other classes, at most."""
    steps: int = STEPS
    overrides: Mapping[str, Any] | None = None
    """Changes of the recipe, by key."""


@dataclass(frozen=True)
class LeftOut:
    """The scores of one class that was left out: of its test images, and of those of the other classes."""

    class_name: str
    strange: dict[str, Vector]
    """By the detector's name."""
    normal: dict[str, Vector]

    def placements(self, detector: str) -> Placements:
        """Where each image stands by a detector."""
        return areas.placements(self.strange[detector], self.normal[detector])

    def area(self, detector: str) -> Area:
        """The area under the curve of a detector."""
        return areas.area(self.placements(detector))


@dataclass(frozen=True)
class Ranking:
    """A class's detectors that have not seen it, from the best on."""

    best: str
    tied: tuple[str, ...]
    """Those that cannot be told apart from the best (DeLong's test, Holm's correction over all pairs)."""


@dataclass(frozen=True)
class LeaveOut:
    """The result of `modiste detect --leave-out`."""

    recipe: str
    folder: Path
    detectors: tuple[Detector, ...]
    classes: tuple[LeftOut, ...]
    waiting: tuple[str, ...] = ()
    """Classes that are not measured yet."""

    def mean(self, detector: str) -> statistics.Summary:
        """The mean area over the classes, with its interval over them."""
        total = statistics.summary(one.area(detector).value for one in self.classes)
        low, high = (end if end is None else min(1.0, max(0.0, end)) for end in (total.low, total.high))
        return replace(total, low=low, high=high)

    def fair(self) -> list[str]:
        """The detectors that have learned nothing of the class left out."""
        return [one.name for one in self.detectors if not one.sees_classes]

    def ranking(self, left_out: LeftOut) -> Ranking:
        """Which detector finds this class best, and which cannot be told apart from it."""
        names = self.fair() or [one.name for one in self.detectors]
        best = max(names, key=lambda name: left_out.area(name).value)
        pairs = [(a, b) for k, a in enumerate(names) for b in names[k + 1 :]]
        raw = [areas.difference(left_out.placements(a), left_out.placements(b))[1] for a, b in pairs]
        adjusted = dict(zip(pairs, statistics.holm(raw), strict=True))
        tied = [name for name in names if name != best
                and adjusted[(name, best) if (name, best) in adjusted else (best, name)] > ALPHA]  # fmt: skip
        return Ranking(best, tuple(tied))

    def verdicts(self) -> list[Verdict]:
        """Every pair of detectors that have not seen the classes, by their areas paired by class."""
        table = {name: {k: one.area(name).value for k, one in enumerate(self.classes)} for name in self.fair()}
        return statistics.verdicts(table, better="higher")

    def to_json(self) -> dict[str, Any]:
        """The result as plain values."""
        return {
            "recipe": self.recipe,
            "folder": str(self.folder),
            "waiting": list(self.waiting),
            "detectors": [
                {"detector": one.name, "about": one.about, "sees_classes": one.sees_classes,
                 "mean": self.mean(one.name).mean, "low": self.mean(one.name).low, "high": self.mean(one.name).high}
                for one in self.detectors
            ],
            "classes": [
                {"class": one.class_name, "left_out": len(next(iter(one.strange.values()))),
                 "others": len(next(iter(one.normal.values()))),
                 "areas": {detector.name: asdict(one.area(detector.name)) for detector in self.detectors},
                 "best": self.ranking(one).best, "tied": list(self.ranking(one).tied)}
                for one in self.classes
            ],
            "answer": sentences(self),
        }  # fmt: skip


def leave_out(
    what: str | Path,
    out: str | Path | None = None,
    *,
    options: LeaveOutOptions = LeaveOutOptions(),
    log: Callable[[str], None] | None = None,
) -> LeaveOut:
    """Train without each class in turn, and measure how well each detector tells its test images from the others'.

    `what` is a run, whose recipe is used, or a recipe. Everything lies in `out`, by default detect/NAME-leave-out; what
    is there already is reused. Where the user stops a training, its state is saved and the other classes wait.
    """
    say = log or (lambda text: None)
    recipe = _recipe(what, options)
    folder = Path("detect") / f"{recipe.name}-leave-out" if out is None else Path(out)
    files.refuse_foreign_folder(folder, "folder of a leave-out measurement", OURS)
    test = _test_images(recipe.data)
    numbers = _numbers(options.classes, test)
    chosen = detectors.chosen(options.detectors, has_discriminator=True)
    _check_settings(folder, recipe, test, options)
    found: list[LeftOut] = []
    waiting = [test.class_names[number] for number in numbers]
    result = LeaveOut(recipe.name, folder, tuple(chosen), (), tuple(waiting))
    for number in numbers:
        name = test.class_names[number]
        run = _train(recipe, folder, test.class_names, number)
        if run is None:
            break
        found.append(_measure(run, folder, test, number, chosen, options))
        waiting.remove(name)
        result = LeaveOut(recipe.name, folder, tuple(chosen), tuple(found), tuple(waiting))
        best = result.ranking(found[-1]).best
        say(f"without {name}: {best} finds it best, {_shown(found[-1].area(best))}")
    if found:
        _write(result)
    return result


def _recipe(what: str | Path, options: LeaveOutOptions) -> Recipe:
    run = runs.find_run(what)
    recipe = run.read_recipe() if run else config.load(what)
    length = study_config.budget_changes(options.budget, "--budget") if options.budget else {}
    recipe = config.override(recipe, {"seed": options.seed, **length, **(options.overrides or {})})
    if recipe.data.classes:
        raise UsageError(f"{what} was trained on some classes (data.classes) already; give a run or recipe of all")
    if recipe.finetune.ancestor:
        raise UsageError(
            f"{what} starts from {recipe.finetune.ancestor}, which may have seen the class left out; give a run or "
            "recipe without an ancestor"
        )
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"name": resolved_name(recipe.data.name)})})


def _test_images(dataset: Data) -> Images:
    """Labelled images that no training sees."""
    if not has_test(dataset) and dataset.split == "train":
        raise UsageError(
            f"{dataset.name} has no test images, and the recipe trains on all others; hold some out with --set "
            "data.split=fit"
        )
    images = open_data(dataset, part="test" if has_test(dataset) else "heldout")
    if images.labels is None or len(images.class_names) < 3:
        raise UsageError(
            f"{images.name} has no labels of three classes or more, and a class is to be left out; give a data set "
            "with labels"
        )
    return images


def _numbers(asked: Sequence[str], test: Images) -> list[int]:
    if not asked:
        return list(range(len(test.class_names)))
    return list(dict.fromkeys(class_number(one, test.class_names, test.name) for one in asked))


def _check_settings(folder: Path, recipe: Recipe, test: Images, options: LeaveOutOptions) -> None:
    """Write the settings that all classes share; UsageError where the folder was begun with others."""
    judge = features.primary_extractor(recipe.data).fingerprint
    settings = {
        "recipe": config.content_hash(recipe), "count": options.count, "steps": options.steps, "judge": judge,
        "set of test images": content_digest(test),
    }  # fmt: skip
    place = folder / "settings.json"
    if place.is_file():
        try:
            before = dict(json.loads(place.read_text(encoding="utf-8")))
        except (TypeError, ValueError):
            raise ModisteError(
                f"{place} is damaged, so nothing says how {folder} was measured; choose another folder with --out"
            ) from None
        if changed := [key for key in settings if before.get(key) != settings[key]]:
            raise UsageError(
                f"{folder} was begun with another {changed[0]}, and classes measured otherwise cannot be compared; "
                "choose another folder with --out"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    files.write_json(place, settings)


def _train(recipe: Recipe, folder: Path, class_names: Sequence[str], number: int) -> Run | None:
    """The finished run without that class; None where the user stopped its training."""
    others = [name for k, name in enumerate(class_names) if k != number]
    place = folder / "runs" / f"without-{_slug(class_names[number], number)}"
    done = runs.Run(place) if runs.exists(place) else None
    if done and done.read_manifest().status == "finished" and list(done.read_recipe().data.classes) == others:
        return done
    run = trainer.train(config.override(recipe, {"data.classes": others}), place)
    return run if run.read_manifest().status == "finished" else None


def _measure(
    run: Run, folder: Path, test: Images, number: int, chosen: Sequence[Detector], options: LeaveOutOptions
) -> LeftOut:
    """The scores of the class that the run has not seen and of the others, from the folder or computed now."""
    name = test.class_names[number]
    place = folder / "scores" / f"{_slug(name, number)}.json"
    weights = hashlib.sha256((run.path / "generator.safetensors").read_bytes()).hexdigest()[:16]
    strange, normal = _parts(test, number, options.count)
    tree: dict[str, Any] = {"class": name, "weights": weights, "strange": {}, "normal": {}}
    with suppress(OSError, ValueError, KeyError, TypeError):
        before = json.loads(place.read_text(encoding="utf-8"))
        tree = before if before["weights"] == weights else tree
    missing = [one for one in chosen if one.name not in tree["strange"]]
    if missing:
        dataset = run.read_recipe().data
        material = detect.open_material(run, detect.training_images(run, dataset), dataset, options.steps)
        for detector in missing:
            with progress.stage(f"{detector.name}: scores of {len(strange) + len(normal):,} images, without {name}"):
                fitted = detector.fit(material)
                for kind, images in (("strange", strange), ("normal", normal)):
                    tree[kind][detector.name] = [float(f"{value:.7g}") for value in fitted.score(images.pixels)]
            place.parent.mkdir(exist_ok=True)
            files.write_text(place, json.dumps(tree) + "\n")
    kinds = {
        kind: {one.name: np.array(tree[kind][one.name], np.float64) for one in chosen} for kind in ("strange", "normal")
    }
    return LeftOut(name, kinds["strange"], kinds["normal"])


def _parts(test: Images, number: int, count: int) -> tuple[Images, Images]:
    """The test images of the class, and of the other classes, at most so many of each."""
    assert test.labels is not None
    parts = []
    for is_left_out in (True, False):
        images = test.select(np.flatnonzero((test.labels == number) == is_left_out))
        if len(images) < FEWEST_IMAGES:
            raise ModisteError(
                f"{test.name} has {len(images)} images of {'' if is_left_out else 'other classes than '}"
                f"{test.class_names[number]}, and an area needs {FEWEST_IMAGES}; give more"
            )
        parts.append(images.select(drawn_subset(len(images), images.labels, count, seed=0)))
    return parts[0], parts[1]


def _slug(name: str, number: int) -> str:
    """A class's name for a file, behind its number: names may differ in letters that a file's name does not show."""
    plain = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in name.lower()).strip("-")
    return f"{number}-{plain}".rstrip("-")


# what is shown


def table(result: LeaveOut) -> tuple[list[str], list[list[str]]]:
    """A row per class left out and one for their mean; a column of areas per detector.

    Where intervals are about symmetric, their half width stands beside the area. The best detectors that have not seen
    the class have a star.
    """
    names = [one.name for one in result.detectors]
    heads = ["left out", *(f"({one.name})" if one.sees_classes else one.name for one in result.detectors)]
    body = []
    for one in result.classes:
        ranking = result.ranking(one)
        cells = [_shown(one.area(name)) + ("*" if name in (ranking.best, *ranking.tied) else "") for name in names]
        body.append([one.class_name, *cells])
    if len(result.classes) > 1:
        means = [result.mean(name) for name in names]
        body.append(["mean", *(_shown(Area(m.mean or 0, m.low or 0, m.high or 0)) for m in means)])
    return heads, body


def _shown(one: Area) -> str:
    half = max(one.high - one.value, one.value - one.low)
    return f"{one.value:.3f} ±{half:.3f}".replace("0.", ".")


LEGEND = (
    "area under the curve, 0.5 by chance, with its 95 % interval; * the best, and those that cannot be told apart from "
    "it, among detectors that have not seen the class"
)


def sentences(result: LeaveOut) -> list[str]:
    """Which detector wins, whether that can be told, and what to doubt."""
    if not result.classes:
        return ["no class is measured yet"]
    found = []
    fair = result.fair()
    means = {name: result.mean(name).mean or 0.0 for name in fair}
    if len(result.classes) == 1:
        one = result.classes[0]
        ranking = result.ranking(one)
        tail = f"; {_listed(ranking.tied)} cannot be told apart from it" if ranking.tied else ""
        found.append(f"{ranking.best} finds {one.class_name} best, {_shown(one.area(ranking.best))}{tail}")
    elif fair:
        best = max(fair, key=means.__getitem__)
        verdicts = [one for one in result.verdicts() if best in (one.first, one.second)]
        beaten = [one.second if one.first == best else one.first for one in verdicts if one.winner == best]
        tied = [name for name in fair if name != best and name not in beaten]
        tail = f"shown to be better than {_listed(beaten)}" if beaten else "shown to be better than no other"
        tail += f"; {_listed(tied)} cannot be told apart from it" if tied else ""
        classes = f"over {len(result.classes)} classes"
        found.append(f"{best} finds left-out classes best, {means[best]:.3f} on average {classes}: {tail}")
        simple = [name for name in tied if name in SIMPLE]
        if best in SIMPLE:
            found.append("it is a simple detector: no generator is needed for this")
        elif simple:
            found.append(
                f"{_listed(simple)} need{'s' * (len(simple) == 1)} no generator, so none is shown to be needed for this"
            )
    seen = [one.name for one in result.detectors if one.sees_classes]
    for name in seen:
        found.append(
            f"{name} reaches {result.mean(name).mean or 0:.3f}, but its features were learned with the labels of every "
            "class, those left out too, so it is no rival here"
        )
    if result.waiting:
        found.append(f"not measured yet: {_listed(result.waiting)}")
    return found


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _write(result: LeaveOut) -> None:
    """Write the result as JSON, CSV, Markdown and a chart."""
    text = io.StringIO(newline="")
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(["left_out", "detector", "sees_classes", "images_left_out", "images_others", "area", "low", "high"])
    for one in result.classes:
        for detector in result.detectors:
            area, counts = one.area(detector.name), (one.strange[detector.name], one.normal[detector.name])
            lines.writerow([one.class_name, detector.name, detector.sees_classes, *map(len, counts),
                            f"{area.value:.5f}", f"{area.low:.5f}", f"{area.high:.5f}"])  # fmt: skip
    folder = result.folder
    files.write_text(folder / "leave-out.csv", text.getvalue())
    parts = [f"# {result.recipe}: classes left out", records.markdown(*table(result)), LEGEND, *sentences(result)]
    files.write_text(folder / "leave-out.md", files.text_with_mark("\n\n".join(parts) + "\n"))
    dots = []
    for detector in result.detectors:
        total = result.mean(detector.name)
        interval = None if total.low is None or total.high is None else (total.low, total.high)
        points = [one.area(detector.name).value for one in result.classes]
        dots.append(Dot(detector.name, total.mean or 0.0, interval, points))
    figures.save(charts.dots(dots, "area under the curve: mean over classes, and each class"), folder / "leave-out.png")
    files.write_json(folder / "leave-out.json", result.to_json())
