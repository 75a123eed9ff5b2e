"""The command that uses synthetic images: augment."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer import Argument, Option

from modiste.cli.options import (
    ADVANCED,
    SCORING,
    BackgroundOption,
    FitOption,
    JsonFlag,
    RayOption,
    TrustFlag,
    trust_code,
)
from modiste.cli.tables import print_table
from modiste.errors import UsageError

if TYPE_CHECKING:
    from modiste.experiments.augmentation.arms import Filter
    from modiste.experiments.augmentation.augment import Experiment
    from modiste.experiments.augmentation.plan import Plan

app = typer.Typer()


@app.command()
def augment(
    what: Annotated[
        str,
        Argument(
            metavar="DATA|RUN",
            help="fashion-mnist, mnist, kmnist, toy, a folder, .npz, .npy or .parquet "
            "file; a run; or an experiment's folder to go on with.",
        ),
    ],
    out: Annotated[Path | None, Option(help="The experiment's folder; default augment/NAME.")] = None,
    budgets: Annotated[
        str | None, Option(help="Label budgets; default 100,300,1000,5000,all, as far as there are images.")
    ] = None,
    seeds: Annotated[str | None, Option(help="How many seeds (default 5), or which (0,2,5).")] = None,
    rare: Annotated[
        str | None,
        Option(help="Classes (names or numbers) of which a tenth is kept, to be filled to balance: bag,shirt."),
    ] = None,
    recipe: Annotated[str | None, Option(help="A conditional recipe for the generators; default swift.")] = None,
    length: Annotated[str | None, Option(help="Of each generator's training: 5min, 3 epochs or 60000 images.")] = None,
    settings: Annotated[list[str] | None, Option("--set", help="section.key=value for the recipe.")] = None,
    ratio: Annotated[
        str | None,
        Option(
            help="Shares of synthetic images in mixed batches; several are compared: 0.25,0.5 (default 0.5).",
            rich_help_panel=SCORING,
        ),
    ] = None,
    filter_: Annotated[
        str | None,
        Option(
            "--filter",
            help="Which synthetic images are kept: none, confidence, distance; several are compared (default none).",
            rich_help_panel=SCORING,
        ),
    ] = None,
    keep: Annotated[
        float | None, Option(help="The share of each class that a filter keeps; default 0.5.", rich_help_panel=SCORING)
    ] = None,
    count: Annotated[
        int | None,
        Option(
            min=1, help="Synthetic images per set; default ten per label, 1,000 to 20,000.", rich_help_panel=SCORING
        ),
    ] = None,
    steps: Annotated[
        int | None,
        Option(
            min=1,
            help="Gradient steps of every arm; default 60 times the root of the budget, 600 to 4,000.",
            rich_help_panel=SCORING,
        ),
    ] = None,
    flip: Annotated[
        bool | None,
        Option(
            "--flip/--no-flip",
            help="Whether a mirrored image keeps its label; default: only for Fashion-MNIST's classes.",
            rich_help_panel=SCORING,
        ),
    ] = None,
    features: Annotated[
        bool,
        Option(
            "--features",
            help="Also linear classifiers on pixels, on the discriminator's features and on the judge's, if any.",
            rich_help_panel=SCORING,
        ),
    ] = False,
    resize: Annotated[
        int | None, Option(min=4, help="Side in pixels to which every image is resized.", rich_help_panel=ADVANCED)
    ] = None,
    fit: FitOption = None,
    background: BackgroundOption = None,
    jobs: Annotated[
        int,
        Option(
            min=1,
            help="Measurements (a budget and a seed) at a time; they share the processor. "
            "With several processes each, no more than there are cores for.",
        ),
    ] = 1,
    ray: RayOption = None,
    only: Annotated[
        str | None,
        Option(
            help="Only measure this one in an experiment's folder, as its workers do: 300-seed0.",
            rich_help_panel=ADVANCED,
        ),
    ] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Print the plan; train nothing.")] = False,
    trust: TrustFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Find out whether a generator's labelled images help a classifier, by how much and how surely.

    Arms: real only, real + classical (shift, erase, flip), real + synthetic, real
    + both, synthetic only. For a data set every budget and seed trains its own
    generator on the budget's images and labels alone. A run's generator has seen
    its training images' labels, so with a run these are the only budget. Tested on
    real images nothing else saw.

    Example: modiste augment fashion-mnist --budgets 100,300 --length 5min

    Example: modiste augment runs/mine --dry-run

    Example: modiste augment fashion-mnist --rare bag,shirt --filter none,confidence
    """
    trust_code(trust, [what])
    from modiste import config, progress
    from modiste.experiments import studies, study_config
    from modiste.experiments.augmentation import augment as augmentation
    from modiste.experiments.augmentation import experiment, plan

    if only is not None:
        with progress.live_log(only, every_line=True) as log:
            augmentation.measure_arms(Path(what), only, log)
        return
    numbers = study_config.parse_seeds(seeds) if seeds is not None else None
    options = plan.AugmentOptions(
        budgets=experiment.parse_budgets(budgets) if budgets is not None else None,
        seeds=tuple(range(numbers)) if isinstance(numbers, int) else numbers,
        ratio=_shares(ratio),
        filter=cast("tuple[Filter, ...] | None", _words(filter_)),  # checked with all settings
        keep=keep,
        count=count,
        steps=steps,
        flip=flip,
        features=features,
        rare=_words(rare),
        recipe=recipe,
        length=length,
        overrides=config.assignments(settings or []),
        resize=resize,
        fit=fit,
        background=background,
        jobs=jobs,
        ray=ray,
    )
    if not dry_run:
        _print_experiment(augmentation.run_experiment(what, out, options), as_json)
        return
    planned = plan.resolve(what, out, options)
    if ray in (None, "local"):
        studies.jobs_at_a_time(jobs, planned.processes, progress.console())
    _print_plan(planned, as_json)


