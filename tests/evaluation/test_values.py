"""The numbers of a small evaluation are those of version 0.2.0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from evaluations import measured, save

from modiste.data import toy

VALUES = {
    "frechet_random_200_test": (0.2291493, 0.10109, 0.4934084, 49.75388),
    "frechet_infinite_random_test": (-0.2987769, 0.18081, 0.2598337, 50.08412),
    "kernel_random_200_test": (-0.03643105, 0.02253, -0.022608, 6.097381),
    "precision_k3_random_200_test": (0.975, 0.01104, 0.97, 0),
    "recall_k3_random_200_test": (0.975, 0.051088, 0.99, 0),
    "density_k5_random_200_test": (1.041, 0.031136, 0.986, 0),
    "coverage_k5_random_200_test": (0.99, 0.028302, 0.985, 0),
    "two_sample_1nn_random_test": (0.51, 0.024995, 0.485, 1),
    "nearest_ratio_pixels_200": (1.0014, 0.041292, 1, 5.107873),
    "authenticity_random_200": (0.465, 0.035269, 0.485, 1),
    "data_copying_random_200": (-0.2336458, 0.58856, 0, 12.03768),
    "near_duplicates_pixels_200": (0.015, 0.0085951, 0.01, 0),
}
"""Value, standard error, real and trivial baseline by name, in the features of the network with random weights."""


def test_a_small_evaluation_gives_the_numbers_of_the_last_version(tmp_path: Path) -> None:
    train, test, generated = (toy.draw(count, 16, seed) for count, seed in ((300, 21), (200, 22), (200, 23)))
    arrays = {"images": train.pixels, "labels": train.labels, "x_test": test.pixels, "y_test": test.labels}
    np.savez(tmp_path / "closet.npz", class_names=np.array(train.class_names), **arrays)
    source = save(tmp_path / "generated.npz", generated.pixels, generated.labels)
    record = measured(source, tmp_path / "closet.npz", count=200)
    numbers = {
        name: (score.value, score.uncertainty, score.real, score.trivial) for name, score in record.scores.items()
    }
    assert list(numbers) == list(VALUES)
    for name, expected in VALUES.items():
        assert numbers[name] == pytest.approx(expected, rel=1e-3, abs=1e-6), name
