"""Sets in the cache: read once, never stale, never half written, mapped where they are large."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support import picture, read

from modiste.config import Data
from modiste.data import image_files, notes, stored
from modiste.data.images import Images, content_digest
from modiste.data.notes import Fitted, Transparent, UnreadFiles
from modiste.data.sets import list_notes, open_data
from modiste.data.stored import Contents, PixelFile
from modiste.errors import ModisteError

RANDOM = np.random.default_rng(0)
COLOUR = RANDOM.integers(0, 256, (60, 3, 8, 8), np.uint8)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MODISTE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of thirty pictures, one of them grey and transparent, and a file that is none."""
    for k, image in enumerate(COLOUR):
        place = tmp_path / "set" / "ab"[k % 2] / f"{k:02}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(place)
    picture(tmp_path / "set" / "a" / "00.png", (9, 9, 9, 0), mode="RGBA", size=(8, 8))
    (tmp_path / "set" / "a" / "list.csv").write_text("")
    return tmp_path / "set"


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of pictures in each set that is decoded."""
    counts: list[int] = []
    write = image_files.write_pixels
    monkeypatch.setattr(
        image_files, "write_pixels", lambda files, count, *rest: counts.append(count) or write(files, count, *rest)
    )
    return counts


def assert_equal(one: Images, other: Images) -> None:
    np.testing.assert_array_equal(one.pixels, other.pixels)
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_array_equal(one.fingerprints, other.fingerprints)
    assert (one.name, one.class_names, list_notes(one)) == (other.name, other.class_names, list_notes(other))
    assert content_digest(one) == content_digest(other)


def test_a_folder_is_decoded_once_for_all_its_parts(folder: Path, decoded: list[int]) -> None:
    first = read(folder, resize=6, fit="pad")
    for part in ("fit", "heldout", "train"):
        again = read(folder, part, resize=6, fit="pad")
    assert decoded == [60]
    assert_equal(again, first)
    assert first.notes == (UnreadFiles(("a/list.csv",)), Transparent(1, 60, "black", 0))
    for changes in ({"resize": 4}, {"resize": 6}, {"resize": 6, "background": "white"}, {"resize_filter": "box"}):
        read(folder, **changes)  # each is another set
    assert decoded == [60] * 5


def test_every_change_of_a_file_shows(folder: Path, decoded: list[int]) -> None:
    file = folder / "b" / "01.png"
    other = folder / "b" / "03.png"
    size, times = file.stat().st_size, (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    before = read(folder).pixels
    content = bytearray(file.read_bytes())
    picture(file, 5, size=(8, 8))
    shorter = file.read_bytes()
    file.write_bytes(shorter + bytes(size - len(shorter)))  # of equal size, by the time of its content as old
    os.utime(file, ns=times)
    assert file.stat().st_size == size
    changed = read(folder).pixels
    assert (changed[1] == 5).all() and (changed[2:] == before[2:]).all()
    file.write_bytes(content)
    assert (read(folder).pixels == before).all()
    file.rename(folder / "b" / "99.png")
    assert (read(folder).pixels[-1] == before[1]).all()
    other.unlink()
    assert len(read(folder)) == 59
    assert decoded == [60, 60, 60, 60, 59]


def test_what_changes_while_it_is_read_is_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = image_files.write_pixels

    def interfere(*words: Any) -> Any:
        found = write(*words)
        picture(folder / "b" / "01.png", 5, size=(8, 8))
        return found

    with monkeypatch.context() as patch:
        patch.setattr(image_files, "write_pixels", interfere)
        assert (read(folder).pixels[1] == COLOUR[1]).all()
    assert (read(folder).pixels[1] == 5).all()


def test_one_of_several_readers_decodes_and_the_others_wait(cache: Path) -> None:
    written: list[int] = []

    def write(out: PixelFile) -> Contents:
        written.append(1)
        time.sleep(0.2)
        out.add(COLOUR)
        return Contents()

    found: list[Images] = []
    readers = [
        threading.Thread(target=lambda: found.append(stored.stored({}, lambda: "now", "set", write))) for _ in range(4)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert written == [1] and len(found) == 4 and all((images.pixels == COLOUR).all() for images in found)
    assert [path.name for path in cache.rglob("*") if path.is_file()] == ["set"]


@pytest.mark.parametrize("damage", [b"", b"junk" * 9, None])
def test_a_damaged_file_of_the_cache_is_written_anew(
    folder: Path, cache: Path, decoded: list[int], damage: bytes | None
) -> None:
    whole = read(folder)
    (place,) = cache.glob("images/*/set")
    place.write_bytes(place.read_bytes()[7:] if damage is None else damage)
    assert_equal(read(folder), whole)
    assert_equal(read(folder), whole)
    assert decoded == [60, 60]


def test_without_a_cache_images_are_read_all_the_same(folder: Path, cache: Path, decoded: list[int]) -> None:
    cache.write_text("a file where the folder would be")
    for _ in range(2):
        assert (read(folder).pixels[1] == COLOUR[1]).all()
    assert decoded == [60, 60]


def test_a_full_cache_is_no_reason_to_stop(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(folder)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=9 if cache in place.parents else 10**9))
    assert (read(folder).pixels[1] == COLOUR[1]).all() and not list(cache.rglob("set"))


def test_a_failure_leaves_nothing_behind(folder: Path, cache: Path) -> None:
    (folder / "b" / "01.png").write_bytes(b"no picture")
    with pytest.raises(ModisteError, match=r"01\.png is not a readable picture"):
        read(folder)
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_a_full_disk_is_one_sentence() -> None:
    class Full(io.BytesIO):
        def write(self, _: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(ModisteError, match=r"cannot write cache/set: No space left on device; make room, or let MOD"):
        PixelFile(Full(), Path("cache/set")).add(COLOUR)


def test_colour_comes_in_at_any_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modiste.data.images.BLOCK_BYTES", 300)  # four pictures
    grey = np.ascontiguousarray(COLOUR[:, :1])
    for first in (0, 1, 9, 30):
        out = PixelFile(io.BytesIO(), Path("set"))
        for start in range(0, 60, 3):
            some = slice(start, start + 3)
            out.add(COLOUR[some] if first <= start < first + 20 else grey[some])
        expected = grey.repeat(3, axis=1)
        of_colour = [k for k in range(60) if first <= k - k % 3 < first + 20]
        expected[of_colour] = COLOUR[of_colour]
        assert out.size == (3, 8, 8) and out.file.getvalue() == expected.tobytes()


def test_sets_that_nobody_opens_leave_the_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def put(name: str, age: float = 0) -> Path:
        def write(out: PixelFile) -> Contents:
            out.add(COLOUR)
            return Contents()

        before = set(cache.glob("images/*/set"))
        stored.stored({"name": name}, lambda: "", name, write)
        (place,) = set(cache.glob("images/*/set")) - before or before
        os.utime(place, (time.time() - age,) * 2)
        return place

    old, older, oldest = put("old", 10), put("older", 20), put("oldest", stored.KEPT_SECONDS + 1)
    latest = put("latest")
    assert old.is_file() and older.is_file() and latest.is_file() and not oldest.exists()
    monkeypatch.setattr(stored, "KEPT_BYTES", 2.5 * old.stat().st_size)
    newest = put("newest")
    assert latest.is_file() and old.is_file() and newest.is_file() and not older.exists()
    monkeypatch.setattr(stored, "KEPT_BYTES", 0)
    put("large")
    assert len(list(cache.glob("images/*"))) == 1  # one that is larger than all others together stays


def test_every_kind_of_note_is_kept() -> None:
    note = Fitted("crop", 2, 5, (3, 4), (6, 5))
    out = PixelFile(io.BytesIO(), Path("set"))
    out.add(COLOUR)
    file = out.file
    file.fileno = lambda: os.open(os.devnull, os.O_RDONLY)  # type: ignore[method-assign]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        out.finish("key", "state", Contents(np.arange(60) % 2, ("a", "b"), (note, UnreadFiles(("x", "y")))))
    images = stored._read(file, "key", "state", "set")
    assert images.notes == (note, UnreadFiles(("x", "y"))) and images.labels.tolist() == [0, 1] * 30
    assert {"Fitted", "Transparent", "UnreadFiles", "UnreadFolder", "Unused", "ReadFrom"} <= stored.NOTES.keys()
    for key, state in (("other", "state"), ("key", "later")):
        with pytest.raises(ValueError, match="another set's"):
            stored._read(file, key, state, "set")


# sets that are mapped


@pytest.mark.parametrize(
    "changes",
    [{}, {"resize": 4, "resize_filter": "box"}, {"count": 20}, {"heldout": "last"}, {"count": 20, "resize": 4}],
)
def test_a_mapped_set_has_the_pixels_and_facts_of_one_in_memory(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    np.save(tmp_path / "set.npy", COLOUR)
    for place in (folder, tmp_path / "set.npy"):
        for part in ("train", "fit", "heldout"):
            settings = Data(name=str(place), **changes)
            whole = open_data(settings, part=part)
            with monkeypatch.context() as patch:
                patch.setattr(stored, "MAPPED_BYTES", 1)
                patch.setattr("modiste.data.images.BLOCK_BYTES", 400)
                for _ in range(2):  # written, and from the cache
                    mapped = open_data(settings, part=part)
                    assert mapped.source is not None and not mapped.pixels.flags.writeable
                    assert_equal(mapped, whole)


def test_what_is_known_of_a_mapped_set_is_not_computed_again_until_its_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "MAPPED_BYTES", 1)
    np.save(tmp_path / "set.npy", COLOUR)
    settings = Data(name=str(tmp_path / "set.npy"))

    def facts() -> tuple[Any, ...]:
        images = open_data(settings, part="fit")
        return content_digest(images), list_notes(images), images.pixels.tobytes()

    first = facts()
    with monkeypatch.context() as patch:
        for name in ("_brightness", "parts"):
            patch.setattr(notes, name, None)
        patch.setattr("modiste.data.subsets.fingerprint", None)
        patch.setattr("modiste.data.images.parts", None)
        assert facts() == first
    np.save(tmp_path / "set.npy", 255 - COLOUR)
    assert facts() != first


def test_the_state_of_a_folder_is_that_of_all_its_files(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    (folder / "a").mkdir(parents=True)
    states = [stored.state_of(folder)]
    assert stored.state_of(folder) == states[0]
    (folder / "a" / "loop").symlink_to(folder)
    states.append(stored.state_of(folder))
    (tmp_path / "elsewhere.png").write_text("1")
    (folder / "a" / "1.png").symlink_to(tmp_path / "elsewhere.png")
    states.append(stored.state_of(folder))
    (tmp_path / "elsewhere.png").write_text("2")
    states.append(stored.state_of(folder))
    (folder / "b").mkdir()
    states.append(stored.state_of(folder))
    (folder / "b" / "dead").symlink_to(folder / "nothing")
    states.append(stored.state_of(folder))
    assert len(set(states)) == len(states)
    (folder / ".hidden").write_text("")
    assert stored.state_of(folder) == states[-1]
    assert json.dumps(states)  # plain text
