"""Trainings that start from another run's weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import content
from torch import Tensor, nn

import modiste
from modiste import config, runs
from modiste.config import Network, Recipe
from modiste.data.images import Images
from modiste.errors import ModisteError, UsageError
from modiste.exports import cards
from modiste.networks.layers import ImageShape
from modiste.sampling import discriminators, generators
from modiste.sampling.generators import TrainedGenerator
from modiste.training import finetune, trainer

NETWORKS = {"network.conditioning": "projection", "network.discriminator_norm": "spectral"}


@pytest.fixture(scope="module")
def ancestor(tmp_path_factory: pytest.TempPathFactory) -> runs.Run:
    recipe = Recipe(
        name="tiny",
        data=config.Data(name="toy", count=64, resize=16),
        network=Network(z_dim=8, generator_widths=(8, 4), discriminator_widths=(4, 8)),
        train=config.Train(images=160, batch_size=16, tick_images=80, ema_halflife_images=100, precision="float32",
                           threads=1),
        evaluate=config.Evaluate(every_images=0),
    )  # fmt: skip
    return trainer.train(config.override(recipe, NETWORKS), tmp_path_factory.mktemp("runs") / "old")


def from_(ancestor: runs.Run | Path | str, **more: Any) -> dict[str, Any]:
    path = ancestor.path if isinstance(ancestor, runs.Run) else ancestor
    return {"finetune.ancestor": str(path), **more}


def of_start(run: runs.Run) -> dict[str, Any]:
    found = runs.read_state(next(path for path in runs.states(run) if path.name.startswith("000000000-")))
    assert found is not None
    return found


def test_after_no_image_a_fine_tune_is_its_ancestor(tiny: Recipe, ancestor: runs.Run, tmp_path: Path) -> None:
    run = trainer.train(tiny, tmp_path / "new", overrides=from_(ancestor, **{"train.images": 16}))
    start, (before, _) = of_start(run), runs.load_state(ancestor)
    assert before is not None and start["images"] == 0
    for name, tensor in before["ema"].items():
        assert torch.equal(start["generator"][name], tensor) and torch.equal(start["ema"][name], tensor)
    assert all(torch.equal(start["discriminator"][name], tensor) for name, tensor in before["discriminator"].items())
    state = next(path.name for path in runs.states(run) if path.name.startswith("000000000-"))
    pictures = generators.load(run, f"state/{state}").sample(20)
    assert np.array_equal(pictures, generators.load(ancestor).sample(20))
    assert not np.array_equal(pictures, generators.load(run).sample(20))
    # Networks are the ancestor's, all else is the recipe's.
    recipe = run.read_recipe()
    assert recipe.network == ancestor.read_recipe().network and recipe.train.batch_size == tiny.train.batch_size


def test_it_goes_on_bit_for_bit_without_its_ancestor(tiny: Recipe, ancestor: runs.Run, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    shutil.copytree(ancestor.path, gone)
    whole = trainer.train(tiny, tmp_path / "whole", overrides=from_(gone, **{"train.images": 160}))
    part = trainer.train(tiny, tmp_path / "part", overrides=from_(gone, **{"train.images": 80}))
    shutil.rmtree(gone)
    start = runs.states(part)[-1]
    (tmp_path / start.name).write_bytes(start.read_bytes())
    part = trainer.train(tiny, part.path, overrides=from_(gone, **{"train.images": 160}), extend=True)
    assert str(content(whole)) == str(content(part))
    for state in runs.states(part):  # as if it had been killed before its first step
        state.unlink()
    shutil.copy(tmp_path / start.name, start)
    runs.update_manifest(part, status="running")
    trainer.train(part.path)
    assert str(content(whole)) == str(content(part))
    with pytest.raises(UsageError, match=r"gone is no run to start from \(it has no manifest.json\)"):
        trainer.train(part.path, tmp_path / "other", overrides={"seed": 1})


def test_frozen_layers_stay_and_rates_are_a_share(tiny: Recipe, ancestor: runs.Run, tmp_path: Path) -> None:
    halved = from_(ancestor, **{"train.images": 80, "finetune.rate_share": 0.5})
    run = trainer.train(tiny, tmp_path / "one", overrides=halved)
    before, after = (dict(discriminators.load(one).network.named_parameters()) for one in (ancestor, run))
    moved = [name for name in before if not torch.equal(before[name], after[name])]
    still = [name for name in before if name not in moved]
    assert {name.split(".")[1] for name in still} == {"0"} and len(moved) >= 3
    assert any(name.endswith("weight.original") for name in still)
    same = {"finetune.rate_share": 1.0, "train.lr_generator": 1e-4, "train.lr_discriminator": 1e-4}
    other = trainer.train(tiny, tmp_path / "two", overrides=from_(ancestor, **{"train.images": 80}, **same))
    assert str(content(run)["generators"]) == str(content(other)["generators"])


class Shades(nn.Module):
    """Every class is a plain picture: black, grey, white."""

    z_dim = 2

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([-1.0, 0.0, 1.0]))

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        return self.weight[labels][:, None, None, None].expand(-1, 1, 4, 4)


def test_a_new_class_starts_from_the_nearest_pictures_and_numbers_are_no_names() -> None:
    trained = TrainedGenerator(Shades(), ImageShape(1, 4, 3), ("black", "grey", "white"), "shades")
    pixels = np.array([0, 250, 240, 10, 130], np.uint8)[:, None, None, None] * np.ones((1, 3, 8, 8), np.uint8)
    names = ("grey", "new", "empty")
    dataset = Images(pixels, np.array([0, 1, 1, 1, 1]), names, "set")
    shares, lines = finetune.class_shares(trained, dataset, ImageShape(3, 8, 3))
    assert shares.tolist() == [[0, 1, 0], [0.25, 0.25, 0.5], [pytest.approx(1 / 3)] * 3]
    assert lines[:2] == [
        "classes kept: grey",
        "class new is new and starts from white (50%), grey (25%), black (25%), by the nearest generated pictures",
    ]
    numbered = TrainedGenerator(Shades(), ImageShape(1, 4, 3), ("0", "1", "2"), "numbers")
    dataset = Images(pixels, np.array([0, 1, 1, 0, 0]), ("0", "1"), "other")
    shares, _ = finetune.class_shares(numbered, dataset, ImageShape(3, 8, 2))
    assert shares[1].tolist() == [0, 0, 1]
    shares, _ = finetune.class_shares(numbered, dataset, ImageShape(3, 8, 2), same_set=True)
    assert shares.tolist() == [[1, 0, 0], [0, 1, 0]]


def test_classes_and_labels_may_be_others(tiny: Recipe, ancestor: runs.Run, closet: Path, tmp_path: Path) -> None:
    data = {"data.name": str(closet), "data.count": 32, "data.resize": None, "train.images": 16}
    fewer = from_(ancestor, **data, **{"data.classes": [8, 3]})
    one = trainer.train(tiny, tmp_path / "fewer", overrides=fewer)
    assert generators.load(one).class_names == ("Dress", "Bag")
    start = of_start(one)
    state, _ = runs.load_state(ancestor)
    assert state is not None
    name = next(name for name in start["ema"] if name.endswith(".gain"))
    assert torch.equal(start["ema"][name], state["ema"][name][[3, 8]])
    bare = from_(one, **data, **{"network.conditioning": "none"})
    plain = trainer.train(tiny, tmp_path / "plain", overrides=bare)
    assert generators.load(plain).sample(2).shape == (2, 1, 16, 16)
    again = trainer.train(tiny, tmp_path / "again", overrides=from_(plain, **data))
    assert again.read_recipe().network.conditioning == "one-hot"  # the recipe's, as the ancestor has none
    line = again.read_manifest().ancestor
    assert line is not None and line.ancestor is not None and line.ancestor["ancestor"]["name"] == "old"
    assert [one["name"] for one in cards._ancestors(again.read_manifest())] == ["plain", "fewer", "old"]


def test_colours_for_grey(tiny: Recipe, ancestor: runs.Run, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    np.savez(tmp_path / "photos.npz", images=random.integers(0, 256, (40, 16, 16, 3), np.uint8))
    data = from_(ancestor, **{"train.images": 16, "data.name": str(tmp_path / "photos.npz"), "data.count": None,
                              "data.resize": None})  # fmt: skip
    run = trainer.train(tiny, tmp_path / "run", overrides=data)
    pictures = generators.load(run, f"state/{runs.states(run)[-1].name}").sample(8)
    assert pictures.shape == (8, 3, 16, 16) and np.array_equal(pictures[:, 0], pictures[:, 2])
    with pytest.raises(
        UsageError, match=r"run makes pictures in colour, and toy .* has grey images; start from a grey"
    ):
        trainer.train(tiny, tmp_path / "back", overrides=from_(run))


def test_wider_networks_grow_out_of_narrow_ones(tiny: Recipe, tmp_path: Path) -> None:
    slim = {"network.family": "slim", "network.conditioning": "projection", "network.discriminator_norm": "spectral"}
    widths = {"network.generator_widths": (8, 4, 4), "network.discriminator_widths": (4, 4, 8)}
    narrow = trainer.train(tiny, tmp_path / "narrow", overrides={**slim, **widths, "train.images": 80})
    wide = {"network.generator_widths": (12, 8, 4), "network.discriminator_widths": (8, 8, 8)}
    run = trainer.train(tiny, tmp_path / "wide", overrides=from_(narrow, **slim, **wide, **{"train.images": 80}))
    before = generators.load(narrow).sample(20).astype(int)
    begun = generators.load(run, f"state/{runs.states(run)[-1].name}").sample(20).astype(int)
    assert abs(begun - before).max() <= 1  # sums in another order
    assert of_start(run)["frozen"] == 0 and run.read_recipe().network.generator_widths == (12, 8, 4)
    assert abs(generators.load(run).sample(20).astype(int) - before).max() > 1
    longer = trainer.train(run.path, overrides={"train.images": 160}, extend=True)
    assert (
        longer.read_recipe().network.generator_widths == (12, 8, 4) and runs.states(longer)[0].name[:9] == "000000160"
    )
    with pytest.raises(UsageError, match=r"generator_widths = \(8, 4\) .*or make none of as many widths smaller"):
        trainer.train(tiny, tmp_path / "other", overrides=from_(narrow, **slim, **{"network.generator_widths": (8, 4)}))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"network.generator_widths": (9, 4)}, r"generator_widths = \(9, 4\) is set, .* one of --set and --from out$"),
        ({"network.z_dim": 9}, r"network.z_dim = 9 is set, and .*old has weights for z_dim = 8; leave one of"),
        ({"network.conditioning": "one-hot"}, r"network.conditioning = 'one-hot' is set, and .* for 'projection'"),
        (
            {"data.resize": 24},
            r"old makes pictures of 16 pixels, .* images of 24, .*weights of dcgan networks depend .*add --resize 16",
        ),
        ({"finetune.frozen_layers": 3}, r"frozen_layers = 3 leaves nothing to train of the discriminator's 3 layers"),
        ({"finetune.ancestor": "nowhere"}, r"nowhere is no run to start from"),
    ],
)
def test_what_cannot_be_meant_is_said_before_a_folder_is_made(
    changes: dict[str, Any], sentence: str, tiny: Recipe, ancestor: runs.Run, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=sentence):
        trainer.train(tiny, tmp_path / "new", overrides={**from_(ancestor), **changes})
    assert not (tmp_path / "new").exists()


def test_a_run_without_weights_one_without_discriminator_and_one_that_changed(
    tiny: Recipe, ancestor: runs.Run, tmp_path: Path
) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(ancestor.path, copied)
    shutil.rmtree(copied / "state")
    settings = {"train.images": 16, "network.discriminator_widths": [4, 6]}
    run = trainer.train(tiny, tmp_path / "run", overrides=from_(copied, **settings))
    assert run.read_recipe().network.discriminator_norm == tiny.network.discriminator_norm  # as none was kept
    made = run.read_manifest().ancestor
    assert made is not None and not made.discriminator and of_start(run)["frozen"] == 0
    shutil.copy(run.path / "generator.safetensors", copied)
    for state in runs.states(run):
        state.unlink()
    runs.update_manifest(run, status="running", images=None)
    (run.path / "log.jsonl").unlink()
    with pytest.raises(UsageError, match=r"copied has other weights now than when this run was made"):
        trainer.train(run.path)
    with (copied / "generator.safetensors").open("r+b") as weights:
        weights.truncate(100)
    with pytest.raises(ModisteError, match=r"generator.safetensors"):
        trainer.train(tiny, tmp_path / "new", overrides=from_(copied))
    assert not (tmp_path / "new").exists()  # so that the same command goes once they are mended
    (copied / "generator.safetensors").unlink()
    with pytest.raises(UsageError, match=r"copied has no generator.safetensors to start from"):
        trainer.train(tiny, tmp_path / "new", overrides=from_(copied))


def test_the_command_names_the_ancestor_in_manifest_card_and_record(
    tiny: Recipe, ancestor: runs.Run, tmp_path: Path, call: Callable[..., tuple[int, str, str]]
) -> None:
    (tmp_path / "tiny.toml").write_text(config.to_toml(tiny), encoding="utf-8")
    settings = ["--set", "train.images=16", "--out", tmp_path / "new"]
    code, _, errors = call("train", tmp_path / "tiny.toml", "--from", ancestor.path, *settings)
    assert code == 0, errors
    run = runs.open_run(tmp_path / "new")
    made = run.read_manifest().ancestor
    assert made == finetune.facts(str(ancestor.path)) and made is not None
    assert (made.name, made.images_shown, made.ancestor) == ("old", 160, None)
    assert runs.Manifest.from_json(run.read_manifest().to_json()) == run.read_manifest()
    trained = generators.load(run)
    card = cards.model_card(run, trained, "last", {}, 0, 1, onnx=False)
    assert f"- Started from the weights of `old` (hash `{made.weights}`), trained on toy" in card
    assert str(ancestor.path) not in card
    again = modiste.train(tiny, tmp_path / "python", from_=ancestor, set={"train.images": 16})
    assert content(again)["generators"] == content(run)["generators"]


def test_older_hashes_hold_without_an_ancestor(tiny: Recipe) -> None:
    other = config.override(tiny, {"finetune.rate_share": 0.1})
    assert config.content_hash(other) == config.content_hash(tiny)
    assert config.content_hash(config.override(other, {"finetune.ancestor": "x"})) != config.content_hash(tiny)


def test_one_family_fits_several_sides() -> None:
    network = Network(family="conditional-dcgan", generator_widths=(8, 4, 4), discriminator_widths=(4, 4, 8))
    assert not finetune._depends_on_side(network, ImageShape(1, 28), 32)
    assert finetune._depends_on_side(network, ImageShape(1, 28), 64)
