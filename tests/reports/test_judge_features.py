"""Features of the judge, its probabilities, and nearest training images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modiste import runs
from modiste.metrics import features, manifold
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


def test_missed_images_are_those_that_recall_does_not_count(run: Path) -> None:
    dataset = inputs.open_path(run).read_dataset()
    assert dataset is not None
    real = judge_features.real_features(dataset)
    generated = judge_features.run_features(runs.Run(run), real)
    random = np.random.default_rng(0)
    x, y = random.normal(size=(40, 3)), random.normal(size=(30, 3)) * 0.5
    real, generated = (replace(one, features=features.Features(vectors, None))
                       for one, vectors in ((real, x), (generated, y)))  # fmt: skip
    found = judge_features.missed(real, generated)
    recall = manifold.manifold_scores(x, y)["recall"].value
    assert 0 < len(found.real) < 40 and 1 - len(found.real) / found.of == pytest.approx(recall)
    away = np.linalg.norm(x[found.real] - y[found.nearest], axis=1)
    assert (np.diff(away) <= 0).all()
    assert away[0] == pytest.approx(np.linalg.norm(x[found.real[0]] - y, axis=1).min())
    collapsed = replace(generated, features=features.Features(np.repeat(x[:1], 20, 0), None))
    assert 0 not in judge_features.missed(real, collapsed).real  # on the edge of a ball without extent
    alike = replace(generated, features=features.Features(x, None))
    assert len(judge_features.missed(real, alike).real) == 0
