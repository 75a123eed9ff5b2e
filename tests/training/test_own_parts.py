"""What the user's own losses and networks return is checked before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import modiste
from modiste import config, parts
from modiste.config import Recipe
from modiste.errors import ModisteError, UsageError
from modiste.networks.layers import ImageShape
from modiste.training import losses, own_parts

SHAPE = ImageShape(1, 16, 0)
NETS = """
import torch
from torch import nn

class Pair:
    class Generator(nn.Module):
        def __init__(self, network, shape):
            super().__init__()
            self.linear = nn.Linear(network.z_dim, 256)
        def forward(self, noise, labels=None):
            images = torch.tanh(self.linear(noise)).view(-1, 1, 16, 16)
            return images

    class Discriminator(nn.Module):
        def __init__(self, network, shape):
            super().__init__()
            self.linear = nn.Linear(256, 1)
        def forward(self, images, labels=None):
            logits = self.linear(images.flatten(1)).flatten()
            return logits
"""


def with_loss(tiny: Recipe, folder: Path, source: str) -> Recipe:
    """The recipe with the loss `own` of that source, pinned."""
    (folder / "own.py").write_text(source, encoding="utf-8")
    return config.override(tiny, {"loss.adversarial": parts.pin(f"{folder / 'own.py'}:own")})


def with_nets(tiny: Recipe, folder: Path, source: str) -> Recipe:
    (folder / "nets.py").write_text(source, encoding="utf-8")
    changes = {"network.family": parts.pin(f"{folder / 'nets.py'}:Pair"), "network.conditioning": "none"}
    return config.override(tiny, changes)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "(r - f).mean(), -f",
            r"the discriminator's loss has the shape \[\] and not \[4\]; return one value per image",
        ),
        ("f - r, -f[:1]", r"the generator's loss has the shape \[1\]"),
        ("f - r, (f - f).log()", r"the generator's loss is not finite .* division, log or root of zero"),
        ("f - r, -f.detach()", r"the generator's loss does not change with the logits"),
        ("f - r, -r", r"the generator's loss does not change with the logits"),
        ("0 * r, -f", r"the discriminator's loss does not change with the logits"),
        ("f - r", r"the discriminator's loss has the shape \[\] and not"),
        ("3, -f", r"the discriminator's loss is int and no tensor"),
    ],
)
def test_a_loss_that_cannot_be_trained_with_is_refused(tiny: Recipe, tmp_path: Path, body: str, message: str) -> None:
    recipe = with_loss(tiny, tmp_path, f"def own(r, f):\n    return {body}\n")
    with pytest.raises(UsageError, match=rf"own\.py:own: {message}"):
        modiste.train(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (".view(-1, 1, 16, 16)", "", r"Generator's output has the shape \[4, 256\] and not \[4, 1, 16, 16\]"),
        ("torch.tanh", "8 * torch.cos", r"Generator's pixels reach \d.* must lie in \[-1, 1\]; end it with tanh"),
        ("return images", "return images.detach()", r"no finite gradient of the logits comes to Generator's weights"),
        ("return images", "return images / 0", r"Generator's output is not finite"),
        (".flatten()", "", r"Discriminator's output has the shape \[4, 1\] and not \[4\]; return one logit per image"),
        ("return logits", "return logits.round().detach()", r"no finite gradient of the logits comes to Generator"),
        ("return logits", "return logits.long()", r"Discriminator's output is torch.int64 and no tensor of floating"),
        ("class Discriminator", "class Critic", r"has no Discriminator\(network, shape\)"),
        (
            "self.linear = nn.Linear(256, 1)",
            "self.linear = nn.Linear(256, 1); self.twin = self.linear",
            r"Discriminator has one weight under two names",
        ),
        (
            "class Generator(nn.Module):",
            "Generator = dict\n    class Other(nn.Module):",
            r"nets\.py:Pair, called with \(network, shape\), fails: TypeError: dict expected at most 1 argument, got 2",
        ),
        ("class Generator(nn.Module)", "class Generator", r"nets\.py:Pair makes a Generator and no torch.nn.Module"),
    ],
)
def test_networks_that_cannot_be_trained_are_refused(
    tiny: Recipe, tmp_path: Path, old: str, new: str, message: str
) -> None:
    own_parts.check(with_nets(tiny, tmp_path, NETS), SHAPE)
    assert old in NETS
    recipe = with_nets(tiny, tmp_path, NETS.replace(old, new))
    with pytest.raises(ModisteError, match=message) as refused:
        own_parts.check(recipe, SHAPE)
    assert "nets.py" in str(refused.value)


def test_an_auxiliary_classifier_needs_two_columns(tiny: Recipe, tmp_path: Path) -> None:
    recipe = config.override(with_nets(tiny, tmp_path, NETS), {"network.conditioning": "auxiliary"})
    with pytest.raises(
        UsageError, match=r"Discriminator's output has the shape \[4\] and not \[4, 2\]; return a logit"
    ):
        own_parts.check(recipe, ImageShape(1, 16, 10))


def test_the_check_leaves_the_random_numbers_alone(tiny: Recipe, tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    own_parts.check(with_nets(tiny, tmp_path, NETS), SHAPE)
    assert torch.equal(torch.rand(4), expected)


def test_a_loss_may_be_an_adversarial_loss_with_its_boundary(tiny: Recipe, tmp_path: Path) -> None:
    source = """
