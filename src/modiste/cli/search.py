"""The command `search`."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from modiste.cli.options import JsonFlag, TrustFlag, trust_code
from modiste.cli.tables import print_table
from modiste.wording import counted

if TYPE_CHECKING:
    from modiste.experiments.search.search import SearchResult
    from modiste.experiments.search.spaces import Space

app = typer.Typer()


@app.command()
def search(
    what: Annotated[
        str | None, Argument(help="A space's name, a TOML file, or a search's folder to go on with; none lists them.")
    ] = None,
    out: Annotated[Path | None, Option(help="The folder of the search; default searches/NAME.")] = None,
    trials: Annotated[int | None, Option(min=1, help="How many trials in all; finished ones count.")] = None,
    storage: Annotated[
        str | None, Option(help="An Optuna URL or a file NAME.journal that workers share; default OUT/optuna.db.")
    ] = None,
    seed: Annotated[int | None, Option(min=0, help="Fixes which trials are made, and is their training seed.")] = None,
    finalists: Annotated[int | None, Option(min=0, help="Best trials to train over seeds; 0 = none.")] = None,
    seeds: Annotated[int | None, Option(help="How many training seeds each finalist has.")] = None,
    budget: Annotated[str | None, Option(help="Length of a trial: 5min, 3 epochs or 60000 images.")] = None,
    finalist_budget: Annotated[str | None, Option(help="Length of a finalist's run; default as a trial.")] = None,
    settings: Annotated[list[str] | None, Option("--set", help="section.key=value for every run.")] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Print what would be tried; train nothing.")] = False,
    trust: TrustFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Search for better settings of a recipe; give the command again to go on; start it twice to share the work.

    Example: modiste search noronha --trials 3
    """
    trust_code(trust, [what] if what else [])
    from modiste import config, progress
    from modiste.experiments.search import search as searches
    from modiste.experiments.search import spaces

    if what is None:
        _print_list(as_json)
        return
    options = searches.SearchOptions(
        trials, seed, budget, finalists, seeds, finalist_budget, config.assignments(settings or []), storage
    )
    space, path = searches.resolve_search(what, out, options)
    if dry_run:
        _print_plan(space, path, as_json)
        return
    found = searches.run_search(space, path, storage, progress.console())
    if as_json:
        print(json.dumps(_tree(found), indent=2))
    else:
        _print_search(found, spaces.base_recipe(found.space).name, storage)


def _print_list(as_json: bool) -> None:
    from modiste.experiments.search import spaces

    found = {name: spaces.load(name) for name in spaces.shipped()}
    if as_json:
        print(json.dumps([space.model_dump(mode="json", exclude_none=True) for space in found.values()], indent=2))
        return
    for name, space in found.items():
        print(f"{name:14} {space.about}")
        print(f"{'':14} {', '.join(space.space)}")


def _print_plan(space: Space, path: Path, as_json: bool) -> None:
    from modiste import subprocesses
    from modiste.experiments import study_config
    from modiste.experiments.search import spaces
    from modiste.experiments.search import trials as search_trials

    point = {key: axis.extremes[0] for key, axis in space.space.items()}
    planned = search_trials.planned_trial(space, path, "trial-0000", point)
    commands = [subprocesses.printable(words) for words in planned.commands]
    if as_json:
        tree = space.model_dump(mode="json", exclude_none=True)
        print(json.dumps({**tree, "out": str(path), "warnings": space.warnings, "commands": commands}, indent=2))
        return
    print(f"{space.name}: {space.about}")
    print_table(["setting", "values"], [[key, axis.words] for key, axis in space.space.items()])
    points = f"{space.settings_count:,.0f} points" if space.settings_count < 1e12 else "endlessly many points"
    length, finals = space.budget or "the recipe's length", space.finalists
    print(f"\n{points}; {counted(space.trials, 'trial')} of {length}, sampler {space.sampler}, pruner {space.pruner}")
    print(f"led by {space.objective} ({space.better} is better) of {space.evaluate.count:,} images, held-out reference")
    print(f"then {counted(finals.count, 'finalist')} x {counted(finals.seeds, 'seed')} of {finals.budget or length}")
    seconds = [study_config.budget_changes(text).get("train.budget_seconds") for text in (length,) if space.budget]
    if seconds and seconds[0]:
        print(f"at most about {space.trials * seconds[0] / 3600:.1f} h for the trials, evaluations not counted")
    for sentence in space.warnings:
        print(f"warning: {sentence}")
    base = spaces.base_recipe(space)
    print(f"a trial of {base.name}, for instance:")
    for command in commands:
        print(f"  {command}")


def _tree(found: SearchResult) -> dict[str, Any]:
    from modiste.experiments import conclusions

    final = found.finalists
    return {
        "search": str(found.path),
        "finished": found.finished,
        "warnings": found.space.warnings,
        "trials": [row.to_json() for row in found.trials],
        "finalists": None if final is None else {
            "study": str(final.study),
            "score": final.score,
            "rows": [row.to_json() for row in final.rows],
            "verdicts": [conclusions.pair_sentence(pair, final.score) for pair in final.conclusions.pairs],
            "findings": conclusions.to_json(final.conclusions),
        },
        "best": None if final is None else {
            "trial": final.best, "sentence": final.sentence, "recipe": str(final.recipe)
        },
    }  # fmt: skip


def _print_search(found: SearchResult, recipe: str, storage: str | None) -> None:
    from modiste import subprocesses
    from modiste.evaluation import records
    from modiste.experiments import conclusions, results

    space, final = found.space, found.finalists
    keys = list(space.space)
    score = next((row.score for row in found.trials if row.score), space.objective)
    better = "lower" if space.better == "near" else space.better  # a trial is led by its distance
    heads = ["trial", *(key.partition(".")[2] for key in keys), f"{score} ({better})", "seconds", "state"]
    body = [
        [
            row.name,
            *(_short(row.settings.get(key)) for key in keys),
            records.with_uncertainty(row.value, row.uncertainty) if row.value is not None else "-",
            records.format_number(row.seconds) if row.seconds else "-",
            row.state + (f": {row.reason}" if row.reason else ""),
        ]
        for row in found.trials
    ]
    print_table(heads, body)
    here = shlex.quote(str(found.path))
    if final is None and found.finished:
        print(f"wrote {found.path / 'trials.csv'}; there are no finalists, so none is called the best")
        return
    if final is None:
        where = f" --storage {shlex.quote(storage)}" if storage and "@" not in storage else ""
        print(f"not finished; go on with:  modiste search {here}{where}")
        return
    print(f"\nfinalists over training seeds, {recipe} with the settings above:")
    print_table(*results.table(final.rows))
    sentences = [*results.notes(final.rows), *results.failures(final.rows), *conclusions.sentences(final.conclusions)]
    for sentence in [*sentences, final.sentence]:
        print(sentence)
    print(f"wrote {final.recipe}; train it with:  {subprocesses.printable(['train', str(final.recipe)])}")


def _short(value: Any) -> str:
    from modiste.evaluation import records
    from modiste.experiments import study_config

    if isinstance(value, float):
        return records.format_number(value, 3)
    return "-" if value is None else study_config.literal(value)
