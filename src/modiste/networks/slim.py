"""Networks for short trainings on a processor, in which every unusual choice serves the images per second.

Nothing is convolved at full size, since maps of 28 x 28 pixels and more are limited by memory and not by arithmetic:
both networks work at half the image's side and below. The generator's last layer gives the four pixels under each
position (Shi et al. 2016, section 3.2), and the discriminator's first layer takes them as channels. All kernels are
3 x 3 at stride 1, whose bfloat16 kernels run two to three times as fast as 4 x 4 ones at stride 2 or transposed ones
(in float32 it is the other way round, see `DoublingConv2d`).

For 28 x 28 pixels and three widths the generator goes 7 -> 14 -> 14 -> image, the discriminator 14 -> 14 -> 7 -> 7.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from modiste.config import Network
from modiste.networks.convolution import Conv2d, DoublingConv2d
from modiste.networks.dcgan import side_after_halvings
from modiste.networks.layers import (
    AuxiliaryHead,
    ClassNoise,
    ConditionalBatchNorm,
    ImageShape,
    NoiseBatchNorm,
    Resample,
    Stack,
    class_head,
    discriminator_activation,
    initialise,
    join_maps,
    join_scaled,
    joined_to_image,
    normalise_spectrally,
    output_activation,
    pooled_logits,
    rectifier,
)


class FirstMaps(nn.Unflatten):
    """Maps from a dense layer's numbers, in training stored as NHWC, so that no later layer has to copy them."""

    def forward(self, input: Tensor) -> Tensor:
        maps = super().forward(input)
        return maps.contiguous(memory_format=torch.channels_last) if self.training else maps


class Generator(nn.Module):
    """A dense layer, one convolution per doubled side, one more at half the image's side, then the pixels.

    With `network.smooth` sides are doubled by bilinear resampling: no position of a map is treated unlike its
    neighbours, so no chequerboard can form. The last doubling comes before its rectifier, since the pixels' convolution
    could draw no edge from maps that are smooth.

    With any kind of conditioning the label enters beside the noise. Batch norm is the same for all classes, except the
    last one with `network.class_gains`: gains per class in all of them cost 7 % of the speed for no clear improvement.
    With `network.noise_gains` the gains of all of them follow noise and class.
    """

    def __init__(self, network: Network, shape: ImageShape) -> None:
        super().__init__()
        self.z_dim = network.z_dim
        first, *further = network.generator_widths
        start = remaining_side(shape.size, network.generator_widths, "generator_widths")
        self.classes = 0 if network.conditioning == "none" else shape.classes
        norm = network.generator_norm == "batch"
        self.class_noise = ClassNoise(network.z_dim, self.classes) if network.class_noise and self.classes else None
        by_class = network.class_gains and self.classes > 0
        self.dense = nn.Linear(network.z_dim + self.classes, first * start * start, bias=not norm)
        # Repeated positions and a convolution, since a sub-pixel one here is slower and has twice the weights.
        layers: list[nn.Module] = [FirstMaps(1, (first, start, start))]
        channels, side = first, start
        for position, width in enumerate([first, *further]):
            if 0 < position < len(further):
                if network.smooth:
                    layers += [Resample(side, up=True), Conv2d(channels, width, 3, padding=1, bias=not norm)]
                else:
                    layers.append(DoublingConv2d(channels, width, bias=not norm))
                side *= 2
            elif position:
                layers.append(Conv2d(channels, width, 3, padding=1, bias=not norm))
            if network.noise_gains:
                layers.append(NoiseBatchNorm(width, network.z_dim + self.classes))
            elif by_class and position == len(further):
                layers.append(ConditionalBatchNorm(width, self.classes))
            elif norm:
                layers.append(nn.BatchNorm2d(width))
            if network.smooth and position == len(further):
                layers.append(Resample(side, up=True))
            layers.append(rectifier(network.generator_slope, inplace=True))
            channels = width
        pixels: list[nn.Module]
        if network.smooth:
            pixels = [Conv2d(channels, shape.channels, 3, padding=1)]
        else:
            pixels = [Conv2d(channels, 4 * shape.channels, 3, padding=1), nn.PixelShuffle(2)]
        self.layers = Stack(*layers, *pixels, output_activation(network))
        initialise(self, network.init)

    def forward(self, noise: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.class_noise is not None:
            noise = self.class_noise(noise, labels)
        vectors = join_scaled(noise, labels, self.classes)
        images: Tensor = self.layers(self.dense(vectors), labels, vectors)
        return images


class Discriminator(nn.Module):
    """Convolutions and mean pooling from half the image's side down; the logit is of the sum over positions.

    The sum, not the mean: it lets the logits of a spectrally normalised network grow large enough to tell real from
    generated (Frechet distance 5.3 against 5.9 after 40,000 images). A feature for the deviation within the batch and
    5 x 5 kernels for the pixels were tried and left out.
    """

    def __init__(self, network: Network, shape: ImageShape) -> None:
        super().__init__()
        widths = network.discriminator_widths
        remaining_side(shape.size, widths, "discriminator_widths")
        self.joined = joined_to_image(network, shape.classes)
        norm = network.discriminator_norm == "batch"
        layers: list[nn.Module] = [nn.PixelUnshuffle(2)]
        channels = 4 * (shape.channels + self.joined)
        for position, width in enumerate([*widths, widths[-1]]):
            if 2 <= position < len(widths):
                layers.append(nn.AvgPool2d(2))
            layers.append(Conv2d(channels, width, 3, padding=1, bias=not (norm and position)))
            layers += discriminator_activation(network, width, norm=position > 0)
            channels = width
        self.layers = nn.Sequential(*layers)
        self.logit = nn.Linear(channels, 1)
        self.head = class_head(network, channels, shape.classes)
        initialise(self, network.init)
        if network.discriminator_norm == "spectral":
            normalise_spectrally(self)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        features = self.layers(join_maps(images, labels, self.joined)).float()
        sums = features.sum((2, 3), keepdim=True)
        maps = features if isinstance(self.head, AuxiliaryHead) else sums  # projection sums once more, over one place
        return self.head(pooled_logits(sums, self.logit), maps, labels)


def remaining_side(size: int, widths: tuple[int, ...], key: str) -> int:
    """The smallest map's side in pixels: one halving per width, but none for the last of several."""
    return side_after_halvings(size, widths, key, lambda count: max(1, count - 1))
