"""The command `study`."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Argument, Option

from modiste.cli.options import ADVANCED, SCORING, JsonFlag, RayOption, TrackOption, TrustFlag, trust_code
from modiste.cli.tables import print_table, score_titles
from modiste.errors import ModisteError
from modiste.wording import counted

if TYPE_CHECKING:
    from modiste.experiments.studies import StudyFolder, StudyOptions
    from modiste.experiments.study_config import Study

app = typer.Typer()


@app.command()
def study(
    what: Annotated[
        str | None, Argument(help="A study's name, a TOML file, or a study folder to go on with; none lists them.")
    ] = None,
    out: Annotated[Path | None, Option(help="The study folder; default studies/NAME.")] = None,
    seeds: Annotated[str | None, Option(help="How many training seeds (3), or which (0,2,5).")] = None,
    budget: Annotated[str | None, Option(help="Length of each run: 5min, 3 epochs or 60000 images.")] = None,
    settings: Annotated[list[str] | None, Option("--set", help="section.key=value for every configuration.")] = None,
    count: Annotated[
        int | None,
        Option(
            min=2,
            help="Generated images per evaluation; default 10,000, and 2,000 where runs are short.",
            rich_help_panel=SCORING,
        ),
    ] = None,
    reference: Annotated[
        Literal["test", "heldout"] | None,
        Option(help="Real images to judge by; default test.", rich_help_panel=SCORING),
    ] = None,
    jobs: Annotated[
        int,
        Option(
            min=1,
            help="Runs at a time; they share the processor's threads. Of runs with several processes each, no more "
            "than there are cores for.",
        ),
    ] = 1,
    ray: RayOption = None,
    track: TrackOption = None,
    dry_run: Annotated[bool, Option("--dry-run", help="Print the plan with time and disk; train nothing.")] = False,
    calibration: Annotated[
        bool,
        Option(
            "--calibration/--no-calibration",
            help="Whether a dry run tries each configuration.",
            rich_help_panel=ADVANCED,
        ),
    ] = True,
    report: Annotated[
        bool,
        Option(
            "--report/--no-report",
            help="Whether the page of the finished study is written, as `modiste report` does.",
            rich_help_panel=ADVANCED,
        ),
    ] = True,
    trust: TrustFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """Compare recipes over training seeds, each run a process of its own; or go on with a study that was stopped.

    Example: modiste study diaz --seeds 3 --budget 5min

    Example: modiste study family --budget 10min --jobs 2 --dry-run

    Example: modiste study studies/diaz
    """
    trust_code(trust, [what] if what else [])
    from modiste import config, progress
    from modiste.experiments import studies, study_config

    if what is None:
        _print_list(as_json)
        return
    console = progress.console()
    chosen = study_config.parse_seeds(seeds) if seeds is not None else None
    options = studies.StudyOptions(
        chosen, budget, config.assignments(settings or []), count, reference, jobs, ray, track
    )
    resolved, path = studies.resolve_study(what, out, options, console)
    if not dry_run:
        _print_study(studies.run_study(resolved, path, options, console), report, as_json)
        return
    _print_forecast(_forecast(resolved, path, options, calibration), path, as_json)


def _print_list(as_json: bool) -> None:
    from modiste.experiments import study_config

    found = {name: study_config.load(name) for name in study_config.shipped()}
    if as_json:
        rows = [{**one.model_dump(mode="json"), "name": name} for name, one in found.items()]
        print(json.dumps(rows, indent=2))
        return
    for name, one in found.items():
        print(f"{name:14} {one.about}")
        print(f"{'':14} {', '.join(each.name for each in study_config.configurations(one))}")


def _forecast(resolved: Study, path: Path, options: StudyOptions, calibration: bool) -> dict[str, Any]:
    from modiste import progress
    from modiste.experiments import estimate, plan, studies, trackers

    if options.track:
        trackers.choose(options.track)
    planned, jobs = plan.expand(resolved, path, options.track), options.jobs
    if options.ray in (None, "local"):
        jobs = studies.jobs_at_a_time(jobs, max(run.processes for run in planned), progress.console())
    with progress.live_log(resolved.name) as log:
        return estimate.table(resolved, planned, jobs, calibration, log)


def _print_forecast(predicted: dict[str, Any], path: Path, as_json: bool) -> None:
    from modiste import progress

    if as_json:
        print(json.dumps({**predicted, "out": str(path)}, indent=2))
        return
    print(f"{predicted['study']}: {predicted['about']}")
    heads = ["configuration", "images", "GFLOP/image", "images/s", "training", "evaluation", "disk"]
    body = [
        [
            row["configuration"],
            f"{row['images']:,}",
            f"{row['gflop_per_image']:.3f}",
            "-" if row["images_per_second"] is None else f"{row['images_per_second']:,.0f}",
            "-" if row["training_seconds"] is None else progress.duration(row["training_seconds"]),
            "-" if row["evaluation_seconds"] is None else progress.duration(row["evaluation_seconds"]),
            "-" if row["bytes"] is None else f"{row['bytes'] / 1e6:,.1f} MB",
        ]
        for row in predicted["configurations"]
    ]
    print_table(heads, body)
    jobs = f", {predicted['jobs']} at a time" if predicted["jobs"] > 1 else ""
    print(f"\n{counted(predicted['runs'], 'run')}{jobs}, seeds {', '.join(map(str, predicted['seeds']))}, into {path}")
    if predicted["seconds"] is not None:
        uncounted = predicted["configurations"][0]["evaluation_seconds"] is None
        without = ", evaluations not counted" if uncounted else ""
        print(f"time about {progress.duration(predicted['seconds'])}{without}")
        if first := predicted["first_evaluation_seconds"]:
            print(f"of it {progress.duration(first)} for the real images, which are measured once for all studies")
    if predicted["bytes"] is not None:
        print(f"disk about {predicted['bytes'] / 1e6:,.0f} MB")
    print(f"the first of the commands:\n  {predicted['commands'][0]}")


def _print_study(folder: StudyFolder, report: bool, as_json: bool) -> None:
    from modiste.experiments import conclusions, results

    rows, finished = folder.read_rows(), folder.is_finished()
    found = conclusions.conclude(rows)
    page = _write_report(folder.path) if report and finished and any(row.status == "finished" for row in rows) else None
    if as_json:
        tree = {"study": str(folder.path), "finished": finished, "rows": [row.to_json() for row in rows]}
        tree |= {"report": str(page)} if page else {}
        print(json.dumps({**tree, "findings": conclusions.to_json(found)}, indent=2))
    else:
        print_table(*score_titles(*results.table(rows)))
        for sentence in [*results.notes(rows), *results.failures(rows), *conclusions.sentences(found)]:
            print(sentence)
        print(f"wrote {folder.path / 'records.csv'}")
        if not finished:
            print(f"not finished; go on with:  modiste study {shlex.quote(str(folder.path))}")
        if page:
            print(f"open {page}")
    if not any(row.status == "finished" for row in rows) and finished:
        raise ModisteError(f"every run of the study failed; {folder.path / 'logs'} holds their output")


def _write_report(folder: Path) -> Path | None:
    """Write the study's page; None, with a note, where that is not possible."""
    from modiste import progress
    from modiste.reports import report as reports

    with progress.live_log("report") as log:
        try:
            return reports.report(folder, log=log).html
        except ModisteError as error:
            log(f"note: no report was written: {error}")
    return None
