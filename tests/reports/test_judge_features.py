"""Features of the judge, its probabilities, and nearest training images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modiste import runs
from modiste.reports import (
    inputs,
    judge_features,
)

pytestmark = pytest.mark.usefixtures("closet_judge")


def test_chances_are_those_of_a_softmax() -> None:
    found = judge_features.probabilities(np.array([[0.0, np.log(3.0)], [1000.0, 0.0]], np.float32))
    assert found == pytest.approx(np.array([[0.25, 0.75], [1.0, 0.0]]))


def test_a_nearest_image_is_found_among_the_training_images(run: Path) -> None:
    opened = runs.Run(run)
    dataset = inputs.open_path(run).read_dataset()
    assert dataset is not None
    judge = judge_features.real_features(dataset).judge
    train = judge_features.training_images(opened, dataset)
    distances, indices = judge_features.nearest_training(train.select(slice(3, 6)), train, judge)
    assert distances.tolist() == [0, 0, 0] and (train.pixels[indices] == train.pixels[3:6]).all()
