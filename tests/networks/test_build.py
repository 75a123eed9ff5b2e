from itertools import product

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from modiste import config
from modiste.config import Network
from modiste.errors import UsageError
from modiste.networks.build import build_discriminator, build_generator
from modiste.networks.dense_dcgan import SameConv2d, SameConvTranspose2d
from modiste.networks.layers import ConditionalBatchNorm, ImageShape, SpectralNorm, initialise, join_maps, join_vector
from modiste.networks.summary import flops_per_image, layer_table, parameter_count
from modiste.training import losses, penalties

SIZES = {"dcgan": 32, "conditional-dcgan": 28, "dense-dcgan": 28}
VARIANTS = [
    (family, conditioning, generator_norm, discriminator_norm)
    for family, conditioning, generator_norm, discriminator_norm in product(
        SIZES, ["none", "one-hot", "projection"], ["batch", "none"], ["batch", "spectral", "none"]
    )
    if (conditioning, generator_norm) != ("projection", "none")
]


def small(family, conditioning="none", generator_norm="batch", discriminator_norm="batch", **changes):
    network = Network(
        family=family,
        z_dim=6,
        generator_widths=(12, 8, 6),
        discriminator_widths=(6, 8) if family == "dense-dcgan" else (6, 8, 12),
        conditioning=conditioning,
        generator_norm=generator_norm,
        discriminator_norm=discriminator_norm,
        dropout=0.3 if family == "dense-dcgan" else 0.0,
        **changes,
    )
    return network, ImageShape(1, SIZES[family], 10)


def pair_of(network, shape, seed=0):
    torch.manual_seed(seed)
    return build_generator(network, shape), build_discriminator(network, shape)


def inputs(network, count=4):
    return torch.randn(count, network.z_dim), torch.arange(count) % 10


@pytest.mark.filterwarnings("default")  # the compiler's own
@pytest.mark.parametrize("name", ["swift", "r3gan-small"])
def test_networks_compile_into_one_graph(name):
    """A break in it would cost more than compilation saves."""
    network = config.load(name).network
    for module, first in zip(
        pair_of(network, ImageShape(1, 28, 10)), (torch.randn(2, 64), torch.randn(2, 1, 28, 28)), strict=True
    ):
        found = torch._dynamo.explain(module)(first, torch.arange(2))
        assert (found.graph_count, found.graph_break_count) == (1, 0), found.break_reasons
    torch.compiler.reset()


@pytest.mark.parametrize("variant", VARIANTS, ids="-".join)
def test_every_variant_makes_images_and_logits_and_learns_everywhere(variant):
    network, shape = small(*variant)
    generator, discriminator = pair_of(network, shape)
    noise, labels = inputs(network)
    images = generator(noise, labels)
    assert images.shape == (4, 1, shape.size, shape.size) and images.abs().max() <= 1
    logits = discriminator(images, labels)
    assert logits.shape == (4,)
    (losses.adversarial(config.Loss()).discriminator(logits.flip(0) * 0.5, logits).mean()).backward()
    for name, parameter in [*generator.named_parameters(), *discriminator.named_parameters()]:
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        # The first stages' class gains see classes 0 to 3 only; every tensor as a whole must receive something.
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("game", losses.ADVERSARIAL)
@pytest.mark.parametrize("family", SIZES)
def test_every_game_gives_finite_gradients_with_r1(family, game):
    network, shape = small(family, "projection", "batch", "spectral")
    generator, discriminator = pair_of(network, shape)
    noise, labels = inputs(network)
    pair = losses.adversarial(config.Loss(adversarial=game))
    real, fake = torch.rand(4, 1, shape.size, shape.size) * 2 - 1, generator(noise, labels)
    term = pair.discriminator(discriminator(real, labels), discriminator(fake.detach(), labels))
    (term + penalties.zero_centred(discriminator, real, labels)).mean().backward()
    pair.generator(torch.zeros(len(fake)), discriminator(fake, labels)).mean().backward()
    assert all(p.grad.isfinite().all() for m in (generator, discriminator) for p in m.parameters())


