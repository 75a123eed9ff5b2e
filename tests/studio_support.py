"""What tests of the studio do with its page and its job."""

from __future__ import annotations

import time
from typing import Any

from starlette.testclient import TestClient


def wait(client: TestClient, seconds: float = 120) -> dict[str, Any]:
    """The studio's job when it has ended."""
    deadline = time.monotonic() + seconds
    while (job := client.get("/api/command").json())["running"]:
        assert time.monotonic() < deadline, job["output"]
        time.sleep(0.1)
    return dict(job)


def open_part(page: Any, part: str, run: str = "small") -> None:
    """Show a part of the studio for a run, by the list of runs and the part's tab."""
    page.select_option("#run", label=run)
    page.click(f"#tabs a[href^='#{part}/']")
    page.wait_for_selector(f".part.{part} h2")
