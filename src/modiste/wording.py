"""Parts of sentences for people."""

from __future__ import annotations

LONGEST_QUOTE = 60


def counted(number: int, noun: str = "image") -> str:
    """`1 image`, `2,000 images`, `2 classes`."""
    return f"{number:,} {noun}{'' if number == 1 else 'es' if noun.endswith('s') else 's'}"


def quoted(value: object) -> str:
    """A value that somebody gave, as a sentence quotes it: 60 characters of it at most."""
    return repr(value[:LONGEST_QUOTE]) if isinstance(value, str) else str(value)[:LONGEST_QUOTE]
