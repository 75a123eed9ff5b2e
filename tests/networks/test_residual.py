from functools import partial

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from modiste import config
from modiste.config import Network
from modiste.errors import UsageError
from modiste.networks.build import build_discriminator, build_generator
from modiste.networks.dropout import Dropout
from modiste.networks.layers import ConditionalBatchNorm, ImageShape, SelfAttention
from modiste.networks.residual import down_block, first_block, up_block
from modiste.networks.summary import flops_per_image, layer_table, parameter_count, training_flops

GENERATOR_WIDTHS = {28: (8, 6), 32: (8, 8, 6), 64: (8, 8, 6, 4)}
SHARED_SIDES = {28: 14, 32: 16, 64: 16}


def residual(size=28, conditioning="projection", norms=("batch", "spectral"), **changes):
    settings = {"generator_widths": GENERATOR_WIDTHS[size], "discriminator_widths": (6, 8, 8), **changes}
    return Network(
        family="residual",
        z_dim=6,
        conditioning=conditioning,
        generator_norm=norms[0],
        discriminator_norm=norms[1],
        **settings,
    )


def pair_of(network, shape, seed=0):
    """Both networks, with gains at which attention has a share in the result."""
    torch.manual_seed(seed)
    generator, discriminator = build_generator(network, shape), build_discriminator(network, shape)
    for module in (*generator.modules(), *discriminator.modules()):
        if isinstance(module, SelfAttention):
            nn.init.constant_(module.gamma, 0.5)
    return generator, discriminator


def outcome(network, shape, count=4):
    generator, discriminator = pair_of(network, shape)
    labels = torch.arange(count) % shape.classes if shape.classes else None
    images = generator(torch.randn(count, 6), labels)
    return generator, discriminator, images, discriminator(images, labels)


