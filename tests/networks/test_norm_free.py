import pytest
import torch
from torch import nn
from torch.nn import functional as F

from modiste import config
from modiste.config import Network
from modiste.errors import UsageError
from modiste.networks.build import build_discriminator, build_generator
from modiste.networks.layers import WEIGHTED, ImageShape
from modiste.networks.norm_free import Basis, Block, Resample, with_he_weights
from modiste.networks.summary import layer_table, parameter_count, training_flops


def norm_free(conditioning="none", **changes):
    settings = {
        "generator_widths": (12, 8, 6),
        "discriminator_widths": (6, 8, 12),
        "generator_norm": "none",
        "discriminator_norm": "none",
        "generator_slope": 0.2,
        **changes,
    }
    return Network(family="norm-free", z_dim=6, conditioning=conditioning, **settings)


def blocks_of(*networks):
    return [module for network in networks for module in network.modules() if isinstance(module, Block)]


def pair_of(network, shape, *, filled=True):
    """Both networks; `filled` as after some training, when the blocks are no longer the identity."""
    torch.manual_seed(0)
    generator, discriminator = build_generator(network, shape), build_discriminator(network, shape)
    if filled and network.discriminator_norm == "none":
        for block in blocks_of(generator, discriminator):
            with_he_weights(block.contract)
    return generator, discriminator


def inputs(shape, count=4):
    return torch.randn(count, 6), torch.arange(count) % shape.classes if shape.classes else None


@pytest.mark.parametrize("conditioning", ["none", "one-hot", "projection", "auxiliary"])
@pytest.mark.parametrize("size, widths", [(28, (12, 8, 6)), (32, (8, 8, 6, 6)), (64, (8, 8, 6, 6, 4))])
@pytest.mark.parametrize("channels", [1, 3])
def test_sizes_channels_and_conditioning(conditioning, size, widths, channels):
    shape = ImageShape(channels, size, 0 if conditioning == "none" else 10)
    network = norm_free(conditioning, generator_widths=widths, discriminator_widths=widths[::-1])
    generator, discriminator = pair_of(network, shape)
    noise, labels = inputs(shape)
    images = generator(noise, labels)
    assert images.shape == (4, channels, size, size) and images.abs().max() <= 1
    logits = discriminator(images, labels)
    assert logits.shape == ((4, 2) if conditioning == "auxiliary" else (4,))
    logits.sum().backward()
    for name, parameter in [*generator.named_parameters(), *discriminator.named_parameters()]:
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("widths, start", [((8,), 32), ((8, 8), 16), ((8, 8, 8, 4, 4, 4), 1)])
def test_any_number_of_widths_that_halves_the_side(widths, start):
    network = norm_free(generator_widths=widths, discriminator_widths=widths[::-1])
    generator, discriminator = pair_of(network, ImageShape(1, 32))
    images = generator(torch.randn(2, 6))
    assert images.shape == (2, 1, 32, 32) and discriminator(images).shape == (2,)
    assert generator.basis.maps.shape == discriminator.basis.maps.shape == (8, start, start)


def test_every_block_starts_as_the_identity():
    networks = pair_of(norm_free(), ImageShape(1, 28), filled=False)
    blocks = blocks_of(*networks)
    assert len(blocks) == 6
    for block in blocks:
        maps = torch.randn(2, block.expand.in_channels, 5, 5)
        assert torch.equal(block(maps), maps)
        with_he_weights(block.contract)
        assert not torch.allclose(block(maps), maps)


@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_twelve_blocks_keep_the_variance_of_maps_and_gradients(slope):
    torch.manual_seed(0)
    stack = nn.Sequential(*[Block(32, slope, blocks=12) for _ in range(12)])
    for block in stack:
        with_he_weights(block.contract)  # as large as it may become: with zeros there would be nothing to see
    maps = torch.randn(2, 32, 10, 10, requires_grad=True)
    after = stack(maps)
    direction = torch.randn_like(after)
    (gradient,) = torch.autograd.grad(after, maps, direction)
    # (1 + 1 / 12)^12 = 2.6 by Fixup's scale, less at the borders; 2^12 = 4096 without it.
    assert 1.5 < after.square().mean() / maps.square().mean() < 4
    assert 1.5 < gradient.square().mean() / direction.square().mean() < 4