@pytest.mark.parametrize("variant", VARIANTS, ids="-".join)
def test_state_round_trip_and_independence_within_a_batch(variant):
    network, shape = small(*variant)
    generator, discriminator = pair_of(network, shape)
    noise, labels = inputs(network)
    discriminator(generator(noise, labels), labels)  # moves running statistics and spectral vectors
    other_generator, other_discriminator = pair_of(network, shape, seed=1)
    other_generator.load_state_dict(generator.state_dict())
    other_discriminator.load_state_dict(discriminator.state_dict())
    for module in (generator, discriminator, other_generator, other_discriminator):
        module.eval()
    with torch.no_grad():
        before = {name: tensor.clone() for name, tensor in discriminator.state_dict().items()}
        images = generator(noise, labels)
        logits = discriminator(images, labels)
        assert torch.equal(images, other_generator(noise, labels))
        assert torch.equal(logits, other_discriminator(images, labels))
        torch.testing.assert_close(generator(noise[2:3], labels[2:3]), images[2:3])
        torch.testing.assert_close(discriminator(images[2:3], labels[2:3]), logits[2:3])
    assert all(torch.equal(tensor, before[name]) for name, tensor in discriminator.state_dict().items())


@pytest.mark.parametrize("family", SIZES)
def test_bfloat16_and_channels_last_agree_with_float32(family):
    network, shape = small(family, "projection", "batch", "spectral")
    generator, discriminator = (module.eval() for module in pair_of(network, shape))
    noise, labels = inputs(network)
    images = generator(noise, labels)
    logits = discriminator(images, labels)
    for module in (generator, discriminator):
        module.to(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half_images = generator(noise, labels)
        half_logits = discriminator(half_images.contiguous(memory_format=torch.channels_last), labels)
    torch.testing.assert_close(half_images.float(), images, atol=0.05, rtol=0)
    torch.testing.assert_close(half_logits.float(), logits, atol=0.05, rtol=0.05)
    half_logits.float().sum().backward()
    assert all(p.grad is not None and p.dtype == p.grad.dtype == torch.float32 for p in generator.parameters())


@pytest.mark.parametrize("family, conditioning", list(product(SIZES, ["one-hot", "projection"])))
def test_labels_change_images_and_logits(family, conditioning):
    network, shape = small(family, conditioning)
    generator, discriminator = (module.eval() for module in pair_of(network, shape))
    for module in generator.modules():
        if isinstance(module, ConditionalBatchNorm):  # equal for all classes at first
            nn.init.normal_(module.bias)
    noise, labels = inputs(network)
    with torch.no_grad():
        images = generator(noise, labels)
        assert not torch.allclose(images, generator(noise, labels + 1))
        assert not torch.allclose(discriminator(images, labels), discriminator(images, labels + 1))


@pytest.mark.parametrize("conditioning", ["one-hot", "projection"])
def test_conditional_networks_need_labels(conditioning):
    network, shape = small("dcgan", conditioning)
    for build in (build_generator, build_discriminator):
        with pytest.raises(UsageError, match="needs labels"):
            build(network, ImageShape(1, 32, 0))
    generator, discriminator = pair_of(network, shape)
    with pytest.raises(UsageError, match="without labels"):
        generator(torch.randn(2, 6), None)
    with pytest.raises(UsageError, match="without labels"):
        discriminator(torch.randn(2, 1, 32, 32), None)


def test_spectral_norm_bounds_a_generator_too_and_survives_averaging():
    network, shape = small("dcgan", "projection", generator_spectral=True)
    generator, _ = pair_of(network, shape)
    noise, labels = inputs(network)
    for _ in range(60):
        generator(noise, labels)  # power iterations
    for layer in generator.modules():
        if isinstance(layer, nn.ConvTranspose2d):
            matrix = layer.weight.detach().transpose(0, 1).flatten(1)
            assert torch.linalg.matrix_norm(matrix, 2).item() == pytest.approx(1, abs=0.05)
    generator.eval()
    before = generator(noise, labels)
    for name, buffer in generator.named_buffers():
        if name.endswith((".u", ".v")):
            buffer.mul_(0.9)  # as the mean of vectors that turn
    torch.testing.assert_close(generator(noise, labels), before, atol=1e-5, rtol=1e-4)


def test_projection_without_batch_norm_is_refused():
    network, shape = small("dcgan", "projection", "none")
    with pytest.raises(UsageError, match="generator_norm"):
        build_generator(network, shape)


def test_projection_logit_is_linear_plus_inner_product():
    network, shape = small("dense-dcgan", "projection", discriminator_norm="none")
    _, discriminator = (module.eval() for module in pair_of(network, shape))
    images, labels = torch.randn(4, 1, 28, 28), torch.tensor([3, 1, 4, 1])
    features = discriminator.layers(images)
    embedded = discriminator.head.embed.weight[labels]
    expected = discriminator.logit(features)[:, 0] + torch.einsum("nf,nfhw->n", embedded, features)
    torch.testing.assert_close(discriminator(images, labels), expected)


@pytest.mark.parametrize(
    "family, size, widths",
    [("dcgan", 28, (8, 8, 8)), ("dcgan", 31, (8,)), ("dense-dcgan", 30, (8, 8)), ("conditional-dcgan", 28, (8, 8))],
)
def test_sizes_that_do_not_fit_are_refused_with_a_remedy(family, size, widths):
    network = Network(family=family, generator_widths=widths, discriminator_widths=widths)
    for build in (build_generator, build_discriminator):
        with pytest.raises(UsageError, match=r"set data\.resize to|give . widths for"):
            build(network, ImageShape(1, size, 0))


def test_the_remedy_for_a_map_that_is_doubled_once():
    network = Network(family="dense-dcgan", generator_widths=(8,), discriminator_widths=(8,))
    with pytest.raises(UsageError, match=r"no multiple of 2; set data\.resize to 28"):
        build_generator(network, ImageShape(1, 27, 0))
    assert build_generator(network, ImageShape(1, 26, 0))(torch.randn(2, network.z_dim), None).shape[2:] == (26, 26)


def test_a_dcgan_of_28_pixels_has_two_widths_and_may_have_colours():
    network = Network(generator_widths=(8, 6), discriminator_widths=(6, 8), z_dim=5)
    generator, discriminator = pair_of(network, ImageShape(3, 28, 0))
    images = generator(torch.randn(2, 5), None)
    assert images.shape == (2, 3, 28, 28) and discriminator(images, None).shape == (2,)


def test_noronhas_published_summary():
    recipe, shape = config.load("noronha"), ImageShape(1, 28, 10)
    generator, discriminator = pair_of(recipe.network, shape)
    rows = layer_table(generator, torch.randn(2, 100))
    assert [(row.output_shape, row.parameters) for row in rows] == [
        ((6272,), 627_200),
        ((6272,), 25_088),
        ((6272,), 0),
        ((128, 7, 7), 0),
        ((128, 7, 7), 409_600),
        ((128, 7, 7), 512),
        ((128, 7, 7), 0),
        ((32, 14, 14), 102_400),
        ((32, 14, 14), 128),
        ((32, 14, 14), 0),
        ((1, 28, 28), 800),
        ((1, 28, 28), 0),  # tanh, part of the layer above in the document
    ]
    rows = layer_table(discriminator, torch.randn(2, 1, 28, 28))
    assert [(row.output_shape, row.parameters) for row in rows] == [
        ((64, 14, 14), 1_664),
        ((64, 14, 14), 0),
        ((64, 14, 14), 0),
        ((256, 7, 7), 409_856),
        ((256, 7, 7), 0),
        ((256, 7, 7), 0),
        ((12544,), 0),
        ((1,), 12_545),
    ]
    assert parameter_count(discriminator) == 424_065
    assert [layer.p for layer in discriminator.modules() if isinstance(layer, nn.Dropout)] == [0.3, 0.3]


def test_diaz_parameters_by_hand():
    recipe = config.load("diaz-a")
    generator, discriminator = pair_of(recipe.network, ImageShape(1, 32, 10))
    convolutions = 16 * (100 * 256 + 256 * 128 + 128 * 64 + 64 * 1)
    assert parameter_count(generator) == convolutions + 2 * (256 + 128 + 64)
    convolutions = 16 * (1 * 64 + 64 * 128 + 128 * 256 + 256 * 1)
    assert parameter_count(discriminator) == convolutions + 2 * (128 + 256)


def test_bare_naich_sides_and_channels():
    recipe = config.load("bare-naich")
    generator, discriminator = pair_of(recipe.network, ImageShape(1, 28, 10))
    noise, labels = inputs(recipe.network, 2)
    rows = layer_table(generator, noise, labels)
    made = [row.output_shape for row in rows if row.layer == "ConvTranspose2d"]
    assert made == [(256, 3, 3), (128, 7, 7), (64, 15, 15), (1, 28, 28)]
    rows = layer_table(discriminator, torch.randn(2, 1, 28, 28), labels)
    judged = [row.output_shape for row in rows if row.layer == "Conv2d"]
    assert judged == [(64, 25, 25), (128, 11, 11), (256, 4, 4), (1, 1, 1)]
    assert sum(row.layer == "BatchNorm2d" for row in rows) == 3


def test_layer_table_leaves_the_module_as_it_was():
    network, shape = small("dcgan", "projection", "batch", "spectral")
    generator, discriminator = pair_of(network, shape)
    before = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    noise, labels = inputs(network)
    rows = layer_table(generator, noise, labels)
    assert sum(row.parameters for row in rows if row.layer == "ConditionalBatchNorm") == (20 + 2) * (12 + 8 + 6)
    assert generator.training and all(torch.equal(t, before[k]) for k, t in generator.state_dict().items())
    assert {row.layer for row in layer_table(discriminator, torch.randn(4, 1, 32, 32), labels)} == {
        "Conv2d",
        "LeakyReLU",
        "Embedding",
    }


def test_forward_cost_by_hand():
    network = Network(family="dense-dcgan", z_dim=10, generator_widths=(4, 3), discriminator_widths=(2,))
    generator, discriminator = flops_per_image(network, ImageShape(1, 28, 0))
    dense, first, second = 10 * 4 * 49, 4 * 3 * 25 * 49, 3 * 1 * 25 * 196
    assert generator == 2 * (dense + first + second)
    assert discriminator == 2 * (2 * 25 * 196 + 2 * 196)


@pytest.mark.parametrize("family", SIZES)
def test_spectral_norm_settles_at_one(family):
    network, shape = small(family, "projection", "batch", "spectral")
    _, discriminator = pair_of(network, shape)
    images, labels = torch.randn(2, 1, shape.size, shape.size), torch.tensor([0, 1])
    with torch.no_grad():
        for _ in range(60):
            discriminator(images, labels)
        discriminator.eval()
        weights = [m.weight for m in discriminator.modules() if isinstance(m, (nn.Conv2d, nn.Linear, nn.Embedding))]
        assert len(weights) >= 4
        for weight in weights:
            largest = torch.linalg.svdvals(weight.flatten(1))[0]
            torch.testing.assert_close(largest, torch.tensor(1.0), atol=0.02, rtol=0)


def test_spectral_norm_is_the_same_under_autocast_and_differentiates():
    network, shape = small("dcgan", "none", "batch", "spectral")
    _, discriminator = pair_of(network, shape)
    layer = discriminator.eval().layers[0]
    plain = layer.weight
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer.weight, plain)
    original, slope = layer.parametrizations.weight.original, torch.randn_like(plain)
    (gradient,) = torch.autograd.grad((plain * slope).sum(), original)
    # Scaling the weight changes nothing, so the gradient is orthogonal to it.
    assert abs((gradient * original).sum()) < 1e-4 * gradient.norm() * original.norm()


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("shape", [(4, 3, 3, 3), (5, 7)])
def test_the_gradient_of_a_spectral_norm_is_autograds(transposed, shape):
    torch.manual_seed(0)
    weight = torch.randn(shape, requires_grad=True)
    norm, direction = SpectralNorm(weight, transposed).train(), torch.randn(shape)
    divided = norm(weight)
    plain = weight / torch.dot(norm.u, norm.matrix(weight) @ norm.v)
    torch.testing.assert_close(divided, plain)
    (found,), (expected,) = (torch.autograd.grad(value, weight, direction) for value in (divided, plain))
    torch.testing.assert_close(found, expected)


