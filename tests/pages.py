"""What the tests of the pages share: code blocks, and the commands on a page."""

from __future__ import annotations

import re
import shlex


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of that language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page, re.MULTILINE | re.DOTALL)


def commands(page: str, program: str) -> list[list[str]]:
    """The program's commands in their order: in blocks of sh, in indented lines, and in code within sentences."""
    spans = rf"^```sh\n(.*?)^```|^    ({program} (?:[^\n]*\\\n)*[^\n]*)|(?<!`)`({program} [^`]+)`(?!`)"
    found = []
    for block, indented, inline in re.findall(spans, page, re.MULTILINE | re.DOTALL):
        lines = (block or indented).replace("\\\n", " ").splitlines() or [" ".join(inline.split())]
        found += [shlex.split(part, comments=True) for line in lines for part in line.split("&&")]
    return [words for words in found if words[:1] == [program] and len(words) > 1]
