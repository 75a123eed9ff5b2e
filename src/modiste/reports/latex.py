"""A study's table for a paper, in LaTeX with the package booktabs: means, intervals, and who can be told apart."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from modiste import files, paths
from modiste.errors import UsageError
from modiste.evaluation import records
from modiste.evaluation.records import Record
from modiste.experiments import conclusions, results, study_config
from modiste.experiments.conclusions import Conclusions
from modiste.metrics.metric_names import MetricName
from modiste.metrics.transforms import Scale
from modiste.reports import inputs, phrases
from modiste.reports.inputs import Comparison, Configuration

ARROWS = {"lower": r"$\downarrow$", "higher": r"$\uparrow$", "near": r"$\rightarrow$"}
MEANS: dict[Scale, str] = {"log": "geometric", "share": r"of angles $\arcsin\sqrt{p}$", "plain": "arithmetic"}
SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "_": r"\_", "%": r"\%",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", '"': "''",
}  # fmt: skip
"""Characters that LaTeX would read as commands, or set as others."""


def study_table(study: str | Path) -> str:
    """A study folder's table of headline scores as a LaTeX float: rank order, means with 95 % intervals over training
    seeds, letters of groups that no verdict parts, real and trivial baselines, and a caption with the protocol.

    It needs `\\usepackage{booktabs}`. UsageError for a run and for a study without any score.
    """
    comparison = inputs.open_path(study)
    if not comparison.is_study:
        raise UsageError(f"{study} is a run, and a table with intervals needs a study; `modiste study` makes one")
    scores = [name for kind in results.HEADLINE if (name := comparison.of_kind(kind))]
    if not scores:
        raise UsageError(f"{study} has no scores yet; let its runs finish with `modiste study {study}`")
    findings = conclusions.conclude(comparison.read_score_rows())
    heads = ["Configuration", *(_head(comparison, score, scores) for score in scores)]
    entries = [comparison.entry(score) for score in scores]
    of_real = ["Real images", *(_number(entry.real) for entry in entries)]
    of_trivial = ["Trivial baseline", *(_number(entry.trivial) for entry in entries)]
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_caption(comparison, findings, scores)}}}",
        rf"\label{{tab:{re.sub(r'[^A-Za-z0-9]+', '-', comparison.name)}}}",
        rf"\begin{{tabular}}{{l{'c' * len(scores)}}}",
        r"\toprule",
        _line(heads),
        r"\midrule",
        *_body(comparison, findings, scores),
        r"\midrule",
        _line(of_real),
        _line(of_trivial),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def write(study: str | Path, out: str | Path | None = None) -> Path:
    """Write the table as table.tex into the study's folder, or into that of `out` (a page or a folder); the file.

    UsageError where another file of that name lies there, or this one was changed by hand.
    """
    folder = Path(study) if out is None else Path(out)
    place = (folder.parent if folder.suffix in (".html", ".md", ".tex") else folder) / "table.tex"
    place = folder if folder.suffix == ".tex" else place
    files.refuse_foreign_file(place)
    table = study_table(study)
    with files.errors_name_place(place):
        place.parent.mkdir(parents=True, exist_ok=True)
    files.write_text(place, files.text_with_mark(table, "% ", ""))
    return place


def escaped(text: str) -> str:
    """Text as LaTeX sets it letter by letter."""
    return "".join(SPECIAL.get(letter, letter) for letter in text)


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _ranked(comparison: Comparison, findings: Conclusions) -> list[tuple[Configuration, str]]:
    """The configurations from the best on, each with the letters of the groups that no verdict parts."""
    decision = conclusions.deciding_score(comparison.read_score_rows())
    ranks = [] if decision is None else conclusions.ranks(decision, findings)
    numbers = list(dict.fromkeys(group for rank in ranks for group in rank.groups))
    lettered = any(verdict.possible for verdict in findings.verdicts) and len(numbers) <= 26
    letters = {
        rank.name: "".join(sorted(chr(ord("a") + numbers.index(group)) for group in rank.groups)) if lettered else ""
        for rank in ranks
    }
    return [(comparison.configuration(rank.name), letters[rank.name]) for rank in ranks]


def _head(comparison: Comparison, score: str, scores: Sequence[str]) -> str:
    """A score's name in lines of a word, with an arrow; its extractor only where the table has several."""
    several = len({MetricName.parse(one).extractor for one in scores}) > 1
    title = phrases.title_of(score) if several else phrases.TITLES[MetricName.parse(score).kind]
    words = escaped(title[0].upper() + title[1:]).replace(" ", r" \\ ")
    return rf"\shortstack{{{words} {ARROWS[comparison.entry(score).better]}}}"


