"""The discriminator as a feature extractor: what its features are, in every family, with and without classes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from modiste import parts
from modiste.config import Network
from modiste.data import toy
from modiste.data.images import tensor_of, to_unit
from modiste.errors import UsageError
from modiste.experiments import discriminator_features
from modiste.networks.build import build_discriminator
from modiste.networks.layers import ImageShape
from modiste.sampling.discriminators import TrainedDiscriminator

OWN = """from torch import nn

class Discriminator(nn.Module):
    def __init__(self, network, shape):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(shape.size**2, 4), nn.ReLU())
        self.last, self.embed = nn.Linear(4, 1), nn.Embedding(shape.classes, 1)

    def forward(self, images, labels):
        return (self.last(self.layers(images)) + self.embed(labels))[:, 0]

class Pair:
    Generator = Discriminator = Discriminator
"""


def discriminator(classes: int = 10, **settings: object) -> TrainedDiscriminator:
    widths = {"generator_widths": (8, 4), "discriminator_widths": (4, 8)}
    network, shape = Network(**{"z_dim": 8, **widths, **settings}), ImageShape(1, 16, classes)
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        return TrainedDiscriminator(build_discriminator(network, shape).eval(), network, shape, (), "a run")


@pytest.mark.parametrize(
    ("settings", "width"),
    [
        ({"family": "dcgan"}, 12),
        ({"family": "slim", "conditioning": "projection"}, 20),
        ({"family": "slim", "conditioning": "auxiliary"}, 20),
        ({"family": "dense-dcgan", "conditioning": "one-hot"}, 12),
        ({"family": "residual", "conditioning": "projection"}, 24),
    ],
)
def test_features_are_maxima_of_all_maps(settings: dict[str, object], width: int) -> None:
    pixels = toy.draw(70, 16, 0).pixels
    extractor = discriminator_features.extractor_of(discriminator(**settings))
    found = extractor.examine(pixels).vectors
    assert found.shape == (70, 16 * width) and found.dtype == np.float32 and found.std(0).max() > 0
    np.testing.assert_allclose(extractor.examine(pixels[60:]).vectors, found[60:], rtol=1e-4, atol=1e-5)


def test_the_first_features_by_hand() -> None:
    trained = discriminator(family="dcgan", discriminator_norm="none")
    pixels = toy.draw(3, 16, 0).pixels
    layers = trained.network.layers
    maps = layers[1](layers[0](to_unit(tensor_of(pixels))))
    expected = F.max_pool2d(maps, 2).flatten(1).detach().numpy()  # 8 x 8 to 4 x 4
    found = discriminator_features.extractor_of(trained).examine(pixels).vectors
    np.testing.assert_allclose(found[:, : 4 * 16], expected, rtol=1e-5, atol=1e-6)


def test_other_weights_have_another_fingerprint() -> None:
    one, same = discriminator(family="dcgan"), discriminator(family="dcgan")
    assert discriminator_features.extractor_of(one).fingerprint == discriminator_features.extractor_of(same).fingerprint
    with torch.no_grad():
        next(same.network.parameters()).add_(1)
    assert discriminator_features.extractor_of(one).fingerprint != discriminator_features.extractor_of(same).fingerprint


def test_a_network_without_rectifiers_is_refused() -> None:
    shape = ImageShape(1, 16, 0)
    linear = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(256, 1))
    with pytest.raises(UsageError, match="a run has no rectifiers"):
        discriminator_features.extractor_of(TrainedDiscriminator(linear, Network(), shape, (), "a run"))


def test_an_error_in_a_network_of_the_users_own_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(OWN, encoding="utf-8")
    trained = discriminator(family=parts.pin(f"{tmp_path}/nets.py:Pair"), conditioning="one-hot")
    extractor = discriminator_features.extractor_of(trained)
    with pytest.raises(parts.PartError, match=r"nets\.py, line 10, in forward \(.*embed\(labels\)"):
        extractor.examine(toy.draw(3, 16, 0).pixels)
