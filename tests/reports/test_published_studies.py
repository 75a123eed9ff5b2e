"""The studies in docs/: small, one page as HTML, and no link that leads nowhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

STUDIES = Path(__file__).parents[2] / "docs" / "studies"
MOST_BYTES = 5_000_000


def test_they_stay_small_with_one_page() -> None:
    files = [path for path in STUDIES.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < MOST_BYTES
    assert [path.suffix for path in files].count(".html") == 1
    assert not [path for path in files if path.suffix in (".gif", ".pdf")]


@pytest.mark.parametrize("page", sorted(STUDIES.rglob("*.md")), ids=lambda page: page.parent.name)
def test_links_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8"))
    assert not [target for target in targets if "://" not in target and not (page.parent / target).exists()]


@pytest.mark.parametrize("folder", [path.parent for path in STUDIES.glob("*/report_files")], ids=lambda path: path.name)
def test_every_picture_is_linked(folder: Path) -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in STUDIES.rglob("report.md"))
    assert [file.name for file in (folder / "report_files").iterdir() if file.name not in text] == []
