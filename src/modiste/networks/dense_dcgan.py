"""The DCGAN of Keras tutorials: a dense layer reshaped to a map, then 5 x 5 kernels with "same" padding.

For 28 x 28 pixels and generator widths (128, 128, 32) the dense layer makes a map of 128 x 7 x 7. Transposed
convolutions follow, one per further width and one to the image; the last two of them double the side. In the
discriminator each width halves it. Batch norm is Keras': epsilon 0.001 and momentum 0.99 (torch's 0.01).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from modiste.config import Network
from modiste.errors import UsageError
from modiste.networks.convolution import Conv2d, ConvTranspose2d
from modiste.networks.dcgan import side_after_halvings
from modiste.networks.layers import (
    ImageShape,
    Stack,
    class_head,
    discriminator_activation,
    generator_norm,
    initialise,
    join_maps,
    join_vector,
    joined_to_image,
    joined_to_noise,
    normalise_spectrally,
    output_activation,
    rectifier,
)

KERNEL = 5
KERAS_EPS, KERAS_MOMENTUM = 1e-3, 0.01


class SameConv2d(Conv2d):
    """A 5 x 5 convolution with TensorFlow's "same" padding: at stride 2 it is 1 before and 2 after."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        before, after = same_padding(stride)
        super().__init__(channels, width, KERNEL, stride, padding=before)
        self.more = after - before

    def forward(self, input: Tensor) -> Tensor:
        return self.convolve(input, self.more)


class SameConvTranspose2d(ConvTranspose2d):
    """The transpose of `SameConv2d`: the full result cropped, at stride 2, by 1 row and column before and 2 after."""

    def __init__(self, channels: int, width: int, stride: int, bias: bool) -> None:
        before, after = same_padding(stride)
        super().__init__(channels, width, KERNEL, stride, padding=before, bias=bias)
        self.surplus = after - before

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        return self.convolve(input, self.surplus)


class FlatLinear(nn.Sequential):
    """A linear layer on flattened maps, which takes maps stored as NHWC without a copy."""

    def forward(self, input: Tensor) -> Tensor:
        maps, layer = input.permute(0, 2, 3, 1), self[1]
        if not self.training or not maps.is_contiguous():
            result: Tensor = super().forward(input)  # type: ignore[no-untyped-call]
            return result
        assert isinstance(layer, nn.Linear)
        weight = layer.weight.view(-1, *input.shape[1:]).permute(0, 2, 3, 1).flatten(1)
        return F.linear(maps.flatten(1), weight, layer.bias)


def same_padding(stride: int) -> tuple[int, int]:
    """Pixels of padding before and after, for sides that the stride divides."""
    total = KERNEL - stride
    return total // 2, total - total // 2


class Generator(nn.Module):
    """Dense, reshape, transposed convolutions; no biases beside batch norm."""

    def __init__(self, network: Network, shape: ImageShape) -> None:
        super().__init__()
        self.z_dim = network.z_dim
        self.joined = joined_to_noise(network, shape.classes)
        first, *further = network.generator_widths
        strides = ([1] * len(further) + [2, 2])[-len(further) - 1 :]
        factor = 2 ** strides.count(2)
        side, rest = divmod(shape.size, factor)
        if rest:
            raise UsageError(
                f"the generator of network.family = 'dense-dcgan' doubles its map to {shape.size} pixels, "
                f"which is no multiple of {factor}; set data.resize to {factor * (side + 1)}"
            )
        bias = network.generator_norm == "none"

        def normalise_and_rectify(features: int, flat: bool = False) -> list[nn.Module]:
            norm = generator_norm(network, features, shape.classes, flat=flat, eps=KERAS_EPS, momentum=KERAS_MOMENTUM)
            return [*norm, rectifier(network.generator_slope, inplace=True)]

        features = first * side * side
        layers: list[nn.Module] = [nn.Linear(self.z_dim + self.joined, features, bias=bias)]
        layers += [*normalise_and_rectify(features, flat=True), nn.Unflatten(1, (first, side, side))]
        channels = first
        for width, stride in zip(further, strides, strict=False):
            layers += [SameConvTranspose2d(channels, width, stride, bias), *normalise_and_rectify(width)]
            channels = width
        layers += [
            SameConvTranspose2d(channels, shape.channels, strides[-1], bias),
            output_activation(network),
        ]
        self.layers = Stack(*layers)
        initialise(self, network.init)

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        images: Tensor = self.layers(join_vector(noise, labels, self.joined), labels)
        return images


class Discriminator(nn.Module):
    """Strided convolutions with biases, leaky ReLU and dropout, then one dense logit."""

    def __init__(self, network: Network, shape: ImageShape) -> None:
        super().__init__()
        self.joined = joined_to_image(network, shape.classes)
        side = side_after_halvings(shape.size, network.discriminator_widths, "discriminator_widths")
        channels = shape.channels + self.joined
        layers: list[nn.Module] = []
        for index, width in enumerate(network.discriminator_widths):
            layers.append(SameConv2d(channels, width, 2))
            layers += discriminator_activation(network, width, norm=index > 0, eps=KERAS_EPS, momentum=KERAS_MOMENTUM)
            channels = width
        self.layers = nn.Sequential(*layers)
        self.logit = FlatLinear(nn.Flatten(), nn.Linear(channels * side * side, 1))
        self.head = class_head(network, channels, shape.classes)
        initialise(self, network.init)
        if network.discriminator_norm == "spectral":
            normalise_spectrally(self)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        features = self.layers(join_maps(images, labels, self.joined))
        return self.head(self.logit(features).flatten(), features, labels)
