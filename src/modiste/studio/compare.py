"""Two runs side by side: their scores with baselines, and what can be said of the difference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from modiste import config, runs, subprocesses
from modiste.errors import ModisteError, UsageError
from modiste.evaluation import score_tables
from modiste.evaluation.records import Record, ScoreEntry, format_number
from modiste.experiments import conclusions, results
from modiste.experiments.results import StudyRow
from modiste.metrics import baselines, metric_names
from modiste.reports import phrases
from modiste.studio import library
from modiste.studio.queries import entry_named

ERRORS = (
    "What stands after ± is one standard error of measuring the same generator again; what another training seed would "
    "change is not in it."
)


def compare(request: Request) -> Response:
    """The comparison of two runs as JSON."""
    pair = entry_named(request, "first"), entry_named(request, "second")
    if pair[0].id == pair[1].id:
        raise UsageError(f"{pair[0].name} cannot be compared with itself; choose another run")
    return JSONResponse(describe(pair))


def describe(pair: tuple[library.Entry, library.Entry]) -> dict[str, Any]:
    """The scores of two runs in one table, or why there is none and the command that measures both."""
    found = [results.read_scores(entry.run) for entry in pair]
    known = [one.record for one in found if one.record is not None]
    facts: dict[str, Any] = {
        "missing": [
            {"run": entry.name, "reason": one.reason}
            for entry, one in zip(pair, found, strict=True)
            if one.record is None
        ],
        "command": subprocesses.printable(["evaluate", *(entry.run.word for entry in pair)]),
        "recipes": recipe_rows(pair),
        "refused": "",
        "sentences": [
            f"{entry.name}: {phrases.distance_sentence(one.record)}"
            for entry, one in zip(pair, found, strict=True)
            if one.record is not None
        ],
    }
    if len(known) < len(pair):
        return facts
    try:
        entries = score_tables.aligned(known)
    except ModisteError as error:
        return {**facts, "refused": str(error)}
    headline = {metric_names.of_kind(entries, kind) for kind in results.HEADLINE}
    return {
        **facts,
        "rows": [{**row(name, both), "headline": name in headline} for name, both in entries.items()],
        "sentences": sentences(pair, known),
        "gaps": list(dict.fromkeys(gap for record in known for gap in score_tables.gaps(record.not_measured))),
        "protocol": score_tables.describe_protocol(known[0].protocol),
    }


def row(name: str, entries: Sequence[ScoreEntry | None]) -> dict[str, Any]:
    """A score of both runs with its baselines; `places` from 0 (the trivial one) to 1 (real images)."""
    first = next(one for one in entries if one is not None)
    return {
        "score": name,
        "title": phrases.title_of(name),
        "direction": phrases.direction(first.better),
        "values": [format_number(one.value) if one else "-" for one in entries],
        "errors": [format_number(one.uncertainty, 2) if one and one.uncertainty else "" for one in entries],
        "real": format_number(first.real),
        "trivial": format_number(first.trivial),
        "places": [_share(one) for one in entries],
    }


def _share(score: ScoreEntry | None) -> float | None:
    if score is None or score.value is None:
        return None
    return baselines.share_learned(score.kind, score.value, score.real, score.trivial, score.uncertainty)


def sentences(pair: Sequence[library.Entry], measured: Sequence[Record]) -> list[str]:
    """What the scores of two single trainings allow to be said, as a study of one seed says it."""
    rows = []
    for entry, record in zip(pair, measured, strict=True):
        last = runs.read_last_record(entry.run)
        images = last["images"] if last else entry.run.read_manifest().images
        run = StudyRow("", entry.name, 0, status="finished", images=images)  # one training each, whatever its seed
        rows += results.score_rows(run, record)
    concluded = conclusions.conclude(rows)
    found = [conclusions.pair_sentence(one, concluded.score) for one in concluded.pairs]
    found += [score_tables.agreement(measured), *conclusions.caveats(concluded)]
    return [*(f"{sentence[0].upper()}{sentence[1:]}." for sentence in found if sentence), ERRORS]


def recipe_rows(pair: Sequence[library.Entry]) -> list[list[str]]:
    """The settings in which the two recipes differ: key and both values."""
    first, second = (entry.run.read_recipe() for entry in pair)
    return [[one.key, str(one.before), str(one.after)] for one in config.differences(first, second)]


ROUTES = [Route("/api/compare", compare)]