def test_conditional_batch_norm_matches_plain_batch_norm_per_class():
    torch.manual_seed(0)
    conditional, plain = ConditionalBatchNorm(5, 3), nn.BatchNorm2d(5, affine=False)
    gain, bias = nn.init.normal_(conditional.gain), nn.init.normal_(conditional.bias)
    labels, features = torch.tensor([0, 2, 1, 2]), torch.randn(4, 5, 3, 3)
    expected = gain[labels][:, :, None, None] * plain(features) + bias[labels][:, :, None, None]
    torch.testing.assert_close(conditional(features, labels), expected)
    torch.testing.assert_close(conditional.running_var, plain.running_var)
    flat = torch.randn(4, 5)
    expected = gain[labels] * F.batch_norm(flat, None, None, training=True) + bias[labels]
    torch.testing.assert_close(conditional(flat, labels), expected)


def test_conditional_batch_norm_starts_as_batch_norm():
    features = torch.randn(6, 4, 2, 2)
    fresh = ConditionalBatchNorm(4, 3)(features, torch.tensor([0, 1, 2, 0, 1, 2]))
    torch.testing.assert_close(fresh, nn.BatchNorm2d(4)(features))


def test_one_hot_labels_are_joined_behind_the_input():
    labels = torch.tensor([2, 0])
    assert join_vector(torch.full((2, 2), 7.0), labels, 3).tolist() == [[7, 7, 0, 0, 1], [7, 7, 1, 0, 0]]
    maps = join_maps(torch.full((2, 1, 2, 2), 7.0), labels, 3)
    assert maps.shape == (2, 4, 2, 2)
    assert maps[0].mean((1, 2)).tolist() == [7, 0, 0, 1] and maps[1].mean((1, 2)).tolist() == [7, 1, 0, 0]


