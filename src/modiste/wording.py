"""Parts of sentences for people."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """`1 image`, `2,000 images`, `2 classes`."""
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"
