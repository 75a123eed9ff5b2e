"""Verbs that use synthetic images: augment."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from modiste.cli.options import BackgroundOption, FitOption, JsonFlag
from modiste.cli.tables import print_table
from modiste.errors import UsageError

if TYPE_CHECKING:
    from modiste.experiments.augmentation.augment import Experiment

app = typer.Typer()


@app.command()
def augment(
    what: Annotated[
        str, Argument(metavar="DATA|RUN", help="fashion-mnist, mnist, kmnist, toy, a folder, .npz or .parquet file; a "
                      "run; or an experiment's folder to go on with.")
    ],
    out: Annotated[Path | None, Option(help="The experiment's folder; default augment/NAME.")] = None,
    budgets: Annotated[str | None, Option(help="Label budgets; default 100,300,1000,5000,all, as far as there are "
                                          "images.")] = None,
    seeds: Annotated[str | None, Option(help="How many seeds (default 5), or which (0,2,5).")] = None,
    rare: Annotated[str | None, Option(help="Classes (names or numbers) of which a tenth is kept, to be filled to "
                                       "balance: bag,shirt.")] = None,
    recipe: Annotated[str | None, Option(help="A conditional recipe for the generators; default swift.")] = None,
    length: Annotated[str | None, Option(help="Of each generator's training: 5min, 3 epochs or 60000 images.")] = None,
    settings: Annotated[list[str] | None, Option("--set", help="section.key=value for the recipe.")] = None,
    ratio: Annotated[str | None, Option(help="Shares of synthetic images in mixed batches; several are compared: "
                                        "0.25,0.5 (default 0.5).")] = None,
    filter_: Annotated[str | None, Option("--filter", help="Which synthetic images are kept: none, confidence, "
                                          "distance; several are compared (default none).")] = None,
    keep: Annotated[float | None, Option(help="The share of each class that a filter keeps; default 0.5.")] = None,
    count: Annotated[int | None, Option(min=1, help="Synthetic images per set; default ten per label, 1,000 to "
                                        "20,000.")] = None,
    steps: Annotated[int | None, Option(min=1, help="Gradient steps of every arm; default 60 times the root of the "
                                        "budget, 600 to 4,000.")] = None,
    flip: Annotated[bool | None, Option("--flip/--no-flip", help="Whether a mirrored image keeps its label; default: "
                                        "only for Fashion-MNIST's classes.")] = None,
    resize: Annotated[int | None, Option(min=4, help="Side in pixels to which every image is resized.")] = None,
    fit: FitOption = None,
    background: BackgroundOption = None,
    jobs: Annotated[int, Option(min=1, help="Pieces (a budget and a seed) at a time; they share the processor. "
                             "With several processes each, no more than there are cores for.")] = 1,
    ray: Annotated[str | None, Option(help="Address of a Ray cluster, or local (extra `ray`).")] = None,
    only: Annotated[str | None, Option(help="Measure this piece of an experiment's folder, as its workers do: "
                                       "300-seed0.")] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Print the plan; train nothing.")] = False,
    as_json: JsonFlag = False,
) -> None:  # fmt: skip
    """Find out whether a generator's labelled images help a classifier, by how much and how surely.

    Arms: real only, real + classical (shift, erase, flip), real + synthetic, real + both, synthetic only. For a data
    set every budget and seed trains its own generator on the budget's images and labels alone. A run's generator has
    seen its training images' labels, so with a run these are the only budget. Tested on real images nothing else saw.

    Example: modiste augment fashion-mnist --budgets 100,300 --seeds 5 --length 5min --jobs 2
    """
    from modiste import config, progress
    from modiste.experiments import study_config
    from modiste.experiments.augmentation import augment as augmentation
    from modiste.experiments.augmentation import experiment
    from modiste.experiments.augmentation.augment import measure_piece

    if only is not None:
        with progress.live_log(only, every_line=True) as say:
            measure_piece(Path(what), only, say)
        return
    numbers = study_config.parse_seeds(seeds) if seeds is not None else None
    asked: dict[str, Any] = {
        "budgets": experiment.parse_budgets(budgets) if budgets is not None else None,
        "seeds": tuple(range(numbers)) if isinstance(numbers, int) else numbers,
        "rare": _words(rare),
        "recipe": recipe,
        "length": length,
        "overrides": config.assignments(settings or []) or None,
        "ratio": _shares(ratio),
        "filter": _words(filter_),
        "keep": keep,
        "count": count,
        "steps": steps,
        "flip": flip,
        "resize": resize,
        "fit": fit,
        "background": background,
    }
    if dry_run:
        from modiste import progress
        from modiste.experiments import studies

        found = experiment.resolve_experiment(what, out, jobs=jobs, **asked)
        if ray in (None, "local"):
            studies.at_a_time(jobs, experiment.processes_of(found[0].run, found[1]), progress.console())
        _print_plan(*found, as_json)
        return
    _print_experiment(augmentation.augment(what, out, jobs=jobs, ray=ray, **asked), as_json)


def _words(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(word.strip() for word in text.split(",") if word.strip())


def _shares(text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(float(word) for word in _words(text) or ())
    except ValueError:
        raise UsageError(f"--ratio {text!r} are no numbers; write shares as 0.25,0.5") from None


def _print_plan(settings: Any, recipe: Any, path: Path, parts: Any, as_json: bool) -> None:
    from modiste import config, progress
    from modiste.experiments.augmentation import arms, experiment

    found = experiment.chosen(settings, recipe, path, parts)
    names = [arm.name for arm in experiment.all_arms(settings)]
    rows: list[dict[str, Any]] = []
    for piece in experiment.pieces(settings, path):
        images = found[piece.name][0]
        length = config.resolve(recipe, len(images)).train
        steps = settings.steps or arms.default_steps(len(images))
        rows.append({
            "piece": piece.name,
            "labels": len(images),
            "generator_images": 0 if settings.run else length.images,
            "generator_seconds_at_most": length.budget_seconds,
            "synthetic": experiment.synthetic_count(settings, images),
            "steps": steps,
            "classifier_images": steps * arms.BATCH * len(names),
        })  # fmt: skip
    if as_json:
        print(json.dumps({"out": str(path), "arms": names, "pieces": rows}, indent=2))
        return
    heads = ["piece", "labels", "generator shown", "synthetic images", "steps per arm", "classifiers shown"]
    keys = ("synthetic", "steps", "classifier_images")
    print_table(heads, [[row["piece"], f"{row['labels']:,}", _shown(row), *(f"{row[key]:,}" for key in keys)]
                        for row in rows])  # fmt: skip
    shown = sum(row["classifier_images"] for row in rows)
    print(f"\n{len(rows)} pieces into {path}; arms: {'; '.join(names)}")
    if settings.rare:
        print(f"classes of which a tenth is kept: {', '.join(parts.images.class_names[k] for k in settings.rare)}")
    if settings.run is None:
        seconds = [row["generator_seconds_at_most"] for row in rows]
        known = None not in seconds
        print(f"training the generators takes at most {progress.duration(sum(seconds))} one after the other" if known
              else "--length 5min bounds the time that each generator trains")  # fmt: skip
    print(f"the classifiers see {shown:,} images")


def _shown(row: dict[str, Any]) -> str:
    """What one generator's training is to show, in words."""
    from modiste import progress

    images, seconds = row["generator_images"], row["generator_seconds_at_most"]
    if not images:
        return "none: a run's"
    return f"{images:,} images" + ("" if seconds is None else f", at most {progress.duration(seconds)}")