def test_resampling_is_bilinear_and_halving_is_the_transpose_of_doubling():
    torch.manual_seed(0)
    up, down = Resample(7, up=True).double(), Resample(7, up=False).double()
    small, large = torch.randn(2, 3, 7, 7).double(), torch.randn(2, 3, 14, 14).double()
    torch.testing.assert_close(up(small), F.interpolate(small, scale_factor=2, mode="bilinear"))
    torch.testing.assert_close((up(small) * large).sum(), 4 * (small * down(large)).sum())
    filter = torch.outer(*[torch.tensor([1, 3, 3, 1]).double() / 8] * 2).expand(3, 1, 4, 4)
    inside = F.conv2d(large, filter, stride=2, padding=1, groups=3)[:, :, 1:-1, 1:-1]
    torch.testing.assert_close(down(large)[:, :, 1:-1, 1:-1], inside)


def test_resampling_keeps_constant_maps_up_to_the_border():
    for smaller in (1, 2, 7):
        constant = torch.tensor([[2.0, -3.0]])[:, :, None, None]
        small, large = (constant.expand(1, 2, side, side) for side in (smaller, 2 * smaller))
        assert torch.equal(Resample(smaller, up=True)(small), large)
        assert torch.equal(Resample(smaller, up=False)(large), small)


@pytest.mark.parametrize("up", [True, False])
def test_buffers_can_be_broadcast_between_gpus(up):
    assert Resample(7, up=up).matrix.is_contiguous()


def test_parameters_are_counted_by_hand():
    def block(width, group):
        inner = 2 * width
        return width * inner + inner + group * 9 * inner + inner + inner * width

    network = norm_free("projection", generator_widths=(16, 12, 12), discriminator_widths=(4, 16, 24))
    generator, discriminator = pair_of(network, ImageShape(3, 28, 10))
    scales, pixels = (6 + 10) * 16, 12 * 3 + 3
    expected = scales + 16 * 7 * 7 + block(16, 16) + 16 * 12 + 2 * block(12, 12) + pixels
    assert parameter_count(generator) == expected
    of_blocks = block(4, 8) + block(16, 16) + block(24, 16)
    expected = 3 * 4 + of_blocks + 4 * 16 + 16 * 24 + 24 * 7 * 7 + 24 + 10 * 24
    assert parameter_count(discriminator) == expected
    rows = layer_table(generator, *inputs(ImageShape(3, 28, 10)))
    assert sum(row.parameters for row in rows) == parameter_count(generator)
    assert training_flops(config.Recipe(network=network), ImageShape(3, 28, 10)) > 0  # on the device without numbers


def test_spectral_norm_holds_for_every_layer_with_weights():
    network = norm_free("projection", discriminator_norm="spectral", generator_spectral=True)
    generator, discriminator = pair_of(network, ImageShape(1, 28, 10))
    noise, labels = inputs(ImageShape(1, 28, 10))
    logits = discriminator(generator(noise, labels), labels)
    assert logits.isfinite().all()
    weights = [layer.weight for layer in discriminator.modules() if isinstance(layer, (*WEIGHTED, nn.Embedding))]
    weights += [layer.maps for layer in discriminator.modules() if isinstance(layer, Basis)]
    assert len(weights) == 3 * 3 + 3 + 3  # in the blocks, between and before them, at the end
    weights += [layer.weight for layer in generator.modules() if isinstance(layer, WEIGHTED)]
    for weight in weights:
        assert 0.99 < torch.linalg.matrix_norm(weight.flatten(1), 2) < 1.2
    logits.sum().backward()
    for network in (generator, discriminator):
        assert all(parameter.grad.isfinite().all() for parameter in network.parameters())


