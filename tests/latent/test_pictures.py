"""Pictures and masks are read as the run's own images, and what does not fit is refused with a remedy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modiste.config import Data
from modiste.errors import ModisteError, UsageError
from modiste.latent import pictures
from modiste.networks.layers import ImageShape
from modiste.sampling.generators import TrainedGenerator


def save(path: Path, size: tuple[int, int] = (16, 16), colour: object = 90) -> str:
    mode = "L" if isinstance(colour, int) else "RGB"
    Image.new(mode, size, colour).save(path)  # type: ignore[arg-type]
    return str(path)


def test_one_picture_a_folder_and_a_set(painter: TrainedGenerator, tmp_path: Path, closet: Path) -> None:
    one = pictures.read_pictures(save(tmp_path / "shirt.png"), Data(), painter)
    assert one.pixels.shape == (1, 1, 16, 16) and one.name == "shirt" and one.labels is None
    assert (one.pixels == 90).all()
    (tmp_path / "folder").mkdir()
    for name in "ab":
        save(tmp_path / "folder" / f"{name}.png", (32, 20))
    many = pictures.read_pictures(str(tmp_path / "folder"), Data(resize=16), painter)
    assert many.pixels.shape == (2, 1, 16, 16)
    assert len(pictures.read_pictures(str(closet), Data(), painter)) == 200  # its test images
    assert len(pictures.read_pictures("toy-16", Data(count=3), painter)) == 2_000


def test_grey_pictures_suit_a_generator_of_colours(tmp_path: Path) -> None:
    images = pictures.fitted(pictures.read_pictures("toy-16", Data(), _shaped(1)), ImageShape(3, 16), "run")
    assert images.pixels.shape[1] == 3


def _shaped(channels: int) -> TrainedGenerator:
    return TrainedGenerator(None, ImageShape(channels, 16), (), "run")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("size", "colour", "sentence"),
    [
        ((20, 20), 90, "shirt: 20 x 20 pixels, and painter makes 16 x 16; bring them to that with --resize 16"),
        ((16, 16), (200, 10, 10), "shirt is in colour, and painter makes grey images; convert it to grey"),
    ],
)
def test_pictures_that_do_not_fit(
    painter: TrainedGenerator, tmp_path: Path, size: tuple[int, int], colour: object, sentence: str
) -> None:
    with pytest.raises(UsageError) as error:
        pictures.read_pictures(save(tmp_path / "shirt.png", size, colour), Data(), painter)
    assert str(error.value) == sentence


def test_there_is_nothing(painter: TrainedGenerator, tmp_path: Path) -> None:
    with pytest.raises(ModisteError, match="no data set is named 'gone'"):
        pictures.read_pictures("gone", Data(), painter)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModisteError, match="empty"):
        pictures.read_pictures(str(tmp_path / "empty"), Data(), painter)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(ModisteError, match=r"broken.png is not a readable picture"):
        pictures.read_pictures(str(tmp_path / "broken.png"), Data(), painter)


def test_a_mask_is_white_where_pixels_are_missing(tmp_path: Path) -> None:
    painted = np.zeros((16, 16), np.uint8)
    painted[2:4, 5] = 255
    Image.fromarray(painted).save(tmp_path / "mask.png")
    missing = pictures.read_mask(str(tmp_path / "mask.png"), 16)
    assert missing.sum() == 2 and missing[2:4, 5].all()


@pytest.mark.parametrize(
    ("size", "colour", "problem"),
    [
        ((16, 16), 255, "covers everything"),
        ((16, 16), 0, "covers nothing; paint"),
        ((8, 8), 255, "is 8 x 8 pixels and the images 16 x 16"),
    ],
)
def test_masks_that_do_not_fit(tmp_path: Path, size: tuple[int, int], colour: int, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        pictures.read_mask(save(tmp_path / "mask.png", size, colour), 16)
    frames = [Image.new("L", (16, 16), shade) for shade in (0, 255)]
    frames[0].save(tmp_path / "two.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(UsageError, match=r"two.gif holds 2 pictures; give a file of one"):
        pictures.read_mask(str(tmp_path / "two.gif"), 16)
    with pytest.raises(UsageError, match=r"--mask .*gone.png is no file"):
        pictures.read_mask(str(tmp_path / "gone.png"), 16)
