"""The run's own discriminator, and a classifier that learns from generated images."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluations import measured, missing, save

import modiste
from modiste import runs
from modiste.config import Data
from modiste.data import toy
from modiste.data.images import Images, to_unit
from modiste.data.sets import open_data
from modiste.errors import UsageError
from modiste.evaluation import extra_scores, records, references, sources
from modiste.metrics import classifier_training
from modiste.networks.layers import ImageShape

pytestmark = pytest.mark.usefixtures("closet_judge")


def test_a_run_brings_its_discriminator_and_its_facts(run: Path, closet: Path) -> None:
    record = modiste.evaluate(run, count=60)
    assert record.written == str(run / "metrics.json")
    assert record.source["kind"] == "run" and record.source["recipe"]["name"] == "tiny"
    assert record.protocol.generator == {
        "kind": "run",
        "seeds": "0 to 59",
        "weights": "ema",
        "batch_norm": "running statistics",
        "batch_norm_statistics": "running",
        "size": [1, 16, 16],
        "data": record.source["data"],
    }
    for name in ("discriminator_accuracy_real", "discriminator_accuracy_fake"):
        score = record.scores[name]
        assert 0 <= score.value <= 1 and (score.real, score.trivial, score.better) == (0.5, 1.0, "near")
    assert missing(record).keys() == {"classifier_accuracy"}
    with_files = records.differences(record, measured(save(run.parent / "a.npz", toy.draw(60, 16, 3).pixels), closet))
    assert with_files == []  # a run and a file stand in one table


def test_the_discriminator_is_asked_as_it_was_trained(run: Path) -> None:
    """By hand: the raw discriminator of the newest state on the test images, with their labels."""

    from modiste import runs
    from modiste.networks.build import build_discriminator

    state, _ = runs.load_state(runs.open_run(run))
    assert state is not None
    recipe = runs.open_run(run).read_recipe()
    discriminator = build_discriminator(recipe.network, ImageShape(1, 16, 10))
    discriminator.load_state_dict(state["discriminator"])
    test = open_data(recipe.data, part="test")
    with torch.inference_mode():
        logits = discriminator.eval()(to_unit(torch.from_numpy(test.pixels)), torch.from_numpy(test.labels))
    record = modiste.evaluate(run, count=60)
    assert record.scores["discriminator_accuracy_real"].value == pytest.approx(float((logits > 0).float().mean()))


def test_damaged_states_cost_only_the_discriminators_scores(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    for state in runs.states(runs.Run(tmp_path / "run")):
        state.write_bytes(b"gone")
    record = modiste.evaluate(tmp_path / "run", count=60)
    assert "damaged" in missing(record)["discriminator_accuracy_real"] and len(record.scores) > 10


def test_a_classifier_learns_from_generated_images(
    fresh: Path, noise: Path, run: Path, closet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extra_scores, "CLASSIFIER_EPOCHS", 1)
    said: list[str] = []
    score = measured(fresh, closet, classifier=True, log=said.append).scores["classifier_accuracy"]
    assert 0 <= score.value <= 1 and 0 <= score.real <= 1 and score.trivial == 0.1
    assert score.details["images"] == 60 and score.better == "higher"
    assert any(re.match(r"learning from generated images: epoch 1 of 1, loss \d", text) for text in said)
    made = modiste.evaluate(run, count=60, classifier=True).scores["classifier_accuracy"]
    assert made.details["images"] == 270  # as many as the training part has, whatever the count


def test_a_classifier_sees_no_more_generated_images_than_real_ones(
    closet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = toy.draw(600, 16, 60)
    assert images.labels is not None
    images = images.select(np.argsort(images.labels, kind="stable"))  # as files of other tools may be
    seen: list[Images] = []
    monkeypatch.setattr(extra_scores, "CLASSIFIER_EPOCHS", 9)  # no other test's baseline in the cache
    monkeypatch.setattr(classifier_training, "train_classifier", lambda images, **_: seen.append(images))
    monkeypatch.setattr(classifier_training, "accuracy", lambda *_: 0.5)
    source, dataset = sources.Source("sorted", images, {}), Data(name=str(closet))
    score = extra_scores.classifier(source, images, dataset, print, references.opener())
    real, made = seen
    assert len(real) == len(made) == score.details["images"] == 270
    assert made.labels is not None and np.bincount(made.labels).min() > 10


def test_a_classifier_needs_labels_and_says_so_at_once(closet: Path, tmp_path: Path) -> None:
    plain = save(tmp_path / "plain.npz", toy.draw(60, 16, 60).pixels)
    said: list[str] = []
    with pytest.raises(UsageError, match=r"--classifier needs labels, and plain has none"):
        measured(plain, closet, classifier=True, log=said.append)
    assert not any(text.startswith(("frechet", "features")) for text in said), "refused after all the work"
    assert not list(tmp_path.glob("*.json"))
