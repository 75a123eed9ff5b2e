"""A run or a study as one page to look at: the answer first, then pictures, charts, and how all of it was made."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from modiste import files, paths
from modiste.experiments import conclusions
from modiste.reports import galleries, inputs, methods, render, summary, training_curves
from modiste.reports.blocks import Paragraph, Report, Section, reworded
from modiste.reports.galleries import GalleryInputs
from modiste.reports.inputs import Comparison

__all__ = ["Written", "build", "watch", "write"]

Say = Callable[[str], None]


class Written(NamedTuple):
    """A report and where it lies."""

    report: Report
    html: Path
    markdown: Path | None
    finished: bool
    """Whether every training of it has ended."""


def build(comparison: Comparison, *, brief: bool = False, refresh_seconds: int | None = None, say: Say) -> Report:
    """The report on a run or study; `brief` leaves out what needs the judge and the data set."""
    found = conclusions.conclude(comparison.score_rows)
    first, table = summary.answer(comparison, found)
    gaze: GalleryInputs | str = "Pictures that need the judge come when the training has ended." if brief else ""
    if not brief:
        gaze = galleries.look(comparison, say)
    sections: list[Section | None] = [first, galleries.grid_section(comparison)]
    if isinstance(gaze, GalleryInputs):
        sections.append(galleries.neighbour_section(gaze, say))
    sections += [
        summary.score_section(comparison, found),
        training_curves.curve_section(comparison),
        training_curves.network_section(comparison),
    ]
    if isinstance(gaze, GalleryInputs):
        sections += [
            galleries.data_section(gaze, say),
            galleries.prediction_section(comparison, gaze),
            galleries.cloud_section(comparison, gaze, say),
        ]
    else:
        sections.append(Section("data", "The data set", [Paragraph(gaze)]))
    sections.append(training_curves.stability_section(comparison))
    sections.append(methods.method_section(comparison, gaze.eyes if isinstance(gaze, GalleryInputs) else None))
    kind = "Study" if comparison.is_study else "Run"
    shown = [section for section in sections if section is not None]
    report = Report(
        f"{kind} {comparison.name}",
        comparison.about,
        shown,
        table,
        found if comparison.is_study else None,
        refresh_seconds,
    )
    known = {comparison.path.absolute(), *(member.path.absolute() for member in comparison.members)}
    known |= {Path(member.run.read_recipe().data.name) for member in comparison.members if member.run}
    handed_on: Report = reworded(report, lambda text: paths.without_folders(text, known))
    return handed_on


def write(what: str | Path, out: str | Path | None = None, *, say: Say = lambda _: None) -> Written:
    """Write report.html (or `out`), and the same as Markdown with PNG files beside it, for a run or study folder."""
    comparison = inputs.open_path(what)
    place = _place(comparison, out)
    report = build(comparison, say=say)
    say("writing")
    markdown = render.write_markdown(report, place.with_suffix(".md"))
    files.write_text(place, render.to_html(report))
    return Written(report, place, markdown, comparison.finished)


def watch(what: str | Path, out: str | Path | None = None, *, seconds: int = 30, say: Say = lambda _: None) -> Written:
    """Write a live page (HTML only, briefly) every so many seconds while training goes on, then the whole report."""
    while not (comparison := inputs.open_path(what)).finished:
        place = _place(comparison, out)
        report = build(comparison, brief=True, refresh_seconds=seconds, say=say)
        files.write_text(place, render.to_html(report))
        say(f"{place} is up to date; next in {seconds} s")
        time.sleep(seconds)
    return write(what, out, say=say)


def _place(comparison: Comparison, out: str | Path | None) -> Path:
    """Where the page goes; UsageError if it, the Markdown or the pictures would replace what is not Modiste's."""
    place = Path(out) if out else comparison.outputs / "report.html"
    if place.is_dir():
        place = place / "report.html"
    elif place.suffix != ".html":  # of swift-0.5 no part is a suffix
        place = place.with_suffix(".html") if place.suffix == ".md" else place.with_name(f"{place.name}.html")
    files.refuse_foreign_file(place)
    render.check_markdown(place.with_suffix(".md"))
    files.check_writable(place)
    return place
