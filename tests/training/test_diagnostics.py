from __future__ import annotations

import pytest

from modiste.training.diagnostics import PATIENCE_TICKS, STALLED_EVALUATIONS, Sign, diagnose


def ticks(*groups: tuple[int, dict[str, float]]) -> list[dict[str, float]]:
    """A log with so many ticks of each kind, which differ from a healthy tick in these entries."""
    healthy = {"d_accuracy_real": 0.7, "d_accuracy_fake": 0.7, "gradient_norm_g": 1.0}
    log = [{**healthy, **entries} for count, entries in groups for _ in range(count)]
    return [{**record, "images": 10 * (number + 1)} for number, record in enumerate(log)]


WON = {"d_accuracy_real": 1.0, "d_accuracy_fake": 0.999}


def test_a_healthy_training_shows_no_signs() -> None:
    assert diagnose(ticks((20, {}))) == []
    assert diagnose(ticks(*[(1, WON), (1, {})] * 10)) == []


def test_a_saturated_discriminator_is_named_once() -> None:
    assert diagnose(ticks((3, {}), (10, WON), (3, {}), (10, WON))) == [Sign("saturated", 80, 0.999)]
    assert diagnose(ticks((PATIENCE_TICKS - 1, WON))) == []
    assert "may have won" in str(Sign("saturated", 80, 0.999))


def test_a_vanishing_gradient_is_named_once() -> None:
    signs = diagnose(ticks((3, {"gradient_norm_g": 2.0}), (10, {"gradient_norm_g": 1e-3})))
    assert signs == [Sign("vanishing", 80, 5e-4)] and "has vanished" in str(signs[0])


def test_a_discriminator_that_knows_its_training_images_is_named_once() -> None:
    learned = {"d_accuracy_train": 0.9, "d_accuracy_heldout": 0.5}
    (sign,) = diagnose(ticks((3, {}), (1, {"d_accuracy_train": 0.6, "d_accuracy_heldout": 0.5}), (4, learned)))
    assert (sign.kind, sign.images, sign.value) == ("overfitting", 50, pytest.approx(0.4))
    assert "right 40% more often than on held-out ones. augment.policy=auto" in str(sign)
    (sign,) = diagnose(ticks((1, {**learned, "augment_probability": 0.0})))
    assert "augment.policy is at work against it" in str(sign)


def scores(*values: float, **entries: float) -> list[dict[str, float]]:
    return ticks(*[(1, {"frechet_any_2k_heldout": value, **entries}) for value in values])


def test_a_risen_distance_to_held_out_images_is_named() -> None:
    assert diagnose(scores(3.0, 2.0, 2.4, 2.1, 2.4)) == []  # never twice in a row
    (sign,) = diagnose(scores(3.0, 2.0, 2.4, 2.5, 2.6))
    assert (sign.kind, sign.images, sign.value, sign.best) == ("rising", 40, 1.25, 20)
    assert "1.25 times that after 20 images" in str(sign) and "augment.policy=auto, a shorter training" in str(sign)
    (sign,) = diagnose(scores(3.0, 2.0, 2.4, 2.5, 2.6, augment_probability=0.1))
    assert "augment.policy is at work against it" in str(sign)
    (sign,) = diagnose(scores(3.0, 2.0, 2.4, 2.5, 2.6, augment_probability=0.0))
    assert "augment" not in str(sign) and "A shorter training or more images usually help" in str(sign)


def test_a_training_without_a_gain_is_named() -> None:
    (sign,) = diagnose(scores(2.0, *[2.1] * STALLED_EVALUATIONS))
    assert (sign.kind, sign.value, sign.best) == ("stalled", STALLED_EVALUATIONS, 10) and "--patience" in str(sign)
    assert diagnose(scores(*[2.1] * STALLED_EVALUATIONS)) == []


def test_a_class_without_variety_is_named() -> None:
    assert diagnose(scores(2.0, 1.9, variety=0.6, variety_class=3)) == []
    (sign,) = diagnose(scores(2.0, 1.9, 1.8, variety=0.4, variety_class=3))
    assert (sign.kind, sign.images, sign.of_class) == ("uniform", 20, 3)
    assert "images of class 3 are too alike: they vary 40% as much" in str(sign)
    (sign,) = diagnose(scores(2.0, 1.9, variety=0.4))
    assert str(sign).startswith("images are too alike")
