"""Which images are used: the order of training, draws, and images held out by content, groups and copies together."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from support import read, write_idx

from modiste import config
from modiste.config import Data
from modiste.data import inspection
from modiste.data.images import Images, fingerprint
from modiste.data.sets import native_data, open_data
from modiste.data.subsets import batch_indices, draw_heldout, first_images, heldout_indices
from modiste.errors import ModisteError, UsageError

GREY = np.arange(8 * 16, dtype=np.uint8).reshape(8, 4, 4)


def pixels(count: int, seed: int = 0, side: int = 6) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 1, side, side), np.uint8)


def contents(images: Images) -> set[bytes]:
    return {image.tobytes() for image in images.pixels}


def draw(of: NDArray[np.uint8], labels: Any, groups: Any = None) -> list[int]:
    prints = b"".join(fingerprint(image) for image in of)
    return draw_heldout(np.frombuffer(prints, np.uint8).reshape(-1, 16), np.asarray(labels), groups).tolist()


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


def drawn_one_by_one(fingerprints: list[bytes], labels: list[int], groups: list[str] | None) -> list[int]:
    """`draw_heldout` by its definition, with sets in place of arrays."""
    blocks: list[set[int]] = []
    for index, content in enumerate(fingerprints):
        joined = {index}
        for block in [*blocks]:
            if any(fingerprints[k] == content or (groups and groups[k] == groups[index]) for k in block):
                joined |= block
                blocks.remove(block)
        blocks.append(joined)
    texts = {id(block): b"".join(sorted({fingerprints[k] for k in block})) for block in blocks}
    blocks.sort(key=lambda block: hashlib.blake2b(texts[id(block)], digest_size=16).digest())
    sizes, held, chosen = Counter(labels), Counter[int](), []
    targets = {label: min(max(1, (size + 5) // 10), size - 1) for label, size in sizes.items()}

    def gain(block: set[int]) -> int | None:
        after = held + Counter(labels[k] for k in block)
        if block in chosen or any(after[k] == sizes[k] and after[k] != held[k] for k in sizes):
            return None
        return sum(abs(after[k] - targets[k]) - abs(held[k] - targets[k]) for k in sizes)

    for block in blocks:
        if (change := gain(block)) is not None and change < 0:
            chosen.append(block)
            held.update(labels[k] for k in block)
    while missing := {k for k in sizes if targets[k] and not held[k]}:
        fitting = [block for block in blocks if gain(block) is not None and missing & {labels[k] for k in block}]
        if not fitting:
            break
        chosen.append(min(fitting, key=lambda block: gain(block) or 0))
        held.update(labels[k] for k in chosen[-1])
    return sorted(index for block in chosen for index in block)


@pytest.mark.parametrize("seed", range(40))
def test_what_is_drawn_is_what_the_definition_says(seed: int) -> None:
    random = np.random.default_rng(seed)
    count, classes = int(random.integers(2, 90)), int(random.integers(1, 5))
    of = random.integers(0, random.choice([3, 200]), (count, 1, 1, 1)).astype(np.uint8)
    labels = random.integers(0, classes, count)
    groups = [f"g{k}" for k in random.integers(0, count // 2 + 1, count)] if seed % 2 else None
    prints = [fingerprint(image) for image in of]
    assert draw(of, labels, groups) == drawn_one_by_one(prints, labels.tolist(), groups)


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
        (
            folder,
            "_",
        ): "makes one group of 20 images of set, so none can be held out; give more groups, or leave it out",
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
        assert inspection.count_heldout(expected, heldout_indices(expected)) == {"images": 5, "of": 50}
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


def test_older_runs_hold_out_the_last_tenth_of_each_class(tmp_path):
    pixels, _ = write_idx(tmp_path, 40)
    held, fit = read(tmp_path, "heldout", heldout="last"), read(tmp_path, "fit", heldout="last")
    np.testing.assert_array_equal(held.pixels[:, 0], pixels[36:])
    np.testing.assert_array_equal(fit.pixels[:, 0], pixels[:36])
    assert held.labels.tolist() == [0, 1, 0, 1]
    assert "last-10%" in held.name and "first-90%" in fit.name


def test_what_is_held_out_of_a_set_that_only_has_the_size_of_mnist():
    rare = np.repeat(np.arange(10), [6633] * 9 + [303])
    images = Images(np.zeros((60_000, 1, 1, 1), np.uint8), rare, tuple("0123456789"), "rare")
    assert np.bincount(rare[heldout_indices(images, "last")]).tolist() == [664] * 9 + [31]
    even = Images(images.pixels, np.repeat(np.arange(10), 6000), images.class_names, "even")
    assert np.bincount(even.labels[heldout_indices(even)]).tolist() == [500] * 10


def test_the_beginning_of_a_file_has_its_classes_in_proportion_however_it_is_sorted():
    mixed = np.random.default_rng(0).integers(0, 5, 5_000)
    pixels = np.arange(5_000, dtype=np.uint16).view(np.uint8).reshape(5_000, 1, 1, 2)
    names = tuple("abcde")
    first = first_images(Images(pixels, mixed, names, "mixed", is_shuffled=True), 400)
    assert np.array_equal(first.pixels, pixels[:400])  # what everybody has
    halves = np.concatenate([np.sort(mixed[:2_500]), np.sort(mixed[2_500:])])
    for labels in (np.sort(mixed), halves):
        found = first_images(Images(pixels, labels, names, "sorted", is_shuffled=True), 400)
        shares = np.bincount(found.labels) / 400
        assert np.abs(shares - np.bincount(labels) / 5_000).max() < 0.01 and len(np.unique(found.pixels, axis=0)) == 400
    assert len(first_images(Images(pixels, np.sort(mixed), names, "sorted"), 9_999)) == 5_000
    assert np.array_equal(first_images(Images(pixels, None, (), "bare", is_shuffled=True), 3).pixels, pixels[:3])


def test_the_beginning_of_files_in_an_order_of_their_own_is_drawn_from_all():
    brightness = np.linspace(0, 255, 5_000).astype(np.uint8)
    found = first_images(Images(brightness[:, None, None, None], None, (), "film"), 400)
    assert abs(found.pixels.mean() - 127.5) < 4 * brightness.std() / 20
    assert first_images(found, 400) is found


@pytest.mark.parametrize("epoch", [0, 1, 7])
def test_an_epoch_shows_every_image_once(epoch):
    order = batch_indices(101, seed=3, images_seen=epoch * 101, count=101)
    assert order.dtype == np.int64
    assert sorted(order) == list(range(101))


def test_the_order_does_not_depend_on_the_batch_size():
    whole = batch_indices(10, seed=1, images_seen=0, count=60)
    for size in (1, 3, 7, 25, 60):  # 25 straddles three epochs
        parts = [batch_indices(10, 1, start, min(size, 60 - start)) for start in range(0, 60, size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_the_order_differs_between_epochs_and_seeds():
    first = batch_indices(50, 0, 0, 50)
    assert not np.array_equal(first, batch_indices(50, 0, 50, 50))
    assert not np.array_equal(first, batch_indices(50, 1, 0, 50))


@pytest.mark.parametrize(("count", "words"), [(1, "1 image"), (3, "3 images")])
def test_what_is_too_few_to_hold_out_says_how_many_there_are(tmp_path: Path, count: int, words: str) -> None:
    np.savez(tmp_path / "set.npz", images=GREY[:count], labels=np.arange(count))
    parts = {}
    for part in ("fit", "heldout"):
        try:
            parts[part] = len(read(tmp_path / "set.npz", part))
        except UsageError as error:
            assert f"set has {words}, " in str(error) and "[" not in str(error)
    assert len(parts) == 1 and sum(parts.values()) == count  # of a class of one image only one side has it
