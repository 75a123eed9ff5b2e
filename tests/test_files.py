"""Writing: whole files or none, several writers at a time, and places that are asked before long work."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from modiste import files
from modiste.errors import ModisteError, UsageError


def test_a_failed_write_leaves_the_old_content_and_no_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "file"
    files.write_text(place, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(ModisteError, match=r"cannot write .*file: No space left on device.*make room"):
        files.write_text(place, "new")
    assert place.read_text(encoding="utf-8") == "old" and list(tmp_path.iterdir()) == [place]


def test_several_writers_of_one_file_do_not_disturb_each_other(tmp_path: Path) -> None:
    place, texts = tmp_path / "file", [str(writer) * 5000 for writer in range(4)]
    with ThreadPoolExecutor(4) as pool:
        pending = [pool.submit(files.write_text, place, text) for _ in range(20) for text in texts]
        while not all(one.done() for one in pending):
            assert not place.exists() or place.read_text(encoding="utf-8") in texts
    assert all(one.exception() is None for one in pending) and list(tmp_path.iterdir()) == [place]


def test_what_is_nobodys_is_no_stranger(tmp_path: Path) -> None:
    for name in ("samples", ".set.1-a-0.writing", "recipe.toml"):
        (tmp_path / name).mkdir()
    (tmp_path / ".lock").touch()
    files.refuse_foreign_folder(tmp_path, "study folder", ("recipe.*",))
    (tmp_path / "samples" / "mine.png").touch()
    with pytest.raises(UsageError, match=r"holds other files \(samples\) and is no study folder; choose another"):
        files.refuse_foreign_folder(tmp_path, "study folder", ("recipe.*",))
    files.refuse_foreign_folder(tmp_path / "new", "study folder", ())


def test_a_place_is_asked_without_leaving_anything(tmp_path: Path) -> None:
    files.check_writable(tmp_path / "new" / "record.json")
    assert not list((tmp_path / "new").iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(ModisteError, match=r"cannot write .*record\.json"):
        files.check_writable(tmp_path / "file" / "record.json")
    with pytest.raises(ModisteError, match=r"cannot write .*new: it is a folder"):
        files.check_writable(tmp_path / "new")


def test_a_folder_is_held_by_one(tmp_path: Path) -> None:
    place = tmp_path / "new"
    refused = pytest.raises(files.InUse, match="in use by another study")
    with files.locked(place, "study"), refused, files.locked(place, "study"):
        pytest.fail("held by two")
    with files.locked(place, "study"):  # free again
        pass


def test_the_first_write_into_a_folder_removes_what_killed_writers_left_there(tmp_path: Path) -> None:
    gone = 2**22 + 1  # greater than any process number
    ours, other = files.THIS_MACHINE, "0" * 8
    left = [f".set.npz.{gone}-{ours}01234567-3.writing", f".report.html.{gone}-0a1b2c3d-0.writing",
            f".old.{gone}-{other}01234567-0.writing"]  # fmt: skip
    kept = [
        f".new.{gone}-{other}01234567-0.writing",
        f".x.{os.getpid()}-{files.THIS_PROCESS}-9.writing",
        ".mine.writing",
    ]
    for name in (*left, *kept):
        (tmp_path / name).touch()
    os.utime(tmp_path / left[2], (0, 0))  # on another machine, which is not at it any more
    files.write_text(tmp_path / "file", "new")
    assert sorted(place.name for place in tmp_path.iterdir()) == sorted([*kept, "file"])
    (tmp_path / left[0]).touch()
    files.write_text(tmp_path / "file", "newer")  # once for a folder is enough
    assert (tmp_path / left[0]).exists()


def test_a_scratch_folder_is_gone_in_the_end_and_those_of_the_killed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files.tempfile, "gettempdir", lambda: str(tmp_path))
    dead = tmp_path / f".modiste.{2**22 + 1}-{files.THIS_PROCESS}-0.writing"
    (dead / "run").mkdir(parents=True)
    with files.temporary_folder() as folder:
        (folder / "file").touch()
        assert list(tmp_path.iterdir()) == [folder]
    assert not list(tmp_path.iterdir())


def test_one_after_the_other_renames_in_a_folder(tmp_path: Path) -> None:
    inside: list[int] = []

    def rename(k: int) -> None:
        with files.exclusive(tmp_path):
            inside.append(k)
            threading.Event().wait(0.01)
            assert inside == [k]
            inside.remove(k)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(rename, range(8)))
    assert not list(tmp_path.iterdir())
