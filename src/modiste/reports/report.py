"""Reports on a run or a study as one page: images first, then the answer, charts, and how all of it was made."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modiste import files, paths
from modiste.errors import ModisteError
from modiste.experiments import conclusions
from modiste.reports import (
    answer,
    galleries,
    inputs,
    judge_features,
    methods,
    published,
    reconstruction,
    render,
    scores,
    summary,
    training_curves,
    training_grids,
)
from modiste.reports.blocks import Paragraph, Report, Section, map_texts
from modiste.reports.inputs import Comparison

Log = Callable[[str], None]


@dataclass(frozen=True)
class WrittenReport:
    """A report and the files that hold it."""

    report: Report
    html: Path
    markdown: Path
    finished: bool
    """Whether every training of it has ended."""


def report(run_or_study: str | Path, out: str | Path | None = None, *, log: Log = lambda _: None) -> WrittenReport:
    """Write a report on a run or a study folder as an HTML page, and as Markdown with its pictures beside it.

    The page is report.html in the folder unless `out` names another. UsageError where the folder is neither a run nor
    a study, and where a file would be replaced that Modiste has not written.
    """
    comparison = inputs.open_path(run_or_study)
    place = report_place(comparison.outputs, out)
    content = build(comparison, log=log)
    log("writing")
    markdown = render.write_markdown(content, place.with_suffix(".md"))
    files.write_text(place, render.to_html(content))
    return WrittenReport(content, place, markdown, comparison.finished)


def watch(
    run_or_study: str | Path, out: str | Path | None = None, *, seconds: int = 30, log: Log = lambda _: None
) -> WrittenReport:
    """Write a brief page (HTML only) every so many seconds while training goes on, then the whole report."""
    while not (comparison := inputs.open_path(run_or_study)).finished:
        place = report_place(comparison.outputs, out)
        content = build(comparison, brief=True, refresh_seconds=seconds, log=log)
        files.write_text(place, render.to_html(content))
        log(f"{place} is up to date; next in {seconds} s")
        time.sleep(seconds)
    return report(run_or_study, out, log=log)


def build(comparison: Comparison, *, brief: bool = False, refresh_seconds: int | None = None, log: Log) -> Report:
    """The report on a run or study; `brief` leaves out what needs the judge and the data set."""
    findings = conclusions.conclude(comparison.read_score_rows())
    comparison = summary.ranked(comparison, findings)
    features, reason = None, "Pictures that need the judge come when the training has ended."
    dataset = comparison.read_dataset()
    if dataset is None:
        reason = "No training was started yet."
    elif not brief:
        try:
            features = judge_features.compute(comparison, dataset, log)
        except ModisteError as error:
            cause = str(error).splitlines()[0].rstrip(":")
            reason = f"Pictures of data, neighbours and features are left out: {cause}."
    answered, table = answer.answer(comparison, findings)
    sections: list[Section | None] = [
        training_grids.image_section(comparison, features),
        answered,
        training_grids.grid_section(comparison),
        training_curves.curve_section(comparison),
        scores.score_section(comparison, findings),
        reconstruction.reconstruction_section(comparison),
        published.published_section(comparison),
    ]
    if features:
        sections += [
            galleries.missing_section(comparison, features),
            galleries.neighbour_section(comparison, features, log),
            galleries.judge_section(comparison, features, log),
            galleries.data_section(features, log),
        ]
    else:
        sections.append(Section("data", "Data", "The data set", [Paragraph(reason)]))
    sections += [training_curves.network_section(comparison), methods.method_section(comparison, features)]
    content = Report(
        f"{'Study' if comparison.is_study else 'Run'} {comparison.name}",
        comparison.about,
        [section for section in sections if section is not None],
        table,
        comparison.palette if comparison.is_study else (),
        findings if comparison.is_study else None,
        refresh_seconds,
    )
    # A page is sent to others, and error messages and names of data may hold folders of this machine.
    known = {comparison.path.absolute(), *(member.path.absolute() for member in comparison.members)}
    known |= {Path(member.run.read_recipe().data.name) for member in comparison.members if member.run}
    without_folders: Report = map_texts(content, lambda text: paths.without_folders(text, known))
    return without_folders


def report_place(folder: Path, out: str | Path | None) -> Path:
    """The place of the page, report.html in the folder unless `out` names another.

    UsageError if the page, the Markdown or the pictures would replace a file that is not Modiste's.
    """
    place = Path(out) if out else folder / "report.html"
    if place.is_dir():
        place = place / "report.html"
    elif place.suffix != ".html":  # of swift-0.5 no part is a suffix
        place = place.with_suffix(".html") if place.suffix == ".md" else place.with_name(f"{place.name}.html")
    files.refuse_foreign_file(place)
    render.check_markdown(place.with_suffix(".md"))
    files.check_writable(place)
    return place
