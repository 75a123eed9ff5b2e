from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from modiste import config, runs
from modiste.config import Recipe
from modiste.data.images import Images, content_digest
from modiste.data.subsets import drawn_subset
from modiste.errors import ModisteError, UsageError
from modiste.evaluation import sources
from modiste.evaluation.class_matching import match_labels
from modiste.evaluation.options import EvaluateOptions
from modiste.evaluation.sources import open_source
from modiste.networks.build import build_generator
from modiste.networks.layers import ImageShape
from modiste.sampling import generators, writers

NAMES = ("T-shirt/top", "Trouser", "Ankle boot")


def make_run(path: Path, recipe: Recipe, *, status: str = "finished") -> runs.Run:
    """A run folder with three different generators: the last one, the best one, and one in a state."""
    run = runs.create_run(path, recipe, runs.Manifest(data=runs.DataFacts("toy train", "d" * 64)))
    runs.update_manifest(run, status=status, best=runs.BestCheckpoint(40, "frechet", 1.0))
    generators.describe_network(run, recipe.network, ImageShape(1, 16, 3), NAMES)
    for name, seed in (("generator", 0), ("best", 1)):
        runs.save_generator(run, generator_of(recipe, seed), name)
    runs.append_log(run, {"images": 80})
    state = {
        "images": 60,
        "generator": generator_of(recipe, 2).state_dict(),
        "ema": generator_of(recipe, 3).state_dict(),
    }
    runs.save_state(run, 60, state)
    return run


