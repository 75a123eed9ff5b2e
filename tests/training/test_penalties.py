import pytest
import torch

from modiste import config
from modiste.errors import UsageError
from modiste.training import diffaugment
from modiste.training.penalties import (
    around,
    balanced_consistency,
    between,
    consistency,
    make_penalty,
    one_centred,
    zero_centred,
)


def linear(weight):
    return lambda images, labels: (images * weight).sum((1, 2, 3))


def test_r1_of_a_linear_discriminator_is_half_the_squared_weight():
    weight = torch.randn(1, 4, 4)
    penalty = zero_centred(lambda images, labels: (images * weight).sum((1, 2, 3)), torch.randn(5, 1, 4, 4), None)
    torch.testing.assert_close(penalty, (weight.square().sum() / 2).expand(5))


def test_r1_of_a_quadratic_discriminator_differs_by_image_and_label():
    images, labels = torch.randn(3, 2, 4, 4), torch.tensor([1, 2, 3])
    penalty = zero_centred(lambda x, y: y * x.square().sum((1, 2, 3)) / 2, images, labels)  # gradient y x
    torch.testing.assert_close(penalty, labels**2 * images.square().sum((1, 2, 3)) / 2)


def test_r1_reaches_the_weights_in_float32_under_autocast():
    layer = torch.nn.Linear(16, 1)
    seen = []

    def discriminator(images, labels):
        logits = layer(images.flatten(1)).flatten()
        seen.append(logits.dtype)
        return logits

    with torch.autocast("cpu", dtype=torch.bfloat16):
        penalty = zero_centred(discriminator, torch.randn(2, 1, 4, 4, dtype=torch.bfloat16), None)
    penalty.mean().backward()
    assert seen == [torch.float32] and penalty.dtype == torch.float32
    torch.testing.assert_close(layer.weight.grad, layer.weight.detach())  # d/dw of |w|^2 / 2


def test_one_centred_of_a_linear_discriminator():
    weight = torch.randn(1, 4, 4)
    penalty = one_centred(linear(weight), torch.randn(5, 1, 4, 4), None)
    torch.testing.assert_close(penalty, ((weight.norm() - 1) ** 2).expand(5))


def test_one_centred_at_no_slope_is_one_and_finite():
    weight = torch.zeros(1, 4, 4, requires_grad=True)
    penalty = one_centred(linear(weight), torch.randn(2, 1, 4, 4), None)
    penalty.sum().backward()
    torch.testing.assert_close(penalty.detach(), torch.ones(2), atol=1e-5, rtol=0)
    assert weight.grad.isfinite().all()


def test_penalties_look_at_the_games_logit_of_an_auxiliary_classifier():
    weight = torch.randn(1, 4, 4)
    both = lambda images, labels: torch.stack([linear(weight)(images, labels), 100 * images.sum((1, 2, 3))], 1)  # noqa: E731
    images = torch.randn(3, 1, 4, 4)
    torch.testing.assert_close(zero_centred(both, images, None), zero_centred(linear(weight), images, None))


def test_points_lie_between_and_around():
    torch.manual_seed(0)
    real, fake = torch.zeros(500, 1, 2, 2), torch.ones(500, 1, 2, 2)
    points = between(real, fake)
    assert torch.equal(points, points[:, :, :1, :1].expand_as(points))  # one place per image
    assert 0 <= points.min() < 0.05 and 0.95 < points.max() <= 1 and abs(points.mean() - 0.5) < 0.05
    spread = torch.randn(500, 1, 2, 2)
    moved = (around(spread) - spread) / spread.std()
    assert 0 <= moved.min() < 0.01 and 0.45 < moved.max() <= 0.5
    assert abs(moved.mean() - 0.125) < 0.02  # half of the way on average, to noise of a quarter on average


def test_consistency_is_the_difference_between_two_passes():
    passes = iter([torch.tensor([1.0, 2.0]), torch.tensor([1.5, -1.0])])
    torch.testing.assert_close(
        consistency(lambda *_: next(passes), torch.zeros(2, 1, 2, 2), None), torch.tensor([0.5, 3.0])
    )


