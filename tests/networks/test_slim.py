import pytest
import torch

from modiste import config
from modiste.config import Network
from modiste.errors import UsageError
from modiste.networks.build import build_discriminator, build_generator
from modiste.networks.layers import ConditionalBatchNorm, ImageShape, NoiseBatchNorm
from modiste.networks.summary import parameter_count, training_flops


def slim(conditioning="projection", norms=("batch", "spectral"), **changes):
    settings = {"generator_widths": (12, 8, 6), "discriminator_widths": (6, 8, 12), **changes}
    return Network(
        family="slim",
        z_dim=6,
        conditioning=conditioning,
        generator_norm=norms[0],
        discriminator_norm=norms[1],
        **settings,
    )


def outcome(network, shape, count=4):
    torch.manual_seed(0)
    generator, discriminator = build_generator(network, shape), build_discriminator(network, shape)
    labels = torch.arange(count) % shape.classes if shape.classes else None
    images = generator(torch.randn(count, 6), labels)
    return generator, discriminator, images, discriminator(images, labels)


@pytest.mark.parametrize("conditioning", ["none", "one-hot", "projection"])
@pytest.mark.parametrize("size", [28, 32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_sizes_channels_and_conditioning(conditioning, size, channels):
    shape = ImageShape(channels, size, 0 if conditioning == "none" else 10)
    generator, discriminator, images, logits = outcome(slim(conditioning), shape)
    assert images.shape == (4, channels, size, size) and images.abs().max() <= 1 and logits.shape == (4,)
    logits.sum().backward()
    for name, parameter in [*generator.named_parameters(), *discriminator.named_parameters()]:
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("norms", [("batch", "batch"), ("none", "none"), ("none", "spectral")])
@pytest.mark.parametrize("widths", [(8,), (8, 6), (8, 8, 6, 4)])
def test_norms_and_numbers_of_widths(norms, widths):
    network = slim("one-hot", norms, generator_widths=widths, discriminator_widths=widths, dropout=0.1)
    _, _, images, logits = outcome(network, ImageShape(1, 32, 3))
    assert images.shape == (4, 1, 32, 32) and logits.shape == (4,)


@pytest.mark.parametrize("conditioning", ["one-hot", "projection"])
def test_both_networks_listen_to_the_label(conditioning):
    generator, discriminator, images, _ = outcome(slim(conditioning), ImageShape(1, 28, 10))
    noise = torch.randn(4, 6)
    generator.eval(), discriminator.eval()
    with torch.no_grad():
        assert not torch.allclose(generator(noise, torch.zeros(4).long()), generator(noise, torch.ones(4).long()))
        of_zero, of_one = (discriminator(images, torch.full((4,), label)) for label in (0, 1))
    assert not torch.allclose(of_zero, of_one)


def test_images_do_not_sway_each_others_logits():
    # The trainer judges real and generated images in one pass; only a network without batch statistics allows it.
    _, discriminator, images, _ = outcome(slim(), ImageShape(1, 28, 10))
    discriminator.eval()
    labels = torch.arange(4)
    with torch.no_grad():
        together = discriminator(images, labels)
        alone = torch.cat(
            [discriminator(image[None], label[None]) for image, label in zip(images, labels, strict=True)]
        )
    torch.testing.assert_close(together, alone)


def test_logits_are_summed_in_full_precision():
    _, discriminator, images, _ = outcome(slim(), ImageShape(1, 28, 10))
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert discriminator(images, torch.arange(4)).dtype == torch.float32


def test_a_side_that_cannot_be_halved_is_a_sentence():
    said = "generator_widths has 4 widths, but 28 pixels cannot be halved 3 times; give 1 or 2 or 3 of them"
    with pytest.raises(UsageError, match=said):
        build_generator(slim(generator_widths=(8, 8, 8, 8)), ImageShape(1, 28, 10))


def test_swift_is_small():
    recipe = config.load("swift")
    shape = ImageShape(1, 28, 10)
    generator = build_generator(recipe.network, shape)
    assert recipe.data.split == "fit" and recipe.network.conditioning == "projection"
    assert parameter_count(generator) < 1e6  # so that a trained one can be shipped
    assert training_flops(recipe, shape) < 1.2 * training_flops(config.load("diaz-a"), ImageShape(1, 32, 10))


def test_each_class_may_have_directions_of_its_own():
    """With identities it is the network without; then one class's matrix moves the images of this class alone."""
    plain, shape = slim(), ImageShape(1, 28, 10)
    torch.manual_seed(0)
    before = build_generator(plain, shape).eval()
    after = build_generator(slim(class_noise=True), shape).eval()
    missing = after.load_state_dict(before.state_dict(), strict=False).missing_keys
    assert missing == ["class_noise.maps"] and after.class_noise.maps.shape == (10, 6, 6)
    noise, labels = torch.randn(4, 6), torch.tensor([0, 3, 3, 9])
    with torch.no_grad():
        assert torch.equal(after(noise, labels), before(noise, labels))
        after.class_noise.maps[3] *= 2
        moved = (after(noise, labels) != before(noise, labels)).any(dim=(1, 2, 3))
    assert moved.tolist() == [False, True, True, False]
    after.train()(noise, labels).sum().backward()
    used = after.class_noise.maps.grad.abs().sum((1, 2)) > 0
    assert used.nonzero().flatten().tolist() == [0, 3, 9]


def test_the_last_batch_norm_may_have_gains_per_class():
    """Fresh it is the network without; then one class's gain moves the images of this class alone."""
    shape = ImageShape(1, 28, 10)
    torch.manual_seed(0)
    before = build_generator(slim(), shape).eval()
    torch.manual_seed(0)
    after = build_generator(slim(class_gains=True), shape).eval()
    norms = [layer for layer in after.layers if isinstance(layer, ConditionalBatchNorm)]
    assert len(norms) == 1 and norms[0].gain.shape[0] == 10
    assert not any(isinstance(layer, ConditionalBatchNorm) for layer in before.layers)
    noise, labels = torch.randn(4, 6), torch.tensor([0, 3, 3, 9])
    with torch.no_grad():
        torch.testing.assert_close(after(noise, labels), before(noise, labels))
        unmoved = after(noise, labels)
        norms[0].gain[3] *= 2
        moved = (after(noise, labels) != unmoved).any(dim=(1, 2, 3))
    assert moved.tolist() == [False, True, True, False]


def test_all_batch_norms_may_have_gains_by_noise_and_class():
    """Fresh it is the network without; then gains are 1 + W v and biases U v of v = noise beside the class."""
    shape = ImageShape(1, 28, 10)
    torch.manual_seed(0)
    before = build_generator(slim(), shape).eval()
    torch.manual_seed(0)
    after = build_generator(slim(noise_gains=True, class_gains=True), shape).eval()
    norms = [layer for layer in after.layers if isinstance(layer, NoiseBatchNorm)]
    assert len(norms) == 3 and not any(isinstance(layer, ConditionalBatchNorm) for layer in after.layers)
    assert norms[0].gain.shape == (6 + 10, norms[0].norm.num_features)
    noise, labels = torch.randn(4, 6), torch.tensor([0, 3, 3, 9])
    with torch.no_grad():
        torch.testing.assert_close(after(noise, labels), before(noise, labels))
        norms[2].gain.normal_(), norms[2].bias.normal_()
        maps, vectors = torch.randn(4, norms[2].norm.num_features, 5, 5), torch.randn(4, 16)
        gain, bias = (1 + vectors @ norms[2].gain)[:, :, None, None], (vectors @ norms[2].bias)[:, :, None, None]
        torch.testing.assert_close(norms[2](maps, vectors), norms[2].norm(maps) * gain + bias)
        assert not torch.equal(after(noise, labels), before(noise, labels))
    unlabelled = build_generator(slim("none", noise_gains=True), ImageShape(1, 28))
    assert unlabelled(torch.randn(2, 6)).shape == (2, 1, 28, 28)


def test_gains_by_noise_need_this_family_and_a_batch_norm():
    with pytest.raises(UsageError, match=r"network\.noise_gains has a meaning in the slim family only"):
        build_generator(slim(noise_gains=True).model_copy(update={"family": "dcgan"}), ImageShape(1, 28, 10))
    with pytest.raises(UsageError, match=r"network\.noise_gains are those of a batch norm.*'none'"):
        build_generator(slim(noise_gains=True, norms=("none", "spectral")), ImageShape(1, 28, 10))


def test_gains_per_class_need_this_family_and_a_batch_norm_and_are_left_out_without_labels():
    with pytest.raises(UsageError, match=r"network\.class_gains has a meaning in the slim family only"):
        build_generator(slim(class_gains=True).model_copy(update={"family": "dcgan"}), ImageShape(1, 28, 10))
    with pytest.raises(UsageError, match=r"network\.class_gains are those of a batch norm.*'none'"):
        build_generator(slim(class_gains=True, norms=("none", "spectral")), ImageShape(1, 28, 10))
    unlabelled = build_generator(slim("none", class_gains=True), ImageShape(1, 28))
    assert unlabelled(torch.randn(2, 6)).shape == (2, 1, 28, 28)


def test_noise_by_class_is_for_this_family_and_left_out_without_labels():
    with pytest.raises(UsageError, match=r"network\.class_noise has a meaning in the slim family only"):
        build_generator(slim(class_noise=True).model_copy(update={"family": "dcgan"}), ImageShape(1, 28, 10))
    unlabelled = build_generator(slim("none", class_noise=True), ImageShape(1, 28))
    assert unlabelled.class_noise is None and unlabelled(torch.randn(2, 6)).shape == (2, 1, 28, 28)


@pytest.mark.parametrize("widths", [(8,), (8, 6), (8, 8, 6, 4)])
@pytest.mark.parametrize("conditioning", ["none", "projection"])
def test_a_smooth_generator_treats_no_position_unlike_its_neighbours(conditioning, widths):
    """A constant map stays constant up to the border; learned kernels make a chequerboard of it."""
    shape = ImageShape(3, 32, 0 if conditioning == "none" else 2)
    for smooth in (True, False):
        network = slim(conditioning, generator_widths=widths, smooth=smooth)
        generator = build_generator(network, shape).eval()
        assert sorted(build_generator(network, shape).state_dict()) == sorted(generator.state_dict())
        with torch.no_grad():
            for name, parameter in generator.named_parameters():
                if name.startswith("dense"):  # the same numbers at every position
                    maps = parameter.view(widths[0], -1, *parameter.shape[1:])
                    maps.copy_(maps.mean(1, keepdim=True).expand_as(maps))
            images = generator(torch.randn(2, 6), torch.tensor([0, 1]) if shape.classes else None)
        middle = images[:, :, 12:20, 12:20]
        assert ((middle - middle.mean((2, 3), keepdim=True)).abs().max() < 1e-5) == smooth


def test_smooth_is_of_the_slim_family():
    with pytest.raises(UsageError, match=r"network\.smooth has a meaning in the slim family only"):
        build_generator(Network(family="dcgan", smooth=True), ImageShape(3, 32, 0))
