"""Logistic regression: against scikit-learn, and where features tell all or nothing."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from modiste.data import toy
from modiste.metrics import logistic


def test_two_classes_are_scikit_learns() -> None:
    random = np.random.default_rng(0)
    inputs = random.standard_normal((300, 5)) * [1, 2, 3, 4, 5] + 1
    labels = (inputs @ [1, -1, 0.5, 0, 0.2] + random.logistic(size=300) > 0).astype(np.int64)
    weights, bias = logistic.fit(inputs, labels, 2, 6.0)
    standard = StandardScaler().fit_transform(inputs)
    other = LogisticRegression(C=1 / 3, tol=1e-10, max_iter=1000).fit(standard, labels)  # its one row of weights
    np.testing.assert_allclose((inputs @ weights + bias) @ [-1, 1], other.decision_function(standard), atol=1e-4)


def test_many_classes_are_scikit_learns() -> None:
    known, others = toy.draw(120, 16, 0), toy.draw(400, 16, 1)
    assert known.labels is not None
    rows, wanted = (images.pixels.reshape(len(images), -1).astype(np.float32) for images in (known, others))
    scaler = StandardScaler().fit(rows)
    theirs = LogisticRegression(C=1.0, max_iter=2000, tol=1e-8).fit(scaler.transform(rows), known.labels)
    weights, bias = logistic.fit(rows, known.labels, 10, 1.0)
    found = (wanted @ weights + bias).argmax(1)
    assert (found == theirs.predict(scaler.transform(wanted))).mean() >= 0.995


def test_features_that_tell_all_and_features_that_tell_nothing() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(600) % 3
    told = np.eye(3, dtype=np.float32)[labels] + 0.1 * random.normal(size=(600, 3)).astype(np.float32)
    useless = random.normal(size=(600, 3)).astype(np.float32)
    constant = np.ones((600, 1), np.float32)  # which has no deviation to divide by
    for vectors, shares in ((np.concatenate([told, constant], 1), (1, 1)), (useless, (0, 0.45))):
        weights, bias = logistic.fit(vectors[:300], labels[:300], 3, 1.0)
        share = ((vectors[300:] @ weights + bias).argmax(1) == labels[300:]).mean()
        assert shares[0] <= share <= shares[1]
