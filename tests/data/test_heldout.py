"""Which images are held out: a tenth of each class by content, the same in any order, groups and copies together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from modiste import config
from modiste.config import Data
from modiste.data import inspection
from modiste.data.heldout import draw_heldout, fingerprint
from modiste.data.images import Images
from modiste.data.sets import heldout_indices, native_data, open_data
from modiste.errors import ModisteError, UsageError


def pixels(count: int, seed: int = 0, side: int = 6) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 1, side, side), np.uint8)


def contents(images: Images) -> set[bytes]:
    return {image.tobytes() for image in images.pixels}


def draw(of: NDArray[np.uint8], labels: Any, groups: Any = None) -> list[int]:
    return draw_heldout([fingerprint(image) for image in of], np.asarray(labels), groups).tolist()


def write(folder: Path, of: NDArray[np.uint8], names: list[str]) -> Path:
    for image, name in zip(of, names, strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0]).save(folder / name)
    return folder


def parts(place: Path, **settings: Any) -> tuple[Images, Images]:
    data = Data(name=str(place), **settings)
    held, fit = (open_data(data, part=part) for part in ("heldout", "fit"))  # type: ignore[arg-type]
    return held, fit


def test_names_order_and_form_of_a_set_do_not_decide(tmp_path: Path) -> None:
    of, order = pixels(60), np.random.default_rng(1).permutation(60)
    dated = write(tmp_path / "dated", of, [f"2019-{k:02}.png" for k in range(60)])
    coded = write(tmp_path / "other", of, [f"{k:02}.png" for k in order.argsort()])
    np.savez(tmp_path / "packed.npz", images=of[order])
    found = [contents(parts(place)[0]) for place in (dated, coded, tmp_path / "packed.npz")]
    assert found[0] == found[1] == found[2] and len(found[0]) == 6
    assert found[0] != {image.tobytes() for image in of[-6:]}  # fails one in fifty million draws


def test_both_parts_are_of_one_population() -> None:
    """Frames of a film that grows brighter: the last tenth is brighter by 4.5 tenths, a drawn one is not."""
    count = 3000
    bright = np.linspace(0, 1, count)
    of = (pixels(count) * 0.2 + 200 * bright[:, None, None, None]).astype(np.uint8)
    images = Images(of, None, (), "film")
    held = heldout_indices(images)
    assert len(held) == 300
    assert abs(bright[held].mean() - 0.5) < 4 * bright.std() / np.sqrt(300)
    assert bright[heldout_indices(images, "last")].mean() > 0.9


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [([100, 40], [10, 4]), ([95, 5], [10, 1]), ([14, 15, 16], [1, 2, 2]), ([2, 3], [1, 1]), ([1, 30], [0, 3])],
)
def test_a_tenth_of_each_class_and_one_on_both_sides(sizes: list[int], wanted: list[int]) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    held = draw(pixels(len(labels)), labels)
    assert np.bincount(labels[held], minlength=len(sizes)).tolist() == wanted


def test_copies_stay_on_one_side_also_across_classes(tmp_path: Path) -> None:
    of = pixels(100)
    three_times = np.concatenate([of, of, of])
    labels = np.concatenate([np.zeros(100), np.zeros(100), np.ones(100)]).astype(np.int64)
    np.savez(tmp_path / "copies.npz", images=three_times, labels=labels)
    held, fit = parts(tmp_path / "copies.npz")
    assert not contents(held) & contents(fit)
    assert np.bincount(held.labels).tolist() == [20, 10]  # type: ignore[arg-type]


def test_equal_pictures_hold_nothing_out() -> None:
    assert draw(np.zeros((30, 1, 4, 4), np.uint8), np.zeros(30)) == []
    only = Images(pixels(1), None, (), "one")
    assert heldout_indices(only).tolist() == []


def test_the_sentence_of_a_set_too_small(tmp_path: Path) -> None:
    np.savez(tmp_path / "one.npz", images=pixels(1))
    with pytest.raises(UsageError, match="one has 1 image, of which none can be held out"):
        parts(tmp_path / "one.npz")


@pytest.mark.parametrize("seed", range(5))
def test_groups_are_not_parted(seed: int) -> None:
    random = np.random.default_rng(seed)
    groups = [f"patient{k}" for k in random.integers(0, 150, 2000)]
    labels = random.integers(0, 4, 2000)
    held = draw(pixels(2000, seed), labels, groups)
    kept = np.setdiff1d(np.arange(2000), held)
    assert not {groups[k] for k in held} & {groups[k] for k in kept}
    shares = np.bincount(labels[held]) / np.bincount(labels)
    assert (np.abs(shares - 0.1) < 0.03).all()
    shuffled = random.permutation(2000)
    again = draw(pixels(2000, seed)[shuffled], labels[shuffled], [groups[k] for k in shuffled])
    assert sorted(shuffled[again]) == held


def test_large_groups_give_one_of_each_class() -> None:
    labels, groups = np.repeat([0, 0, 0, 1, 1], 20), np.repeat(list("abcde"), 20).tolist()
    held = draw(pixels(100), labels, groups)
    assert np.bincount(labels[held]).tolist() == [20, 20]


def test_groups_by_file_names_columns_and_arrays(tmp_path: Path) -> None:
    of = pixels(120)
    names = [f"{'ab'[k % 2]}/film{k // 12}_{k:03}.png" for k in range(120)]
    folder = write(tmp_path / "films", of, names)
    held, fit = parts(folder, group_by="_")
    np.savez(tmp_path / "films.npz", images=of, labels=np.arange(120) % 2, film=np.arange(120) // 12)
    packed, _ = parts(tmp_path / "films.npz", group_by="film")
    assert contents(held) == contents(packed) and len(held) == 12 and not contents(held) & contents(fit)
    assert {k // 12 for k, image in enumerate(of) if image.tobytes() in contents(held)}.__len__() == 1
    assert held.name == "films heldout drawn-10% (1 of 10 groups)"
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [{"bytes": (folder / name).read_bytes(), "path": Path(name).name} for name in names]
    table = {"image": rows, "label": [k % 2 for k in range(120)], "film": [k // 12 for k in range(120)]}
    parquet.write_table(arrow.table(table), tmp_path / "films.parquet")
    for group_by in ("film", "_"):
        assert contents(parts(tmp_path / "films.parquet", group_by=group_by)[0]) == contents(held)


def test_groups_that_mean_nothing_are_refused(tmp_path: Path) -> None:
    of = pixels(20)
    folder = write(tmp_path / "set", of, [f"x_{k:02}.png" for k in range(20)])
    np.savez(tmp_path / "set.npz", images=of, one=np.zeros(20), each=np.arange(20), short=np.arange(3))
    refused = {
        (folder, "_"): "all 20 images of set are one group",
        (folder, "."): "each of the 20 images of set is a group of its own",
        (folder, "#"): r"in no name of a picture of .*set \(the first is 'x_00.png'\)",
        (tmp_path / "set.npz", "patient"): "has no such array; its arrays are images, one, each, short",
        (tmp_path / "set.npz", "one"): "one group",
        (tmp_path / "set.npz", "short"): r"has the shape \[3\]",
        (Path("toy"), "_"): "the images of toy have no groups",
    }
    for (place, group_by), said in refused.items():
        with pytest.raises(ModisteError, match=said):
            open_data(Data(name=str(place), group_by=group_by), part="train")


def test_resizing_does_not_change_what_is_held_out(tmp_path: Path) -> None:
    """A run of scaled images is judged by held-out images of another scale, which it must not have seen."""
    of = pixels(50, side=12)
    folder = write(tmp_path / "set", of, [f"{k:02}.png" for k in range(50)])
    np.savez(tmp_path / "set.npz", images=of)
    whole = parts(folder)[0]
    for place in (folder, tmp_path / "set.npz"):
        small = parts(place, resize=4)[0]
        expected = open_data(Data(name=str(place), resize=4), part="train")
        chosen = [k for k in range(50) if of[k].tobytes() in contents(whole)]
        np.testing.assert_array_equal(small.pixels, expected.pixels[chosen])
        assert inspection.held_out(expected) == {"images": 5, "of": 50}
    assert native_data(Data(name=str(folder), group_by="_", heldout="last", count=3)).model_dump(
        include={"group_by", "heldout", "count"}
    ) == {"group_by": "_", "heldout": "last", "count": None}


def test_grey_pictures_count_as_grey() -> None:
    of = pixels(1)[0]
    assert fingerprint(of) == fingerprint(of[0]) == fingerprint(np.repeat(of, 3, axis=0))
    coloured = np.repeat(of, 3, axis=0)
    coloured[2, 0, 0] ^= 1
    assert fingerprint(coloured) != fingerprint(of) != fingerprint(of.reshape(1, 4, 9))


def test_a_recipe_of_an_older_run_says_last(tiny: config.Recipe) -> None:
    text = config.to_toml(tiny)
    assert 'heldout = "drawn"' in text and config.from_toml(text, "new").data.heldout == "drawn"
    older = config.from_toml(text.replace('heldout = "drawn"\n', ""), "old")
    assert older.data.heldout == "last"
    assert config.differences(older, tiny) == ()  # it goes on as it was started
    assert config.with_heldout_of(tiny, older) == older
