"""Layers that several families share: conditioning, normalisation, output, and their initial weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.utils.parametrize import register_parametrization

from modiste.config import Network
from modiste.errors import UsageError
from modiste.networks.convolution import Conv2d
from modiste.networks.double_backward import LeakyReLU, ReLU
from modiste.networks.dropout import Dropout

WEIGHTED = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


@dataclass(frozen=True)
class ImageShape:
    """What a network must know of the images: channels, side in pixels, number of classes (0 without labels)."""

    channels: int
    size: int
    classes: int = 0


class ConditionalBatchNorm(nn.Module):
    """Batch norm whose gain and bias depend on the class (de Vries et al. 2017, section 3).

    Works on [N, F] and [N, F, H, W]. Gain starts at 1 and bias at 0 for every class.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, features: int, classes: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.gain = nn.Parameter(torch.ones(classes, features))
        self.bias = nn.Parameter(torch.zeros(classes, features))
        self.register_buffer("running_mean", torch.zeros(features))
        self.register_buffer("running_var", torch.ones(features))

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        labels = require_labels(labels)
        normal = F.batch_norm(
            features, self.running_mean, self.running_var, None, None, self.training, self.momentum, self.eps
        )
        gain, bias = rows_at(self.gain, labels), rows_at(self.bias, labels)
        per_image = (*gain.shape, *[1] * (features.ndim - 2))  # [N, F] or [N, F, 1, 1]
        gain, bias = gain.view(per_image), bias.view(per_image)
        return torch.addcmul(bias.to(normal.dtype), normal, gain.to(normal.dtype))


