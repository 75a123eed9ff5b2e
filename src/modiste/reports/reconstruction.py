"""The part of a run's report on real images that its generator cannot make, where these were looked for."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image

from modiste.evaluation import records
from modiste.evaluation.records import ScoreEntry
from modiste.reports.blocks import Block, Paragraph, Picture, Section
from modiste.reports.inputs import Comparison

CAUTION = (
    "In a row twice: a real image, the best that was found in the generator, the nearest training image where it is at "
    "hand, and the difference, the largest errors first. An error is an upper bound, as the search may have missed a "
    "better code."
)


def reconstruction_section(comparison: Comparison) -> Section | None:
    """How near the generator comes to unseen real images, and those that it misses most; None where unmeasured."""
    member = comparison.members[0]
    score = member.record.first("reconstruction_error") if member.record and not comparison.is_study else None
    if score is None or member.run is None:
        return None
    blocks: list[Block] = [Paragraph(sentence(score))]
    places = (folder / score.details["picture"] for folder in member.run.folders)
    if place := next(filter(Path.is_file, places), None):
        content = place.read_bytes()
        with Image.open(io.BytesIO(content)) as picture:
            width = picture.width
        alt = "real images beside what the generator makes of them"
        blocks.append(Picture("cannot-make", content, alt, width, CAUTION))
    return Section("rebuilt", "Rebuilt", "Real images that it cannot make", blocks)


def sentence(score: ScoreEntry) -> str:
    """The errors in words."""
    details, shares = score.details, score.details["quantiles"]
    own = records.with_uncertainty(score.value, score.uncertainty)
    text = (
        f"The best that it makes of {details['images']:,} real images it has not seen is off by {own} of 255 (root "
        f"mean square of pixels; half of them by less than {shares['50%']:.1f}, one in twenty by more than "
        f"{shares['95%']:.1f})."
    )
    if score.real is None or score.trivial is None:
        return text
    nearest = records.with_uncertainty(score.real, score.real_uncertainty)
    return (
        f"{text} The nearest training image is off by {nearest} and the mean image by "
        f"{records.format_number(score.trivial)}; to {details['nearer_than_training']:.0%} of them the generator comes "
        "nearer than the nearest training image."
    )
