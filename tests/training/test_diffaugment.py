import pytest
import torch

from modiste.training.diffaugment import TRANSFORMATIONS, adapted, augment, color, cutout, flip, translation


def everyone(images):
    return torch.ones(len(images), dtype=torch.bool)


@pytest.mark.parametrize("name", TRANSFORMATIONS)
@pytest.mark.parametrize("channels, dtype", [(1, torch.float32), (3, torch.float32), (1, torch.bfloat16)])
def test_only_the_chosen_change_and_gradients_pass(name, channels, dtype):
    torch.manual_seed(0)
    images = (torch.rand(64, channels, 16, 16, dtype=dtype) * 2 - 1).requires_grad_(True)
    chosen = torch.arange(64) % 2 == 0
    changed = TRANSFORMATIONS[name](images, chosen)
    assert changed.shape == images.shape and changed.dtype == dtype
    assert torch.equal(changed[1::2], images[1::2])
    differing = (changed != images).flatten(1).any(1)[::2].float().mean()
    assert differing > (0.2 if name == "flip" else 0.9)
    changed.sum().backward()
    assert images.grad.isfinite().all() and images.grad.abs().sum() > 0


def test_translation_moves_by_up_to_an_eighth_and_brings_in_grey():
    torch.manual_seed(0)
    images = torch.full((400, 1, 16, 24), -1.0)
    images[:, :, 8, 12] = 1
    moved = translation(images, everyone(images))
    places = (moved == 1).nonzero()
    down, right = places[:, 2] - 8, places[:, 3] - 12
    assert len(places) == 400
    assert set(down.tolist()) == set(range(-2, 3)) and set(right.tolist()) == set(range(-3, 4))
    assert ((moved == 0).sum((1, 2, 3)) == 16 * 24 - (16 - down.abs()) * (24 - right.abs())).all()


def test_cutout_blanks_a_quarter_or_what_of_it_is_inside():
    torch.manual_seed(0)
    images = torch.ones(500, 1, 16, 16)
    blank = (cutout(images, everyone(images)) == 0).sum((1, 2, 3))
    assert blank.max() == 64 and blank.min() >= 16
    hit = (cutout(images, everyone(images)) == 0).float().mean((0, 1))
    assert hit.min() > 0.05  # no pixel is safe


def test_color_keeps_the_pattern_of_a_grey_image():
    images = torch.rand(8, 1, 6, 6)
    changed = color(images, everyone(images)).flatten(1)
    flat = images.flatten(1)
    slopes = (changed - changed.mean(1, keepdim=True)) / (flat - flat.mean(1, keepdim=True))
    torch.testing.assert_close(slopes, slopes[:, :1].expand_as(slopes), rtol=1e-3, atol=1e-3)
    assert (slopes > 0.49).all() and (slopes < 1.51).all()


def test_flip_exchanges_left_and_right_half_of_the_time():
    torch.manual_seed(0)
    images = torch.rand(400, 1, 4, 4)
    flipped = flip(images, everyone(images))
    same, mirrored = (flipped == images).flatten(1).all(1), (flipped == images.flip(3)).flatten(1).all(1)
    assert (same ^ mirrored).all() and 0.4 < mirrored.float().mean() < 0.6


def test_a_policy_with_probability_zero_or_one_and_the_same_seed():
    images = torch.rand(16, 1, 8, 8)
    policy = ("color", "translation", "cutout")
    assert torch.equal(augment(policy, images, 0.0), images)
    torch.manual_seed(3)
    first = augment(policy, images, torch.tensor(0.5))
    torch.manual_seed(3)
    assert torch.equal(first, augment(policy, images, 0.5)) and not torch.equal(first, images)
    assert torch.equal(augment((), images), images)


def test_the_probability_follows_overfitting_and_stays_within_bounds():
    half = torch.tensor(0.5)
    assert adapted(half, torch.tensor(0.9), 0.6, 0.01) == 0.51  # r = 0.8
    assert adapted(half, torch.tensor(0.7), 0.6, 0.01) == 0.49  # r = 0.4
    assert adapted(torch.tensor(0.0), torch.tensor(0.1), 0.6, 0.01) == 0
    assert adapted(torch.tensor(1.0), torch.tensor(1.0), 0.6, 0.01) == 1
