"""How long the studio's wall takes while its truncation slider moves, and what its server's memory does meanwhile.

A wall is what the page asks for: ten seeds in each of ten classes (100 images in all without classes), drawn, encoded
and sent over HTTP, each with another truncation. The goal is 100 ms on two quiet cores for `swift`. Memory is the
server's resident set (Linux).

    python benchmarks/studio.py runs/swift                 # 200 walls timed, memory after 1,000
    python benchmarks/studio.py runs/swift --walls 20      # does it run at all?
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlencode, urlsplit

IMAGES = 100
GOAL_MILLISECONDS = 100
WARM_UP = 20
TIMED = 200


class Browser:
    """One connection to a studio, with its cookie."""

    def __init__(self, address: str) -> None:
        place = urlsplit(address)
        self.connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
        self.connection.request("GET", f"{place.path}?{place.query}")
        answer = self.connection.getresponse()
        answer.read()
        self.headers = {"Cookie": str(answer.headers["Set-Cookie"]).partition(";")[0]}

    def get(self, path: str) -> bytes:
        self.connection.request("GET", path, headers=self.headers)
        answer = self.connection.getresponse()
        content = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status} {content[:200]!r}")
        return content


def resident_megabytes(process: int) -> float:
    """The resident memory of a process in megabytes."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def measure(browser: Browser, process: int, walls: int) -> dict[str, float]:
    """Milliseconds of a wall, and megabytes of the server, for the first run of the listing."""
    run = json.loads(browser.get("/api/runs"))[0]
    classes = len(run["classes"])
    seeds = max(1, IMAGES // max(1, classes))

    def draw(turn: int) -> float:
        values = {"seeds": ",".join(map(str, range(seeds))), "truncation": f"{0.1 + 1.9 * (turn % 97) / 97:.4f}"}
        values |= {"labels": ",".join(map(str, range(classes)))} if classes else {"columns": "10"}
        start = time.perf_counter()
        browser.get(f"/api/runs/{run['id']}/wall.png?{urlencode(values)}")
        return 1000 * (time.perf_counter() - start)

    first = draw(0)
    for turn in range(WARM_UP):
        draw(turn)
    before = resident_megabytes(process)
    times = [draw(turn) for turn in range(walls)]
    return {
        "images": seeds * max(1, classes),
        "first": first,
        "median": statistics.median(times[:TIMED]),
        "95 %": statistics.quantiles(times[:TIMED], n=20)[-1],
        "megabytes before": before,
        "megabytes after": resident_megabytes(process),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="A run's folder.")
    parser.add_argument("--walls", type=int, default=1_000, help="Walls between the two looks at memory.")
    options = parser.parse_args()
    if options.walls < 2 or not options.run.is_dir():
        parser.error("give the folder of a run, and at least two walls")
    command = [sys.executable, "-m", "modiste", "studio", str(options.run)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            address = next(line.split()[1] for line in server.stderr if line.startswith("open http"))
            found = measure(Browser(address), server.pid, options.walls)
        finally:
            server.terminate()
    goal = "met" if found["95 %"] <= GOAL_MILLISECONDS else "missed"
    print(
        f"wall of {found['images']:.0f} images: {found['median']:.0f} ms in the median, {found['95 %']:.0f} ms at 95 %"
    )
    print(f"(the first one {found['first']:.0f} ms; the goal of {GOAL_MILLISECONDS} ms is {goal})")
    print(
        f"memory of the server: {found['megabytes before']:.0f} MB before {options.walls:,} walls, "
        f"{found['megabytes after']:.0f} MB after"
    )


if __name__ == "__main__":
    main()