@pytest.mark.parametrize("stride", [1, 2])
def test_same_convolution_pads_as_tensorflow_does(stride):
    """One impulse at a time: which outputs it reaches tells the padding (TensorFlow: 1 before, 2 after)."""
    layer = SameConv2d(1, 1, stride)
    nn.init.ones_(layer.weight), nn.init.zeros_(layer.bias)
    size, before = 8, (5 - stride) // 2
    for row in range(size):
        impulse = torch.zeros(1, 1, size, size)
        impulse[0, 0, row, 3] = 1
        reached = [out for out in range(size // stride) if 0 <= row - (out * stride - before) < 5]
        assert layer(impulse)[0, 0].amax(1).nonzero().flatten().tolist() == reached


@pytest.mark.parametrize("stride", [1, 2])
def test_same_transposed_convolution_is_the_transpose(stride):
    """<conv(x), y> = <x, transposed(y)> with shared weights, which is how TensorFlow defines it."""
    forward, transposed = SameConv2d(2, 3, stride), SameConvTranspose2d(3, 2, stride, bias=False)
    nn.init.zeros_(forward.bias)
    transposed.weight.data = forward.weight.data
    x, y = torch.randn(1, 2, 8, 8), torch.randn(1, 3, 8 // stride, 8 // stride)
    torch.testing.assert_close((forward(x) * y).sum(), (x * transposed(y)).sum(), atol=1e-4, rtol=1e-4)


def test_a_sigmoid_output_covers_the_same_pixels_as_tanh():
    network = Network(family="dense-dcgan", generator_widths=(8, 6), discriminator_widths=(4,), output="sigmoid")
    generator, _ = pair_of(network, ImageShape(1, 28, 0))
    generator.eval()
    noise = torch.randn(3, 100)
    torch.testing.assert_close(generator(noise, None), torch.tanh(generator.layers[:-1](noise) / 2), atol=1e-6, rtol=0)
    assert generator.layers[:-1](noise).min() < 0 and generator(noise, None).min() < 0


def test_initial_weights():
    def weights(init):
        torch.manual_seed(0)
        layers = nn.Sequential(nn.Conv2d(64, 128, 4), nn.BatchNorm2d(128))
        initialise(layers, init)
        return layers

    normal = weights("normal")
    assert abs(normal[0].weight.std() - 0.02) < 1e-3 and not normal[0].bias.any()
    assert abs(normal[1].weight.mean() - 1) < 0.01 and abs(normal[1].weight.std() - 0.02) < 5e-3
    glorot = weights("glorot")[0].weight
    limit = (6 / (64 * 16 + 128 * 16)) ** 0.5
    assert 0.99 * limit < glorot.abs().max() <= limit
    rows = weights("orthogonal")[0].weight.flatten(1)
    torch.testing.assert_close(rows @ rows.T, torch.eye(128), atol=1e-5, rtol=0)
    torch.manual_seed(0)
    assert torch.equal(weights("torch")[0].weight, weights("torch")[0].weight)
    assert weights("torch")[0].bias.any()
