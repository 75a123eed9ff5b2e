"""Records, studies, reports and recipes that show themselves in a notebook.

Each is what the packages below give, with matplotlib figures (`plot`) and pandas frames (`frame`). Whatever is wrong
with the files, showing it never raises.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from markupsafe import Markup
from matplotlib.figure import Figure

from modiste import runs
from modiste.errors import UsageError
from modiste.evaluation import records, score_tables
from modiste.experiments import conclusions, results
from modiste.experiments.conclusions import Conclusions
from modiste.experiments.studies import StudyFolder
from modiste.metrics.metric_names import MetricName
from modiste.notebooks import html, live, pictures
from modiste.notebooks.html import never_raising
from modiste.notebooks.run import Run, curves
from modiste.notebooks.shown import Equal, frame_of
from modiste.reports import inputs, latex, scores, summary
from modiste.reports.inputs import Comparison
from modiste.reports.report import WrittenReport

# --- records


class Record(Equal, records.Record):
    """A record of scores that shows itself as a table with baselines."""

    base = records.Record

    def frame(self) -> Any:
        """A pandas frame with a row per score: value, uncertainty, real and trivial baseline, direction."""
        keys = ("value", "uncertainty", "real", "real_uncertainty", "trivial", "better")
        return frame_of(
            {"score": name, "kind": score.kind, **{key: getattr(score, key) for key in keys}}
            for name, score in self.scores.items()
        )

    def __repr__(self) -> str:
        first = next(iter(self.scores.items()), None)
        value = f", {first[0]} {records.with_uncertainty(first[1].value, first[1].uncertainty)}" if first else ""
        return f"<record of {self.name}: {len(self.scores)} scores{value}>"

    @never_raising
    def _repr_html_(self) -> str:
        reference = self.protocol.reference
        about = f"{self.protocol.generated:,} images against {reference.count:,} of {reference.data} ({reference.part})"
        parts = [
            html.heading(self.name, about),
            html.table(score_tables.HEADS, score_tables.rows(self)),
            html.paragraph(score_tables.LEGEND, quiet=True),
            html.bullets([f"alarm: {alarm}" for alarm in self.alarms]),
            html.bullets([f"warning: {warning}" for warning in self.warnings]),
        ]
        if gaps := score_tables.gaps(self.not_measured):
            parts.append(html.fold("not measured", html.bullets(gaps)))
        return str(Markup("").join(parts))


# --- studies


class Study(Equal, StudyFolder):
    """A study folder that shows its table, what can be told apart, and images of every configuration."""

    base = StudyFolder

    def run(self, configuration: str, seed: int = 0) -> Run:
        """The run of a configuration and a seed."""
        return Run(super().run(configuration, seed).path)

    def plot(self, what: str = "frechet") -> Figure:
        """A matplotlib figure: a kind of score (frechet, kernel, ...), radar, film, or a key of the log.

        `film` shows images of every configuration at start, middle and end; losses and accuracy are as in `Run.plot`.
        """
        live.let_figures_show()
        comparison, _ = self._ranked()
        if what == "radar":
            chart = scores.radar_chart(comparison)
            if chart is None:
                raise UsageError(f"{self.path} has fewer than three scores of all configurations for a radar")
            return chart.figure
        if what == "film":
            drawn = [(name, run) for name, run in _representatives(comparison) if run.list_grids()]
            if not drawn:
                raise UsageError(f"{self.path} holds no grids, so there is no film; let its runs train first")
            return pictures.stages(drawn)
        measured = {MetricName.parse(name).kind for name in comparison.score_names}
        if score := comparison.of_kind(what) if what in measured else None:
            return scores.dot_chart(comparison, score).figure
        members = [
            (one.name, [member.run for member in one.members if member.run]) for one in comparison.configurations
        ]
        return curves(members, what, str(self.path), ["radar", "film", *sorted(measured)])

    def _ranked(self) -> tuple[Comparison, Conclusions]:
        """The configurations in rank order, as reports have them, and what is concluded."""
        comparison = inputs.open_path(self.path)
        findings = conclusions.conclude(comparison.read_score_rows())
        return summary.ranked(comparison, findings), findings

    def frame(self) -> Any:
        """The table as a pandas frame: a row per run and score."""
        return frame_of(row.to_json() for row in self.read_rows())

    def to_latex(self) -> str:
        """The table with intervals and letters for a paper, see `modiste.reports.latex.study_table`."""
        return latex.study_table(self.path)

    @never_raising
    def _repr_html_(self) -> str:
        comparison, findings = self._ranked()
        table = summary.study_table(comparison, findings)
        rows = [[cell for cell in row if isinstance(cell, str)] for row in table.rows]
        parts = [
            html.heading(comparison.name, comparison.about),
            html.table(table.heads, rows),
            html.paragraph(table.caption, quiet=True),
            html.bullets(conclusions.sentences(findings)),
            html.bullets(results.failures(self.read_rows())),
            *_images_of(comparison),
        ]
        if not comparison.finished:
            parts.append(html.paragraph(f'not finished; go on with modiste.study("{self.path}")'))
        return str(Markup("").join(parts))


def _representatives(comparison: Comparison) -> list[tuple[str, runs.Run]]:
    """Of every configuration that has a generator, the run that stands for it."""
    found = [(one.name, one.find_representative()) for one in comparison.configurations]
    return [(name, member.run) for name, member in found if member and member.run]


def _images_of(comparison: Comparison) -> list[Markup]:
    """The last grid of each configuration's run that stands for it."""
    drawn = []
    for name, run in _representatives(comparison):
        for grid in run.list_grids()[-1:]:
            caption = f"{name}, {run.name}, {int(grid.stem):,} images"
            drawn.append(html.picture(pictures.run_grid(run, grid, 1), f"images of {name}", caption))
    return drawn


# --- reports and recipes


class Report(Equal, WrittenReport):
    """A written report that shows its table of scores and a link to its page."""

    base = WrittenReport

    def __repr__(self) -> str:
        return f"<report in {self.html}>"

    @never_raising
    def _repr_html_(self) -> str:
        table = self.report.summary
        link = Markup('<p style="margin:.3em 0"><b>{}</b>: <a href="{}" target="_blank">{}</a></p>')
        rows = [[cell for cell in row if isinstance(cell, str)] for row in table.rows]
        address = quote(self.html.as_posix())
        return str(link.format(self.report.title, address, str(self.html)) + html.table(table.heads, rows))


@dataclass(frozen=True)
class RecipeList(Sequence[Mapping[str, Any]]):
    """The recipes in the package, each with name, about, source, length, size and gflop_per_image."""

    rows: tuple[Mapping[str, Any], ...]

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        return "\n".join(f"{row['name']:20} {row['about']}" for row in self.rows)

    def frame(self) -> Any:
        """A pandas frame with a row per recipe."""
        return frame_of(self.rows)

    @never_raising
    def _repr_html_(self) -> str:
        heads = ("recipe", "GFLOP/image", "length", "pixels", "about")
        rows = [
            [row["name"], f"{row['gflop_per_image']:.3f}", row["length"], str(row["size"]), row["about"]]
            for row in self.rows
        ]
        return str(html.table(heads, rows))
