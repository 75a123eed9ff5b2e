"""Weights carried over to other classes and colours: what must stay the same does, in every family."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from modiste.config import Network
from modiste.networks import transfer
from modiste.networks.build import build_discriminator, build_generator
from modiste.networks.layers import ImageShape

NETWORKS = {
    "dcgan one-hot": Network(conditioning="one-hot", generator_widths=(8, 4), discriminator_widths=(4, 8)),
    "dcgan projection": Network(
        conditioning="projection", generator_widths=(8, 4), discriminator_widths=(4, 8), discriminator_norm="none"
    ),
    "slim": Network(
        family="slim", conditioning="projection", generator_widths=(8, 4, 4), discriminator_widths=(4, 4, 8),
        discriminator_norm="spectral", class_noise=True, class_gains=True,
    ),
    "slim, gains by noise": Network(
        family="slim", conditioning="projection", generator_widths=(8, 4, 4), discriminator_widths=(4, 4, 8),
        discriminator_norm="spectral", class_noise=True, noise_gains=True,
    ),
    "slim auxiliary": Network(
        family="slim", conditioning="auxiliary", generator_widths=(8, 4, 4), discriminator_widths=(4, 4, 8),
        discriminator_norm="none",
    ),
    "residual": Network(
        family="residual", conditioning="one-hot", generator_widths=(8, 4), discriminator_widths=(4, 4),
        discriminator_norm="spectral", attention=(8,),
    ),
    "norm-free": Network(
        family="norm-free", conditioning="one-hot", generator_widths=(8, 4), discriminator_widths=(4, 8),
        generator_norm="none", discriminator_norm="none",
    ),
    "dense-dcgan": Network(
        family="dense-dcgan", conditioning="one-hot", generator_widths=(8, 4), discriminator_widths=(4, 8),
        discriminator_norm="none",
    ),
}  # fmt: skip
GREY, COLOUR, FEWER = ImageShape(1, 16, 3), ImageShape(3, 16, 3), ImageShape(1, 16, 2)
SAME, SWAPPED = torch.eye(3), torch.tensor([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]])


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest) -> Network:
    return NETWORKS[request.param]


def pair(network: Network, shape: ImageShape, seed: int) -> tuple[nn.Module, nn.Module]:
    """Both networks as after some training: no two of their numbers are alike."""
    torch.manual_seed(seed)
    made = build_generator(network, shape), build_discriminator(network, shape)
    for module in made:
        for tensor in module.parameters():
            tensor.data += 0.1 * torch.randn_like(tensor)
        module.train()(*inputs(module, shape))
        if network.discriminator_norm == "spectral":
            for _ in range(30):  # until its vectors come to rest
                module(*inputs(module, shape))
    return made[0].eval(), made[1].eval()


def inputs(module: nn.Module, shape: ImageShape, count: int = 6) -> tuple[Tensor, Tensor | None]:
    random = torch.Generator().manual_seed(9)
    labels = torch.arange(count) % shape.classes if shape.classes else None
    if hasattr(module, "z_dim"):
        return torch.randn(count, int(module.z_dim), generator=random), labels  # type: ignore[call-overload]
    return torch.rand(count, shape.channels, 16, 16, generator=random) * 2 - 1, labels


def carried(network: Network, before: ImageShape, after: ImageShape, shares: Tensor, settings: Network | None = None):  # type: ignore[no-untyped-def]
    old, new = pair(network, before, 0), pair(settings or network, after, 1)
    transfer.copy_generator(new[0], old[0], before, after, shares, network.family)
    transfer.copy_discriminator(new[1], old[1], before, after, shares, network.family)
    return old, new


def test_the_same_classes_and_colours_are_the_same_network(network: Network) -> None:
    for old, new in zip(*carried(network, GREY, GREY, SAME), strict=True):
        kept = old.state_dict()
        assert all(torch.equal(tensor, kept[name]) for name, tensor in new.state_dict().items())


def test_classes_in_another_order_are_the_same_pictures_and_logits(network: Network) -> None:
    for old, new in zip(*carried(network, GREY, GREY, SWAPPED), strict=True):
        values, labels = inputs(old, GREY)
        assert labels is not None
        torch.testing.assert_close(new(values, (labels + 2) % 3), old(values, labels), atol=1e-4, rtol=1e-4)


def test_fewer_classes_make_the_same_pictures(network: Network) -> None:
    (old, _), (new, _) = carried(network, GREY, FEWER, SAME[:2])
    noise, labels = inputs(new, FEWER)
    torch.testing.assert_close(new(noise, labels), old(noise, labels), atol=1e-5, rtol=1e-5)


def test_grey_pictures_are_the_same_in_colours_and_have_the_same_logits(network: Network) -> None:
    (old, judge), (new, other) = carried(network, GREY, COLOUR, SAME)
    noise, labels = inputs(old, GREY)
    torch.testing.assert_close(new(noise, labels), old(noise, labels).expand(-1, 3, -1, -1), atol=1e-5, rtol=1e-5)
    images, labels = inputs(judge, GREY)
    torch.testing.assert_close(other(images.expand(-1, 3, -1, -1), labels), judge(images, labels), atol=1e-4, rtol=1e-4)


def test_without_classes_and_with_them_again(network: Network) -> None:
    plain, bare = network.model_copy(update={"conditioning": "none"}), ImageShape(1, 16)
    (old, _), (new, _) = carried(plain, bare, GREY, torch.ones(3, 0), network)
    noise, labels = inputs(new, GREY)
    torch.testing.assert_close(new(noise, labels), old(noise, None), atol=1e-5, rtol=1e-5)  # of every class
    _, (new, judge) = carried(network, GREY, bare, torch.ones(0, 3), plain)
    assert bool(new(noise, None).isfinite().all()) and judge(*inputs(judge, bare)).shape == (6,)
    alike = copy.deepcopy(pair(plain, bare, 1)[0])
    assert not torch.equal(alike(noise, None), new(noise, None))


@pytest.mark.parametrize("name", ["slim", "slim auxiliary"])
def test_wider_networks_begin_with_the_pictures_and_logits_of_narrow_ones(name: str) -> None:
    narrow = NETWORKS[name]
    wide = narrow.model_copy(update={"generator_widths": (12, 4, 8), "discriminator_widths": (6, 4, 16)})
    assert transfer.can_widen(narrow, wide) and not transfer.can_widen(wide, narrow)
    old, new = pair(narrow, GREY, 0), pair(wide, GREY, 1)
    for one, other in zip(new, old, strict=True):
        transfer.widen(one, other)
    (noise, labels), (images, _) = inputs(old[0], GREY), inputs(old[1], GREY)
    with torch.no_grad():
        assert torch.allclose(new[0](noise, labels), old[0](noise, labels), atol=1e-5)
        logits, before = new[1](images, labels), old[1](images, labels)
        assert torch.allclose(logits, before, rtol=0.05, atol=0.05 * float(before.std()))
    new[1](images, labels).sum().backward()  # nobody listens to new channels, and learns to at once
    gradient = dict(new[1].named_parameters())[transfer.weight_name("logit", new[1].logit)].grad  # type: ignore[arg-type]
    assert gradient is not None and bool(gradient[0, 8:].any())
