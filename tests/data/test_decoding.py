"""Pictures decoded by several processes: the same pixels in the same order, errors, and ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support import frames, picture

from modiste.data import decoding
from modiste.data.decoding import Block, ParquetPicture, Scaling, decode_all
from modiste.data.images import join_pixels
from modiste.errors import ModisteError

AS_IT_IS = Scaling(None, "lanczos", "crop", "black")


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "BLOCK_PICTURES", 7)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Sixty pictures of several sizes: grey, in colour from the twentieth on, every ninth transparent."""
    random = np.random.default_rng(0)
    found = []
    for k in range(60):
        width, height = random.integers(8, 30, 2)
        shape = (height, width) if k < 20 else (height, width, 4 if k % 9 == 0 else 3)
        found.append(tmp_path / f"{k:02}.png")
        Image.fromarray(random.integers(0, 256, shape, np.uint8)).save(found[-1])
    return found


def joined(blocks: list[Block]) -> tuple[bytes, bytes, list[tuple[int, int]], int, int]:
    return (
        join_pixels([block.pixels for block in blocks]).tobytes(),
        b"".join(block.fingerprints for block in blocks),
        [size for block in blocks for size in block.oblong],
        sum(block.transparent for block in blocks),
        sum(block.vanished for block in blocks),
    )


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_processes_give_what_one_gives(files: list[Path], fit: str) -> None:
    scaling = Scaling(12, "lanczos", fit, "#808080")
    alone, three = (list(decode_all(files, scaling, processes=count)) for count in (1, 3))
    assert joined(alone) == joined(three) == joined([decoding.decode_block(files, scaling)])
    assert len(three) == 10 and three[0].pixels.shape == (1, 1, 12, 12) and three[-1].pixels.shape == (3, 3, 12, 12)
    rows = [ParquetPicture(Path("set.parquet"), k, "", file.read_bytes()) for k, file in enumerate(files)]
    assert joined(list(decode_all(rows, scaling, processes=2))) == joined(alone)


def test_the_first_error_in_the_order_of_the_pictures_is_raised(files: list[Path]) -> None:
    scaling = Scaling(12, "lanczos", "crop", "black")
    for broken in (57, 44, 18):
        files[broken].write_bytes(b"no picture")
    frames(files[18].with_suffix(".gif"), 2)
    for count in (1, 3):
        with pytest.raises(ModisteError, match=r"18\.png is not a readable picture"):
            list(decode_all(files, scaling, processes=count))
        with pytest.raises(ModisteError, match=r"18\.gif holds 2 pictures"):
            list(decode_all([*files[:18], files[18].with_suffix(".gif"), *files[19:]], scaling, processes=count))


def test_sizes_are_compared_with_the_first_picture_of_all(tmp_path: Path) -> None:
    for k in range(30):
        picture(tmp_path / f"{k:02}.png", k, size=(4, 4) if k != 25 else (5, 4))
    for count in (1, 2):
        with pytest.raises(ModisteError, match=r"25\.png is 5 x 4 pixels but \S+00\.png is 4 x 4; bring all pictures"):
            list(decode_all(sorted(tmp_path.iterdir()), AS_IT_IS, processes=count))


def test_a_process_that_is_killed_is_a_sentence(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda *words, **options: started.append(start(*words, **options)) or started[-1]
    )
    blocks = decode_all(files * 50, Scaling(12, "lanczos", "crop", "black"), processes=2)
    next(blocks), next(blocks)
    os.kill(started[0].pid, signal.SIGKILL)
    with pytest.raises(ModisteError, match=r"a process that decodes pictures ended at one of \S+png to \S+png"):
        list(blocks)
    assert [worker.poll() for worker in started] == [-signal.SIGKILL, 0]  # the other one has ended too


def test_scripts_without_a_guard_and_files_named_like_modules_do_no_harm(tmp_path: Path, files: list[Path]) -> None:
    """Processes started by `multiprocessing` would run the script again, and find this folder's csv.py."""
    (tmp_path / "csv.py").write_text("raise SystemExit('imported')")
    (tmp_path / "script.py").write_text(
        "from pathlib import Path; from modiste.data.decoding import *\n"
        "files = sorted(Path.cwd().glob('*.png'))\n"
        "print(sum(len(one.pixels) for one in decode_all(files, Scaling(8, 'box', 'crop', 'black'), processes=2)))\n"
    )
    code = "import sys, runpy; sys.path.remove(''); runpy.run_path('script.py', run_name='__main__')"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("60\n", "")


def test_a_process_that_decodes_starts_fast() -> None:
    code = "import sys, modiste.data.decoding; print([m for m in ('torch', 'pydantic', 'rich') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