def generator_of(recipe: Recipe, seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    return build_generator(recipe.network, ImageShape(1, 16, 3)).eval()


def expected(recipe: Recipe, seed: int, seeds: range) -> Images:
    generator = generators.TrainedGenerator(generator_of(recipe, seed), ImageShape(1, 16, 3), NAMES, "expected")
    return generator.sample_set(seeds=seeds)


def same(left: Images, right: Images) -> bool:
    return np.array_equal(left.pixels, right.pixels) and np.array_equal(left.labels, right.labels)  # type: ignore[arg-type]


def some_pixels(count: int, channels: int = 1, side: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 250, (count, channels, side, side), np.uint8)


def write_pictures(folder: Path, pixels: np.ndarray, ending: str = "png", **options: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for k, image in enumerate(pixels):
        Image.fromarray(image[0]).save(folder / f"{k}.{ending}", **options)


def test_a_run_is_its_last_generator_with_its_facts(tmp_path: Path, tiny: Recipe) -> None:
    run = make_run(tmp_path / "run", tiny)
    subject = open_source(str(run.path), EvaluateOptions(count=5, seed=2))
    assert same(subject.images, expected(tiny, 0, range(10, 15)))
    assert subject.name == "run" and subject.warnings == () and subject.run == run
    facts = subject.facts
    assert json.loads(json.dumps(facts)) == facts
    assert (facts["kind"], facts["count"], facts["size"], facts["seeds"]) == ("run", 5, [1, 16, 16], "10 to 14")
    assert (facts["weights"], facts["batch_norm"], facts["images_shown"]) == ("ema", "running statistics", 80)
    assert facts["recipe"] == {"name": "tiny", "hash": config.content_hash(tiny)}
    assert facts["data"] == {"name": "toy train", "digest": "d" * 64}
    assert facts["pixels"] == content_digest(subject.images)[:16] and len(facts["hash"]) == 16


def test_every_checkpoint_of_a_run_is_its_own_network(tmp_path: Path, tiny: Recipe) -> None:
    run, seeds = make_run(tmp_path / "run", tiny), range(4)
    best = open_source(run.path, EvaluateOptions(count=4, checkpoint="best"))
    assert same(best.images, expected(tiny, 1, seeds)) and best.facts["images_shown"] == 40
    by_path = open_source(run.path / "best.safetensors", EvaluateOptions(count=4))
    assert same(by_path.images, best.images) and by_path.facts["kind"] == "checkpoint" and by_path.run is not None
    state = open_source(runs.states(run)[0], EvaluateOptions(count=4))
    assert same(state.images, expected(tiny, 3, seeds)) and state.facts["images_shown"] == 60
    last = open_source(run.path / "generator.safetensors", EvaluateOptions(count=4))
    assert same(last.images, expected(tiny, 0, seeds))
    hashes = {subject.facts["hash"] for subject in (best, state, last)}
    assert len(hashes) == 3 and by_path.facts["hash"] == best.facts["hash"]


def test_how_a_run_is_sampled_is_among_its_facts(tmp_path: Path, tiny: Recipe) -> None:
    run = make_run(tmp_path / "run", tiny)
    plain = sources.open_source(run.path, EvaluateOptions(count=20))
    cut = sources.open_source(run.path, EvaluateOptions(count=20, truncation=0.5, batch_norm="standing"))
    assert cut.facts["truncation"] == 0.5 and "truncation" not in plain.facts
    assert cut.facts["batch_norm"] == "standing statistics of 100 batches of 64"
    assert plain.facts["batch_norm"] == "running statistics" and not same(cut.images, plain.images)
    np.savez(tmp_path / "set.npz", images=some_pixels(20))
    for sampling in ({"truncation": 0.5}, {"batch_norm": "standing"}):
        with pytest.raises(UsageError, match="a run's to choose"):
            sources.open_source(tmp_path / "set.npz", EvaluateOptions(count=20, **sampling))


def test_without_a_moving_average_or_batch_norm_no_such_fact(tmp_path: Path, tiny_free: Recipe) -> None:
    recipe = config.override(tiny_free, {"train.ema_halflife_images": 0.0})
    run = make_run(tmp_path / "run", recipe, status="interrupted")
    subject = open_source(run.path, EvaluateOptions(count=2))
    assert subject.facts["weights"] == "raw" and "batch_norm" not in subject.facts
    assert len(subject.warnings) == 1 and "is not finished (status interrupted)" in subject.warnings[0]
    runs.save_state(run, 90, {"generator": generator_of(recipe, 2).state_dict(), "ema": None})
    state = open_source(runs.states(run)[0], EvaluateOptions(count=2))
    assert same(state.images, expected(recipe, 2, range(2)))


def test_checkpoints_that_cannot_be_had(tmp_path: Path, tiny: Recipe) -> None:
    run = make_run(tmp_path / "run", tiny)
    (run.path / "best.safetensors").rename(tmp_path / "stray.safetensors")
    with pytest.raises(UsageError, match=r"run has no best\.safetensors; leave the checkpoint out"):
        open_source(run.path, EvaluateOptions(count=2, checkpoint="best"))
    with pytest.raises(UsageError, match=r"stray\.safetensors is not inside a run folder"):
        open_source(tmp_path / "stray.safetensors", EvaluateOptions(count=2))
    state = runs.states(run)[0]
    state.write_bytes(state.read_bytes()[:-9])
    with pytest.raises(ModisteError, match=r"\.pt is damaged"):
        open_source(state, EvaluateOptions(count=2))
    foreign = runs.save_state(run, 90, {"bad": Path("code")})
    with pytest.raises(ModisteError, match=r"\.pt cannot be loaded"):
        open_source(foreign, EvaluateOptions(count=2))


@pytest.mark.parametrize("key", ["images", "x", "test_images", "arr_0"])
@pytest.mark.parametrize("last", [False, True])
def test_npz_under_every_known_key_and_layout(tmp_path: Path, key: str, last: bool) -> None:
    pixels = some_pixels(6, channels=3)
    np.savez(tmp_path / "set.npz", **{key: pixels.transpose(0, 2, 3, 1) if last else pixels})
    subject = open_source(tmp_path / "set.npz", EvaluateOptions(count=6))
    assert np.array_equal(subject.images.pixels, pixels) and subject.images.labels is None
    assert subject.warnings == () and subject.run is None
    assert subject.facts["kind"] == "npz" and subject.facts["size"] == [3, 8, 8] and "seeds" not in subject.facts
    assert subject.facts["hash"] == content_digest(subject.images)[:16]


@pytest.mark.parametrize(("images", "labels"), [("images", "labels"), ("x_test", "y_test"), ("arr_0", "arr_1")])
def test_labels_of_an_npz_file_come_along(tmp_path: Path, images: str, labels: str) -> None:
    np.savez(tmp_path / "set.npz", **{images: some_pixels(4), labels: np.array([2, 0, 1, 2], np.int32)})
    subject = open_source(tmp_path / "set.npz", EvaluateOptions(count=4))
    assert subject.images.labels is not None and subject.images.labels.tolist() == [2, 0, 1, 2]
    assert subject.facts["labelled"] is True


def test_floats_are_rounded_by_a_fixed_rule_and_never_stretched(tmp_path: Path) -> None:
    pixels = some_pixels(3)
    pixels[0, 0, 0, 0], pixels[0, 0, 0, 1] = 5, 237  # 0.02 and 0.93
    narrow = np.clip(pixels, 5, 237)
    for name, floats, words in (
        ("unit", narrow / 255, r"from 0\.01961 to 0\.9294, taken for the range 0 to 1"),
        ("signed", narrow.astype(np.float32) / 127.5 - 1, r"from -0\.9608 to 0\.8588, taken for the range -1 to 1"),
    ):
        np.savez(tmp_path / f"{name}.npz", images=floats)
        subject = open_source(tmp_path / f"{name}.npz", EvaluateOptions(count=3))
        assert np.array_equal(subject.images.pixels, narrow)
        assert len(subject.warnings) == 1
        with pytest.raises(UsageError, match=words):
            raise UsageError(subject.warnings[0])


def test_a_rounding_error_below_zero_is_no_other_range(tmp_path: Path) -> None:
    floats = some_pixels(3) / 255
    floats[0, 0, 0, 0] = -1e-7
    np.savez(tmp_path / "unit.npz", images=floats)
    subject = open_source(tmp_path / "unit.npz", EvaluateOptions(count=3))
    assert np.array_equal(subject.images.pixels.ravel()[1:], some_pixels(3).ravel()[1:])
    assert "taken for the range 0 to 1" in subject.warnings[0]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full((2, 1, 8, 8), 3.5), r"floats from 3\.5 to 3\.5, neither in \[0, 1\] nor in \[-1, 1\]"),
        (np.full((2, 1, 8, 8), np.nan), r"floats from nan to nan"),
        (np.zeros((2, 1, 8, 8), np.int64), r"holds int64, whose range is unknown"),
        (np.zeros((0, 1, 8, 8), np.uint8), r"holds no images"),
        (np.zeros((2, 5, 8, 8), np.uint8), r"has the shape \[2, 5, 8, 8\]"),
    ],
)
def test_other_arrays_are_refused_in_one_sentence(tmp_path: Path, array: np.ndarray, words: str) -> None:
    np.savez(tmp_path / "set.npz", images=array)
    with pytest.raises(ModisteError, match=words):
        open_source(tmp_path / "set.npz", EvaluateOptions(count=2))