def _words(text: str | None) -> tuple[str, ...] | None:
    return None if text is None else tuple(word.strip() for word in text.split(",") if word.strip())


def _shares(text: str | None) -> tuple[float, ...] | None:
    try:
        return None if text is None else tuple(float(word) for word in _words(text) or ())
    except ValueError:
        raise UsageError(f"--ratio {text!r} are no numbers; write shares as 0.25,0.5") from None


def _print_plan(planned: Plan, as_json: bool) -> None:
    from modiste import config, progress
    from modiste.experiments.augmentation import arms, experiment

    settings = planned.settings
    planned_arms = experiment.all_arms(settings)
    names = [arm.name for arm in planned_arms]
    rows: list[dict[str, Any]] = []
    for name, subset in planned.subsets.items():
        count = len(subset.images)
        length = config.resolve(planned.recipe, count).train
        steps = settings.steps or arms.default_steps(count)
        rows.append({
            "piece": name,
            "labels": count,
            "generator_images": 0 if settings.run else length.images,
            "generator_seconds_at_most": length.budget_seconds,
            "synthetic": experiment.synthetic_count(settings, subset.images),
            "steps": steps,
            "classifier_images": steps * arms.BATCH * sum(not arm.is_linear for arm in planned_arms),
        })  # fmt: skip
    if as_json:
        print(json.dumps({"out": str(planned.path), "arms": names, "pieces": rows}, indent=2))
        return
    heads = ["measurement", "labels", "generator shown", "synthetic images", "steps per arm", "classifiers shown"]
    keys = ("synthetic", "steps", "classifier_images")
    print_table(heads, [[row["piece"], f"{row['labels']:,}", _shown(row), *(f"{row[key]:,}" for key in keys)]
                        for row in rows])  # fmt: skip
    print(f"\n{len(rows)} measurements into {planned.path}; arms: {'; '.join(names)}")
    if settings.rare:
        class_names = planned.parts.images.class_names
        print(f"classes of which a tenth is kept: {', '.join(class_names[k] for k in settings.rare)}")
    if settings.run is None:
        seconds = [row["generator_seconds_at_most"] for row in rows]
        known = None not in seconds
        print(f"training the generators takes at most {progress.duration(sum(seconds))} one after the other" if known
              else "--length 5min bounds the time that each generator trains")  # fmt: skip
    print(f"the classifiers see {sum(row['classifier_images'] for row in rows):,} images")


def _shown(row: dict[str, Any]) -> str:
    """The images that one generator's training shows, in words."""
    from modiste import progress

    images, seconds = row["generator_images"], row["generator_seconds_at_most"]
    if not images:
        return "none: a run's"
    return f"{images:,} images" + ("" if seconds is None else f", at most {progress.duration(seconds)}")


def _print_experiment(experiment: Experiment, as_json: bool) -> None:
    from modiste.experiments.augmentation import analysis

    rows = experiment.read_rows()
    gains = {score: analysis.compared(rows, score) for score in analysis.scores_of(rows)}
    deciding = list(gains)[-1]
    sentences = analysis.answer(rows, gains[deciding], experiment.path)
    if as_json:
        tests = [{"score": score, **gain.to_json()} for score, of_score in gains.items() for gain in of_score]
        print(json.dumps({"experiment": str(experiment.path), "finished": experiment.is_finished(),
                          "answer": sentences, "gains": tests, "rows": [row.to_json() for row in rows]},
                         indent=2))  # fmt: skip
        return
    for budget in analysis.budgets_of(rows):
        print(f"{analysis.count_range(rows, budget, 'images')} labels:")
        for score, of_score in gains.items():
            print_table(*analysis.table(rows, of_score, budget, score))
        print("per class, in points against real + classical:")
        print_table(*analysis.per_class(rows, budget))
        print()
    for gain in analysis.compared_variants(rows, deciding):
        print(f"{gain.budget} labels: {gain.arm.name} {gain.verdict} (against {gain.against.name})")
    for sentence in sentences:
        print(sentence)
    if rows:
        print(f"wrote {experiment.path / 'report.md'}, with accuracy.png and records.csv beside it")
    if not experiment.is_finished():
        print(f"not finished; go on with:  modiste augment {shlex.quote(str(experiment.path))}")
