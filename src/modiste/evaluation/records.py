"""Records: what `metrics.json` holds, how it is written and read, and which records one table may hold.

Two records are comparable when their protocols agree in everything but how the images were made
(`Protocol.generator`) and the versions of libraries; a table of two others is refused, and the difference named.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from modiste import environment, files, runs
from modiste.data import readers
from modiste.data.images import Images, content_digest
from modiste.errors import ModisteError, UsageError
from modiste.evaluation.class_matching import IN_EQUAL_SHARES
from modiste.evaluation.options import EvaluateOptions, Split
from modiste.metrics import metric_names
from modiste.metrics.functional import Score
from modiste.metrics.metric_names import Better, MetricName

FORMAT = 2
AUDIT, REBUILT = "audit-worst", "reconstruction-worst"
"""How the names of the pictures begin that go with a record."""
OWN = (
    "generator", "versions", "reference.data", "real", "settings.frechet_resamples", "settings.standard_errors",
)  # fmt: skip
"""The parts of a protocol in which records of one table may differ: how images were made, mere names of images, and how
the numbers after ± were estimated, which changes no value."""


@dataclass(frozen=True)
class ScoreEntry:
    """One score of a record with its baselines."""

    name: MetricName
    value: float | None
    uncertainty: float | None = None
    """One standard error."""
    real: float | None = None
    """The same score of real images that are not in the reference."""
    real_uncertainty: float | None = None
    trivial: float | None = None
    """The worse of `trivials`."""
    trivials: Mapping[str, float | None] = field(default_factory=dict)
    """The same score of generators that learned nothing: noise and mean_image."""
    better: Better = "lower"
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        return self.name.kind

    def to_json(self) -> dict[str, Any]:
        """All but the name, which is the key in the record."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name != "name"}


def score_entry(name: MetricName, score: Score, real: Score | None, trivial: Mapping[str, Score]) -> ScoreEntry:
    """A measured score with those of real images and of trivial generators."""
    values = {kind: one.value for kind, one in trivial.items()}
    better = name.meaning.better
    target = real.value if real else 0.0
    rank = {"lower": lambda x: x, "higher": lambda x: -x, "near": lambda x: abs(x - target)}[better]
    return ScoreEntry(
        name,
        score.value,
        score.uncertainty,
        real.value if real else None,
        real.uncertainty if real else None,
        max(values.values(), key=rank, default=None),
        values,
        better,
        dict(score.details),
    )


