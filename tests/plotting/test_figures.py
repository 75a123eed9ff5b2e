"""Pictures of data: what is drawn is what is in the arrays."""

import numpy as np
import pytest
from matplotlib.image import imread

from modiste.plotting import charts, figures


def dots(figure):
    """The figure as uint8 [H, W, 3]."""
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())[:, :, :3]


def holds(picture, part):
    """Whether the picture holds this grey part somewhere, dot by dot."""
    windows = np.lib.stride_tricks.sliding_window_view(picture[:, :, 0], part.shape)
    return bool((windows == part).all(axis=(2, 3)).any())


def tiles(count=6, side=4, channels=1):
    return np.random.default_rng(0).integers(0, 256, (count, channels, side, side), np.uint8)


def magnified(tile, times=figures.MAGNIFICATION):
    return np.kron(tile, np.ones((times, times), np.uint8))


def test_sheets_show_pixels_as_they_are():
    pixels = tiles() // 4  # dark images stay dark
    labels = np.array([0, 1, 0, 1, 1, 1])
    picture = dots(figures.rows_of_classes(pixels, labels, ("hat", "sock"), per_class=3))
    for index in (0, 1, 2, 3, 4):
        assert holds(picture, magnified(pixels[index, 0])), index
    assert not holds(picture, magnified(pixels[5, 0]))  # the fourth of its class


def test_first_images_stand_in_the_row_of_their_class():
    pixels, labels = tiles(4, 8), np.array([1, 0, 1, 0])
    figure = figures.rows_of_classes(pixels, labels, ("hat", "sock"), per_class=2)
    shown = np.asarray(figure.axes[0].images[0].get_array())
    np.testing.assert_array_equal(shown[:8, :8, 0], pixels[1, 0])
    np.testing.assert_array_equal(shown[10:18, 10:18, 0], pixels[2, 0])
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["hat", "sock"]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_has_a_title_under_every_image(channels):
    figure = figures.image_grid(tiles(5, 8, channels), columns=3, titles=[f"no {i}" for i in range(5)])
    assert [text.get_text() for text in figure.axes[0].texts] == [f"no {i}" for i in range(5)]
    positions = [text.get_position() for text in figure.axes[0].texts]
    assert positions[0][1] == positions[2][1] < positions[3][1]


def test_bars_are_as_long_as_the_counts():
    figure = charts.class_chart({"train": [5, 3], "test": [2, 1]}, ("hat", "sock"))
    axes = figure.axes[0]
    assert sorted(bar.get_width() for bar in axes.patches) == [1, 2, 3, 5]
    assert axes.get_xlabel() == "images" and axes.get_ylabel() == "class"
    dots(figure)


def test_save_writes_whole_files(tmp_path):
    figures.save(figures.image_grid(tiles(), columns=3), tmp_path / "grid.png")
    assert imread(tmp_path / "grid.png").ndim == 3
    assert [path.name for path in tmp_path.iterdir()] == ["grid.png"]


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_equal_figures_give_equal_files(kind):
    drawn = [figures.encode(charts.class_chart({"train": [5, 3]}, ("hat", "sock")), kind) for _ in range(2)]
    assert drawn[0] == drawn[1] and b"<dc:date>" not in drawn[0]
