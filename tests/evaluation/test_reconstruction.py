"""`evaluate --reconstruct`: a generator's own images are found, others less; baselines, quantiles and a picture."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluations import measured
from PIL import Image

import modiste
from modiste.config import Recipe
from modiste.errors import UsageError
from modiste.evaluation import alarms, records
from modiste.evaluation import reconstruction as scores
from modiste.latent import encoder, projection
from modiste.metrics import patches
from modiste.metrics.metric_names import MetricName
from modiste.reports import reconstruction

pytestmark = pytest.mark.usefixtures("closet_judge")
NAME = "reconstruction_error_8_test"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encoder, "SAMPLES", 64)
    monkeypatch.setattr(projection, "STEPS", 5)


def test_the_score_has_baselines_quantiles_and_a_picture(run: Path, tmp_path: Path) -> None:
    place = tmp_path / "metrics.json"
    said: list[str] = []
    record = modiste.evaluate(run, count=60, reconstruct=8, out=place, log=said.append)
    score = record.scores[NAME]
    assert score.value is not None and score.real is not None and score.trivial is not None
    assert 0 < score.real < score.trivial == score.trivials["mean_image"] < 255
    assert score.uncertainty and score.real_uncertainty and score.better == "lower"
    shares = list(score.details["quantiles"].values())
    assert shares == sorted(shares) and shares[0] <= score.value <= shares[-1]
    assert score.details["class"] == "given" and len(score.details["worst"]) == 8
    assert score.details["picture"] == "reconstruction-worst.png"
    assert (tmp_path / "reconstruction-worst.png").is_file()
    assert records.pictures_of(record) == ["reconstruction-worst.png"]
    assert "making 8 real images: 8 of 8" in said
    assert json.loads(place.read_text())["scores"][NAME]["value"] == score.value
    text = reconstruction.sentence(score)
    assert text.startswith("The best that it makes of 8 real images it has not seen is off by") and "mean image" in text

    modiste.evaluate(run, count=60, out=place)  # without it: the picture of the earlier record goes
    assert not (tmp_path / "reconstruction-worst.png").exists()


def test_other_scores_stay_comparable(run: Path, tmp_path: Path) -> None:
    plain = modiste.evaluate(run, count=60, out=tmp_path / "plain.json")
    more = modiste.evaluate(run, count=60, reconstruct=8, checkpoint="best", out=tmp_path / "more.json")
    records.check_comparable([plain, more])
    assert more.scores.keys() - plain.scores.keys() == {NAME}


def test_files_have_no_noise(fresh: Path, closet: Path) -> None:
    with pytest.raises(UsageError, match="--reconstruct needs a generator's weights"):
        measured(fresh, closet, reconstruct=8)


def test_images_that_the_run_has_seen_show_nothing(run: Path) -> None:
    with pytest.raises(UsageError, match="images that the run has not seen; leave out --reference train"):
        modiste.evaluate(run, count=60, reconstruct=8, reference="train")


def test_a_foreign_picture_is_not_replaced(run: Path, tmp_path: Path) -> None:
    (tmp_path / "reconstruction-worst.png").write_bytes(b"mine")
    with pytest.raises(UsageError, match=r"reconstruction-worst.png is there"):
        modiste.evaluate(run, count=60, reconstruct=8, out=tmp_path / "metrics.json")


@pytest.mark.parametrize("labelled", [True, False])
def test_images_in_colour_with_and_without_labels(
    labelled: bool, tiny: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where checkpoints are chosen by learned patches, as there is no judge."""
    monkeypatch.setattr(patches, "PATCHES", 400)
    monkeypatch.setattr(patches, "ROUNDS", 1)
    for k in range(40):
        place = tmp_path / "squares" / (("blue", "red")[k % 2] if labelled else "") / f"{k}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.new("RGB", (16, 16), (k, 0, 0))
        picture.paste(((40, 90, 220), (230, 60, 40))[k % 2], (3, 3, 12, 12))
        picture.save(place)
    changes = {"data.name": str(tmp_path / "squares"), "data.count": None, "data.resize": None, "data.split": "fit",
               "network.conditioning": "one-hot" if labelled else "none", "train.images": 16, "evaluate.count": 20,
               "evaluate.every_images": 16, "evaluate.without_judge": "patches"}  # fmt: skip
    run = modiste.train(tiny, tmp_path / "run", overrides=changes)
    assert run.read_manifest().best is not None
    score = modiste.evaluate(run, count=20, reconstruct=4).scores["reconstruction_error_4_heldout"]
    assert score.value is not None and score.real is not None and score.trivial is not None
    assert score.details["class"] == ("given" if labelled else "none") and score.details["images"] == 4
    with Image.open(run.path / score.details["picture"]) as drawn:
        colours = {colour for _, colour in drawn.convert("RGB").getcolors(1 << 20) or ()}
    assert colours >= {(40, 90, 220), (230, 60, 40)}


def test_to_beat_the_nearest_training_image_is_no_alarm() -> None:
    good = records.ScoreEntry(MetricName("reconstruction_error", "", 1000, "test"), 20.0, 0.3, 30.0, 0.3, 70.0)
    assert alarms.beats_real(replace(good, name=MetricName("frechet", "garment", 1000, "test")))
    assert not alarms.beats_real(good)


def test_quantiles() -> None:
    assert scores.quantiles(np.arange(101.0)) == {"5%": 5, "25%": 25, "50%": 50, "75%": 75, "95%": 95, "100%": 100}
