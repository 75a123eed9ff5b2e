from __future__ import annotations

import numpy as np
import pytest

from modiste import config
from modiste.config import Data
from modiste.data.advice import EXPECTATIONS, SIZES, SMALL, Advice, advise
from modiste.data.images import Images


def images(count: int, channels: int = 3, height: int = 32, width: int = 32) -> Images:
    return Images(np.broadcast_to(np.uint8(0), (count, channels, height, width)), None, (), "things")


@pytest.mark.parametrize("row", range(len(SIZES)))
def test_the_expectation_follows_the_count(row: int) -> None:
    least, minutes, expect = SIZES[row]
    advice = advise(images(max(1, least)), Data(name="things"))
    assert (advice.expect, advice.minutes, advice.recipe, advice.resize) == (expect, minutes, "photos", None)
    if row:
        assert advise(images(least - 1), Data(name="things")).expect == SIZES[row - 1][2]


@pytest.mark.parametrize(
    ("shape", "recipe", "resize"),
    [
        ((3, 500, 400), "photos", None),  # which resizes
        ((1, 28, 28), "swift", None),
        ((1, 30, 30), "swift", SMALL),
        ((1, 28, 32), "swift", SMALL),
        ((1, 100, 100), "swift", SMALL),
    ],
)
def test_images_that_do_not_fit_are_to_be_resized(shape: tuple[int, int, int], recipe: str, resize: int | None) -> None:
    advice = advise(images(5, *shape), Data(name="things"))
    assert (advice.recipe, advice.resize) == (recipe, resize)
    assert ("these become 32 x 32" in str(advice)) == (resize == SMALL)


@pytest.mark.parametrize(
    ("count", "channels", "size"), [(60, 1, 32), (70, 1, 32), (72, 1, None), (35, 3, 16), (15, 3, 8)]
)
def test_few_images_fill_a_smaller_batch(count: int, channels: int, size: int | None) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (count, channels, 32, 32), dtype=np.uint8)
    advice = advise(Images(pixels, None, (), "things"), Data(name="things"))
    assert advice.options == (() if size is None else ("--set", f"train.batch_size={size}"))


def test_the_advice_is_a_command_that_exists() -> None:
    assert set(EXPECTATIONS) == {expect for *_, expect in SIZES}
    advice = advise(images(3000, height=100, width=80), Data(name="my things", background="white"))
    assert str(advice).splitlines() == [
        "you have 3,000 pictures: expect things that one recognises where the pictures are alike (as garments), and "
        "colours, outlines and textures where they differ much (as sprites or photographs)",
        "use: modiste train photos --data 'my things' --background white --budget 20min",
        "(it resizes to 32 pixels; --resize 64 takes four times as long)",
    ]
    assert (
        config.load(advice.recipe).data.resize == SMALL
        and config.load(advise(images(9, 1), Data()).recipe).name == "swift"
    )
    asked = advise(images(9, height=64, width=64), Data(resize=64, fit="pad"))
    assert "--resize 64 --fit pad --set train.batch_size=8 --budget" in str(asked) and "four times" not in str(asked)
    assert str(Advice(1, "swift", 10, "copies", None, 28, "x")).startswith("you have 1 picture: expect little variety")


def test_where_a_single_image_is_held_out_none_is_judged_by() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 1, 32, 32), dtype=np.uint8)
    advice = advise(Images(pixels, None, (), "things"), Data(name="things"))
    assert advice.options == ("--set", "train.batch_size=8", "--set", "evaluate.every_images=0")


def test_no_command_is_advised_where_something_stops_every_training() -> None:
    advice = Advice(1, "swift", 10, "copies", None, 28, "x", obstacle="x has 1 image; give more")
    assert str(advice) == "no training can learn from these: x has 1 image; give more"
