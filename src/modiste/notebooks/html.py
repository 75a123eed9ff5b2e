"""HTML for notebooks: text escaped, pictures inside, colours that suit a light and a dark page."""

from __future__ import annotations

import base64
import functools
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from markupsafe import Markup

Owner = TypeVar("Owner")
NUMBER = re.compile(r"-?[\d.]|-?$")
CELL = "padding:.15em .8em .15em 0;vertical-align:top"


def never_raising(build: Callable[[Owner], str]) -> Callable[[Owner], str]:
    """A `_repr_html_` that shows what is broken in a sentence instead of raising, which IPython prints in full."""

    @functools.wraps(build)
    def build_or_say_why(owner: Owner) -> str:
        try:
            return build(owner)
        except Exception as error:  # whatever is wrong with the files, the notebook goes on
            what = getattr(owner, "path", type(owner).__name__)
            reason = f"{type(error).__name__}: {error}" if not str(error) else str(error)
            return paragraph(f"{what} is broken and cannot be shown: {reason}")

    return build_or_say_why


def paragraph(text: str, quiet: bool = False) -> Markup:
    """One paragraph of plain text."""
    return Markup('<p style="margin:.3em 0{}">{}</p>').format(";opacity:.7" if quiet else "", text)


def heading(text: str, after: str = "") -> Markup:
    """A bold beginning and plain text after it, on one line."""
    return Markup('<p style="margin:.3em 0"><b>{}</b> {}</p>').format(text, after)


def bullets(items: Iterable[str]) -> Markup:
    """A list of sentences; empty where there are none."""
    lines = Markup("").join(Markup("<li>{}</li>").format(item) for item in items)
    return Markup('<ul style="margin:.3em 0">{}</ul>').format(lines) if lines else lines


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    """A table; columns of numbers are set to the right, the first one and those of text to the left."""
    sides = [
        "right" if k and all(NUMBER.match(row[k]) for row in rows if k < len(row)) else "left"
        for k in range(len(heads))
    ]

    def cells(tag: str, row: Sequence[str]) -> Markup:
        cell = Markup('<{0} style="{1};text-align:{2}">{3}</{0}>')
        return Markup("").join(cell.format(tag, CELL, side, text) for side, text in zip(sides, row, strict=False))

    body = Markup("").join(Markup("<tr>{}</tr>").format(cells("td", row)) for row in rows)
    text = '<div style="overflow-x:auto"><table><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>'
    return Markup(text).format(cells("th", heads), body)


def picture(png: bytes, alt: str, caption: str = "") -> Markup:
    """A PNG file with a caption below; several stand side by side where there is room."""
    figure = (
        '<figure style="display:inline-block;margin:.2em 1em .2em 0;vertical-align:top">'
        '<img alt="{}" src="data:image/png;base64,{}" style="max-width:100%;image-rendering:pixelated">'
        '<figcaption style="font-size:85%;opacity:.8">{}</figcaption></figure>'
    )
    return Markup(figure).format(alt, base64.b64encode(png).decode(), caption)


def fold(title: str, content: Markup) -> Markup:
    """Details that a reader opens."""
    return Markup("<details><summary>{}</summary>{}</details>").format(title, content)


def bar(share: float | None, text: str) -> Markup:
    """A bar with this share filled, 0 to 1 (None: how much is unknown), and a text below it."""
    value = Markup("") if share is None else Markup(' value="{:.3f}"').format(min(1.0, max(0.0, share)))
    return Markup(
        '<div><progress max="1"{} style="width:100%;max-width:40em;accent-color:#0072B2"></progress>'
        '<div style="font-family:monospace;font-size:85%;white-space:pre-wrap">{}</div></div>'
    ).format(value, text)
