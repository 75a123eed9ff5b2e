"""Image files: what counts as one, sizes, shapes, colours, transparency and damage."""

from __future__ import annotations

import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image, features
from PIL.PngImagePlugin import PngImageFile
from support import frames, picture, read

from modiste.data import image_files
from modiste.data.notes import (
    Fitted,
    Transparent,
    UnreadFiles,
)
from modiste.errors import ModisteError, UsageError


def test_grey_stays_one_channel_and_colour_makes_three(tmp_path):
    picture(tmp_path / "1.png", 9)
    picture(tmp_path / "2.png", (7, 7, 7), mode="RGB")  # grey saved as RGB
    picture(tmp_path / "3.bmp", 1, mode="1")
    assert read(tmp_path).pixels[:, :, 0, 0].tolist() == [[9], [7], [255]]
    picture(tmp_path / "4.png", (1, 2, 3), mode="RGB")
    picture(tmp_path / "5.png", (255, 255, 255, 0), mode="RGBA")  # transparent: black
    Image.new("P", (4, 4), 0).save(tmp_path / "6.gif")
    picture(tmp_path / "7.tif", 8)
    assert read(tmp_path).pixels[:5, :, 0, 0].tolist() == [[9] * 3, [7] * 3, [255] * 3, [1, 2, 3], [0, 0, 0]]
    assert read(tmp_path).pixels[6, :, 0, 0].tolist() == [8] * 3


def test_pictures_of_several_sizes_need_resize(tmp_path):
    picture(tmp_path / "1.png", 3)
    picture(tmp_path / "2.png", 3, size=(6, 5))
    with pytest.raises(
        ModisteError, match=r"2\.png is 6 x 5 pixels but \S+1\.png is 4 x 4; bring all pictures to one size"
    ):
        read(tmp_path)
    assert read(tmp_path, resize=4).pixels.shape == (2, 1, 4, 4)


def test_a_picture_is_what_pillow_reads_whatever_its_name_ends_in(tmp_path):
    """Every file counts: read by its content, or named among those that were not read."""
    endings = [
        ".png",
        ".PNG",
        "",
        ".jfif",
        ".JPG",
        ".ppm",
        ".pgm",
        ".pbm",
        ".dib",
        ".tga",
        ".ico",
        ".jp2",
        ".data",
        ".txt",
    ]
    endings += [".avif"] if features.check("avif") else []
    kinds = {"": "PNG", ".data": "BMP", ".txt": "GIF", ".pbm": "PPM"}  # others by their ending
    for number, ending in enumerate(endings):
        Image.new("L", (16, 16), 255).save(tmp_path / f"{number}{ending}", kinds.get(ending))
    others = {
        "notes.txt": b"Pictures of hats",
        "Thumbs.db": b"\xd0\xcf\x11\xe0" + bytes(600),
        "empty": b"",
        "P5": b"P5 x",
    }
    for name, content in {**others, ".DS_Store": b"hidden", "._1.png": b"hidden"}.items():
        (tmp_path / name).write_bytes(content)
    Image.new("L", (16, 16), 9).save(tmp_path / "raw.nef", "TIFF")  # a camera's file: its preview is not the photo
    images = read(tmp_path)
    assert len(images) == len(endings) and images.pixels.min() >= 250
    assert images.notes == (UnreadFiles(("empty", "notes.txt", "P5", "raw.nef", "Thumbs.db")),)
    assert str(images.notes[0]) == "5 files were not read as pictures: empty, notes.txt, P5, raw.nef and 1 more"


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_images_that_are_not_square_are_fitted_as_asked_from_files_and_from_arrays(tmp_path, fit):
    """A wide image whose thirds are black, white and black, and one that is square."""
    wide = np.zeros((1, 8, 24), np.uint8)
    wide[:, :, 8:16] = 255
    np.savez(tmp_path / "set.npz", images=wide)
    (tmp_path / "folder").mkdir()
    Image.fromarray(wide[0]).save(tmp_path / "folder" / "1.png")
    picture(tmp_path / "folder" / "2.png", 128, size=(4, 4))
    rows = {"crop": [255] * 4, "pad": [128, 128, 128, 128], "stretch": [0, 170, 170, 0]}[fit]
    settings = {"resize": 4, "resize_filter": "box", "fit": fit, "background": "#808080"}
    array, pictures = read(tmp_path / "set.npz", **settings), read(tmp_path / "folder", **settings)
    assert array.pixels[0].tolist() == pictures.pixels[0].tolist() and (pictures.pixels[1] == 128).all()
    assert array.pixels[0, 0, 0].tolist() == rows and array.name.endswith(f"4px-box-{fit}")
    if fit == "pad":  # 24 x 8 becomes 4 x 1, under one line of background and over two
        assert array.pixels[0, 0, 1, 0] < 128 < 140 < array.pixels[0, 0, 1, 1]
    assert pictures.notes == (Fitted(fit, 1, 2, (24, 8), (24, 8)),)
    assert array.notes == (Fitted(fit, 1, 1, (24, 8), (24, 8)),)


