"""Which pictures stand beside each other: within a class, each once, unchanged, and on sides that say nothing."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from blind_lab import garments, key_of

import modiste
from modiste.config import Recipe
from modiste.data import toy
from modiste.errors import UsageError
from modiste.experiments.blind import trials
from modiste.experiments.blind.trials import BlindOptions, BlindTest


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> str:
    return garments(tmp_path_factory.mktemp("blind") / "made.npz")


def against_real(made: str, closet: Path, **options: object) -> BlindTest:
    return trials.make_test([made], BlindOptions(data_name=str(closet), **options))  # type: ignore[arg-type]


def test_pictures_are_those_of_the_sources_within_a_class_and_each_once(made: str, closet: Path) -> None:
    test = against_real(made, closet, trials=40)
    generated, real = np.load(made), np.load(closet)
    usual = [trial for trial in test.trials if trial.pair == 0]
    assert test.question == "generated" and len(usual) == 40 and test.sources == ("made", "real images")
    for trial in usual:
        first, second = (trial.left, trial.right) if trial.first == "left" else (trial.right, trial.left)
        assert np.array_equal(second, real["x_test"][trial.images[1]])
        label = real["y_test"][trial.images[1]]
        assert test.trials and trial.class_name == real["class_names"][label]
        same = [k for k in range(len(generated["images"])) if np.array_equal(generated["images"][k], first)]
        assert same and generated["labels"][same[0]] == label
    assert len({trial.images[0] for trial in usual}) == len({trial.images[1] for trial in usual}) == 40
    assert max(Counter(trial.class_name for trial in usual).values()) == 4


def test_everything_follows_from_the_seed(made: str, closet: Path) -> None:
    one, again, other = (against_real(made, closet, trials=10, seed=seed) for seed in (1, 1, 2))
    assert one.identity == again.identity != other.identity
    assert key_of(one) == key_of(again)


def test_sides_and_order_say_nothing(made: str, closet: Path) -> None:
    tests = [against_real(made, closet, trials=60, seed=seed) for seed in range(8)]
    usual = [trial for test in tests for trial in test.trials if trial.pair == 0]
    left = np.array([trial.first == "left" for trial in usual])
    assert 0.4 < left.mean() < 0.6
    assert abs(np.mean(left[1:] == left[:-1]) - 0.5) < 0.1  # no alternation
    assert abs(np.corrcoef(left, np.arange(len(left)) % 60)[0, 1]) < 0.15
    order = [[trial.class_name for trial in test.trials if trial.pair == 0] for test in tests]
    assert len(set(map(tuple, order))) == len(tests)
    assert Counter(order[0]) == Counter(order[1])


def test_attention_checks_show_noise_and_come_all_the_way(made: str, closet: Path) -> None:
    test = against_real(made, closet, trials=96)
    places = [k for k, trial in enumerate(test.trials) if trial.pair is None]
    assert len(places) == 8 and all(k * 13 <= place < (k + 1) * 13 for k, place in enumerate(places))
    for place in places:
        trial = test.trials[place]
        noise, picture = (trial.left, trial.right) if trial.first == "left" else (trial.right, trial.left)
        assert len(np.unique(noise)) > 100 and (picture == 0).mean() > 0.1 > (noise == 0).mean()


def test_several_sources_are_compared_in_pairs_or_with_one(closet: Path, tmp_path: Path) -> None:
    files = [garments(tmp_path / f"{name}.npz", seed=k) for k, name in enumerate("abc")]
    test = trials.make_test(files, BlindOptions(trials=10))
    assert test.question == "better" and test.pairs == ((0, 1), (0, 2), (1, 2))
    assert Counter(trial.pair for trial in test.trials) == {0: 4, 1: 4, 2: 4, None: 4}
    test = trials.make_test(files[:2], BlindOptions(against=files[2], trials=10))
    assert test.question == "better" and [test.pair_names(k) for k in range(2)] == [("a", "c"), ("b", "c")]
    test = trials.make_test(files[:2], BlindOptions(against="real", data_name=str(closet), trials=10))
    assert test.question == "generated" and [test.pair_names(k)[1] for k in range(2)] == ["real images"] * 2


def test_per_class_gives_every_class_as_many(made: str, closet: Path) -> None:
    test = against_real(made, closet, trials=25, per_class=True)
    counts = Counter(trial.class_name for trial in test.trials if trial.pair == 0)
    assert len(counts) == 10 and set(counts.values()) == {3}


def test_a_run_is_compared_with_test_images_at_its_own_size(tiny: Recipe, tmp_path: Path) -> None:
    run = modiste.train(tiny, tmp_path / "run", overrides={"train.images": 32})
    test = trials.make_test([str(run.path)], BlindOptions(trials=10))
    real = toy.draw(2_000, 28, 1)
    trial = next(trial for trial in test.trials if trial.pair == 0)
    first, second = (trial.left, trial.right) if trial.first == "left" else (trial.right, trial.left)
    assert first.shape == second.shape == (1, 16, 16)
    assert trial.class_name == real.class_names[real.labels[trial.images[1]]]  # type: ignore[index]
    assert trial.images[0] >= trials.FIRST_RANGE
    again = modiste.load(run).sample(seeds=[trial.images[0]])
    assert np.array_equal(again[0], first)


def test_images_without_classes_are_paired_without(made: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "bare.npz", images=toy.draw(60, 16, 3).pixels)
    test = trials.make_test([made, str(tmp_path / "bare.npz")], BlindOptions(trials=6))
    assert {trial.class_name for trial in test.trials} == {""}
    assert any("bare has no classes" in note for note in test.notes)
    with pytest.raises(UsageError, match="share no classes"):
        trials.make_test([made, str(tmp_path / "bare.npz")], BlindOptions(trials=6, per_class=True))


def test_two_sources_of_one_name_keep_apart(tmp_path: Path) -> None:
    files = []
    for k, folder in enumerate(("a", "b")):
        (tmp_path / folder).mkdir()
        files.append(garments(tmp_path / folder / "set.npz", seed=k))
    names = trials.make_test(files, BlindOptions(trials=4)).sources
    assert len(set(names)) == 2, names


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"trials": 0}, "a test of 0 trials is not possible"),
        ({"seed": 900_000_000}, "the seed 900000000 is not possible; use one from 0 to 99999"),
        ({"trials": 500}, "has too few images of class '"),
        ({"against": "made.npz"}, "names one thing twice"),
        ({"against": "large.npz"}, "pixels and large of 20 x 20, which would give the answer away"),
        ({"against": "nowhere"}, "nowhere does not exist"),
        ({"against": "others.npz"}, "compare sources of the same classes"),
    ],
)
def test_what_is_not_possible(
    options: dict[str, object], text: str, closet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    garments(tmp_path / "made.npz")
    garments(tmp_path / "large.npz", side=20)
    garments(tmp_path / "others.npz", names=[f"kind {k}" for k in range(10)])
    with pytest.raises(UsageError, match=text) as error:
        against_real("made.npz", closet, **options)
    assert "\n" not in str(error.value)


def test_what_a_program_could_see_is_said(tmp_path: Path) -> None:
    bright, dim = toy.draw(200, 16, 1), toy.draw(200, 16, 2)
    for name, images, most in (("bright", bright, 255), ("dim", dim, 99)):
        pixels = np.minimum(images.pixels, most)
        pixels[:, :, 0, 0] = most
        np.savez(tmp_path / f"{name}.npz", images=pixels, labels=images.labels, class_names=images.class_names)
    test = trials.make_test([str(tmp_path / f"{name}.npz") for name in ("bright", "dim")], BlindOptions(trials=20))
    (found,) = trials.giveaways(test)
    assert (found.measure, found.share) == ("the brightest value", 1.0)
    count = len(test.trials)
    above = sum(math.comb(count, k) for k in range(round(found.chance * count) + 1, count + 1)) / 2**count
    assert above <= 0.05 / 8 < above + math.comb(count, round(found.chance * count)) / 2**count
