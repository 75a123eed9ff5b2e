"""Parts of sentences for people."""

from __future__ import annotations


def counted(number: int, noun: str = "image") -> str:
    """`1 image`, `2,000 images`, `2 classes`."""
    return f"{number:,} {noun}{'' if number == 1 else 'es' if noun.endswith('s') else 's'}"
