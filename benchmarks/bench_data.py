"""Reading data: time and memory the first time and again, of many pictures and of a set larger than memory.

Each command runs in a process of its own. Its memory is given twice: all that it had at its peak, pages of mapped files
included, which the system may take back at any time, and its own (RssAnon, sampled every 20 ms; Linux).

    python benchmarks/bench_data.py                                          # `make bench-data`, about ten minutes
    python benchmarks/bench_data.py --pictures 2000 --gigabytes 0.1   # a sketch
    python benchmarks/bench_data.py --folder D                               # keeps the sets in D and uses them again
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from modiste.data import toy

SIDE = 32
SETS = ("pictures", "parquet", "npy", "toy")
PROBE = """
import json, re, resource, sys, threading, time
place, limit, *words = sys.argv[1:]
if int(limit):
    resource.setrlimit(resource.RLIMIT_DATA, (int(limit), int(limit)))
own = 0
def watch():
    global own
    while True:
        with open("/proc/self/status") as file:
            found = re.search(r"RssAnon:\\s*(\\d+)", file.read())
        own = max(own, int(found[1]) * 1024)
        time.sleep(0.02)
threading.Thread(target=watch, daemon=True).start()
from modiste import cli
sys.argv = ["modiste", *words]
try:
    cli.main()
finally:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with open(place, "w") as file:
        json.dump({"peak": peak, "own": own}, file)
"""


def measure(words: Sequence[str], cache: Path, limit: int = 0) -> dict[str, Any]:
    """Seconds and bytes of `modiste WORDS` with that cache, allowed so many bytes of memory of its own."""
    with tempfile.TemporaryDirectory() as folder:
        probed, out = Path(folder, "probed.json"), Path(folder, "out")
        command = [sys.executable, "-c", PROBE, str(probed), str(limit), *words, "--out", str(out)]
        environment = {**os.environ, "MODISTE_CACHE": str(cache)}
        start = time.perf_counter()
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
        seconds = time.perf_counter() - start
        if done.returncode:
            raise SystemExit(f"`modiste {' '.join(words)}` failed: {done.stderr[-2000:]}")
        return {"seconds": round(seconds, 2), **json.loads(probed.read_text())}


def images(count: int) -> Iterator[tuple[np.ndarray, int]]:
    """So many garments of 32 pixels that all differ, and their labels."""
    drawn = toy.draw(min(count, 10_000), SIDE, 0)
    assert drawn.labels is not None
    for k in range(count):
        image = drawn.pixels[k % len(drawn), 0].copy()
        image[0, :3] = k % 256, k // 256 % 256, k // 65536
        yield image, int(drawn.labels[k % len(drawn)])


def write_pictures(folder: Path, count: int) -> None:
    """A folder per class of PNG files."""
    for k, (image, label) in enumerate(images(count)):
        place = folder / toy.CLASS_NAMES[label].replace("/", "-")
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(place / f"{k:06}.png", compress_level=1)


def write_parquet(file: Path, count: int) -> None:
    """The same pictures as rows of a Parquet file."""
    import pyarrow
    from pyarrow import parquet

    kind = pyarrow.schema(
        [("image", pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])), ("label", "int64")]
    )
    with parquet.ParquetWriter(file, kind) as writer:
        rows: list[dict[str, Any]] = []
        for k, (image, label) in enumerate(images(count)):
            content = io.BytesIO()
            Image.fromarray(image).save(content, "png", compress_level=1)
            rows.append({"image": {"bytes": content.getvalue(), "path": f"{k:06}.png"}, "label": label})
            if len(rows) == 1000 or k == count - 1:
                writer.write_table(pyarrow.Table.from_pylist(rows, kind))
                rows = []


def write_npy(file: Path, gigabytes: float) -> None:
    """An .npy file of random bytes as colour images."""
    count = int(gigabytes * 1e9) // (3 * SIDE**2)
    random = np.random.default_rng(0)
    with file.open("wb") as out:
        shape = (count, 3, SIDE, SIDE)
        np.lib.format.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for start in range(0, count, 10_000):
            out.write(random.bytes(min(10_000, count - start) * 3 * SIDE**2))


def prepare(folder: Path, options: argparse.Namespace) -> dict[str, Path]:
    """The sets that were asked for, by what they are; those that are in the folder already are used as they are."""
    count, sets = options.pictures, {}
    if "pictures" in options.sets:
        sets[f"{count:,} pictures of {SIDE} x {SIDE}"] = place = folder / "pictures"
        if not place.exists():
            write_pictures(place, count)
    if "parquet" in options.sets:
        sets[f"{count:,} pictures in a Parquet file"] = place = folder / "pictures.parquet"
        if not place.exists():
            write_parquet(place, count)
    if "npy" in options.sets:
        place = folder / "large.npy"
        if not place.exists():
            write_npy(place, options.gigabytes)
        size, limit = place.stat().st_size / 1e9, options.limit
        sets[f"{size:.1f} GB of .npy, own memory at most {limit:g} GB"] = place
    if "toy" in options.sets:
        sets["toy, which is drawn, for comparison"] = Path("toy")
    return sets


def rows(folder: Path, options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """The table's rows: what was done, and what it took the first time and again, each with a cache of its own.

    Trainings are not scored on held-out images, whose features take a time of their own.
    """
    settings = (f"train.images={options.images}", "evaluate.every_images=0")
    train = ["train", options.recipe, *(word for one in settings for word in ("--set", one)), "--data"]
    for name, place in prepare(folder, options).items():
        limit = int(options.limit * 1e9) if place.suffix == ".npy" else 0
        commands = {"modiste train": [*train, str(place)]}
        if place.name.startswith("pictures"):
            commands = {"modiste data": ["data", str(place)], **commands}
        for what, words in commands.items():
            with tempfile.TemporaryDirectory(dir=folder) as cache:
                first, again = (measure(words, Path(cache), limit) for _ in range(2))
            yield {"set": name, "command": what, "first": first, "again": again}


HEAD = """\
| set | command | first, s | again, s | peak memory first and again, MB | of it its own, MB |
|---|---|---|---|---|---|"""


def line(row: Mapping[str, Any]) -> str:
    """The table's line for a row."""
    seconds = " | ".join(f"{row[when]['seconds']:.1f}" for when in ("first", "again"))
    memory = " | ".join(
        ", ".join(f"{row[when][key] / 1e6:.0f}" for when in ("first", "again")) for key in ("peak", "own")
    )
    return f"| {row['set']} | `{row['command']}` | {seconds} | {memory} |"


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pictures", type=int, default=200_000, help="how many")
    parser.add_argument("--gigabytes", type=float, default=6.0, help="of the large .npy file")
    parser.add_argument("--limit", type=float, default=2.0, help="memory of its own that its training may have, in GB")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--recipe", default="swift")
    parser.add_argument("--images", type=int, default=6400, help="shown in each training")
    parser.add_argument("--folder", type=Path, help="where the sets are or will be; by default they are removed")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = []
        if not options.json:
            print(HEAD)
        for row in rows(folder, options):
            found.append(row)
            if not options.json:
                print(line(row), flush=True)
    if options.json:
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