def test_square_images_are_the_same_pixels_by_every_fit(tmp_path):
    random = np.random.default_rng(0)
    for k in range(3):
        Image.fromarray(random.integers(0, 256, (9 + k, 9 + k, 3), np.uint8)).save(tmp_path / f"{k}.png")
    read_by = {fit: read(tmp_path, resize=6, fit=fit) for fit in ("crop", "pad", "stretch")}
    assert (read_by["crop"].pixels == read_by["stretch"].pixels).all()
    assert (read_by["pad"].pixels == read_by["stretch"].pixels).all()
    assert {images.name.split()[-1] for images in read_by.values()} == {"6px-lanczos"} and not read_by["pad"].notes


def test_the_header_of_a_photo_that_is_not_square_is_enough_to_refuse_the_set(tmp_path, monkeypatch):
    decoded = []
    load = PngImageFile.load
    monkeypatch.setattr(PngImageFile, "load", lambda self: decoded.append(self.filename) or load(self))
    for k in range(5):
        picture(tmp_path / "wide" / f"{k}.png", size=(40, 30))
        picture(tmp_path / "mixed" / f"{k}.png", size=(40 + k, 40 + k))
    with pytest.raises(
        UsageError, match=r"0\.png is 40 x 30 pixels, not square; .*`--resize SIDE`.*`--fit`.*crop, pad"
    ):
        read(tmp_path / "wide")
    assert len(set(decoded)) <= 1
    with pytest.raises(ModisteError, match=r"1\.png is 41 x 41 pixels but \S+0\.png is 40 x 40"):
        read(tmp_path / "mixed")
    assert not [file for file in decoded if file.endswith("2.png")]


def test_large_square_pictures_are_counted_before_they_fill_the_disk(tmp_path, monkeypatch):
    for k in range(5):
        picture(tmp_path / f"{k}.png", k, size=(40, 40))
    room = shutil.disk_usage(tmp_path)._replace(free=5 * 40 * 40 - 1)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: room)
        with pytest.raises(
            UsageError, match=r"for 5 pictures of 40 x 40 pixels, as \S+0\.png is one, where .*--resize SIDE"
        ):
            read(tmp_path)
        assert len(read(tmp_path, resize=8)) == 5
        patch.setattr(shutil, "disk_usage", lambda _: room._replace(free=5 * 40 * 40))
        assert len(read(tmp_path)) == 5


def test_photos_are_resized_one_by_one(tmp_path):
    """Forty photos of 2000 x 1500 pixels, 360 MB, in a small part of that."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (15, 20, 3), np.uint8))
    noise.resize((2000, 1500)).save(tmp_path / "0.jpg")
    for k in range(1, 40):
        shutil.copy(tmp_path / "0.jpg", tmp_path / f"{k}.jpg")
    code = (
        "import resource; from modiste.config import Data; from modiste.data.sets import open_data;"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss;"
        f"start = peak(); images = open_data(Data(name={str(tmp_path)!r}, resize=32)); print(peak() - start)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(told) * (1 if sys.platform == "darwin" else 1024) < 100e6


@pytest.mark.parametrize(
    ("background", "seen", "vanished"), [("black", 0, 3), ("white", 255, 0), ("#ff8000", [255, 128, 0], 0)]
)
def test_transparency_is_laid_over_the_background_and_told(tmp_path, background, seen, vanished):
    """Black ink on transparency, as icons are drawn: on black nothing of it is left."""
    for k in range(3):
        icon = np.zeros((8, 8, 4), np.uint8)
        icon[2 : 5 + k, 2:5, 3] = 255
        Image.fromarray(icon).save(tmp_path / f"{k}.png")
    Image.new("RGBA", (8, 8), (90, 90, 90, 255)).save(tmp_path / "opaque.png")
    images = read(tmp_path, background=background)
    assert images.pixels[0, :, 0, 0].tolist() == (seen if isinstance(seen, list) else [seen])
    assert (images.pixels[0, :, 3, 3] == 0).all()
    assert images.notes == (Transparent(3, 4, background, vanished),)
    assert ("use data.background = white" in str(images.notes[0])) == bool(vanished)


def test_a_transparent_grey_value_becomes_black_too(tmp_path):
    Image.new("L", (4, 4), 255).save(tmp_path / "1.png", transparency=255)
    assert read(tmp_path).pixels.max() == 0 and read(tmp_path).pixels.shape == (1, 1, 4, 4)


def test_pictures_damaged_anywhere_are_one_sentence(tmp_path):
    """Pillow's parsers raise KeyError and TypeError too."""
    frames(tmp_path / "whole.tiff", 2)
    whole, random = (tmp_path / "whole.tiff").read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        content = bytearray(whole)
        for place in random.integers(0, len(content), 3):
            content[place] = random.integers(0, 256)
        (tmp_path / "whole.tiff").write_bytes(content)
        try:
            image_files.open_picture(tmp_path / "whole.tiff")
        except ModisteError as error:
            assert str(error).count("\n") == 0
    (tmp_path / "whole.tiff").write_bytes(whole[:40])
    with pytest.raises(ModisteError, match=r"whole\.tiff is not a readable picture"):
        read(tmp_path)


def test_a_truncated_picture_is_named(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    Image.fromarray(noise).save(tmp_path / "1.png")
    content = (tmp_path / "1.png").read_bytes()
    (tmp_path / "1.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModisteError, match=r"1\.png is not a readable picture"):
        read(tmp_path)
