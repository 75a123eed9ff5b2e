"""The table of a study in LaTeX: its numbers, its letters, and that LaTeX can read it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from report_lab import study_of

from modiste.errors import UsageError
from modiste.evaluation import records
from modiste.reports import inputs, latex

EFFECTS = {"plain": (1.0, 1.1, 0.9, 1.05), "better": (0.5, 0.52, 0.48, 0.51), "equal": (1.02, 1.08, 0.89, 1.0)}


@pytest.fixture(scope="module")
def study(measured_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of three configurations, of which two cannot be told apart; a run of one has failed."""
    folder = study_of(measured_run, tmp_path_factory.mktemp("studies") / "fake", EFFECTS, ("plain", 3))
    text = (folder / "study.toml").read_text(encoding="utf-8")
    text = text.replace('"Which?"', '"Which of 50% & #1 is_best: A\\\\B{x}^2 ~ $1?"')
    (folder / "study.toml").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def table(study: Path) -> str:
    return latex.study_table(study)


def lines_of(table: str) -> list[list[str]]:
    """The cells of the tabular's lines."""
    inner = table[table.index(r"\toprule") : table.index(r"\bottomrule")]
    inner = re.sub(r"\\shortstack\{(?:[^{}]|\{[^{}]*\})*\}", lambda found: found[0].replace(r"\\", " "), inner)
    lines = [line.strip() for line in inner.split(r"\\")]
    lines = [re.sub(r"^(\\(toprule|midrule|addlinespace)\s*)+", "", line) for line in lines]
    return [re.split(r"\s*(?<!\\)&\s*", line) for line in lines if "&" in line]


def test_the_numbers_are_those_of_the_report_in_rank_order(study: Path, table: str) -> None:
    lines = lines_of(table)
    names = [line[0] for line in lines if line[0]]
    assert names == ["Configuration", "better", "equal", "plain", "Real images", "Trivial baseline"]
    comparison = inputs.open_path(study)
    score = comparison.of_kind("frechet")
    assert score is not None
    found = comparison.summary(comparison.configuration("better"), score)
    assert lines[1][1] == f"${records.format_number(found.mean)}$" + r"\textsuperscript{a}"
    low, high = (records.format_number(end, 3) for end in (found.low, found.high))
    assert lines[2][:2] == ["", rf"{{\scriptsize [${low}$, ${high}$]}}"]
    assert lines[-2][1] == f"${records.format_number(comparison.entry(score).real)}$"
    assert r"\shortstack{Fréchet \\ distance $\downarrow$}" in table and r"\shortstack{Recall $\uparrow$}" in table


def test_letters_are_shared_by_those_that_cannot_be_told_apart(table: str) -> None:
    letters = dict(re.findall(r"(?m)^(\w+) & \S+?\\textsuperscript\{(\w+)\}", table))
    assert letters == {"better": "a", "equal": "b", "plain": "b"}
    assert "no verdict parts configurations that share a letter" in table


def test_the_caption_has_the_protocol(table: str) -> None:
    caption = re.search(r"\\caption\{(.*)\}\n", table)
    assert caption is not None
    for words in ("4 training seeds per configuration", r"95\,\% intervals", "50 generated images against 200 of",
                  "residual classifier", "hash", "1 of 12 runs failed", "geometric"):  # fmt: skip
        assert words in caption[1], words
    assert r"Which of 50\% \& \#1 is\_best: A\textbackslash{}B\{x\}\textasciicircum{}2 \textasciitilde{} \$1?" in table


def test_latex_can_read_it(table: str, tmp_path: Path) -> None:
    columns = re.search(r"\\begin\{tabular\}\{(\w+)\}", table)
    assert columns is not None and {len(line) for line in lines_of(table)} == {len(columns[1])}
    opened = re.findall(r"\\(begin|end)\{(\w+)\}", table)
    assert opened == [("begin", "table"), ("begin", "tabular"), ("end", "tabular"), ("end", "table")]
    bare = re.sub(r"\\[\\{}$&#_%,]", "", table)
    depth = 0
    for letter in bare:
        depth += (letter == "{") - (letter == "}")
        assert depth >= 0
    text = "".join(bare.split("$")[::2])
    assert depth == 0 and bare.count("$") % 2 == 0 and not re.search(r"[_^#~]", text)
    if engine := shutil.which("pdflatex"):
        (tmp_path / "paper.tex").write_text(
            f"\\documentclass{{article}}\\usepackage{{booktabs}}\\begin{{document}}\n{table}\\end{{document}}\n",
            encoding="utf-8",
        )
        done = subprocess.run([engine, "-halt-on-error", "paper.tex"], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.41237, "$0.4124$"),
        (12345.6, "$12{,}346$"),
        (1.2e-5, r"$1.2\times 10^{-5}$"),
        (-3.0, "$-3.000$"),
        (None, "--"),
    ],
)
def test_numbers(value: float | None, text: str) -> None:
    assert latex._number(value) == text


def test_the_command_writes_it_and_replaces_only_its_own(
    study: Path, measured_run: Path, tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    place = tmp_path / "table.tex"
    for _ in range(2):
        code, out, said = call("report", study, "--latex", "--out", tmp_path)
        assert code == 0 and out == f"wrote {place}\n", said
    assert latex.study_table(study).strip() in place.read_text(encoding="utf-8")
    place.write_text(place.read_text(encoding="utf-8").replace("better", "best"), encoding="utf-8")
    code, _, said = call("report", study, "--latex", "--out", tmp_path / "page.html")
    assert code == 2 and "table.tex" in said
    with pytest.raises(UsageError, match="is a run, and a table with intervals needs a study"):
        latex.study_table(measured_run)


def test_one_seed_has_no_letters(measured_run: Path, tmp_path: Path) -> None:
    folder = study_of(measured_run, tmp_path / "one", {"plain": (1.0,), "better": (0.5,)}, None)
    table = latex.study_table(folder)
    assert "textsuperscript" not in table and "scriptsize" not in table
    assert "With so few seeds no verdict is possible." in table