def _print_experiment(found: Experiment, as_json: bool) -> None:
    from modiste.experiments.augmentation import analysis

    rows = found.rows
    scores = ["accuracy", "rare"] if analysis.has_rare(rows) else ["accuracy"]
    compared = {score: analysis.compared(rows, score) for score in scores}
    said = analysis.answer(rows, compared[scores[-1]], found.path)
    if as_json:
        tests = [{"score": score, **dataclasses.asdict(gain)} for score in scores for gain in compared[score]]
        print(json.dumps({"experiment": str(found.path), "finished": found.finished, "answer": said, "gains": tests,
                          "rows": rows}, indent=2))  # fmt: skip
        return
    for budget in dict.fromkeys(row["budget"] for row in rows):
        print(f"{analysis.spread(rows, budget, 'images')} labels:")
        for score in scores:
            print_table(*analysis.table(rows, compared[score], budget, score))
        print("per class, in points against real + classical:")
        print_table(*analysis.per_class(rows, budget))
        print()
    for gain in analysis.varied(rows, scores[-1]):
        print(f"{gain.budget} labels: {gain.arm} {gain.verdict} (against {gain.against})")
    for sentence in said:
        print(sentence)
    if rows:
        print(f"wrote {found.path / 'report.md'}, with accuracy.png and records.csv beside it")
    if not found.finished:
        print(f"not finished; go on with:  modiste augment {shlex.quote(str(found.path))}")
