import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from modiste import config
from modiste.errors import UsageError
from modiste.training.losses import ADVERSARIAL, accuracies, adversarial, mean_of_all, mean_of_top

real = torch.linspace(-4, 5, 7, dtype=torch.float64)
fake = torch.linspace(3, -6, 7, dtype=torch.float64)


def cross_entropy(logits, target):
    return binary_cross_entropy_with_logits(logits, torch.full_like(logits, target), reduction="none")


@pytest.mark.parametrize("name", ["nonsaturating", "minimax"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_losses_match_torch(name, smoothing):
    loss = adversarial(config.Loss(adversarial=name, label_smoothing=smoothing))
    expected = cross_entropy(real, 1 - smoothing) + cross_entropy(fake, 0.0)
    torch.testing.assert_close(loss.discriminator(real, fake), expected)


def test_smoothing_leaves_the_generator_alone():
    smoothed = adversarial(config.Loss(label_smoothing=0.2))
    torch.testing.assert_close(smoothed.generator(real, fake), cross_entropy(fake, 1.0))


def test_smoothed_optimum_is_the_smoothed_target():
    logits = torch.zeros(1, requires_grad=True)
    loss = adversarial(config.Loss(label_smoothing=0.1))
    optimum = torch.log(torch.tensor([0.9 / 0.1]))
    loss.discriminator(optimum + logits, torch.zeros(1)).sum().backward()
    assert logits.grad.abs() < 1e-6


def test_minimax_is_a_zero_sum_game():
    logits = fake.clone().requires_grad_(True)
    (of_discriminator,) = torch.autograd.grad(ADVERSARIAL["minimax"].discriminator(real, logits).sum(), logits)
    (of_generator,) = torch.autograd.grad(ADVERSARIAL["minimax"].generator(logits, logits).sum(), logits)
    torch.testing.assert_close(of_generator, -of_discriminator)


@pytest.mark.parametrize(
    "name, r, f, of_discriminator, of_generator",
    [
        ("least-squares", 3.0, -1.0, 2.5, 2.0),
        ("least-squares", 1.0, 0.0, 0.0, 0.5),
        ("hinge", 2.0, -2.0, 0.0, 2.0),
        ("hinge", 0.25, 0.5, 2.25, -0.5),
        ("wasserstein", 3.0, -1.0, -4.0, 1.0),
    ],
)
def test_other_losses_by_hand(name, r, f, of_discriminator, of_generator):
    loss = adversarial(config.Loss(adversarial=name))
    assert loss.discriminator(torch.tensor([r]), torch.tensor([f])).item() == of_discriminator
    assert loss.generator(torch.tensor([r]), torch.tensor([f])).item() == of_generator


def test_the_relativistic_loss_compares_row_with_row():
    loss = ADVERSARIAL["relativistic"]
    r, f = torch.tensor([2.0, -1.0]), torch.tensor([0.5, 3.0])
    torch.testing.assert_close(loss.discriminator(r, f), torch.log1p(torch.exp(f - r)))
    torch.testing.assert_close(loss.generator(r, f), torch.log1p(torch.exp(r - f)))
    shifted = loss.discriminator(r + 100, f + 100)  # only differences count
    torch.testing.assert_close(shifted, loss.discriminator(r, f))


def test_the_boundary_of_an_accuracy_lies_between_the_targets():
    r, f = torch.tensor([3.0, 5.0]), torch.tensor([1.0, -1.0])
    boundaries = {name: loss.boundary(r, f).unique().item() for name, loss in ADVERSARIAL.items()}
    assert boundaries == {
        "nonsaturating": 0.0,
        "minimax": 0.0,
        "least-squares": 0.5,
        "hinge": 0.0,
        "wasserstein": 2.0,
        "relativistic": 2.0,
    }


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_terms_are_per_image_and_push_in_the_right_direction(name):
    loss = ADVERSARIAL[name]
    r, f = (torch.tensor([0.1, -0.2, 0.3]).requires_grad_(True) for _ in "rf")
    term = loss.discriminator(r, f)
    assert term.shape == loss.generator(r, f).shape == (3,)
    up, down = torch.autograd.grad(term.sum(), (r, f))
    assert (up < 0).all()  # a step against the gradient raises real logits
    assert (down[f > 0] > 0).all()  # and lowers fake ones
    (generator_up,) = torch.autograd.grad(loss.generator(r, f).sum(), f)
    assert (generator_up < 0).all()


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_extreme_logits_stay_finite(name):
    extreme = torch.tensor([-1e4, 1e4])
    assert ADVERSARIAL[name].discriminator(extreme, -extreme).isfinite().all()
    assert ADVERSARIAL[name].generator(extreme, -extreme).isfinite().all()


def test_smoothing_without_cross_entropy_is_refused():
    with pytest.raises(UsageError, match="label_smoothing"):
        config.build({"loss": {"adversarial": "hinge", "label_smoothing": 0.1}}, "here")


def test_an_auxiliary_classifier_adds_the_labels_log_probability():
    loss = adversarial(config.Loss(adversarial="hinge", class_weight=2.0), auxiliary=True)
    r, f = torch.tensor([[0.25, -0.5]]), torch.tensor([[0.5, -3.0]])
    assert loss.discriminator(r, f).item() == 2.25 + 2 * 3.5
    assert loss.generator(r, f).item() == -0.5 + 2 * 3
    assert loss.boundary(r, f).item() == 0


def test_a_loss_of_pairs_is_right_about_a_pair_wherever_the_logits_of_its_class_lie():
    far_apart = torch.tensor([0.0, 100.0, -50.0, 7.0])
    r, f = far_apart + torch.tensor([1.0, 1.0, 1.0, -1.0]), far_apart
    torch.testing.assert_close(accuracies(ADVERSARIAL["relativistic"], r, f), torch.tensor([0.75, 0.75]))
    assert accuracies(ADVERSARIAL["wasserstein"], r, f)[0] == 0.25  # one middle for all tells the classes instead


def test_accuracies_leave_the_class_column_aside():
    r, f = torch.tensor([1.0, -1.0, 2.0, 3.0]), torch.tensor([-1.0, 1.0, 1.0, 1.0])
    loss, with_classes = (adversarial(config.Loss(), auxiliary) for auxiliary in (False, True))
    expected = torch.tensor([0.75, 0.25])
    torch.testing.assert_close(accuracies(loss, r, f), expected)
    columns = torch.stack([r, -100 + r], dim=1), torch.stack([f, 100 + f], dim=1)
    torch.testing.assert_close(accuracies(with_classes, *columns), expected)


def test_top_k_keeps_the_images_rated_highest_and_comes_slowly():
    losses, logits = torch.tensor([1.0, 2.0, 4.0, 8.0]), torch.tensor([0.0, 3.0, -1.0, 2.0])
    means = [mean_of_top(0.5, 100, losses, logits, images).item() for images in (0, 50, 100, 1000)]
    assert means == pytest.approx([15 / 4, 11 / 3, 5, 5])  # of all, without the one rated lowest, the best two
    assert mean_of_top(0.1, 0, losses, logits, 0).item() == 2  # never fewer than one
    assert mean_of_all(losses, logits, 0).item() == 15 / 4
