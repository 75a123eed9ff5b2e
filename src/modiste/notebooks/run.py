"""A run that shows itself in a notebook: where its training stands, images from start to end, curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from modiste import progress, runs, schema
from modiste.errors import UsageError
from modiste.notebooks import html, live
from modiste.notebooks.html import never_raising
from modiste.notebooks.shown import Equal, frame_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from modiste.plotting.charts import Line

GROUPS = {
    "losses": ("loss", {"loss_g": "generator", "loss_d": "discriminator"}),
    "accuracy": ("the discriminator's accuracy", {"d_accuracy_real": "on real", "d_accuracy_fake": "on generated"}),
}
"""Keys of the log that `plot` draws in one chart: the axis, and what each line is."""


class Run(Equal, runs.Run):
    """A run folder that shows where its training stands, images from start to end, and its curves."""

    base = runs.Run

    def plot(self, what: str = "losses") -> Figure:
        """A matplotlib figure: losses, accuracy, film (images through training), nearest, or any key of the log.

        `nearest` shows generated images above the nearest training image of each.
        """
        from modiste.notebooks import pictures

        live.let_figures_show()
        if what == "film":
            if not self.list_grids():
                raise UsageError(f"{self.path} holds no grids, so there is no film; train it first")
            return pictures.film(self)
        if what == "nearest":
            return pictures.nearest(self)
        return curves([("", [self])], what, str(self.path), ["film", "nearest"])

    def frame(self) -> Any:
        """The log as a pandas frame: a row per tick."""
        return frame_of(self.read_log())

    @never_raising
    def _repr_html_(self) -> str:
        from modiste.notebooks import pictures
        from modiste.reports import training_grids

        manifest, recipe = self.read_manifest(), self.read_recipe()
        facts = f"{recipe.name}, {manifest.data.name}, seed {recipe.seed}: {_state(self, manifest)}"
        parts = [html.heading(str(self.path), facts)]
        parts += [
            html.picture(
                pictures.run_grid(self, grid, 1), f"images at the {stage}", f"{stage}: {int(grid.stem):,} images"
            )
            for stage, grid in training_grids.stages(self).items()
        ]
        if len(self.read_log()) > 1:
            parts += [Markup("<br>"), *(html.picture(pictures.chart(self.plot(what)), what) for what in GROUPS)]
        return str(Markup("").join(parts))


def _state(run: runs.Run, manifest: runs.Manifest) -> str:
    """How far a training is, and how to go on with one that is not finished."""
    last = runs.read_last_record(run)
    images = manifest.images or (last["images"] if last else 0)
    text = f"{manifest.status}, {images:,} images"
    if manifest.seconds:
        text += f" in {progress.duration(manifest.seconds)}"
    if manifest.status == "failed":
        return f"{text}; {manifest.reason}"
    return text if manifest.status == "finished" or manifest.pretrained else f"{text}; {go_on(run)}"


def go_on(run: runs.Run) -> str:
    """How to go on with a training."""
    return f'go on with modiste.train("{run.path}")'


def curves(sources: Sequence[tuple[str, Sequence[runs.Run]]], what: str, where: str, others: Sequence[str]) -> Figure:
    """Logged numbers of runs over images shown, a colour per name and key; several runs of a name are its seeds.

    UsageError where no log has that key; `others` is what else there is to be drawn.
    """
    from modiste.plotting import charts

    logs = [(name, [run.read_log() for run in members]) for name, members in sources]
    known = dict.fromkeys(key for _, several in logs for log in several for record in log for key in record)
    label, keys = GROUPS.get(what, (what, {what: ""}))
    if any(key not in known for key in keys):
        kinds = [*others, *GROUPS, *known]
        near = schema.nearest(what, [kind for kind in kinds if kind != what])
        raise UsageError(f"there is no plot {what!r} of {where}{near}; choose one of {', '.join(kinds)}")
    lines: dict[str, list[Line]] = {}
    for name, several in logs:
        for key, words in keys.items():
            drawn = [charts.line_of(log, key) for log in several]
            lines[" ".join(filter(None, [name, words])) or label] = [line for line in drawn if line[0]]
    return charts.curves(lines, "images shown (thousands)", label, share=what.startswith(("accuracy", "d_accuracy")))
