"""Charts: what is drawn is what was given, and as SVG it fits into any page."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from modiste.plotting import charts, figures
from modiste.plotting.charts import Dot
from modiste.reports import render


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for box in figure.legends for text in box.get_texts()]


def test_the_thick_line_is_the_mean_and_the_band_the_range() -> None:
    lines = {"one": [([0, 10], [1.0, 1.0]), ([0, 10], [3.0, 3.0])], "alone": [([0, 5], [2.0, 4.0])]}
    figure = charts.curves(lines, "images", "loss")
    (axes,) = figure.axes
    named = {line.get_label(): line for line in axes.lines}
    assert set(np.asarray(named["one"].get_ydata())) == {2.0}
    assert list(np.asarray(named["alone"].get_ydata())) == [2.0, 4.0]
    band = axes.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == (1.0, 3.0)
    assert legend(figure) == ["one", "alone"]


def test_seeds_of_different_length_are_averaged_where_all_have_values() -> None:
    figure = charts.curves({"a": [([0, 10], [0.0, 10.0]), ([0, 4], [0.0, 4.0])]}, "images", "loss")
    mean = next(line for line in figure.axes[0].lines if line.get_label() == "a")
    assert np.asarray(mean.get_xdata())[-1] == 4


def colours_in(content: bytes) -> set[str]:
    with Image.open(io.BytesIO(content)) as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    return {"#" + bytes(pixel.tolist()).hex().upper() for pixel in np.unique(pixels, axis=0)}


@pytest.mark.parametrize("several", [1, 3])
def test_a_curve_of_one_point_is_drawn_as_a_point(several: int) -> None:
    lines = {name: [([4.0], [height + k]) for k in range(several)] for name, height in (("a", 1.0), ("b", 5.0))}
    figure = charts.curves(lines, "images", "loss")
    means = {line.get_label(): line for line in figure.axes[0].lines if not str(line.get_label()).startswith("_")}
    assert {name: list(np.asarray(line.get_ydata())) for name, line in means.items()} == {
        "a": [1.0 + (several - 1) / 2], "b": [5.0 + (several - 1) / 2]}  # fmt: skip
    assert {line.get_marker() for line in means.values()} == {"o"}
    for legend_ in figure.legends:
        legend_.remove()
    assert set(charts.LINES[:2]) <= colours_in(figures.encode(figure, "png"))


def test_one_point_beside_a_line_and_seeds_without_a_common_place() -> None:
    alone = charts.curves({"a": [([1.0], [2.0]), ([1.0, 2.0], [3.0, 4.0])]}, "images", "loss")
    apart = charts.curves({"a": [([1.0], [2.0]), ([3.0], [4.0])]}, "images", "loss")
    for figure in (alone, apart):
        mean = next(line for line in figure.axes[0].lines if line.get_label() == "a")
        assert (mean.get_marker(), len(np.asarray(mean.get_xdata()))) == ("o", 1)


def test_no_colour_is_lost_in_the_files_of_a_report() -> None:
    """Thin lines of eight series in one picture: each in its very colour."""
    places = [float(k) for k in range(9)]
    lines = {f"configuration {k}": [(places, [k + place % 2 for place in places])] for k in range(8)}
    figure = charts.curves(lines, "images", "loss")
    content = render._compact(figures.encode(figure, "png"))
    assert set(charts.LINES) <= colours_in(content)
    with Image.open(io.BytesIO(figures.encode(figure, "png"))) as before, Image.open(io.BytesIO(content)) as after:
        assert np.array_equal(np.asarray(before.convert("RGB")), np.asarray(after.convert("RGB")))
        assert before.info["dpi"] == pytest.approx((150, 150), abs=0.1) and after.info["dpi"] == before.info["dpi"]
    for file_type, head in (("svg", b"<?xml"), ("pdf", b"%PDF")):
        drawn = figures.encode(figure, file_type)  # type: ignore[arg-type]
        assert drawn.startswith(head) and drawn == figures.encode(figure, file_type)  # type: ignore[arg-type]
    assert all(colour.lower() in figures.encode(figure, "svg").decode() for colour in charts.LINES)
    grey = Image.new("RGBA", (4, 4), (7, 7, 7, 255))
    buffer = io.BytesIO()
    grey.save(buffer, format="PNG")
    with Image.open(io.BytesIO(render._compact(buffer.getvalue()))) as compact:
        assert compact.mode == "L" and compact.getpixel((0, 0)) == 7


def places(figure: Figure) -> dict[tuple[float, ...], str]:
    """The colour of every line drawn, by its sorted horizontal places."""
    return {tuple(sorted(np.asarray(one.get_xdata(), float))): str(one.get_color()) for one in figure.axes[0].lines}


def test_dots_have_intervals_rings_and_the_lines_of_noise_and_real_images() -> None:
    rows = [Dot("a", 2.0, (1.5, 2.5), (1.8, 2.2)), Dot("b", 4.0)]
    figure = charts.dots(rows, "distance", noise=100.0, real=0.1, least=0.01)
    (axes,) = figure.axes
    drawn = places(figure)
    assert {(2.0,), (4.0,), (1.5, 2.5), (1.8, 2.2), (0.1, 0.1), (100.0, 100.0)} <= set(drawn)
    assert axes.get_xscale() == "log" and texts(figure) == ["noise", "real images"]
    assert axes.xaxis_inverted()  # better is further right, here and where higher is better
    assert not charts.dots(rows, "share", noise=0.0, real=1.0).axes[0].xaxis_inverted()
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"] and axes.yaxis_inverted()


def test_a_distance_of_nothing_is_drawn_at_the_least() -> None:
    assert (0.01,) in places(charts.dots([Dot("a", -0.5)], "distance", noise=1.0, real=0.0, least=0.01))


def test_a_palette_fixes_colours_whatever_is_drawn_and_in_whatever_order() -> None:
    palette = ("a", "b", "c")
    line = [([0.0, 1.0], [1.0, 2.0])]
    curve = charts.curves({"c": line, "a": line}, "images", "loss", palette=palette)
    dot = charts.dots([Dot("c", 2.0), Dot("a", 4.0)], "distance", palette=palette)
    radar = charts.radar(["x", "y", "z"], {"c": [1.0] * 3}, palette=palette)
    assert {one.get_label(): one.get_color() for one in curve.axes[0].lines} == {
        "c": charts.LINES[2], "a": charts.LINES[0]}  # fmt: skip
    assert (places(dot)[(2.0,)], places(dot)[(4.0,)]) == (charts.LINES[2], charts.LINES[0])
    assert radar.axes[0].lines[0].get_color() == charts.colour_of("c", palette) == charts.LINES[2]


def test_a_second_quantity_is_dashed_in_the_colour_of_its_name() -> None:
    solid, dashed = {"a": [([0, 1], [1.0, 1.0])]}, {"a": [([0, 1], [0.0, 0.0]), ([0, 1], [1.0, 1.0])]}
    figure = charts.curves(solid, "images", "accuracy", dashed=dashed)
    one, other = figure.axes[0].lines
    assert one.get_color() == other.get_color() and (one.get_linestyle(), other.get_linestyle()) == ("-", "--")
    assert set(np.asarray(other.get_ydata())) == {0.5} and not figure.axes[0].collections


def test_a_confusion_is_told_in_per_cent_of_its_rows() -> None:
    figure = charts.confusion(np.array([[8, 2], [0, 4]]), ("hat", "sock"), "seen", "asked")
    assert texts(figure) == ["80", "20", "100"]


def test_a_class_with_dollars_in_its_name_is_no_formula() -> None:
    names = ("$a^$", "a|b")
    for figure in (
        charts.confusion(np.eye(2, dtype=np.int64), names, "seen", "asked"),
        charts.clouds(np.zeros((5, 2)), np.ones((7, 2)), {names[0]: (0.0, 0.0)}),
        charts.class_chart({"train": [5, 3]}, names),
        figures.image_grid(np.zeros((2, 1, 8, 8), np.uint8), 2, names),
    ):
        assert "$a^$" in charts.svg(figure, "names")


def test_a_legend_of_many_names_leaves_the_axes_their_room() -> None:
    names = [f"configuration-with-a-long-name-{k}" for k in range(30)]
    figure = charts.ranges({name: np.arange(5.0) for name in names}, [], "distance")
    figure.draw_without_rendering()
    high = figure.axes[0].get_window_extent().height / figure.dpi
    few = charts.ranges({"one": np.arange(5.0)}, [], "distance")
    few.draw_without_rendering()
    assert high > 0.8 * few.axes[0].get_window_extent().height / few.dpi


def test_distributions_and_clouds_show_every_point() -> None:
    figure = charts.ranges({"g": np.arange(5.0)}, [np.arange(3.0), np.arange(4.0)], "distance")
    assert legend(figure) == ["g", "unseen real images"] and len(figure.axes[0].lines) == 3
    clouds = charts.clouds(np.zeros((5, 2)), np.ones((7, 2)), {"hat": (0.0, 0.0)})
    assert [len(np.asarray(line.get_xdata())) for line in clouds.axes[0].lines] == [5, 7]
    assert texts(clouds) == ["hat"] and legend(clouds) == ["real (5)", "generated (7)"]


def test_no_two_of_32_lines_look_alike() -> None:
    figure = charts.radar(["a", "b", "c"], {str(k): [0.1, 0.5, k / 31] for k in range(32)})
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines}
    assert len(looks) == 32


@pytest.mark.parametrize("points", [3, 400])
def test_svg_is_one_labelled_element_that_loads_nothing(points: int) -> None:
    cloud = np.random.default_rng(0).normal(size=(points, 2))
    text = charts.svg(charts.clouds(cloud, cloud, {}), 'two "clouds" & more')
    root = ElementTree.fromstring(text)
    assert root.attrib["role"] == "img" and root.attrib["aria-label"] == 'two "clouds" & more'
    assert "width" not in root.attrib and root.attrib["viewBox"]
    assert not re.findall(r'href="(?!#|data:)', text) and "<script" not in text
    assert "<text" in text  # which can be found and read aloud, unlike outlines


def test_ids_of_two_charts_never_meet_and_every_reference_has_its_target() -> None:
    line = {"a": [([0.0, 1.0], [1.0, 2.0])]}
    first, second = (charts.svg(charts.curves(line, "x", name), name) for name in ("one", "two"))
    ids = [set(re.findall(r'\bid="([^"]+)"', text)) for text in (first, second)]
    assert ids[0] and not ids[0] & ids[1]
    for text, known in zip((first, second), ids, strict=True):
        assert {*re.findall(r'href="#([^"]+)"', text), *re.findall(r"url\(#([^)]+)\)", text)} <= known


def test_numbers_to_be_read_are_not_rounded() -> None:
    text = charts.svg(charts.dots([Dot("a", 0.0175)], "x", real=0.001), "dots")
    read = re.findall(r">([-\u2212\d.]+)</text>", text)
    assert "0.0025" in read and "0.0150" in read
    places = re.findall(r' d="([^"]+)"', text)
    assert places and not re.search(r"\.\d{3}", " ".join(places))


def test_black_takes_the_colour_of_the_page_and_the_same_chart_the_same_bytes() -> None:
    drawn = charts.svg(charts.dots([Dot("a", 1.0, (0.5, 1.5))], "x", real=0.2), "dots")
    assert "#000000" not in drawn and "currentColor" in drawn
    code = (
        "from modiste.plotting import charts; from modiste.plotting.charts import Dot; "
        'print(charts.svg(charts.dots([Dot("a", 1.0, (0.5, 1.5))], "x", real=0.2), "dots"), end="")'
    )
    salt = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"  # another process, which orders sets in another way
    environment = {**os.environ, "PYTHONHASHSEED": salt, "PYTHONUTF8": "1"}
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, env=environment, timeout=120)
    assert found.stdout == drawn