def _body(comparison: Comparison, findings: Conclusions, scores: Sequence[str]) -> list[str]:
    """Of every configuration a line of means, the first with its letters, and below it one of their intervals."""
    lines = []
    for configuration, letters in _ranked(comparison, findings):
        found = [comparison.summary(configuration, score) for score in scores]
        means = [_number(one.mean) for one in found]
        if letters and found[0].mean is not None:
            means[0] += rf"\textsuperscript{{{letters}}}"
        lines.append(_line([escaped(configuration.name), *means]))
        ends = [None if one.low is None or one.high is None else (one.low, one.high) for one in found]
        if any(ends):
            intervals = [
                rf"{{\scriptsize [{_number(one[0], 3)}, {_number(one[1], 3)}]}}" if one else "" for one in ends
            ]
            lines += [_line(["", *intervals]), r"\addlinespace"]
    return lines[:-1] if lines and lines[-1] == r"\addlinespace" else lines


def _number(value: float | None, digits: int = 4) -> str:
    text = records.format_number(value, digits)
    if text == "-":
        return "--"
    mantissa, exponent, power = text.replace(",", "{,}").partition("e")
    return f"${mantissa}\\times 10^{{{int(power)}}}$" if exponent else f"${mantissa}$"


def _caption(comparison: Comparison, findings: Conclusions, scores: Sequence[str]) -> str:
    """What was compared and how it was measured, in sentences."""
    settings = study_config.load(comparison.path / "study.toml")
    seeds = max(len(one.records) for one in comparison.configurations)
    length = f", {escaped(settings.budget)} each" if settings.budget else ""
    about = f"{escaped(comparison.about.rstrip('.'))}. " if comparison.about else ""
    if about and comparison.about.rstrip().endswith("?"):
        about = f"{escaped(comparison.about)} "
    runs = f"{seeds} training seed{'s' if seeds > 1 else ''} per configuration{length}"
    kinds: dict[str, list[str]] = {}
    for score in scores:
        kinds.setdefault(MEANS[comparison.scale(score)], []).append(escaped(phrases.title_of(score)))
    means = "; ".join(f"{phrases.listed(titles)}: {kind}" for kind, titles in kinds.items())
    several = (
        f"Means over seeds with 95\\,\\% intervals of the mean in brackets ({means})" if seeds > 1 else "One value"
    )
    sentences = [f"{about}{runs}.", f"{several}, {_protocol(comparison.records[0], scores)}."]
    if any(verdict.possible for verdict in findings.verdicts):
        first = escaped(phrases.title_of(scores[0]))
        sentences.append(f"By the {first}, no verdict parts configurations that share a letter "
                         "(paired tests over seeds, corrected by Holm's method, 5\\,\\%).")  # fmt: skip
    elif findings.verdicts:
        sentences.append("With so few seeds no verdict is possible.")
    sentences.append("Trivial baseline: the worse of noise and the mean image.")
    failed = sum(member.status == "failed" for member in comparison.members)
    sentences += [f"{failed} of {len(comparison.members)} runs failed and are left out of the means."] if failed else []
    known = {comparison.path.absolute(), *(member.path.absolute() for member in comparison.members)}
    return paths.without_folders(" ".join(sentences), known)


def _protocol(record: Record, scores: Sequence[str]) -> str:
    """The images and the features that the scores were measured with."""
    protocol = record.protocol
    reference = protocol.reference
    images = f"{protocol.generated:,} generated images against {reference.count:,} of {reference.data}"
    extractors = dict.fromkeys(MetricName.parse(score).extractor for score in scores)
    described = [
        f"{name}: {facts['extractor']}, hash {facts['hash']}"
        for name in extractors
        if (facts := protocol.extractors.get(name))
    ]
    return escaped(f"{images}, in the features of {'; '.join(described)}" if described else images)