def assert_gradients_reach_everything(*modules):
    for module in modules:
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("conditioning", ["none", "one-hot", "projection", "auxiliary"])
@pytest.mark.parametrize("size", [28, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_sizes_channels_and_conditioning(conditioning, size, channels):
    shape = ImageShape(channels, size, 0 if conditioning == "none" else 10)
    network = residual(size, conditioning, attention=(SHARED_SIDES[size],))
    generator, discriminator, images, logits = outcome(network, shape)
    assert images.shape == (4, channels, size, size) and images.abs().max() <= 1
    assert logits.shape == ((4, 2) if conditioning == "auxiliary" else (4,))
    logits.sum().backward()
    assert_gradients_reach_everything(generator, discriminator)


@pytest.mark.parametrize("norms", [("batch", "batch"), ("none", "none"), ("none", "spectral")])
def test_norms_dropout_and_slopes(norms):
    network = residual(28, "one-hot", norms, dropout=0.1, leaky_slope=0.0, generator_slope=0.1)
    generator, discriminator, images, logits = outcome(network, ImageShape(1, 28, 3))
    assert images.shape == (4, 1, 28, 28) and logits.shape == (4,)
    (logits * torch.tensor([1.0, -2, 3, -1])).sum().backward()
    assert_gradients_reach_everything(generator, discriminator)
    kinds = [type(module) for module in discriminator.modules()]
    assert kinds.count(nn.BatchNorm2d) == (5 if norms[1] == "batch" else 0)  # two further blocks and the end
    rectifiers = sum(isinstance(module, nn.ReLU) for module in discriminator.modules())
    assert rectifiers == kinds.count(Dropout) + 1 == 6


def test_sngans_generator_for_cifar_10_has_its_parameters():
    network = Network(family="residual", z_dim=128, generator_widths=(256,) * 3, discriminator_widths=(128,) * 4)
    with torch.device("meta"):
        generator = build_generator(network, ImageShape(3, 32))
    dense = 128 * 4 * 4 * 256 + 4 * 4 * 256
    block = 2 * (9 * 256 * 256 + 256) + (256 * 256 + 256) + 2 * 2 * 256  # convolutions, shortcut, two batch norms
    published = dense + 3 * block + 2 * 256 + (9 * 256 * 3 + 3)
    assert published == 4_276_739
    assert parameter_count(generator) == published - 3 * 3 * 256  # the biases that batch norm takes out again
    rows = layer_table(generator, torch.empty(2, 128, device="meta"))
    assert [row.output_shape for row in rows if row.layer in ("DoublingConv2d", "Upsample")] == [
        (256, side, side) for side in (8, 8, 16, 16, 32, 32)
    ]


def test_sngans_discriminator_for_cifar_10_has_its_parameters():
    network = Network(
        family="residual",
        generator_widths=(256,) * 3,
        discriminator_widths=(128,) * 4,
        discriminator_norm="spectral",
        leaky_slope=0.0,
    )
    with torch.device("meta"):
        discriminator = build_discriminator(network, ImageShape(3, 32))
    wide, shortcut = 9 * 128 * 128 + 128, 128 * 128 + 128
    first = (9 * 3 * 128 + 128) + wide + (3 * 128 + 128)
    published = first + (2 * wide + shortcut) + 2 * (2 * wide) + 128
    assert published == 1_053_824
    assert parameter_count(discriminator) == published + 1  # the logit has a bias here
    rows = layer_table(discriminator, torch.empty(2, 3, 32, 32, device="meta"))
    assert [row.output_shape[1:] for row in rows if row.layer in ("Conv2d", "HalvingConv2d")] == [
        *[(32, 32), (16, 16), (16, 16)],
        *[(16, 16), (8, 8), (8, 8)],
        *[(8, 8), (8, 8)] * 2,
    ]
    assert [row.output_shape for row in rows if row.layer == "AvgPool2d"] == [(3, 16, 16), (128, 8, 8)]


@pytest.mark.parametrize(
    "size, sides", [(28, [14, 7, 7, 7]), (32, [16, 8, 8, 8]), (64, [32, 16, 8, 8]), (30, [15, 15, 15, 15])]
)
def test_sides_of_the_discriminators_maps(size, sides):
    network = Network(family="residual", generator_widths=(4,), discriminator_widths=(4,) * 4)
    with torch.device("meta"):
        discriminator, features = build_discriminator(network, ImageShape(1, size)), torch.empty(2, 1, size, size)
        for block, side in zip(discriminator.layers, sides, strict=False):
            features = block(features)
            assert features.shape == (2, 4, side, side)


def test_blocks_equal_the_published_order_of_operations():
    torch.manual_seed(0)
    network, features = residual(28, "none", ("none", "none"), leaky_slope=0.0), torch.randn(2, 3, 6, 6)

    def convolved(layers, maps):
        first, second = (partial(F.conv2d, weight=layer.weight, bias=layer.bias, padding=1) for layer in layers)
        return second(first(maps).relu())

    block = up_block(network, 3, 5, 0)
    both = [layer for layer in block.branch if isinstance(layer, nn.Conv2d)]
    expected = convolved(both, F.interpolate(features.relu(), scale_factor=2))
    expected = expected + block.shortcut[0](F.interpolate(features, scale_factor=2))
    torch.testing.assert_close(block(features), expected)

    block = first_block(network, 3, 5, halve=True)
    both = [layer for layer in block.branch if isinstance(layer, nn.Conv2d)]
    expected = F.avg_pool2d(convolved(both, features), 2) + block.shortcut[1](F.avg_pool2d(features, 2))
    torch.testing.assert_close(block(features), expected)

    block = down_block(network, 3, 5, halve=True)
    both = [layer for layer in block.branch if isinstance(layer, nn.Conv2d)]
    expected = F.avg_pool2d(convolved(both, features.relu()) + block.shortcut[1](features), 2)
    torch.testing.assert_close(block(features), expected)

    block = down_block(network, 3, 3, halve=False)
    both = [layer for layer in block.branch if isinstance(layer, nn.Conv2d)]
    torch.testing.assert_close(block(features), convolved(both, features.relu()) + features)


@pytest.mark.parametrize("side", [6, 7, 1])
def test_attention_is_the_written_out_sum(side):
    torch.manual_seed(0)
    attention, features = SelfAttention(16), torch.randn(2, 16, side, side)
    assert torch.equal(attention(features), features)  # gamma is 0
    nn.init.constant_(attention.gamma, 0.7)
    queries, keys, values = (
        torch.einsum("oc,nchw->nohw", layer.weight[:, :, 0, 0], features)
        for layer in (attention.queries, attention.keys, attention.values)
    )
    assert queries.shape[1] == keys.shape[1] == 2 and values.shape[1] == 8
    half = range(0, side, 2)
    keys, values = (
        torch.stack([maps[:, :, y : y + 2, x : x + 2].amax((2, 3)) for y in half for x in half], dim=2)
        for maps in (keys, values)
    )
    scores = torch.einsum("nchw,ncj->nhwj", queries, keys).exp()
    shares = scores / scores.sum(3, keepdim=True)
    mixed = torch.einsum("nhwj,ncj->nchw", shares, values)
    expected = features + 0.7 * torch.einsum("oc,nchw->nohw", attention.output.weight[:, :, 0, 0], mixed)
    torch.testing.assert_close(attention(features), expected)
    torch.testing.assert_close(attention(features.to(memory_format=torch.channels_last)), expected)


def test_attention_follows_one_block_of_its_side_in_each_network():
    network = residual(32, "none", discriminator_widths=(6, 16, 8, 8), attention=(8, 16))
    generator, discriminator = pair_of(network, ImageShape(1, 32))
    kinds = [type(layer).__name__ for layer in generator.blocks]
    assert kinds == ["Unflatten", "Residual", "SelfAttention", "Residual", "SelfAttention", "Residual"]
    kinds = [type(layer).__name__ for layer in discriminator.layers]
    assert kinds[:6] == ["Residual", "SelfAttention", "Residual", "SelfAttention", "Residual", "Residual"]
    assert discriminator.layers[3].output.out_channels == 16
    assert sum("gamma" in name for name, _ in discriminator.named_parameters()) == 2


@pytest.mark.parametrize("side", [32, 4, 12])
def test_attention_at_a_side_that_does_not_exist_is_a_sentence(side):
    network = residual(32, "none", attention=(16, side))
    for build in (build_generator, build_discriminator):
        with pytest.raises(UsageError, match=rf"the side {side}, .* choose 8 or 16, or set network\.attention = \[\]"):
            build(network, ImageShape(1, 32))


def test_a_side_that_cannot_be_halved_is_a_sentence():
    with pytest.raises(UsageError, match="generator_widths has 3 widths, but 28 pixels cannot be halved 3 times"):
        build_generator(residual(28, generator_widths=(8, 8, 8)), ImageShape(1, 28, 10))


@pytest.mark.parametrize("conditioning", ["one-hot", "projection", "auxiliary"])
def test_both_networks_listen_to_the_label(conditioning):
    generator, discriminator, images, _ = outcome(residual(28, conditioning), ImageShape(1, 28, 10))
    noise = torch.randn(4, 6)
    generator.eval(), discriminator.eval()
    for module in generator.modules():
        if isinstance(module, ConditionalBatchNorm):  # equal for all classes at first
            nn.init.normal_(module.bias)
    zeros, ones = torch.zeros(4).long(), torch.ones(4).long()
    with torch.no_grad():
        assert not torch.allclose(generator(noise, zeros), generator(noise, ones))
        assert not torch.allclose(discriminator(images, zeros), discriminator(images, ones))


def test_projection_without_batch_norm_is_refused():
    with pytest.raises(UsageError, match="generator_norm"):
        build_generator(residual(28, norms=("none", "spectral")), ImageShape(1, 28, 10))


@pytest.mark.parametrize("discriminator_norm", ["batch", "spectral"])
def test_state_round_trip_and_independence_within_a_batch(discriminator_norm):
    network, shape = residual(28, norms=("batch", discriminator_norm), attention=(14,)), ImageShape(1, 28, 10)
    generator, discriminator, _, _ = outcome(network, shape)
    others = pair_of(network, shape, seed=1)
    for module, other in zip((generator, discriminator), others, strict=True):
        other.load_state_dict(module.state_dict())
        module.eval(), other.eval()
    noise, labels = torch.randn(4, 6), torch.arange(4)
    with torch.no_grad():
        images = generator(noise, labels)
        logits = discriminator(images, labels)
        assert torch.equal(images, others[0](noise, labels))
        assert torch.equal(logits, others[1](images, labels))
        torch.testing.assert_close(generator(noise[2:3], labels[2:3]), images[2:3])
        torch.testing.assert_close(discriminator(images[2:3], labels[2:3]), logits[2:3])


def test_bfloat16_and_channels_last_agree_with_float32():
    network = residual(28, attention=(14,))
    generator, discriminator = (module.eval() for module in pair_of(network, ImageShape(1, 28, 10)))
    noise, labels = torch.randn(4, 6), torch.arange(4)
    images = generator(noise, labels)
    logits = discriminator(images, labels)
    for module in (generator, discriminator):
        module.to(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half_images = generator(noise, labels)
        half_logits = discriminator(half_images.contiguous(memory_format=torch.channels_last), labels)
    assert half_images.dtype == torch.bfloat16 and half_logits.dtype == torch.float32
    torch.testing.assert_close(half_images.float(), images, atol=0.05, rtol=0)
    torch.testing.assert_close(half_logits, logits, atol=0.05, rtol=0.05)
    half_logits.sum().backward()
    assert all(p.grad is not None and p.dtype == p.grad.dtype == torch.float32 for p in generator.parameters())


def test_attention_bears_a_gradient_penalty():
    network = residual(28, attention=(14,))
    _, discriminator = pair_of(network, ImageShape(1, 28, 10))
    images, labels = torch.rand(4, 1, 28, 28) * 2 - 1, torch.arange(4)
    images.requires_grad_(True)
    (slope,) = torch.autograd.grad(discriminator(images, labels).sum(), images, create_graph=True)
    slope.square().sum().backward()
    attention = next(module for module in discriminator.modules() if isinstance(module, SelfAttention))
    assert all(p.grad.isfinite().all() and p.grad.abs().sum() > 0 for p in attention.parameters())


def test_costs_are_counted():
    network, shape = (
        residual(28, "none", attention=(14,), generator_widths=(4, 2), discriminator_widths=(2,)),
        ImageShape(1, 28),
    )
    generator, discriminator = flops_per_image(network, shape)
    dense = 6 * 4 * 49
    first = 9 * 4 * 4 * 196 + 9 * 4 * 4 * 196 + 4 * 4 * 49
    attention = (4 * 1 + 4 * 1 + 4 * 2 + 2 * 4) * 196 + (1 + 2) * 196 * 49
    second = 9 * 4 * 2 * 784 + 9 * 2 * 2 * 784 + 4 * 2 * 196
    assert generator == 2 * (dense + first + attention + second + 9 * 2 * 1 * 784)
    first = 9 * 1 * 2 * 784 + 9 * 2 * 2 * 784 + 1 * 2 * 196
    attention = (2 * 1 + 2 * 1 + 2 * 1 + 1 * 2) * 196 + (1 + 1) * 196 * 49
    assert discriminator == 2 * (first + attention)  # the logit is written out, which is not counted
    assert training_flops(config.Recipe(network=network), shape) > 3 * (generator + discriminator)