from modiste.training.losses import AdversarialLoss
own = AdversarialLoss(lambda r, f: (r - 1) ** 2 + f**2, lambda r, f: (f - 1) ** 2, lambda r, f: r.new_full((), 0.5))
"""
    recipe = with_loss(tiny, tmp_path, source)
    own_parts.check(recipe, SHAPE)
    r, f = torch.tensor([0.7, 0.2]), torch.tensor([0.6, 0.1])
    assert losses.accuracies(losses.adversarial(recipe.loss), r, f).tolist() == [0.5, 0.5]
    recipe = with_loss(tiny, tmp_path, source.replace("r.new_full((), 0.5)", "r.new_zeros(2)"))
    with pytest.raises(UsageError, match=r"the boundary has the shape \[2\]; return a scalar or one per image"):
        own_parts.check(recipe, SHAPE)


def test_an_error_in_the_users_code_has_the_users_line(tiny: Recipe, tmp_path: Path) -> None:
    recipe = with_loss(tiny, tmp_path, "def own(r, f):\n    x = r\n    return x.nothing, f\n")
    with pytest.raises(parts.PartError) as failed:
        own_parts.check(recipe, SHAPE)
    reason = "AttributeError: 'Tensor' object has no attribute 'nothing'"
    assert str(failed.value) == f"own.py, line 3, in own (return x.nothing, f): {reason}; mend it and start again"
    with pytest.raises(parts.PartError, match=r"own\.py, line 2: SyntaxError: "):
        own_parts.check(with_loss(tiny, tmp_path, "def own(r, f):\n    return (\n"), SHAPE)
    with pytest.raises(
        parts.PartError, match=r"own\.py, line 1, in <module> \(import no_such_package\): ModuleNotFound"
    ):
        own_parts.check(with_loss(tiny, tmp_path, "import no_such_package\n"), SHAPE)
    with pytest.raises(UsageError, match=r"own\.py has no own; define it there"):
        own_parts.check(with_loss(tiny, tmp_path, "other = 1\n"), SHAPE)
    with pytest.raises(
        parts.PartError, match=r"^own\.py:own, called with \(r, f\), fails: TypeError: own\(\) takes 1 pos"
    ):
        own_parts.check(with_loss(tiny, tmp_path, "def own(r):\n    return r, r\n"), SHAPE)
    with pytest.raises(UsageError, match=r"own\.py:own is of type int and no loss"):
        own_parts.check(with_loss(tiny, tmp_path, "own = 1\n"), SHAPE)


def test_an_error_in_the_midst_of_a_training_has_the_users_line_too(tiny: Recipe, tmp_path: Path) -> None:
    source = "calls = []\n\ndef own(r, f):\n    calls.append(1)\n    return f - r, -f if len(calls) < 20 else -f.none\n"
    with pytest.raises(parts.PartError, match=r"^own\.py, line 5, in own \(.*\): AttributeError: .*'none'"):
        modiste.train(with_loss(tiny, tmp_path, source), tmp_path / "run")
    manifest = modiste.runs.open_run(tmp_path / "run").read_manifest()
    assert manifest.status == "failed" and (manifest.reason or "").startswith("own.py, line 5")
