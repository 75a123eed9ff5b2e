"""Generators of run folders: images by seed and class, truncation, standing statistics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import modiste
from modiste.config import Network
from modiste.data.images import Images
from modiste.errors import ModisteError, UsageError
from modiste.networks.build import build_generator
from modiste.networks.layers import ImageShape
from modiste.runs import Run
from modiste.sampling import generators, writers
from modiste.sampling.generators import TrainedGenerator

NAMES = ("T-shirt/top", "Trouser", "Sneaker")


def make(conditioning: str = "one-hot") -> TrainedGenerator:
    torch.manual_seed(0)
    shape = ImageShape(1, 16, 3 if conditioning != "none" else 0)
    network = Network(z_dim=8, generator_widths=(8, 4), conditioning=conditioning)  # type: ignore[arg-type]
    generator = build_generator(network, shape)
    return TrainedGenerator(generator.eval(), shape, NAMES if shape.classes else (), "test")


def test_image_of_a_seed_is_the_same_in_any_batch() -> None:
    generator = make()
    many = generator.sample_set(200)
    assert many.pixels.shape == (200, 1, 16, 16) and many.pixels.dtype == np.uint8
    assert many.labels is not None and many.labels.tolist() == [seed % 3 for seed in range(200)]
    for seeds in ([5], [5, 199], range(3, 80), [199, 5]):
        few = generator.sample_set(seeds=list(seeds))
        assert np.array_equal(few.pixels, many.pixels[list(seeds)])
    assert not np.array_equal(many.pixels[0], many.pixels[3])  # same class, other seed


def test_class_by_name_part_number_and_what_is_said_otherwise() -> None:
    generator = make()
    by_name = generator.sample(4, label="sneaker")
    assert np.array_equal(by_name, generator.sample(4, label=2))
    assert np.array_equal(by_name, generator.sample(4, label="SNEAK"))
    with pytest.raises(
        UsageError, match=r"'boot' is no class of test; its classes are 0 T-shirt/top, 1 Trouser, 2 Sneaker"
    ):
        generator.sample(4, label="boot")
    with pytest.raises(UsageError, match=r"fits several classes"):
        generator.sample(4, label="t")
    with pytest.raises(UsageError, match=r"'3' is no class|3 is no class"):
        generator.sample(4, label=3)
    with pytest.raises(UsageError, match=r"trained without labels, so it cannot make class 'bag'"):
        make("none").sample(4, label="bag")


def test_truncation_bounds_the_noise_and_keeps_its_order() -> None:
    noise, cut = generators.seed_noise(range(500), 8), generators.seed_noise(range(500), 8, truncation=0.7)
    assert cut.abs().max() <= 0.7 < noise.abs().max()
    assert torch.equal(noise.flatten().argsort(), cut.flatten().argsort())
    from scipy import stats

    assert stats.kstest(cut.flatten().numpy(), stats.truncnorm(-0.7, 0.7).cdf).pvalue > 0.01
    assert torch.allclose(generators.seed_noise(range(500), 8, truncation=30.0), noise, atol=1e-3)
    with pytest.raises(UsageError, match=r"^--truncation -1 is not above 0"):
        generators.seed_noise([1], 8, truncation=-1)


@pytest.mark.parametrize("conditioning", ["none", "projection"])
def test_standing_statistics_are_the_means_over_generated_batches(conditioning: str) -> None:
    generator = make(conditioning)
    first = generators.batch_norms(generator.network)[0]
    seen: list[torch.Tensor] = []
    hook = first.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].transpose(0, 1).flatten(1)))
    momentum = first.momentum
    generators.collect_statistics(generator.network, generator.shape.classes, "it")
    hook.remove()
    assert len(seen) == generators.STANDING_BATCHES and first.momentum == momentum and not generator.network.training
    torch.testing.assert_close(first.running_mean, torch.stack([batch.mean(1) for batch in seen]).mean(0))
    torch.testing.assert_close(first.running_var, torch.stack([batch.var(1) for batch in seen]).mean(0))
    other = make(conditioning)
    generators.collect_statistics(other.network, other.shape.classes, "it")
    assert np.array_equal(generator.sample(5), other.sample(5))
    assert not np.array_equal(generator.sample(5), make(conditioning).sample(5))


def test_standing_statistics_change_nothing_but_statistics() -> None:
    network = Network(z_dim=8, generator_widths=(8, 4), generator_spectral=True)
    generator = build_generator(network, ImageShape(1, 16)).eval()
    before = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    assert any(name.endswith(".u") for name in before)  # of a spectral norm
    generators.collect_statistics(generator, 0, "it")
    changed = {name for name, tensor in generator.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed and {name.rpartition(".")[2] for name in changed} <= {
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }
    assert not any(part.training for part in generator.modules())


def test_without_batch_norm_there_are_no_standing_statistics() -> None:
    network = build_generator(Network(z_dim=8, generator_widths=(8, 4), generator_norm="none"), ImageShape(1, 16))
    with pytest.raises(UsageError, match="it has no batch norm"):
        generators.collect_statistics(network, 0, "it")


def test_interpolation_starts_and_ends_at_the_two_seeds() -> None:
    generator = make()
    walk = generator.interpolate(4, 9, frames=7, label=1)
    ends = generator.sample_set(seeds=[4, 9], label=1)
    assert len(walk) == 7
    assert np.abs(walk.pixels[[0, -1]].astype(int) - ends.pixels).max() <= 1
    assert np.abs(walk.pixels[3].astype(int) - ends.pixels[0]).max() > 0
    still = generator.interpolate(4, 4, frames=3, label=1).pixels
    assert np.array_equal(still[0], still[2])


@pytest.mark.parametrize(("text", "seeds"), [("0-3", [0, 1, 2, 3]), ("1,5,10-12", [1, 5, 10, 11, 12]), ("7", [7])])
def test_seeds_from_text(text: str, seeds: list[int]) -> None:
    assert generators.parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["a-b", "", "5-1", "-1", "1--3"])
def test_no_seeds_from_text(text: str) -> None:
    with pytest.raises(UsageError, match=rf"^--seeds '{text}' .*0-63"):
        generators.parse_seeds(text)


@pytest.mark.parametrize("text", [str(2**32), f"{2**32 - 1}-{2**32}", str(10**20)])
def test_seeds_beyond_32_bits_from_text(text: str) -> None:
    with pytest.raises(UsageError, match="is no seed of images; use one from 0 to 4294967295"):
        generators.parse_seeds(text)
    assert generators.parse_seeds(str(2**32 - 1)) == [2**32 - 1]


@pytest.mark.parametrize("count", [0, -1, 2.5, "3"])
def test_a_count_is_a_whole_number(count: Any) -> None:
    with pytest.raises(UsageError, match=r"^count is .*; give a whole number from 1 on"):
        modiste.load("pretrained").sample(count)


@pytest.mark.parametrize("text", ["1," * 9_000, "1," * 9_000 + "x", "9" * 4_000, "9-1," * 9_000 + "9-1"])
def test_a_long_list_of_seeds_makes_no_long_sentence(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        generators.parse_seeds(text)
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("text", ["0-10000000", f"0-{10**30}", f"{10**29}-{10**30},5"])
def test_too_many_seeds_from_text(text: str) -> None:
    with pytest.raises(UsageError, match=rf"^--seeds '{text[:60]}' are more than 10,000,000; ask for fewer"):
        generators.parse_seeds(text)


def test_a_folder_that_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModisteError, match=r"is not a run folder"):
        generators.load(tmp_path)


def test_a_folder_holds_every_picture_below_it_whatever_the_classes_are_called(tmp_path: Path) -> None:
    images = Images(np.zeros((4, 1, 8, 8), np.uint8), np.arange(4), ("", "..", "a/b", ".c"), "strange")
    writers.write(images, range(4), tmp_path / "set" / "folder", "folder")
    files = {str(path.relative_to(tmp_path / "set" / "folder")) for path in (tmp_path / "set").rglob("*.png")}
    assert files == {"0/000000.png", "1/000001.png", "a-b/000002.png", "c/000003.png"}
    with pytest.raises(UsageError, match=r"a seed is given twice"):
        writers.write(images, [1, 1, 2, 3], tmp_path / "twice", "folder")
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(UsageError, match=r"is a file"):
        writers.write(images, range(4), tmp_path / "file", "folder")


def test_a_seed_of_images_has_32_bits() -> None:
    assert generators.seed_noise([2**32 - 1], 4).isfinite().all()
    for seed in (2**32, -1):
        with pytest.raises(UsageError, match=rf"^{seed} is no seed of images; use one from 0 to 4294967295$"):
            generators.seed_noise([5, seed], 4)
    with pytest.raises(UsageError, match=r"^-1 is no seed"):
        make().interpolate(-1, 2)


def test_loading_changes_no_random_numbers(tmp_path: Path) -> None:
    trained, recipe = make(), Network(z_dim=8, generator_widths=(8, 4), conditioning="one-hot")
    generators.describe_network(Run(tmp_path), recipe, trained.shape, NAMES)
    save_file(trained.network.state_dict(), tmp_path / "generator.safetensors")
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    network, _, _ = generators.load_network(tmp_path)
    assert torch.equal(torch.rand(4), expected)
    assert all(torch.equal(one, trained.network.state_dict()[key]) for key, one in network.state_dict().items())


def test_one_image_is_no_path() -> None:
    with pytest.raises(UsageError, match=r"^1 image cannot make a path"):
        make().interpolate(1, 2, frames=1)


@pytest.mark.parametrize("status", ["running", "interrupted", "failed"])
def test_a_run_without_a_generator_says_how_to_get_one(tmp_path: Path, status: str) -> None:
    tree = {"status": status, "data": {}, "device": "cpu", "threads": 1}
    (tmp_path / "manifest.json").write_text(json.dumps(tree), encoding="utf-8")
    for weights in generators.CHECKPOINTS.values():
        with pytest.raises(UsageError, match=r"has no generator.safetensors yet; .*`modiste train \S+`") as refused:
            generators.load_network(tmp_path, weights)
        assert ("wait for the first tick" in str(refused.value)) == (status == "running")
