from __future__ import annotations

from modiste.training.diagnostics import PATIENCE_TICKS, Sign, diagnose


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
