"""A small space for the tests of searches, and its file."""

from __future__ import annotations

from pathlib import Path

RATES = '"train.lr_generator" = { low = 1e-4, high = 1e-2, log = true }'
WIDTHS = '"network.generator_widths.1" = { choices = [4, 6] }'
HEAD = 'about = "A little search."\nrecipe = "tiny.toml"\nsampler = "random"\nevaluate.count = 40\n'


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "little.toml"
    path.write_text(text, encoding="utf-8")
    return path
