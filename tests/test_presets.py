import pytest

from modiste import config, schema
from modiste.networks.build import FAMILIES, build_discriminator, build_generator
from modiste.networks.layers import ImageShape
from modiste.networks.summary import training_flops

PUBLISHED = {
    # name: (z, batch, epochs, learning rate, beta1, size), as the documents print them; None = they do not
    "diaz-a": (100, 128, 30, 2e-4, 0.5, None),
    "diaz-b": (50, 64, 30, 2e-4, 0.5, None),
    "diaz-c": (200, 128, 30, 2e-4, 0.5, None),
    "noronha": (100, None, 50, None, None, None),
    "roh": (None, 128, 20, 2e-4, 0.5, 64),
    "dense-sigmoid": (100, 24, 20, 1e-4, 0.001, None),
    "bare-naich": (None, None, 200, None, None, None),
}

BASELINES = {
    # name: (loss, optimiser, learning rates of generator and discriminator, betas, batch, critic updates per update,
    #        conditioning, what else the paper's method is), as in the papers or the authors' code that each file names
    "wgan": ("wasserstein", "rmsprop", 5e-5, 5e-5, None, 64, 5, "none", {"loss.weight_clip": 0.01}),
    "wgan-gp": ("wasserstein", "adam", 1e-4, 1e-4, (0.0, 0.9), 64, 5, "none",
                {"loss.gradient_penalty_weight": 10.0, "network.discriminator_norm": "none"}),
    "lsgan": ("least-squares", "adam", 2e-4, 2e-4, (0.5, 0.999), 64, 1, "none", {}),
    "dragan": ("nonsaturating", "adam", 2e-4, 2e-4, (0.5, 0.999), 64, 1, "none",
               {"loss.dragan_weight": 10.0, "network.discriminator_norm": "none"}),
    "sngan": ("hinge", "adam", 2e-4, 2e-4, (0.0, 0.9), 64, 5, "none",
              {"network.z_dim": 128, "network.discriminator_norm": "spectral", "train.images": 50_000 * 5 * 64}),
    "acgan": ("nonsaturating", "adam", 2e-4, 2e-4, (0.5, 0.999), 100, 1, "auxiliary",
              {"loss.class_weight": 1.0, "network.dropout": 0.5}),
    "cgan-projection": ("hinge", "adam", 2e-4, 2e-4, (0.0, 0.9), 64, 5, "projection",
                        {"network.z_dim": 128, "network.discriminator_norm": "spectral"}),
    "sagan": ("hinge", "adam", 1e-4, 4e-4, (0.0, 0.9), 64, 1, "projection",
              {"network.generator_spectral": True, "network.attention": (14,)}),
    "biggan-small": ("hinge", "adam", 2e-4, 2e-4, (0.0, 0.999), 50, 4, "projection",
                     {"network.generator_spectral": True, "network.init": "orthogonal"}),
    "r3gan-small": ("relativistic", "adam", 2e-4, 2e-4, (0.0, 0.99), 256, 1, "projection",
                    {"loss.r1_gamma": 1.0, "loss.r2_gamma": 1.0, "network.discriminator_norm": "none"}),
}  # fmt: skip


def shape_of(recipe):
    return ImageShape(1, recipe.data.resize or 28, 10)


@pytest.mark.parametrize("name", schema.shipped())
def test_every_recipe_loads_resolves_and_builds(name):
    recipe = config.load(name)
    assert recipe.name == name and recipe.about and recipe.source
    assert recipe.network.family in FAMILIES
    resolved = config.resolve(recipe, 60_000)
    assert resolved.train.images and resolved.train.epochs is None
    assert config.from_toml(config.to_toml(resolved), name) == resolved
    build_generator(recipe.network, shape_of(recipe))
    build_discriminator(recipe.network, shape_of(recipe))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_settings(name):
    recipe = config.load(name)
    stated = PUBLISHED[name]
    train = recipe.train
    ours = (
        recipe.network.z_dim,
        train.batch_size,
        train.epochs,
        train.lr_generator,
        train.beta1,
        recipe.data.resize,
    )
    assert [mine for mine, theirs in zip(ours, stated, strict=True) if theirs is not None] == [
        theirs for theirs in stated if theirs is not None
    ]
    assert train.lr_discriminator == train.lr_generator and train.tick_images == 60_000
    assert train.ema_halflife_images == 0 and recipe.loss.r1_gamma == 0  # none of the documents has them


@pytest.mark.parametrize("name", BASELINES)
def test_the_settings_of_the_papers(name):
    loss, optimizer, lr_generator, lr_discriminator, betas, batch, updates, conditioning, rest = BASELINES[name]
    recipe = config.load(name)
    train = recipe.train
    assert (recipe.loss.adversarial, train.optimizer, train.batch_size) == (loss, optimizer, batch)
    assert (train.lr_generator, train.lr_discriminator) == (lr_generator, lr_discriminator)
    assert betas in (None, (train.beta1, train.beta2))
    assert (train.discriminator_steps, recipe.network.conditioning) == (updates, conditioning)
    for key, value in rest.items():
        section, _, field = key.partition(".")
        assert getattr(getattr(recipe, section), field) == value, key
    free = {"loss.weight_clip", "loss.gradient_penalty_weight", "loss.dragan_weight", "loss.r1_gamma", "loss.r2_gamma"}
    for key in free - rest.keys():  # a penalty that the paper does not have would make another baseline of it
        assert not getattr(recipe.loss, key.partition(".")[2]), key


def test_a_recipe_counts_its_epochs_in_images():
    assert config.resolve(config.load("diaz-b"), 60_000).train.images == 30 * 60_000


def test_cost_of_diaz_a_by_hand():
    """Forward operations of the convolutions, times 3 for the generator and 8 for the discriminator.

    One forward and two backward parts in the generator; in the discriminator three forward parts, two backward
    passes of two parts each and one of one part. Gradients to the images themselves are not needed for real
    and for made images, which takes off two parts of the first layer; so it is for the noise.
    """
    generator = [100 * 256 * 16, 256 * 128 * 16 * 16, 128 * 64 * 16 * 64, 64 * 16 * 256]
    discriminator = [64 * 16 * 256, 64 * 128 * 16 * 64, 128 * 256 * 16 * 16, 256 * 16]
    parts = 3 * sum(generator) - generator[0] + 8 * sum(discriminator) - 2 * discriminator[0]
    assert training_flops(config.load("diaz-a"), ImageShape(1, 32, 10)) == 2 * parts


def test_r1_costs_by_its_frequency_and_generator_updates_by_theirs():
    tree = {
        "network": {"conditioning": "projection", "discriminator_norm": "spectral"},
        "loss": {"r1_gamma": 1.0, "penalty_every": 1},
    }
    recipe, shape = config.build(tree, "here"), ImageShape(1, 32, 10)

    def cost(changes):
        return training_flops(config.override(recipe, changes), shape)

    bare, full, seldom = cost({"loss.r1_gamma": 0}), cost({}), cost({"loss.penalty_every": 4})
    assert full - bare == pytest.approx(4 * (seldom - bare)) and full > bare
    assert cost({"loss.r1_gamma": 0, "train.discriminator_steps": 2}) < bare