@dataclass(frozen=True)
class ReferenceFacts:
    """The real images that a record's images were compared with."""

    data: str
    part: str = "test"
    count: int = 0
    digest: str = ""
    class_names: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Protocol:
    """How the scores of a record were measured."""

    reference: ReferenceFacts
    generated: int
    classes: str = IN_EQUAL_SHARES
    """How often each class comes among the images."""
    real: str = ""
    """The name of the real images of the real baseline."""
    real_count: int = 0
    real_digest: str = ""
    trivial: str = "the worse of uniform noise and the mean image"
    extractors: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What the names of extractors stand for."""
    pixels: str = "uint8, never rescaled"
    seed: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    generator: dict[str, Any] = field(default_factory=dict)
    """How the images were made."""
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> Protocol:
        return cls(**{**tree, "reference": ReferenceFacts(**tree["reference"])})


def versions() -> dict[str, str]:
    """The versions of the libraries that scores depend on."""
    import numpy
    import torch

    return {"modiste": environment.__version__, "torch": torch.__version__, "numpy": numpy.__version__}


@dataclass(frozen=True)
class Record:
    """The scores of a set of images, with how they were measured and where the images come from."""

    name: str
    """Of the run, file or folder that the images come from."""
    source: dict[str, Any]
    """Facts about it: kind, path, hash, seeds ..."""
    protocol: Protocol
    scores: dict[str, ScoreEntry]
    """By full name."""
    warnings: list[str] = field(default_factory=list)
    alarms: list[str] = field(default_factory=list)
    """The sentences of `alarms.find`, for readers."""
    not_measured: dict[MetricName, str] = field(default_factory=dict)
    """Reasons why scores or their baselines are missing, by the known parts of the scores' names."""
    audit: dict[str, Any] | None = None
    written: str = field(default="", compare=False)
    """The file that an evaluation has written the record to."""

    def first(self, kind: str) -> ScoreEntry | None:
        """The first score of a kind, which is the judge's; None if there is none."""
        return next((score for score in self.scores.values() if score.kind == kind), None)

    def to_json(self) -> dict[str, Any]:
        """The record as the file holds it; infinities and NaN become null."""
        tree = {
            "format": FORMAT,
            "subject": {"name": self.name, **self.source, "warnings": self.warnings},
            "protocol": asdict(self.protocol),
            "scores": {name: score.to_json() for name, score in self.scores.items()},
            "alarms": self.alarms,
            "not_measured": {str(name): reason for name, reason in self.not_measured.items()},
        }
        if self.audit is not None:
            tree["audit"] = self.audit
        return dict(_finite(tree))

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> Record:
        """The record in these JSON values, also of format 1."""
        tree = _from_format_1(tree) if tree["format"] == 1 else tree
        scores = {name: ScoreEntry(MetricName.parse(name), **score) for name, score in tree["scores"].items()}
        return cls(
            tree["subject"]["name"],
            {key: fact for key, fact in tree["subject"].items() if key not in ("name", "warnings")},
            Protocol.from_json(tree["protocol"]),
            scores,
            tree["subject"].get("warnings", []),
            tree.get("alarms", []),
            {MetricName.parse(name): reason for name, reason in tree.get("not_measured", {}).items()},
            tree.get("audit"),
        )