def test_balanced_consistency_is_zero_where_nothing_changes_and_squared_where_it_does():
    images, weight = torch.randn(3, 1, 4, 4), torch.ones(1, 4, 4)
    logits = linear(weight)(images, None)
    same = balanced_consistency(linear(weight), lambda x: x, images, None, logits)
    torch.testing.assert_close(same, torch.zeros(3))
    shifted = balanced_consistency(linear(weight), lambda x: x + 0.5, images, None, logits)
    torch.testing.assert_close(shifted, torch.full((3,), 64.0))


def penalty_of(images=0, batch_size=4, **weights):
    torch.manual_seed(0)
    weight = torch.randn(1, 4, 4)
    real, fake = torch.randn(4, 1, 4, 4), torch.randn(4, 1, 4, 4)
    loss = config.Loss(**weights)
    discriminator = linear(weight)
    on_real, on_fake = discriminator(real, None), discriminator(fake, None)
    penalty = make_penalty(loss, discriminator, lambda x: x + 1, batch_size)(real, fake, None, on_real, on_fake, images)
    return penalty, weight.norm().item()


@pytest.mark.parametrize(
    "weights, expected",
    [
        ({}, lambda n: 0),
        ({"r1_gamma": 3.0}, lambda n: 1.5 * n**2),
        ({"r2_gamma": 3.0}, lambda n: 1.5 * n**2),
        ({"r1_gamma": 1.0, "r2_gamma": 1.0}, lambda n: n**2),
        ({"gradient_penalty_weight": 10.0}, lambda n: 10 * (n - 1) ** 2),
        ({"dragan_weight": 10.0}, lambda n: 10 * (n - 1) ** 2),
        ({"r1_gamma": 2.0, "penalty_every": 4}, lambda n: 4 * n**2),
    ],
)
def test_weights_and_their_sum(weights, expected):
    penalty, norm = penalty_of(**weights)
    assert penalty.shape == (4,)
    torch.testing.assert_close(penalty, torch.full((4,), float(expected(norm))))


def test_a_gradient_penalty_falls_due_at_every_so_many_updates():
    due = [
        penalty_of(images=4 * update, r1_gamma=1.0, penalty_every=3)[0].abs().sum().item() > 0 for update in range(7)
    ]
    assert due == [True, False, False, True, False, False, True]


def test_both_sides_of_balanced_consistency_count():
    penalty, _ = penalty_of(balanced_consistency_weight=1.0)
    torch.manual_seed(0)
    torch.testing.assert_close(penalty, (2 * torch.randn(1, 4, 4).sum() ** 2).expand(4), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "tree, word",
    [
        ({"loss": {"balanced_consistency_weight": 1.0}}, "augment.policy"),
        ({"loss": {"consistency_weight": 1.0}}, "network.dropout"),
        ({"loss": {"group_clip": 1.0}}, "network.conditioning"),
        (
            {"loss": {"balanced_consistency_weight": 1.0}, "augment": {"policy": ["cutout"], "probability": 0.0}},
            "augment.probability",
        ),
        ({"augment": {"adapt_target": 0.6}}, "augment.policy"),
        ({"loss": {"weight_clip": 0.01}, "network": {"discriminator_norm": "spectral"}}, "spectral norm"),
    ],
)
def test_a_term_without_what_it_needs_is_refused(tree, word):
    with pytest.raises(UsageError, match=word):
        config.build(tree, "here")


def test_bfloat16_fakes_do_not_reach_a_float32_network():
    layer = torch.nn.Conv2d(1, 2, 3)
    discriminator = lambda images, labels: layer(images).mean((1, 2, 3))  # noqa: E731
    loss = config.Loss(r1_gamma=1.0, r2_gamma=1.0, gradient_penalty_weight=1.0, balanced_consistency_weight=1.0)
    real, fake = torch.randn(2, 1, 8, 8), torch.randn(2, 1, 8, 8).bfloat16()
    augment = lambda images: diffaugment.augment(("translation", "cutout"), images)  # noqa: E731
    penalty = make_penalty(loss, discriminator, augment, 2)(real, fake, None, torch.zeros(2), torch.zeros(2), 0)
    penalty.mean().backward()
    assert penalty.dtype == torch.float32 and layer.weight.grad.isfinite().all()
