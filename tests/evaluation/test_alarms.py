"""Alarms: which scores raise them, and how they read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from handmade_records import record, score

from modiste.evaluation import alarms
from modiste.evaluation.alarms import Alarm

DUPLICATES, BALANCE = "near_duplicates_pixels_10k", "class_balance_tv_garment_10k"
AUTHENTICITY, COPYING = "authenticity_garment_10k", "data_copying_garment_10k"
AGREEMENT = "label_agreement_garment_10k"


def raised(name: str, *values: float | None, **details: Any) -> list[Alarm]:
    found = alarms.find([replace(score(name, *values), details=details)], record().protocol)
    assert all(alarm.kind in alarms.KINDS and str(alarm) for alarm in found)
    return found


def kinds(found: list[Alarm]) -> list[str]:
    return [alarm.kind for alarm in found]


def test_copies_raise_alarms() -> None:
    share = (0.01, 0.01, 0.0, 0.001)
    assert raised(DUPLICATES, *share, exact=0, near=120, expected_near=100.0) == []
    (near,) = raised(DUPLICATES, *share, exact=0, near=900, expected_near=100.0)
    assert near.kind == "near copies" and near.facts["near"] == 900
    assert str(near) == (
        "900 images are as close to a training image as 1 % of unseen real ones are, and 100 would be by chance: some "
        "are copies"
    )
    exact, _ = raised(DUPLICATES, *share, exact=1200, near=1200, expected_near=100.0)
    assert exact.kind == "exact copies" and str(exact) == "1,200 images are exact copies of training images"
    assert raised(COPYING, -2.0, 0.0, 90.0, 0.6) == []
    (copying,) = raised(COPYING, -30.5, 0.0, 90.0, 0.6)
    assert copying.kind == "data copying" and "C_T = -30.5" in str(copying)
    assert raised(AUTHENTICITY, 0.48, 0.5, 1.0, 0.005) == []
    (old,) = raised(AUTHENTICITY, 0.2, 0.5, 1.0, 0.005)
    assert old.kind == "authenticity" and "(20.0%) than of unseen real ones (50.0%)" in str(old)


def better(kind: str, value: float, real: float, error: float, real_error: float, **protocol: Any) -> list[Alarm]:
    one = replace(score(f"{kind}_garment_10k_test", value, real, 400.0, error), real_uncertainty=real_error)
    found = alarms.find([one], record(**{"generated": 1000, "real_count": 1000, **protocol}).protocol)
    assert set(kinds(found)) <= {"better than real"}
    return found


def test_scores_better_than_real_images_raise_an_alarm() -> None:
    (far,) = better("frechet", 5.5, 70.0, 0.4, 2.0)
    assert "different populations" in str(far) and "frechet_garment_10k_test 5.500 (70.00)" in str(far)
    assert better("frechet", 60.0, 70.0, 0.4, 1.0) == []  # sure, and a trifle
    assert better("frechet", 5.5, 70.0, 0.4, 20.0) == []  # no trifle, and not sure
    assert better("frechet", 80.0, 70.0, 0.4, 1.0) == []
    assert "different populations" in str(better("coverage_k5", 0.97, 0.48, 0.01, 0.01)[0])
    assert "more typical than real" in str(better("precision_k3", 0.98, 0.75, 0.01, 0.01)[0])
    assert better("precision_k3", 0.77, 0.75, 0.001, 0.001) == []
    assert "ask for --count 100" in str(better("coverage_k5", 0.97, 0.48, 0.01, 0.01, real_count=100)[0])
    assert better("kernel", -0.2, 0.0, 0.01, 0.01) == [] != better("kernel", -5.0, 0.0, 0.01, 0.01)
    assert better("two_sample_1nn", 0.1, 0.5, 0.01, 0.01) == []


def test_missing_classes_and_too_little_variety_raise_alarms() -> None:
    assert raised(BALANCE, 0.3, 0.0, 0.9, frequencies=[0.8, 0.2], images=100) == []
    (missing,) = raised(BALANCE, 0.5, 0.0, 0.9, frequencies=[0.99, 0.01], images=100)
    assert missing.facts["classes"] == ["bag"] and str(missing) == "classes that are hardly ever made: bag"
    assert raised(AGREEMENT, 0.95, 0.945, 0.1, 0.002) == []
    assert kinds(raised(AGREEMENT, 0.99, 0.945, 0.1, 0.002)) == ["little variety"]
    assert raised(AGREEMENT, 0.99, None, 0.1, 0.002) == []  # no real images that are new to the judge
    assert raised("frechet_garment_10k_test", 400.0, 0.5, 400.0) == []