def _finite(tree: Any) -> Any:
    """JSON values without infinities and NaN, which JSON has none of."""
    if isinstance(tree, Mapping):
        return {key: _finite(value) for key, value in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [_finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


KEYS_OF_FORMAT_1 = {
    "floor": "real",
    "floors": "real",
    "floor_uncertainty": "real_uncertainty",
    "floor_count": "real_count",
    "floor_digest": "real_digest",
    "floor_count_new_to_the_judge": "real_count_new_to_the_judge",
    "ceiling": "trivial",
    "ceilings": "trivials",
}
"""Today's keys by those of records of format 1, which the tables of older studies have, too."""

_REASONS_OF_FORMAT_1 = {
    "memorisation": metric_names.MEMORISATION,
    "discriminator_accuracy": metric_names.DISCRIMINATOR,
    "floor of label_agreement": ("label_agreement",),
    "floors of frequency, label_agreement": ("frequency", "label_agreement"),
}


def renamed(tree: Any) -> Any:
    """JSON values of format 1 with today's keys."""
    if isinstance(tree, Mapping):
        return {KEYS_OF_FORMAT_1.get(key, key): renamed(value) for key, value in tree.items()}
    return [renamed(value) for value in tree] if isinstance(tree, list) else tree


def _from_format_1(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A record of format 1 in today's shape."""
    now: dict[str, Any] = renamed(tree)
    for holder in (now, now.get("audit") or {}):
        if "not_measured" in holder:
            holder["not_measured"] = {
                name: reason
                for key, reason in holder["not_measured"].items()
                for name in _REASONS_OF_FORMAT_1.get(key, key.split(", "))
            }
    for facts in (now["subject"], now["protocol"].get("generator", {})):
        if "batch_norm" in facts:
            facts["batch_norm_statistics"] = (
                "standing" if str(facts["batch_norm"]).startswith("standing") else "running"
            )
    return {**now, "format": FORMAT}


def write(path: Path, record: Record) -> None:
    """Write a record atomically."""
    files.write_json(path, record.to_json())


def write_with_picture(place: Path, record: Record, drawn: bytes, rebuilt: bytes = b"") -> None:
    """Write a record and, after it, the picture of its audit and that of its reconstructions, each where there is one.

    No interruption leaves a picture without its record.
    """
    contents = {
        place.with_name(picture_name(place.stem, kind)): one for kind, one in ((AUDIT, drawn), (REBUILT, rebuilt))
    }
    for picture in contents:
        if files.is_named(picture.name, place):
            with files.errors_name_place(picture):
                picture.unlink(missing_ok=True)  # an earlier one's, whose record goes
    write(place, record)
    for picture, content in contents.items():
        if content:
            files.write_bytes(picture, files.with_mark(content))


def record_place(what: str | Path, reference: Split, options: EvaluateOptions) -> Path:
    """Where the record goes: to `out`, or under the name that other tools know, unusual ones under longer names.

    UsageError where a file that is not Modiste's lies there or where the audit's picture goes.
    """
    variant = "" if options.checkpoint == "last" else f"-{options.checkpoint}"
    variant += "" if options.truncation is None else f"-truncation-{options.truncation:g}"
    variant += "" if options.batch_norm == "running" else f"-{options.batch_norm}"
    variant += f"-seed-{options.seed}" if options.seed else ""
    variant += "" if reference == "test" else f"-{reference}"
    path, run = readers.expanded(what).resolve(), runs.find_run(readers.expanded(what))
    beside = path.with_name(f"{path.stem if path.is_file() else path.name}.metrics{variant}.json")
    place = Path(options.out) if options.out else run.outputs / f"metrics{variant}.json" if run else beside
    if run is None and not path.exists():  # opening it raises the error
        return place
    if options.out or run is None or run.shipped:  # in a run's folder these names are Modiste's
        files.refuse_foreign_file(place)
        for kind, wanted in ((AUDIT, options.audit), (REBUILT, options.reconstruct is not None)):
            picture = place.with_name(picture_name(place.stem, kind))
            if wanted or files.is_named(picture.name, place):
                files.refuse_foreign_file(picture, named_in=place)
    files.check_writable(place)
    return place


def refuse_loss(
    place: Path,
    source: Mapping[str, Any],
    real: Images,
    extractors: Mapping[str, Mapping[str, Any]],
    options: EvaluateOptions,
) -> None:
    """UsageError where the place holds a record of the same weights that says more than one of these options would.

    `extractors` are those that are to be used, as a protocol has them. One of before is among them by its name, or by
    its hash: a judge may have been trained again, or have another name where its data set has.
    """
    try:
        before = read(place)
    except ModisteError:  # there is none, or none that can be read
        return
    if before.source.get("hash") is None or before.source.get("hash") != source.get("hash"):
        return
    reference, rebuilt = before.protocol.reference, before.first("reconstruction_error")
    hashes = {facts.get("hash") for facts in extractors.values()}
    known = before.protocol.extractors
    others = [name for name, facts in known.items() if name not in extractors and facts.get("hash") not in hashes]
    more = {
        f"scores against {reference.data}": reference.data != real.name and reference.digest != content_digest(real),
        f"scores of {before.protocol.generated:,} images": before.protocol.generated > options.count,
        "the classifier accuracy score": before.first("classifier_accuracy") is not None and not options.classifier,
        "more reconstructions": rebuilt is not None and rebuilt.details.get("images", 0) > (options.reconstruct or 0),
        "an audit": before.audit is not None and not options.audit,
        f"scores in the features of {', '.join(others)}": bool(others),
    }
    if lost := [what for what, is_lost in more.items() if is_lost]:
        raise UsageError(
            f"{place} holds {' and '.join(lost)}, which would be lost; give that file in place of {before.name} to see "
            "them, or write elsewhere with --out (or to the same file, to replace it)"
        )


def picture_name(record: str, kind: str = AUDIT) -> str:
    """The picture that goes with a record of that stem: audit-worst.png with metrics, NAME.audit-worst.png else."""
    before, metrics, after = record.rpartition("metrics")
    return f"{before}{kind}{after}.png" if metrics else f"{record}.{kind}.png"


def pictures_of(record: Record) -> list[str]:
    """The names of the files with the record's pictures."""
    named = [(record.audit or {}).get("picture")]
    named += [score.details.get("picture") for score in record.scores.values()]
    return [Path(name).name for name in named if name]


def read(path: Path) -> Record:
    """The record in that file, also of format 1; ModisteError when it is none."""
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ModisteError(f"cannot read the record {path} ({error}); evaluate its images again") from None
    if isinstance(tree, dict) and tree.get("format") not in (1, FORMAT) and "scores" in tree:
        raise ModisteError(
            f"{path} is a record of format {tree.get('format')} and this Modiste reads 1 and {FORMAT}; "
            "evaluate its images again"
        )
    try:
        return Record.from_json(tree)
    except (KeyError, TypeError, AttributeError, ModisteError):
        raise ModisteError(f"{path} holds no record of `modiste evaluate`; evaluate its images again") from None


def differences(first: Record, second: Record) -> list[str]:
    """What keeps two records apart, as `reference.part: test and heldout`; empty when nothing does."""
    return unlike(how_measured(first), how_measured(second))


def unlike(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The entries in which two flat protocols differ but for those in OWN, in words."""
    keys = sorted((one.keys() | other.keys()) - set(OWN))
    return [f"{key}: {one.get(key)} and {other.get(key)}" for key in keys if one.get(key) != other.get(key)]


def how_measured(record: Record) -> dict[str, Any]:
    """All of a record's protocol that must agree before it stands in a table with another, by dotted key."""
    parts = {key: part for key, part in asdict(record.protocol).items() if key not in OWN}
    return {key: part for key, part in flat(parts).items() if key not in OWN}


def protocol_hash(record: Record) -> str:
    """16 hexadecimal digits over `how_measured`, by the keys of format 1: searches keep it for all their trials."""
    older = {now: before for before, now in KEYS_OF_FORMAT_1.items()}
    parts = {older.get(key, key): part for key, part in how_measured(record).items()}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted keys."""
    parts: dict[str, Any] = {}
    for key, value in tree.items():
        parts |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return parts


def is_usual(record: Record) -> bool:
    """Whether a run's images were made as they come: noise not cut, batch norm as kept, image seeds from 0 on."""
    made = record.protocol.generator
    standing = made.get("batch_norm_statistics") == "standing"
    return not made.get("truncation") and not standing and record.protocol.seed == 0


def check_comparable(records: Sequence[Record]) -> None:
    """UsageError that names the first difference, unless all records were measured alike."""
    for first, second in itertools.pairwise(records):
        refuse_differences(first, second, differences(first, second))


def refuse_differences(first: Record, second: Record, different: Sequence[str]) -> None:
    """UsageError that names the first of the differences, other real images before all, if there are any."""
    if not different:
        return
    one, other = (record.protocol.reference for record in (first, second))
    others = f" (and {len(different) - 1} more)" if len(different) > 1 else ""
    how, remedy = f"{different[0]}{others}", "evaluate both again with the same options"
    if one.digest != other.digest:
        same_name = "other images of that name"
        how = f"one against {one.data}, one against {other.data if other.data != one.data else same_name}"
        remedy = "evaluate both against the same images"
    raise UsageError(
        f"{first.name} and {second.name} were not measured alike, so one table cannot hold both: {how}; {remedy}"
    )


def markdown(heads: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table as Markdown."""
    lines = [heads, ["---"] * len(heads), *body]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def with_uncertainty(value: float | None, uncertainty: float | None) -> str:
    """`0.412 ± 0.006`; the value alone where its uncertainty is unknown."""
    return format_number(value) if not uncertainty else f"{format_number(value)} ± {format_number(uncertainty, 2)}"


def format_number(value: float | None, digits: int = 4) -> str:
    """A number with so many digits that count, never in exponents for everyday sizes."""
    if value is None or not math.isfinite(value):
        return "-"
    if value == 0:
        return "0"
    if abs(value) < 1e-4:
        return f"{value:.1e}"
    places = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{min(places, 5)}f}"
