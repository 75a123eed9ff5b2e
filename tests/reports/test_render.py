"""HTML and Markdown: whole in one file, the same in both, and text stays text."""

from __future__ import annotations

import io
import re
import urllib.parse
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image
from report_lab import images

from modiste.plotting import charts
from modiste.provenance import metadata
from modiste.reports import (
    render,
    report,
)
from modiste.reports.blocks import Bullets, Code, Fold, Lead, Mark, Paragraph, Picture, Report, Section, Table
from modiste.sampling import grids


def test_the_page_is_whole_in_one_file(written: report.WrittenReport) -> None:
    page = written.html
    text = page.read_text()
    assert not re.findall(r'(?:src|href|action)="(?!data:|#)', text)
    assert "<script" not in text and "@import" not in text and not re.findall(r"url\((?!#)", text)
    pictures_ = images(page)
    assert len(pictures_) > 40
    for content in pictures_:
        Image.open(io.BytesIO(content)).load()
    assert all(alt.strip() for alt in re.findall(r'<img [^>]*alt="([^"]*)"', text))
    assert len(re.findall(r"<img ", text)) == len(re.findall(r"<img [^>]*alt=", text))
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert {target for target in re.findall(r'href="#([^"]+)"', text)} <= set(ids)
    assert 'http-equiv="refresh"' not in text


def test_the_markdown_says_the_same_and_its_files_are_there(written: report.WrittenReport) -> None:
    run = written.html.parent
    assert written.markdown is not None
    text = written.markdown.read_text()
    files = re.findall(r"\]\((report_files/[^)]+)\)", text)
    there = sorted(f.name for f in (run / "report_files").iterdir())
    assert files and sorted([*(Path(file).name for file in files), "mine.png"]) == there
    for file in files:
        content = (run / file).read_bytes()
        if file.endswith(".svg"):
            assert ElementTree.fromstring(content).tag.endswith("svg")
        elif file.endswith(".pdf"):
            assert content.startswith(b"%PDF") and content.rstrip().endswith(b"%%EOF")
        else:
            Image.open(io.BytesIO(content)).load()
    drawn = {Path(file).stem for file in files if file.endswith(".svg")}
    assert {"nearest-distances", "curve-losses", "curve-accuracies"} <= drawn
    assert not [name for name in drawn if name.startswith(("radar", "dots"))]  # of a single run its rulers say it
    assert {Path(file).stem for file in files if file.endswith(".pdf")} == drawn
    titles = [section.title for section in written.report.sections]
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == titles
    (scores,) = [block.splitlines() for block in text.split("\n\n") if block.startswith("| score | generated")]
    assert len(scores) > 15 and len({len(re.findall(r"(?<!\\)\|", line)) for line in scores}) == 1


def test_pictures_with_generated_images_say_so(written: report.WrittenReport) -> None:
    said = {}
    for file in (written.html.parent / "report_files").glob("[!m]*.png"):
        said[file.stem] = metadata.read_metadata(file.read_bytes()).get("DigitalSourceType")
    for ending in ("start", "middle", "end"):
        assert {said[name] for name in said if name.endswith(f"-{ending}")} == {metadata.SOURCE_TYPE}
    assert {said[name] for name in said if name.endswith(("-predictions", "-made"))} == {metadata.SOURCE_TYPE}
    assert {said[name] for name in ("_unseen-nearest", "_real", "class-1")} == {None}
    nearest = {said[name] for name in said if name.endswith(("-nearest", "-missing")) and name != "_unseen-nearest"}
    assert nearest == {metadata.COMPOSITE_TYPE}


def test_text_is_text_in_both_formats(tmp_path: Path) -> None:
    blocks = [
        Paragraph("a <b> & `code` *star*"),
        Bullets(["one | two"]),
        Code("x < y"),
        Table(["h|h", "n"], [["a|b", "1.5 [1, 2]"]]),
        Fold("more", [Paragraph("inside")]),
        Picture("dot", grids.png(Image.new("L", (2, 2))), 'an "alt"', 4),
    ]
    content = Report("T <i>", "", [Section("s", "S", "S", blocks)], Table([], []))
    page = render.to_html(content)
    assert "a &lt;b&gt; &amp; <code>code</code> *star*" in page and "T &lt;i&gt;" in page
    assert "1.5\n[1, 2]" in page and "x &lt; y" in page and "an &quot;alt&quot;" in page
    text = render.write_markdown(content, tmp_path / "r.md").read_text()
    assert "| a\\|b | 1.5 \\[1, 2] |" in text.replace("\\]", "]") and "```\nx < y\n```" in text
    assert (tmp_path / "r_files" / "dot.png").is_file()


def test_links_of_the_markdown_lead_to_its_pictures(tmp_path: Path) -> None:
    picture = Picture("dot", grids.png(Image.new("L", (2, 2))), "a dot", 4)
    content = Report("T", "", [Section("s", "S", "S", [picture, Table(["class [x|y]"], [["z"]])])], Table([], []))
    text = render.write_markdown(content, tmp_path / "lr?1 (50%) #2 [日].md").read_text(encoding="utf-8")
    (target,) = re.findall(r"!\[a dot\]\((\S+)\)", text)
    assert not set(target) & set("?#()[] ") and (tmp_path / urllib.parse.unquote(target)).is_file()
    assert "| class \\[x\\|y\\] |" in text


def test_a_mark_stands_at_its_number_in_both_formats(tmp_path: Path) -> None:
    rows = [["one", Mark(0.25, "1.5 [1, 2]", (0.2, 0.3))], ["two", Mark(1.0, "9")]]
    blocks = [Lead("One <b> leads."), Table(["name", "score"], rows)]
    content = Report("T", "", [Section("s", "S", "S", blocks)], Table([], []), ("two", "one"))
    page = render.to_html(content)
    assert re.findall(r'class="dot" style="left: ([\d.]+)%"', page) == ["25.0", "100.0"]
    assert 'class="span" style="left: 20.0%; width: 10.0%"' in page
    assert "score: 1.5 [1, 2], 25 % of the way from noise to real images" in page
    assert '<p class="lead">One &lt;b&gt; leads.</p>' in page
    assert re.findall(r'<tr style="--dot: (#\w+)">', page) == [
        charts.LINES[1],
        charts.LINES[0],
    ]  # by place in the palette
    text = render.write_markdown(content, tmp_path / "r.md").read_text(encoding="utf-8")
    assert "**One \\<b> leads.**" in text
    assert f"| one | {'─' * 5}●{'─' * 15} 1.5" in text and f"| two | {'─' * 20}● 9 |" in text