@pytest.mark.parametrize("norm", ["none", "spectral"])
def test_a_penalty_on_the_gradient_reaches_every_weight_before_the_logit(norm):
    shape = ImageShape(1, 28, 10)
    _, discriminator = pair_of(norm_free("projection", discriminator_norm=norm), shape)
    real = torch.rand(4, 1, 28, 28, requires_grad=True)
    (gradient,) = torch.autograd.grad(discriminator(real, torch.arange(4)).sum(), real, create_graph=True)
    gradient.square().sum().backward()
    for name, parameter in discriminator.named_parameters():
        if "bias" not in name:  # biases only choose the sides of the leaky ReLUs, which have no curvature
            assert parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("conditioning", ["one-hot", "projection", "auxiliary"])
def test_both_networks_listen_to_the_label(conditioning):
    shape = ImageShape(1, 28, 10)
    generator, discriminator = pair_of(norm_free(conditioning), shape)
    noise, labels = inputs(shape)
    with torch.no_grad():
        images = generator(noise, labels)
        assert not torch.allclose(images, generator(noise, labels + 1))
        assert not torch.allclose(discriminator(images, labels), discriminator(images, labels + 1))


def test_images_do_not_sway_each_other():
    shape = ImageShape(1, 28, 10)
    generator, discriminator = (module.eval() for module in pair_of(norm_free("projection"), shape))
    noise, labels = inputs(shape)
    with torch.no_grad():
        images = generator(noise, labels)
        logits = discriminator(images, labels)
        for position in range(4):
            one = slice(position, position + 1)
            torch.testing.assert_close(generator(noise[one], labels[one]), images[one])
            torch.testing.assert_close(discriminator(images[one], labels[one]), logits[one])


@pytest.mark.parametrize("norm", ["none", "spectral"])
def test_bfloat16_and_channels_last_agree_with_float32(norm):
    shape = ImageShape(1, 28, 10)
    generator, discriminator = (
        module.eval() for module in pair_of(norm_free("projection", discriminator_norm=norm), shape)
    )
    noise, labels = inputs(shape)
    images = generator(noise, labels)
    logits = discriminator(images, labels)
    for module in (generator, discriminator):
        module.to(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half_images = generator(noise, labels)
        half_logits = discriminator(half_images, labels)
    assert half_logits.dtype == torch.float32
    torch.testing.assert_close(half_images.float(), images, atol=0.05, rtol=0)
    torch.testing.assert_close(half_logits, logits, atol=0.05, rtol=0.05)
    half_logits.sum().backward()
    assert all(p.grad is not None and p.dtype == p.grad.dtype == torch.float32 for p in generator.parameters())


def test_the_state_holds_parameters_only():
    generator, discriminator = pair_of(norm_free("projection"), ImageShape(1, 28, 10))
    for module in (generator, discriminator):
        assert set(module.state_dict()) == {name for name, _ in module.named_parameters()}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"generator_norm": "batch"}, "generator_norm = 'batch' has no meaning.*set it to 'none'$"),
        ({"discriminator_norm": "batch"}, "discriminator_norm = 'batch'.*set it to 'none' or 'spectral'$"),
        ({"init": "orthogonal"}, "init = 'orthogonal'.*initial weights of its own; set it to 'torch'$"),
        ({"dropout": 0.3}, "dropout = 0.3.*no dropout; set it to 0.0$"),
    ],
)
@pytest.mark.parametrize("build", [build_generator, build_discriminator])
def test_a_setting_without_a_part_for_it_is_a_sentence(build, change, message):
    with pytest.raises(UsageError, match=message):
        build(norm_free(**change), ImageShape(1, 28))


@pytest.mark.parametrize("size, remedy", [(28, "give 3 widths or fewer"), (27, "give 1 width, or")])
def test_a_side_that_cannot_be_halved_is_a_sentence(size, remedy):
    message = f"widths has 4 widths, but {size} pixels cannot be halved 3 times between them; {remedy}.*multiple of 8$"
    for build, key in ((build_generator, "generator_widths"), (build_discriminator, "discriminator_widths")):
        with pytest.raises(UsageError, match=message):
            build(norm_free(**{key: (8, 8, 8, 8)}), ImageShape(1, size))
