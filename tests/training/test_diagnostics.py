from __future__ import annotations

from modiste.training import diagnostics


def record(real: float = 0.7, fake: float = 0.7, norm: float = 1.0) -> dict[str, float]:
    return {"d_accuracy_real": real, "d_accuracy_fake": fake, "gradient_norm_g": norm}


def said(records: list[dict[str, float]]) -> list[str]:
    return diagnostics.diagnose(records)


def test_a_healthy_training_is_left_in_peace() -> None:
    assert said([record()] * 20) == []
    assert said([record(1.0, 1.0), record()] * 10) == []


def test_a_saturated_discriminator_is_named_once() -> None:
    sentences = said([record()] * 3 + [record(1.0, 0.999)] * 10 + [record()] * 3 + [record(1.0, 1.0)] * 10)
    assert len(sentences) == 1 and "may have won" in sentences[0]
    assert len(said([record(1.0, 1.0)] * (diagnostics.PATIENCE_TICKS - 1))) == 0


def test_a_vanishing_gradient_is_named_once() -> None:
    sentences = said([record(norm=2.0)] * 3 + [record(norm=1e-3)] * 10)
    assert len(sentences) == 1 and "has vanished" in sentences[0]