class NoiseBatchNorm(nn.Module):
    """Batch norm whose gain and bias are linear in a vector of the image's own, as its noise beside its class.

    Self modulation (Chen et al. 2019, eq. 2), without a hidden layer. Of maps [N, F, H, W] and vectors [N, inputs];
    at first it is a plain batch norm.
    """

    def __init__(self, features: int, inputs: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(features)
        self.gain, self.bias = (nn.Parameter(torch.zeros(inputs, features)) for _ in range(2))

    def forward(self, maps: Tensor, vectors: Tensor) -> Tensor:
        normal = self.norm(maps)
        gain, bias = 1 + vectors @ self.gain, vectors @ self.bias
        return torch.addcmul(bias[:, :, None, None].to(normal.dtype), normal, gain[:, :, None, None].to(normal.dtype))


class ClassNoise(nn.Module):
    """Noise [N, Z] times a matrix [Z, Z] of its class, which starts as the identity.

    A label beside the noise shifts all images of its class alike, so that the variation within a class comes from
    directions that all classes share; with a matrix each class has directions of its own.
    """

    def __init__(self, z_dim: int, classes: int) -> None:
        super().__init__()
        unit = torch.zeros(z_dim, z_dim).fill_diagonal_(1)  # on the meta device torch.eye loads PyTorch's compiler
        self.maps = nn.Parameter(unit.repeat(classes, 1, 1))

    def forward(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        return (rows_at(self.maps, require_labels(labels)) @ noise[:, :, None])[:, :, 0]


class Stack(nn.Sequential):
    """Layers in order; conditional batch norms also get the labels, and those by noise the images' vectors."""

    def forward(self, input: Tensor, labels: Tensor | None = None, vectors: Tensor | None = None) -> Tensor:
        for layer in self:
            if isinstance(layer, ConditionalBatchNorm):
                input = layer(input, labels)
            else:
                input = layer(input, vectors) if isinstance(layer, NoiseBatchNorm) else layer(input)
        return input


class ProjectionHead(nn.Module):
    """The logit plus the label's term <embed(y), sum over positions of h> (Miyato & Koyama 2018, figure 1d).

    The embedding starts small whatever `network.init` says: with unit normal entries the sum over positions
    would give first logits in the tens. Spectral norm, where there is one, brings its largest singular value to 1.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(classes, features)
        nn.init.normal_(self.embed.weight, 0.0, 0.02)

    def forward(self, logits: Tensor, features: Tensor, labels: Tensor | None) -> Tensor:
        """[N] from logits [N], feature maps [N, F, H, W] and labels [N]."""
        terms: Tensor = (self.embed(require_labels(labels)) * features.sum((2, 3))).sum(1)
        return logits + terms


class AuxiliaryHead(nn.Module):
    """The logit beside log p(y | x) of a linear classifier on the mean of h over positions (Odena et al. 2017)."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        self.classify = nn.Linear(features, classes)

    def forward(self, logits: Tensor, features: Tensor, labels: Tensor | None) -> Tensor:
        """[N, 2] from logits [N], feature maps [N, F, H, W] and labels [N]."""
        scores = F.log_softmax(self.classify(features.mean((2, 3))).float(), dim=1)
        return torch.stack([logits, scores.gather(1, require_labels(labels)[:, None])[:, 0].to(logits.dtype)], dim=1)


def logit_alone(logits: Tensor, features: Tensor, labels: Tensor | None) -> Tensor:
    """The unchanged logit, for discriminators that get the label at their input or not at all."""
    return logits


def class_head(network: Network, features: int, classes: int) -> Callable[[Tensor, Tensor, Tensor | None], Tensor]:
    """The last layer of a discriminator, which uses the label: head(logits [N], features [N, F, H, W], labels)."""
    if network.conditioning == "projection":
        return ProjectionHead(features, classes)
    return AuxiliaryHead(features, classes) if network.conditioning == "auxiliary" else logit_alone


def pooled_logits(features: Tensor, layer: nn.Linear) -> Tensor:
    """Logits [N]: a linear layer on the sum over positions of features [N, F, H, W] in float32.

    The product is written out, since autocast would round sums and logits to three digits in nn.Linear.
    """
    logits = (features.sum((2, 3)) * layer.weight).sum(1)
    return logits if layer.bias is None else logits + layer.bias


class SelfAttention(nn.Module):
    """gamma o + x, where o at one position mixes values of all positions (Zhang et al. 2019, equations 1 to 3).

    As in its authors' code, keys and values are pooled to the maxima of 2 x 2 positions, and values have half of the
    channels. Gamma starts at 0, so that the layer starts as the identity. The products are written out, since the
    kernels for fused attention cannot be differentiated twice, which gradient penalties need.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        narrow, half = max(features // 8, 1), max(features // 2, 1)
        self.queries = Conv2d(features, narrow, 1, bias=False)
        self.keys = Conv2d(features, narrow, 1, bias=False)
        self.values = Conv2d(features, half, 1, bias=False)
        self.output = Conv2d(half, features, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))  # without dimensions, or it would bring bfloat16 maps to float32

    def forward(self, features: Tensor) -> Tensor:
        queries = self.queries(features).flatten(2)  # [N, C / 8, H W]
        keys = F.max_pool2d(self.keys(features), 2, ceil_mode=True).flatten(2)  # [N, C / 8, H W / 4]
        values = F.max_pool2d(self.values(features), 2, ceil_mode=True).flatten(2)  # [N, C / 2, H W / 4]
        shares = torch.softmax(queries.transpose(1, 2) @ keys, dim=2)  # [N, H W, H W / 4]
        mixed = (shares @ values.transpose(1, 2)).transpose(1, 2)  # [N, C / 2, H W]
        # No count of images is named, which an export would freeze.
        mixed = mixed.unflatten(2, features.shape[2:])  # type: ignore[no-untyped-call]
        result: Tensor = features + self.gamma * self.output(mixed)
        return result


class Resample(nn.Module):
    """Bilinear maps of twice the side ([1, 3, 3, 1] / 4 along rows and columns), or the transpose of that, over 4.

    With U [2s, s], which doubles a row of `smaller` = s pixels and repeats the border, doubling is U x U^T and halving
    U^T x U / 4; both keep a constant map as it is. Matrix products, though most of U is zero: on a processor they take
    as long as PyTorch's bilinear kernel for doubling and a ninth of three mean poolings for halving, they can be
    differentiated twice, and their gradients on a GPU are the same every time.
    """

    matrix: Tensor

    def __init__(self, smaller: int, *, up: bool) -> None:
        super().__init__()
        doubled = F.interpolate(torch.eye(smaller)[None], scale_factor=2, mode="linear")[0].T  # U
        matrix = doubled if up else doubled.T / 2
        self.register_buffer("matrix", matrix.contiguous(), persistent=False)  # NCCL broadcasts no views

    def forward(self, maps: Tensor) -> Tensor:
        _, channels, side, _ = maps.shape
        new = len(self.matrix)
        rows = self.matrix @ maps.permute(0, 2, 3, 1).flatten(2)  # [N, side', side C]
        pixels = self.matrix @ rows.reshape(-1, side, channels)  # [N side', side', C]
        return pixels.reshape(-1, new, new, channels).permute(0, 3, 1, 2)  # N stays free in an ONNX model


class ScaledSigmoid(nn.Sigmoid):
    """2 sigmoid(x) - 1: a sigmoid with the range of tanh, [-1, 1]."""

    def forward(self, input: Tensor) -> Tensor:
        return 2 * super().forward(input) - 1


def require_labels(labels: Tensor | None) -> Tensor:
    """The labels; UsageError where a conditional network is called without them."""
    if labels is None:
        raise UsageError("this network is conditional and was called without labels; give one class per image")
    return labels


def rows_at(table: Tensor, labels: Tensor) -> Tensor:
    """The rows [N, ...] of a table of parameters [classes, ...] at the labels [N], or their mixture (see `one_hot`).

    Not `table[labels]`, whose gradient several threads sum up in no fixed order, so that two equal trainings differ.
    """
    if labels.is_floating_point():
        return (labels @ table.flatten(1)).view(-1, *table.shape[1:])
    return F.embedding(labels, table.flatten(1)).view(-1, *table.shape[1:])


def one_hot(labels: Tensor | None, classes: int, like: Tensor) -> Tensor:
    """[N, classes] of zeros and ones in `like`'s dtype; labels that are weights of the classes [N, classes] stay so."""
    labels = require_labels(labels)
    if labels.is_floating_point():
        return labels.to(like.dtype)
    # A comparison, since F.one_hot checks the range of its input and makes a GPU wait for the answer.
    numbers = torch.arange(classes, device=like.device)
    return (labels[:, None] == numbers).to(like.dtype)


def join_vector(noise: Tensor, labels: Tensor | None, classes: int) -> Tensor:
    """[N, Z + classes]: noise beside one-hot labels (Mirza & Osindero 2014), or just noise for classes 0."""
    return torch.cat([noise, one_hot(labels, classes, noise)], dim=1) if classes else noise


def join_scaled(noise: Tensor, labels: Tensor | None, classes: int) -> Tensor:
    """[N, Z + classes]: noise beside one-hot labels times the root of the number of classes; just noise for classes 0.

    The label's part is then as long as so many numbers of noise, so that it counts from the start.
    """
    if not classes:
        return noise
    return torch.cat([noise, math.sqrt(classes) * one_hot(labels, classes, noise)], dim=1)


def join_maps(images: Tensor, labels: Tensor | None, classes: int) -> Tensor:
    """[N, C + classes, H, W]: the images beside one constant map per class; as they are for classes 0."""
    if not classes:
        return images
    maps = one_hot(labels, classes, images)[:, :, None, None].expand(-1, -1, *images.shape[2:])
    return torch.cat([images, maps], dim=1)


def joined_to_noise(network: Network, classes: int) -> int:
    """The number of one-hot inputs beside a generator's noise; projection uses conditional batch norm instead."""
    return classes if network.conditioning in ("one-hot", "auxiliary") else 0


def joined_to_image(network: Network, classes: int) -> int:
    """The number of one-hot maps beside a discriminator's image."""
    return classes if network.conditioning == "one-hot" else 0


def generator_norm(
    network: Network,
    features: int,
    classes: int,
    *,
    flat: bool = False,
    eps: float = 1e-5,
    momentum: float = 0.1,
) -> list[nn.Module]:
    """The generator's normalisation, one layer or none; `flat` for features [N, F] without positions."""
    if network.generator_norm == "none":
        if network.conditioning == "projection":
            raise UsageError(
                "network.conditioning = 'projection' reaches the generator through its batch norm, and "
                "network.generator_norm is 'none'; set it to 'batch' or choose conditioning 'one-hot'"
            )
        return []
    if network.conditioning == "projection":
        return [ConditionalBatchNorm(features, classes, eps, momentum)]
    return [(nn.BatchNorm1d if flat else nn.BatchNorm2d)(features, eps, momentum)]


def rectifier(slope: float, inplace: bool = False) -> nn.Module:
    """ReLU, leaky with this slope for negative inputs; in place where nothing else needs them."""
    return LeakyReLU(slope, inplace) if slope else ReLU(inplace)


def discriminator_activation(
    network: Network,
    features: int,
    *,
    norm: bool = True,
    inplace: bool = True,
    eps: float = 1e-5,
    momentum: float = 0.1,
) -> list[nn.Module]:
    """Batch norm, if the discriminator has it and `norm` is set, the rectifier, and dropout, if any.

    `inplace` lets the rectifier overwrite what it is given, which no other layer may need.
    """
    layers: list[nn.Module] = []
    if norm and network.discriminator_norm == "batch":
        layers.append(nn.BatchNorm2d(features, eps, momentum))
    layers.append(rectifier(network.leaky_slope, inplace))
    return [*layers, Dropout(network.dropout)] if network.dropout else layers


def output_activation(network: Network) -> nn.Module:
    """The generator's last layer; its values lie in [-1, 1]."""
    return nn.Tanh() if network.output == "tanh" else ScaledSigmoid()


def initialise(module: nn.Module, init: str) -> None:
    """Draw the initial weights in place; every choice but torch's own default also sets biases to zero.

    normal: deviation 0.02, batch-norm gains around 1 (Radford et al. 2016, section 4); glorot: uniform
    (Glorot & Bengio 2010, eq. 16), Keras' default; orthogonal: Saxe et al. 2014.
    """
    without_numbers = any(weight.is_meta for weight in module.parameters())  # there it takes a second, for nothing
    if init == "torch" or without_numbers:
        return
    for layer in module.modules():
        if isinstance(layer, WEIGHTED):
            if init == "normal":
                nn.init.normal_(layer.weight, 0.0, 0.02)
            elif init == "glorot":
                nn.init.xavier_uniform_(layer.weight)
            else:
                nn.init.orthogonal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif init == "normal" and isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.normal_(layer.weight, 1.0, 0.02)


class SpectralNorm(nn.Module):
    """A weight divided by its largest singular value, as matrix [outputs, rest] (Miyato et al. 2018, eq. 8).

    One power iteration (their algorithm 1) per use in training mode, none in evaluation mode; both vectors are
    buffers and travel with the state. Torch's own version multiplies in half precision under autocast, and some
    releases fail there (pytorch issue 125544); this one is float32 throughout.
    """

    u: Tensor
    v: Tensor

    def __init__(self, weight: Tensor, transposed: bool = False) -> None:
        super().__init__()
        self.transposed = transposed  # a transposed convolution's weight has its outputs second
        matrix = self.matrix(weight.detach())
        self.register_buffer("u", F.normalize(torch.randn(len(matrix)), dim=0))
        self.register_buffer("v", F.normalize(torch.randn(matrix.shape[1]), dim=0))
        for _ in range(0 if matrix.is_meta else 15):  # the first steps should not be taken with a wrong norm
            self.iterate(matrix)

    def matrix(self, weight: Tensor) -> Tensor:
        """The weight as [outputs, rest]."""
        return (weight.transpose(0, 1) if self.transposed else weight).flatten(1)

    def iterate(self, matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """One step of the power method: the new u and v, which the buffers get too, and the singular value u . W v."""
        v = torch.mv(matrix.T, self.u)
        v /= torch.linalg.vector_norm(v)
        u = torch.mv(matrix, v)
        value = torch.linalg.vector_norm(u)
        u /= value
        self.u.copy_(u)
        self.v.copy_(v)
        return u, v, value

    def forward(self, weight: Tensor) -> Tensor:
        # The meta device, on which costs are counted, knows no autocast.
        with nullcontext() if weight.device.type == "meta" else torch.autocast(weight.device.type, enabled=False):
            if not self.training:  # a moving average of unit vectors is a little short
                u, v = F.normalize(self.u, dim=0), F.normalize(self.v, dim=0)
                return weight / torch.dot(u, self.matrix(weight) @ v)
            u, v, value = self.iterate(self.matrix(weight.detach()))
            if torch.compiler.is_compiling():
                return weight / torch.dot(u, self.matrix(weight) @ v)
            divided: Tensor = _Divided.apply(weight, u, v, value, self.transposed)  # type: ignore[no-untyped-call]
            return divided


class _Divided(torch.autograd.Function):
    """A weight divided by s = u . W v; the gradient is (G - <G, W / s> u v^T) / s, a third of autograd's operations."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, u: Tensor, v: Tensor, value: Tensor, transposed: bool) -> Tensor:
        result = weight / value
        ctx.save_for_backward(result, u, v, value)
        ctx.transposed = transposed
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        result, u, v, value = ctx.saved_tensors
        by_value = (gradient * result).sum()
        slope = torch.outer(u, v)
        shape = result.transpose(0, 1).shape if ctx.transposed else result.shape
        slope = slope.view(shape).transpose(0, 1) if ctx.transposed else slope.view(shape)
        by_weight = torch.addcmul(gradient, slope, by_value, value=-1).div_(value)
        return by_weight, None, None, None, None


def normalise_spectrally(module: nn.Module) -> None:
    """Put spectral norm on every convolution, dense layer and embedding in place; to be called after `initialise`."""
    for layer in list(module.modules()):
        if isinstance(layer, (*WEIGHTED, nn.Embedding)):
            transposed = isinstance(layer, nn.ConvTranspose2d)
            register_parametrization(layer, "weight", SpectralNorm(layer.weight, transposed))
