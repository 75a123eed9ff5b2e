"""Evaluations: one record per source, the same on every repetition, with both baselines and a reason for gaps."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluations import alarms_of, measured, missing, save
from PIL import Image

import modiste
from modiste import runs
from modiste.config import Data
from modiste.data import toy
from modiste.data.images import content_digest
from modiste.data.sets import open_data
from modiste.errors import ModisteError, UsageError
from modiste.evaluation import records, score_tables, sources
from modiste.metrics import features, judge, metric_names, patches, suite
from modiste.metrics.metric_names import MetricName

pytestmark = pytest.mark.usefixtures("closet_judge")


def test_the_record_is_the_contract(fresh: Path, closet: Path) -> None:
    record = measured(fresh, closet)
    place = fresh.with_name("fresh.metrics.json")
    assert record.written == str(place) and records.read(place) == record
    stored = json.loads(place.read_text())
    assert stored == record.to_json() and stored["format"] == 2
    for name, score in stored["scores"].items():
        assert score.keys() == {
            "value", "uncertainty", "real", "real_uncertainty", "trivial", "trivials", "better", "details",
        }, name  # fmt: skip
        assert np.isfinite([score["value"], score["real"], score["trivial"]]).all(), name
        assert score["better"] == MetricName.parse(name).meaning.better
        assert score["trivials"].keys() == {"noise", "mean_image"} and score["trivial"] in score["trivials"].values()
    assert {"frechet_closet_60_test", "frechet_random_60_test", "coverage_k5_closet_60_test"} <= stored["scores"].keys()
    protocol, subject = stored["protocol"], stored["subject"]
    test = open_data(Data(name=str(closet)), part="test")
    assert protocol["reference"] == {
        "data": "closet test",
        "part": "test",
        "count": 200,
        "digest": content_digest(test),
        "class_names": list(toy.CLASS_NAMES),
    }
    assert protocol["generated"] == 60 and protocol["real_count"] == 60 and protocol["seed"] == 0
    assert protocol["extractors"]["closet"]["hash"] == features.primary_extractor(Data(name=str(closet))).fingerprint
    assert protocol["generator"]["kind"] == "npz" and protocol["versions"]["modiste"] == modiste.__version__
    assert subject["name"] == "fresh" and subject["warnings"] == [] and subject["count"] == 60
    assert stored["not_measured"].keys() == {*metric_names.DISCRIMINATOR, "classifier_accuracy"}


def test_distances_in_learned_patches_are_measured_where_they_are_asked_for(
    fresh: Path, closet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"PATCHES": 1_000, "CENTRES": 16, "ROUNDS": 2}.items():
        monkeypatch.setattr(patches, name, value)
    record = measured(fresh, closet, features=["patches"])
    score = record.scores["frechet_patches_60_test"]
    assert score.real is not None and score.trivial is not None and score.value is not None
    assert 0 < score.real < score.trivial and score.value < score.trivial
    facts = record.protocol.extractors["patches"]
    assert facts["extractor"] == "dictionary of patches of closet fit drawn-90%, learned without labels, seed 0"


def test_the_same_call_gives_the_same_bytes(run: Path, tmp_path: Path) -> None:
    once, again, elsewhere = (tmp_path / f"{name}.json" for name in ("once", "again", "elsewhere"))
    modiste.evaluate(run, count=60, out=once)
    modiste.evaluate(runs.Run(run), count=60, out=again)  # as `modiste.train` gives it
    assert once.read_bytes() == again.read_bytes()
    code = (
        "import sys, torch, modiste; torch.set_num_threads(1); modiste.evaluate(sys.argv[1], count=60, out=sys.argv[2])"
    )
    cache = tmp_path / "cache"  # of another process, empty but for the judge
    shutil.copytree(Path(os.environ["MODISTE_CACHE"]) / "judges", cache / "judges")
    command = [sys.executable, "-c", code, str(run), str(elsewhere)]
    subprocess.run(command, check=True, timeout=120, env={**os.environ, "MODISTE_CACHE": str(cache)})
    assert elsewhere.read_bytes() == once.read_bytes()
    other = modiste.evaluate(run, count=60, seed=1, out=again)
    assert other.scores["frechet_closet_60_test"] != records.read(once).scores["frechet_closet_60_test"]


def test_the_second_evaluation_looks_at_generated_images_only(
    fresh: Path, noise: Path, closet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(fresh, closet)
    seen: list[int] = []
    examine = judge.Judge.examine

    def counted(self: judge.Judge, pixels: np.ndarray) -> Any:
        seen.append(len(pixels))
        return examine(self, pixels)

    monkeypatch.setattr(judge.Judge, "examine", counted)
    measured(noise, closet)
    assert seen == [60]
    (Path(os.environ["MODISTE_CACHE"]) / "features").rename(Path(os.environ["MODISTE_CACHE"]) / "away")
    measured(noise, closet)
    assert len(seen) > 2


def test_real_images_are_read_as_real(fresh: Path, closet: Path) -> None:
    record = measured(fresh, closet)
    scores = {score.kind: score for score in record.scores.values() if score.name.extractor != "random"}
    for name in ("kernel", "two_sample_1nn", "nearest_ratio_pixels"):
        score = scores[name]
        assert score_tables.reading(score) == "like real images" or abs(score.value - score.real) < 0.2 * abs(
            score.trivial
        )
    for name in ("frechet", "class_frechet"):
        assert scores[name].value < 2 * scores[name].real < 0.5 * scores[name].trivial
    for name in ("coverage_k5", "recall_k3", "precision_k3", "label_agreement", "inception_style"):
        assert scores[name].value > 0.8 * scores[name].real, name


def test_noise_scores_as_the_trivial_noise(noise: Path, closet: Path) -> None:
    scores = measured(noise, closet).scores
    for name, score in scores.items():
        if spread := {"frechet": 0.1, "kernel": 0.2}.get(score.kind):  # the kernel is a cubic of the features
            assert score.value == pytest.approx(score.trivials["noise"], rel=spread), name
    assert max(scores[f"{key}_closet_60_test"].value for key in ("coverage_k5", "recall_k3")) < 0.1
    assert scores["two_sample_1nn_closet_test"].value > 0.9


def test_a_place_that_cannot_be_written_is_said_before_the_work(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "measure", lambda *_, **__: pytest.fail("measured"))
    (run.parent / "file").touch()
    with pytest.raises(ModisteError, match=r"cannot write .*record\.json"):
        modiste.evaluate(run, count=60, out=run.parent / "file" / "record.json")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"judge": Path("nosuch.safetensors")}, r"nosuch\.safetensors"),
        ({"features": [Path("nosuch.onnx")]}, r"there is no file nosuch\.onnx"),
    ],
)
def test_what_is_missing_is_said_before_any_image_is_made(
    run: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], said: str
) -> None:
    monkeypatch.setattr(sources, "open_source", lambda *_, **__: pytest.fail("sampled"))
    with pytest.raises(UsageError, match=said):
        modiste.evaluate(run, count=60, **options)


def test_a_lesser_record_does_not_replace_a_greater_one(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Path(modiste.evaluate(run, count=60).written)
    before = place.read_bytes()
    monkeypatch.setattr(suite, "measure", lambda *_, **__: pytest.fail("measured"))
    with pytest.raises(UsageError, match=r"metrics\.json holds scores of 60 images, which would be lost; give"):
        modiste.evaluate(run, count=40)
    assert place.read_bytes() == before


def test_things_that_no_table_can_hold_are_named_before_any_is_measured(
    run: Path, fresh: Path, closet: Path, tmp_path: Path, call: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suite, "measure", lambda *_, **__: pytest.fail("measured"))
    code, _, error = call("evaluate", run, fresh)  # which is measured against the default set
    assert code == 2 and "closet" in error and "fashion-mnist" in error and "--data" in error
    code, _, error = call("evaluate", run, tmp_path / "nowhere")
    assert code == 2 and "nowhere does not exist" in error


def test_a_record_replaces_nothing_but_a_record(fresh: Path, closet: Path) -> None:
    before = fresh.read_bytes()
    with pytest.raises(
        UsageError, match=r"fresh\.npz is there and does not say that Modiste wrote it.* choose another place"
    ):
        measured(fresh, closet, out=fresh)
    assert fresh.read_bytes() == before
    place = fresh.with_name("record")
    assert measured(fresh, closet, out=place).written == measured(fresh, closet, out=place).written


def test_other_ways_to_sample_have_records_of_their_own(run: Path) -> None:
    before = modiste.evaluate(run, count=60)
    cut = modiste.evaluate(run, count=60, truncation=0.5, reference="heldout")
    assert cut.written == str(run / "metrics-truncation-0.5-heldout.json") and not records.is_usual(cut)
    other = modiste.evaluate(run, count=60, seed=3)
    assert other.written == str(run / "metrics-seed-3.json") and not records.is_usual(other)
    standing = modiste.evaluate(run, count=60, batch_norm="standing")
    assert standing.written == str(run / "metrics-standing.json") and not records.is_usual(standing)
    assert records.is_usual(before) and records.read(run / "metrics.json").scores == before.scores


def test_other_checkpoints_have_records_of_their_own(run: Path) -> None:
    last = modiste.evaluate(run, count=60)
    before = (run / "metrics.json").read_bytes()
    best = modiste.evaluate(run, count=60, checkpoint="best")
    assert best.written == str(run / "metrics-best.json")
    assert best.source["checkpoint"] == "best.safetensors" and "discriminator_accuracy_real" not in best.scores
    heldout = modiste.evaluate(run, count=60, reference="heldout")
    assert heldout.written == str(run / "metrics-heldout.json") and "frechet_closet_60_heldout" in heldout.scores
    by_path = modiste.evaluate(run / "best.safetensors", count=60)
    assert (run / "metrics.json").read_bytes() == before, "the record of a checkpoint took the place of the run's"
    assert by_path.scores["frechet_closet_60_test"] == best.scores["frechet_closet_60_test"]
    assert "discriminator_accuracy_real" not in by_path.scores
    assert records.differences(last, best) == [] != records.differences(last, heldout)


def test_classes_in_another_order_are_matched_by_name(fresh: Path, closet: Path, tmp_path: Path) -> None:
    images = toy.draw(60, 16, 60)
    assert images.labels is not None
    turned = save(tmp_path / "turned.npz", images.pixels, 9 - images.labels, tuple(reversed(toy.CLASS_NAMES)))
    for k, (pixels, label) in enumerate(zip(images.pixels, images.labels, strict=True)):
        folder = tmp_path / "folder" / toy.CLASS_NAMES[label].replace("/", " ").upper()
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[0]).save(folder / f"{k:04}.png")
    agreement = "label_agreement_closet_60"
    right = measured(fresh, closet).scores
    assert measured(turned, closet).scores == right
    folder_record = measured(tmp_path / "folder", closet)
    assert folder_record.scores[agreement].value == right[agreement].value > 0.5
    assert folder_record.written == str(tmp_path / "folder.metrics.json")


def test_images_without_labels_say_what_is_missing(closet: Path, tmp_path: Path) -> None:
    record = measured(save(tmp_path / "plain.npz", toy.draw(40, 16, 60).pixels), closet)
    assert "label_agreement" in missing(record) and "class_balance_tv_closet_40" in record.scores
    assert record.protocol.generated == 40 and "frechet_closet_40_test" in record.scores
    assert "40 images and 60 were asked for" in record.warnings[0]


def test_copies_raise_alarms(closet: Path, fresh: Path, tmp_path: Path) -> None:
    train = open_data(Data(name=str(closet)), part="train")
    assert train.labels is not None
    record = measured(save(tmp_path / "copies.npz", train.pixels[:60], train.labels[:60]), closet)
    assert "exact copies" in alarms_of(record) and "60 images are exact copies of training images" in record.alarms
    assert not {"exact copies", "near copies"} & alarms_of(measured(fresh, closet))


def test_a_judge_of_ones_own_gives_the_scores_its_name(
    fresh: Path, closet: Path, closet_judge: Path, tmp_path: Path
) -> None:
    for suffix in (".safetensors", ".json"):
        (tmp_path / f"My judge{suffix}").write_bytes(closet_judge.with_suffix(suffix).read_bytes())
    record = measured(fresh, closet, judge=tmp_path / "My judge.safetensors")
    assert "frechet_my-judge_60_test" in record.scores and "my-judge" in record.protocol.extractors


def test_a_judge_of_other_classes_is_refused(closet_judge: Path, tmp_path: Path) -> None:
    images = toy.draw(150, 16, 70)
    names = tuple(reversed(toy.CLASS_NAMES))  # as many, and every verdict would be taken for another one
    other = save(tmp_path / "other.npz", images.pixels, images.labels, names)
    with pytest.raises(UsageError, match=r"residual\.safetensors knows the classes T-shirt/top, .* are Ankle boot, .*"):
        measured(other, other, judge=closet_judge, reference="heldout")
    plain = save(tmp_path / "plain.npz", images.pixels)
    record = measured(plain, plain, judge=closet_judge, reference="heldout")  # without classes nothing is mistaken
    assert not {score.kind for score in record.scores.values()} & {
        "class_frechet",
        "label_agreement",
        "class_balance_tv",
    }


def test_colour_and_larger_images_are_fitted_and_said(closet: Path, tmp_path: Path) -> None:
    grey = toy.draw(60, 32, 60)
    record = measured(save(tmp_path / "colour.npz", grey.pixels.repeat(3, axis=1), grey.labels), closet)
    assert record.protocol.generator["size"] == [3, 32, 32]
    assert record.scores["label_agreement_closet_60"].value > 0.5
    assert "lanczos" in record.protocol.extractors["closet"]["resize"]
    assert not any("colour" in warning for warning in record.warnings)  # there is none to lose
    tinted = grey.pixels.repeat(3, axis=1) // np.array([1, 2, 1], np.uint8)[:, None, None]
    record = measured(save(tmp_path / "tinted.npz", tinted, grey.labels), closet)
    assert "tinted has images in colour and closet test grey ones: they are measured as grey ones, and no score" in str(
        record.warnings
    )


def test_a_judge_that_knows_little_says_so(
    fresh: Path, closet: Path, closet_judge: Path, tmp_path: Path, call: Any
) -> None:
    card = judge.load(closet_judge).card
    assert judge.weakness(card) == ""
    shutil.copy(closet_judge, tmp_path / "weak.safetensors")
    weak = replace(card.tested, count=200, accuracy=0.3, confusion=[[20] + [0] * 9] * 10)
    (tmp_path / "weak.json").write_text(json.dumps(replace(card, measured={"test": weak}).to_json()))
    done = call("evaluate", fresh, "--data", closet, "--count", 60, "--judge", tmp_path / "weak.safetensors")
    assert done[0] == 0 and "weak: a residual classifier of" in done[1] and "right about 30.0% of real" in done[1]
    assert "is right about 30.0% of 200 images new to it, and naming the most frequent class about 10.0%" in done[2]
    few = replace(weak, count=12, accuracy=0.75, confusion=[[6, 0], [3, 3]])  # half way, but of twelve images
    assert judge.weakness(replace(card, measured={"heldout": few}))
    more = replace(few, count=100, confusion=[[50, 0], [25, 25]])
    assert not judge.weakness(replace(card, measured={"heldout": more}))


def test_inception_without_weights_leaves_the_rest(fresh: Path, closet: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from modiste.metrics import inception

    def none(*_: Any) -> Any:
        raise ModisteError("the weights are not here; fetch them")

    monkeypatch.setattr(inception, "extractor", none)
    record = measured(fresh, closet, inception=True)
    kinds = ("frechet", "kernel", "inception_style")
    reasons = {name.kind: text for name, text in record.not_measured.items() if name.extractor == "inception"}
    assert reasons == dict.fromkeys(kinds, "the weights are not here; fetch them")
    assert "frechet_closet_60_test" in record.scores
    with pytest.raises(ModisteError, match="weights are not here"):
        measured(fresh, closet, inception=Path("weights.pth"))


def test_what_does_not_exist_is_wrong_use(closet: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere does not exist; give a run folder"):
        measured(tmp_path / "nowhere", closet)
    with pytest.raises(UsageError, match="no data set is named"):
        modiste.evaluate(save(tmp_path / "a.npz", toy.draw(9, 16).pixels), data_name="fashion")
