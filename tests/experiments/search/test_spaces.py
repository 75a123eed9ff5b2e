"""Space files: what they mean and what they must not contain."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from small_space import RATES, written

from modiste import config
from modiste.config import Recipe
from modiste.errors import UsageError
from modiste.experiments.search import spaces, trials
from modiste.networks.build import build_discriminator, build_generator
from modiste.networks.layers import ImageShape


@pytest.mark.parametrize("name", spaces.shipped())
def test_shipped_spaces_can_be_built_at_every_corner(name: str) -> None:
    space = spaces.load(name)
    assert space.about.endswith(".") and space.source and not space.warnings
    base = spaces.base_recipe(space)
    assert base.data.split == "fit"
    for corner in (0, -1):
        point = {key: axis.extremes[corner] for key, axis in space.space.items()}
        recipe = config.override(base, spaces.point_changes(base, point))
        with torch.device("meta"):
            shape = ImageShape(1, 28, 0 if recipe.network.conditioning == "none" else 10)
            build_generator(recipe.network, shape)
            build_discriminator(recipe.network, shape)


def test_the_published_space() -> None:
    """The document's table: three random trials on 5,000 images, and the widths that it found are a point."""
    space = spaces.load("noronha")
    assert (space.trials, space.sampler, space.pruner, space.settings_count) == (3, "random", "none", 108)
    assert spaces.base_recipe(space).data.count == 5000
    assert spaces.base_recipe(space, trial=False).data.count is None
    tuned = dict(zip(space.space, (128, 128, 32, 64, 256), strict=True))
    assert all(tuned[key] in (axis.choices or ()) for key, axis in space.space.items())
    changes = spaces.point_changes(spaces.base_recipe(space), tuned)
    found = config.override(spaces.base_recipe(space), changes).network
    assert found == config.load("noronha").network
    assert {"swift", "noronha"} <= set(spaces.shipped())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('recipes = "swift"', "did you mean 'recipe'"),
        (f"[space]\n{RATES}", "recipe is missing"),
        ('recipe = "swift"', "space is missing"),
        ('recipe = "swift"\n[space]', "space"),
        (f'recipe = "swit"\n[space]\n{RATES}', "did you mean 'swift'"),
        ('recipe = "swift"\nspace.train.lr_generater = { low = 1, high = 2 }', "did you mean 'train.lr_generator'"),
        ('recipe = "swift"\nspace.train.beta1 = { choice = [0] }', "did you mean 'choices'"),
        ('recipe = "swift"\nspace.train.beta1 = { choices = [] }', "train.beta1.choices"),
        ('recipe = "swift"\nspace.train.beta1 = { choices = [0.0, 1.5] }', "train.beta1 = 1.5 is not possible"),
        ('recipe = "swift"\nspace.train.beta1 = { low = 0.5 }', "needs choices = [...], or low and high"),
        ('recipe = "swift"\nspace.train.beta1 = { low = 0.5, high = 0.1 }', "low 0.5 must be less than high 0.1"),
        ('recipe = "swift"\nspace.train.beta1 = { low = 0.0, high = 0.1, log = true }', "positive low"),
        ('recipe = "swift"\nspace.train.beta1 = { low = 0.0, high = 0.1, step = 0.2 }', "step 0.2"),
        ('recipe = "swift"\nspace.train.beta1 = { choices = [0.5], low = 0.1 }', "choices and a range"),
        ('recipe = "swift"\nspace.network.z_dim.0 = { choices = [5, 6] }', "is no list"),
        ('recipe = "swift"\nspace.network.generator_widths.3 = { choices = [5] }', "has 3 numbers"),
        ('recipe = "swift"\nspace.network.generator_width.0 = { choices = [5] }', "did you mean"),
        ('recipe = "swift"\nspace.seed = { choices = [5, 6] }', "write seed = 1 at the top"),
        ('recipe = "swift"\nspace.data.count = { choices = [5, 6] }', "data.count must be the same for all trials"),
        (f'recipe = "swift"\nobjective = "frehcet"\n[space]\n{RATES}', "did you mean 'frechet'"),
        (f'recipe = "swift"\ndirection = "higher"\n[space]\n{RATES}', "frechet is better lower"),
        (f'recipe = "swift"\nsampler = "grid"\n[space]\n{RATES}', "sampler = 'grid' is not possible"),
        (f'recipe = "swift"\nbudget = "soon"\n[space]\n{RATES}', "'soon' is no length"),
        ('recipe = "swift"\nbudget = "9 images"\nspace.train.images = { choices = [5, 6] }', "would undo train.images"),
        (f'recipe = "swift"\nfinalists.budget = "9 images"\nset.train.epochs = 1\n[space]\n{RATES}', "would undo"),
        (f'recipe = "swift"\ntrial_set.data.split = "train"\n[space]\n{RATES}', "data.split is fit in every search"),
        (f'recipe = "swift"\nset.data.split = "train"\n[space]\n{RATES}', "data.split is fit in every search"),
        (f'recipe = "swift"\nfinalists.seed = 3\n[space]\n{RATES}', "did you mean 'seeds'"),
        (f'recipe = "swift"\npruner = "median"\nobjective = "kernel"\n[space]\n{RATES}', "does not log kernel"),
        (f'recipe = "swift"\npruner = "median"\nset.evaluate.every_images = 0\n[space]\n{RATES}', "above 0"),
        (f'recipe = "swift"\nseed = 2147483647\n[space]\n{RATES}', "leaves no seeds for the finalists"),
        ("recipe = [", "is not valid TOML"),
    ],
)
def test_what_a_space_must_not_say(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        spaces.load(written(tmp_path, text))
    assert said in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(UsageError, match="no search space is named 'swft'; did you mean 'swift'"):
        spaces.load("swft")


def test_a_space_survives_its_file(file: Path, tmp_path: Path) -> None:
    space = spaces.revise(spaces.load(file), set={"train.beta1": 0.25}, trials=7, finalists={"seeds": 5, "count": None})
    again = spaces.load(written(tmp_path, spaces.to_toml(space)))
    assert again == space and (again.trials, again.finalists.seeds, again.finalists.count) == (7, 5, 1)
    assert spaces.differences(spaces.identity(space), spaces.identity(again)) == []


def test_numbers_in_lists_make_whole_lists(tiny: Recipe) -> None:
    point = {"network.generator_widths.1": 5, "network.z_dim": 3, "network.generator_widths.0": 7}
    assert spaces.point_changes(tiny, point) == {"network.generator_widths": [7, 5], "network.z_dim": 3}


def test_discriminator_accuracy_is_warned_about(file: Path, tmp_path: Path) -> None:
    text = file.read_text(encoding="utf-8").replace("about", 'objective = "discriminator_accuracy"\nabout')
    space = spaces.load(written(tmp_path, text))
    assert space.better == "lower"
    assert "weak discriminator" in space.warnings[0] and "quality of the images is not in it" in space.warnings[0]
    planned = trials.planned_trial(space, tmp_path, "trial-0000", {"train.lr_generator": 1e-3})
    assert len(planned.commands) == 1
    told = trials.logged(space, {"d_accuracy_real": 0.3, "d_accuracy_fake": 0.9, "frechet_x_2k_heldout": 9.0})
    assert told == pytest.approx(0.1)
