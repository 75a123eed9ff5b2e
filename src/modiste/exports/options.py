"""Options of a synthetic set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from modiste.provenance import c2pa, metadata
from modiste.sampling.generators import Statistics


@dataclass(frozen=True)
class SyntheticSetOptions:
    """Which images a set holds, how they are sampled, and how they are written and marked."""

    kind: str | None = None
    """One of `writers.FORMATS`; None for the one that the path asks for."""
    per_class: int | None = None
    """Images of every class; without it `count` or `seeds` say which images."""
    count: int | None = None
    """Images in all, classes in turn."""
    seeds: Sequence[int] | None = None
    label: int | str | None = None
    """The class of all images, by number or name."""
    truncation: float | None = None
    codes: Path | None = None
    """A file of `modiste project` whose codes are drawn, instead of seeds."""
    checkpoint: Literal["last", "best"] = "last"
    batch_norm: Statistics = "running"
    directions: Mapping[str, float] = field(default_factory=dict)
    """Steps that every image takes, by direction (`modiste directions`)."""
    keep_duplicates: bool = False
    """Whether near-duplicates of training images stay."""
    watermark: str | None = None
    """The secret text of a watermark in the pixels."""
    sign: bool = False
    certificate: Path | None = None
    private_key: Path | None = None

    @property
    def signed(self) -> bool:
        """Whether PNG files are signed (C2PA)."""
        return self.sign or self.certificate is not None or self.private_key is not None

    def marker(self) -> metadata.Marker:
        """The function that marks a PNG file as synthetic, and signs it if asked for."""
        return c2pa.make_signer(self.certificate, self.private_key) if self.signed else metadata.stamp