def test_an_npz_file_without_images_names_its_keys(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", pictures=some_pixels(2))
    with pytest.raises(UsageError, match=r"its keys are pictures; name the array one of images, .*arr_0"):
        open_source(tmp_path / "set.npz", EvaluateOptions(count=2))


def test_fewer_images_than_asked_are_all_used_and_said(tmp_path: Path) -> None:
    np.savez(tmp_path / "set.npz", images=some_pixels(6))
    subject = open_source(tmp_path / "set.npz", EvaluateOptions(count=10))
    assert len(subject.images) == 6 and subject.facts["count"] == 6 and subject.facts["asked"] == 10
    assert len(subject.warnings) == 1 and "holds 6 images and 10 were asked for" in subject.warnings[0]


@pytest.mark.parametrize("order", ["sorted", "in turns"])
def test_of_more_images_equal_shares_are_drawn_in_any_order(tmp_path: Path, order: str) -> None:
    labels = np.repeat(np.arange(10), 20) if order == "sorted" else np.tile(np.arange(10), 20)
    pixels = some_pixels(200)
    np.savez(tmp_path / "set.npz", images=pixels, labels=labels)
    subject, again, other = (
        open_source(tmp_path / "set.npz", EvaluateOptions(count=20, seed=seed)) for seed in (0, 0, 1)
    )
    assert subject.images.labels is not None
    assert np.bincount(subject.images.labels).tolist() == [2] * 10
    assert same(subject.images, again.images) and not same(subject.images, other.images)
    assert len(np.unique(subject.images.pixels, axis=0)) == 20
    assert subject.facts["drawn_from"] == 200 and subject.facts["count"] == 20


def test_folders_flat_and_by_class(tmp_path: Path) -> None:
    pixels = some_pixels(4)
    write_pictures(tmp_path / "flat", pixels)
    subject = open_source(tmp_path / "flat", EvaluateOptions(count=4))
    assert np.array_equal(subject.images.pixels, pixels) and subject.images.labels is None and subject.warnings == ()
    assert subject.facts["kind"] == "folder" and subject.name == "flat"
    for name in ("trouser", "ANKLE_BOOT"):
        write_pictures(tmp_path / "classes" / name, pixels)
    images = open_source(tmp_path / "classes", EvaluateOptions(count=4)).images
    assert images.class_names == ("ANKLE_BOOT", "trouser") and np.bincount(images.labels).tolist() == [2, 2]  # type: ignore[arg-type]
    matched, warnings = match_labels(images, NAMES)
    assert matched.class_names == NAMES and sorted(matched.labels.tolist()) == [1, 1, 2, 2] and warnings == ()  # type: ignore[union-attr]


def test_sets_that_sample_wrote_are_read_back(tmp_path: Path, tiny: Recipe) -> None:
    images = expected(tiny, 0, range(6))
    for name in ("set.npz", "folder", "idx"):
        writers.write(images, range(6), tmp_path / name, writers.format_of(tmp_path / name))
        read, warnings = match_labels(open_source(tmp_path / name, EvaluateOptions(count=6)).images, NAMES)
        assert warnings == () and read.labels is not None and images.labels is not None
        written = {(p.tobytes(), k) for p, k in zip(images.pixels, images.labels.tolist(), strict=True)}
        assert {(p.tobytes(), k) for p, k in zip(read.pixels, read.labels.tolist(), strict=True)} == written


def test_labels_match_by_number_and_are_dropped_otherwise() -> None:
    def labelled(*names: str) -> Images:
        return Images(some_pixels(len(names)), np.arange(len(names)), names, "made")

    matched, warnings = match_labels(labelled("2", "0"), NAMES)
    assert matched.labels is not None and matched.labels.tolist() == [2, 0] and warnings == ()
    for images, names in ((labelled("3", "0"), NAMES), (labelled("Trouser", "hat"), NAMES), (labelled("a"), ())):
        dropped, warnings = match_labels(images, names)
        assert dropped.labels is None and dropped.class_names == () and len(dropped) == len(images)
        assert len(warnings) == 1 and "the labels of made are left out" in warnings[0]
    unlabelled = Images(some_pixels(2), None, (), "made")
    assert match_labels(unlabelled, NAMES) == (unlabelled, ())


def test_the_same_name_is_matched_before_one_that_is_like_it() -> None:
    def labels(names: tuple[str, ...], reference: tuple[str, ...]) -> tuple[list[int] | None, bool]:
        made = Images(some_pixels(len(names)), np.arange(len(names)), names, "made")
        matched, warnings = match_labels(made, reference)
        return None if matched.labels is None else matched.labels.tolist(), bool(warnings)

    both = ("A", "a", "B", "b")
    assert labels(("a", "b", "A", "B"), both) == ([1, 3, 0, 2], False)
    assert labels(("a",), both) == ([1], False)
    assert labels(("A", "a"), ("a", "hat")) == (None, True)  # two would be one
    assert labels(("HAT", "a"), ("A", "a", "hat")) == ([2, 1], False)
    assert labels(("cafe\u0301",), ("tea", "caf\xe9")) == ([1], False)
    tens = ("0", "10", "20", "30")
    assert labels(("0", "1", "2", "3"), tens) == ([0, 1, 2, 3], False)  # labels, of which two are no names
    assert labels(("10", "30"), tens) == ([1, 3], False)
    assert labels(("1", "2"), ("1", "2", "3")) == ([0, 1], True)  # names, though they could be labels


def test_lossy_files_are_counted_by_their_content(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    write_pictures(folder / "a", some_pixels(3), "jpg")
    write_pictures(folder / "a", some_pixels(4)[3:], "webp", lossless=True)  # overwrites nothing: another ending
    write_pictures(folder / "b", some_pixels(2), "webp", quality=50)
    (folder / "a" / "1.jpg").rename(folder / "a" / "disguised.png")
    (warning,) = open_source(folder, EvaluateOptions(count=6)).warnings
    assert "5 of 6 files lose detail (3 JPEG, 2 lossy WebP)" in warning and "save PNG" in warning


def test_suspicious_brightness_is_told(tmp_path: Path) -> None:
    def warnings_of(pixels: np.ndarray) -> tuple[str, ...]:
        np.savez(tmp_path / "set.npz", images=pixels)
        return open_source(tmp_path / "set.npz", EvaluateOptions(count=len(pixels))).warnings

    pixels = some_pixels(200)
    pixels[:, :, 0, 0], pixels[:, :, 0, 1] = 0, 255
    (warning,) = warnings_of(pixels)
    assert warning.startswith("100.0% of the images of set reach exactly 0 and 255")
    pixels[:17, :, 0, 1] = 249  # as many as in Fashion-MNIST itself do not reach 255
    assert warnings_of(pixels) == ()
    assert "values from 0 to 1 saved as whole numbers" in warnings_of(some_pixels(4) // 200)[0]
    assert "a range that was halved" in warnings_of(some_pixels(4) // 2)[0]
    assert "8 x 6 pixels and are stretched" in warnings_of(some_pixels(4)[:, :, :6])[0]


def test_what_cannot_be_judged_says_what_can(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    for name, words in (
        ("gone", "does not exist"),
        ("notes.txt", "is not a kind of file"),
        ("empty", "holds no pictures"),
    ):
        with pytest.raises(UsageError, match=rf"{name}.*{words}.*give a run folder, .*\.onnx generator"):
            open_source(tmp_path / name, EvaluateOptions(count=2))
    write_pictures(tmp_path / "flat", some_pixels(2))
    with pytest.raises(UsageError, match=r"checkpoint 'best' belongs to a run folder"):
        open_source(tmp_path / "flat", EvaluateOptions(count=2, checkpoint="best"))
    with pytest.raises(UsageError, match=r"count 0 and seed 0 are not possible"):
        open_source(tmp_path / "flat", EvaluateOptions(count=0))


def test_a_set_of_its_own_size_limit_reads_only_what_is_drawn(tmp_path: Path) -> None:
    write_pictures(tmp_path / "flat", some_pixels(9))
    chosen = drawn_subset(9, None, 3, 0)
    for k in set(range(9)) - set(chosen.tolist()):
        (tmp_path / "flat" / f"{k}.png").write_bytes(b"not read")
    subject = open_source(tmp_path / "flat", EvaluateOptions(count=3))
    assert np.array_equal(subject.images.pixels, some_pixels(9)[chosen])
