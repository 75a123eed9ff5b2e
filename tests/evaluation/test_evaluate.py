"""Evaluations: one record per source, the same on every repetition, with both baselines and a reason for gaps."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import modiste
from modiste import config, runs
from modiste.config import Data, Recipe
from modiste.data import toy
from modiste.data.images import Images, content_digest, to_unit
from modiste.data.sets import open_data
from modiste.errors import ModisteError, UsageError
from modiste.evaluation import alarms, audit_tables, extra_scores, records, references, score_tables, sources
from modiste.metrics import classifier_training, features, judge, metric_names, suite
from modiste.metrics.metric_names import MetricName
from modiste.networks.build import Shape
from modiste.sampling import generators

pytestmark = pytest.mark.usefixtures("closet_judge")


def save(path: Path, pixels: np.ndarray, labels: np.ndarray | None = None, names: tuple[str, ...] = ()) -> Path:
    arrays: dict[str, Any] = {"images": pixels}
    if labels is not None:
        arrays |= {"labels": labels, "class_names": np.array(names or toy.CLASS_NAMES)}
    np.savez(path, **arrays)
    return path


@pytest.fixture
def fresh(tmp_path: Path) -> Path:
    """60 drawn garments that are in no part of the closet: what a perfect generator would make."""
    images = toy.draw(60, 16, 60)
    return save(tmp_path / "fresh.npz", images.pixels, images.labels)


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(5).integers(0, 256, (60, 1, 16, 16), np.uint8)
    return save(tmp_path / "noise.npz", pixels, np.arange(60) % 10)


@pytest.fixture(scope="module")
def run(closet: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A conditional generator after 20 updates on the closet, with a best checkpoint."""
    recipe = Recipe(
        name="tiny",
        data=Data(name=str(closet), split="fit"),
        network=config.Network(z_dim=8, generator_widths=(8, 4), discriminator_widths=(4, 8), conditioning="one-hot"),
        train=config.Train(images=320, batch_size=16, tick_images=80, ema_halflife_images=100, precision="float32"),
        evaluate=config.Evaluate(every_images=160, count=40),
    )
    return modiste.train(recipe, tmp_path_factory.mktemp("runs") / "tiny").path


def measured(what: Path, closet: Path, **options: Any) -> records.Record:
    return modiste.evaluate(what, **{"count": 60, "data_name": str(closet), **options})


def alarms_of(record: records.Record) -> set[str]:
    return {alarm.kind for alarm in alarms.find(record.scores.values(), record.protocol)}


def missing(record: records.Record) -> dict[str, str]:
    return {str(name): reason for name, reason in record.not_measured.items()}


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
    import torch

    from modiste import runs
    from modiste.networks.build import Shape, build_discriminator

    state, _ = runs.load_state(runs.open_run(run))
    assert state is not None
    recipe = runs.open_run(run).read_recipe()
    discriminator = build_discriminator(recipe.network, Shape(1, 16, 10))
    discriminator.load_state_dict(state["discriminator"])
    test = open_data(recipe.data, part="test")
    with torch.inference_mode():
        logits = discriminator.eval()(to_unit(torch.from_numpy(test.pixels)), torch.from_numpy(test.labels))
    record = modiste.evaluate(run, count=60)
    assert record.scores["discriminator_accuracy_real"].value == pytest.approx(float((logits > 0).float().mean()))


def test_a_place_that_cannot_be_written_is_said_before_the_work(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "measure", lambda *_, **__: pytest.fail("measured"))
    (run.parent / "file").touch()
    with pytest.raises(ModisteError, match=r"cannot write .*record\.json"):
        modiste.evaluate(run, count=60, out=run.parent / "file" / "record.json")


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


def test_a_conditional_run_against_other_data(run: Path, tmp_path: Path) -> None:
    """Other classes: labels cannot be matched, and what needs them is left out with a reason."""
    images = toy.draw(150, 16, 70)
    names = tuple(f"thing {k}" for k in range(10))
    other = save(tmp_path / "things.npz", images.pixels, images.labels, names)
    record = modiste.evaluate(run, count=60, data_name=str(other), reference="heldout", out=tmp_path / "m.json")
    assert "the labels of" in record.warnings[0]
    assert "frechet_random_60_heldout" in record.scores
    reasons = missing(record)
    assert reasons["authenticity"] == "things.npz does not hold the images that tiny learned from"
    assert "other classes" in reasons["discriminator_accuracy_real"]
    kinds = {score.kind for score in record.scores.values()}
    assert not kinds & {*metric_names.MEMORISATION, *metric_names.DISCRIMINATOR}


def test_data_that_moved_and_are_not_square(tmp_path: Path) -> None:
    """--data names them where they are now: every score stays, those of memory and of the discriminator too."""
    images = toy.draw(100, 16, 80)
    narrow = save(tmp_path / "narrow.npz", images.pixels[..., 2:14], images.labels)
    recipe = Recipe(
        name="narrow",
        data=Data(name=str(narrow), resize=16, count=80, split="fit"),
        network=config.Network(z_dim=8, generator_widths=(8, 4), discriminator_widths=(4, 8), conditioning="one-hot"),
        train=config.Train(images=32, batch_size=16, tick_images=16, precision="float32"),
        evaluate=config.Evaluate(every_images=16, count=20),
    )
    place = modiste.train(recipe, tmp_path / "run").path
    before = modiste.evaluate(place, count=20, reference="heldout")
    moved = narrow.rename(tmp_path / "moved.npz")
    after = modiste.evaluate(place, count=20, reference="heldout", data_name=str(moved))
    assert after.scores == before.scores and after.not_measured.keys() == before.not_measured.keys()
    assert {
        "frechet_random_20_heldout",
        "nearest_ratio_pixels_20",
        "discriminator_accuracy_real",
    } <= after.scores.keys()


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


def test_data_without_labels_or_judge_or_test_images(tmp_path: Path) -> None:
    bare = save(tmp_path / "bare.npz", toy.draw(150, 16, 71).pixels)
    plain = save(tmp_path / "plain.npz", toy.draw(60, 16, 60).pixels, np.arange(60) % 10)
    with pytest.raises(UsageError, match=r"has no test images; use --reference heldout"):
        measured(plain, bare, reference="test")
    record = measured(plain, bare)  # which takes the held-out ones, and says so
    assert record.warnings[0].startswith("bare.npz has no test images, so these are compared with the")
    assert record.protocol.reference.part == "heldout"
    assert record.written.endswith("plain.metrics-heldout.json")
    assert {score.kind for score in record.scores.values()} >= {"frechet", "coverage_k5"}
    assert {score.name.extractor for score in record.scores.values()} == {"random", ""}
    assert "frechet_random_60_heldout" in record.scores
    assert "modiste judge train" in missing(record)["class_frechet"]
    assert record.protocol.real == "bare fit drawn-90%" and "discriminator_accuracy_fake" in missing(record)


def test_damaged_states_cost_only_the_discriminators_scores(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    for state in runs.states(runs.Run(tmp_path / "run")):
        state.write_bytes(b"gone")
    record = modiste.evaluate(tmp_path / "run", count=60)
    assert "damaged" in missing(record)["discriminator_accuracy_real"] and len(record.scores) > 10


def test_the_real_baseline_of_a_sorted_file_has_every_class(tmp_path: Path) -> None:
    labels = np.arange(400) // 80
    save(tmp_path / "sorted.npz", toy.draw(400, 16, 71).pixels, labels)
    dataset = Data(name=str(tmp_path / "sorted.npz"))
    for count, least in ((40, 8), (100, 16)):  # all of the held-out ones, and more
        real, new = references.baseline_images(dataset, "test", count, references.opener())
        shares = np.bincount(real.labels, minlength=5)
        assert len(real) == count and new == 40 and shares.min() >= least, shares


def test_images_the_judge_learned_from_are_no_baseline_of_its_agreement(
    fresh: Path, closet: Path, tmp_path: Path
) -> None:
    """The closet without its test images: its judge knows every image that is not held out."""
    with np.load(closet) as stored:
        bare = save(tmp_path / "bare.npz", stored["images"], stored["labels"])
    record = measured(fresh, bare, reference="heldout", audit=True)
    agreement = record.scores["label_agreement_bare_60"]
    assert agreement.value > 0.5 and agreement.real is None
    assert [name for name, score in record.scores.items() if score.real is None] == ["label_agreement_bare_60"]
    assert "no real baseline" in missing(record)["label_agreement"]
    assert len(score_tables.rows(record)) == len(record.scores)
    audited = record.audit
    assert audited["protocol"]["real_count_new_to_the_judge"] == 0
    assert audited["scores"]["frequency"]["real"] == audited["scores"]["label_agreement"]["real"] == [None] * 10
    assert audited["disparity"]["frequency"]["real"] is None is audited["disparity"]["label_agreement"]["real"]
    assert all(row[4] == "-" for row in audit_tables.per_class(audited)[1])
    with pytest.raises(UsageError, match=r"bare\.npz has no test images; use --reference heldout"):
        measured(fresh, bare, reference="train")


def test_copies_raise_alarms(closet: Path, fresh: Path, tmp_path: Path) -> None:
    train = open_data(Data(name=str(closet)), part="train")
    assert train.labels is not None
    record = measured(save(tmp_path / "copies.npz", train.pixels[:60], train.labels[:60]), closet)
    assert "exact copies" in alarms_of(record) and "60 images are exact copies of training images" in record.alarms
    assert not {"exact copies", "near copies"} & alarms_of(measured(fresh, closet))


def test_training_images_as_reference_leave_no_memory(fresh: Path, closet: Path) -> None:
    record = measured(fresh, closet, reference="train")
    assert "data_copying" in missing(record) and "nearest_ratio_pixels_60" not in record.scores
    assert record.protocol.real == "closet test" and "frechet_closet_60_train" in record.scores
    assert record.written.endswith("fresh.metrics-train.json")


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
    assert "tinted has images in colour and closet test grey ones: they are measured as grey ones, and nothing" in str(
        record.warnings
    )


def test_images_of_untold_origin_are_not_measured_against_others_unsaid(
    fresh: Path, closet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(references, "DEFAULT", str(closet))
    assert modiste.evaluate(fresh, count=60).warnings == []
    larger, named = save(tmp_path / "larger.npz", toy.draw(60, 32, 60).pixels), {"data_name": str(closet)}
    (said,) = modiste.evaluate(larger, count=60).warnings
    assert said.startswith("larger has grey 32 x 32 images and is measured against closet test, grey 16 x 16; if they")
    assert modiste.evaluate(larger, count=60, **named).warnings == []
    colour = save(tmp_path / "colour.npz", np.random.default_rng(0).integers(0, 256, (60, 3, 16, 16), np.uint8))
    with pytest.raises(UsageError, match="colour 16 x 16 images, which are not of the kind of closet test, grey 16 x"):
        modiste.evaluate(colour, count=60)
    assert not (tmp_path / "colour.metrics.json").exists()
    assert modiste.evaluate(colour, count=60, **named).scores


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


def test_a_classifier_learns_from_generated_images(
    fresh: Path, noise: Path, run: Path, closet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extra_scores, "CLASSIFIER_EPOCHS", 1)
    said: list[str] = []
    score = measured(fresh, closet, classifier=True, say=said.append).scores["classifier_accuracy"]
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
        measured(plain, closet, classifier=True, say=said.append)
    assert not any(text.startswith(("frechet", "features")) for text in said), "refused after all the work"
    assert not list(tmp_path.glob("*.json"))


def test_what_does_not_exist_is_wrong_use(closet: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere does not exist; give a run folder"):
        measured(tmp_path / "nowhere", closet)
    with pytest.raises(UsageError, match="no data set is named"):
        modiste.evaluate(save(tmp_path / "a.npz", toy.draw(9, 16).pixels), data_name="fashion")


class Perfect(torch.nn.Module):
    """A generator that has learned everything: real images that nobody has seen, of the class that it is asked for."""

    def __init__(self, images: Images) -> None:
        super().__init__()
        self.place = torch.nn.Parameter(torch.zeros(1))
        self.z_dim = 8
        self.of = [to_unit(torch.from_numpy(images.pixels[images.labels == k])) for k in (0, 1)]

    def forward(self, noise: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        chosen = (noise[:, 0].abs() * 1e4).long()
        return torch.stack([self.of[k][n % len(self.of[k])] for k, n in zip(labels, chosen, strict=True)])


@pytest.fixture
def uneven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A set of 1,520 trousers and 80 bags, and a run on it whose generator is perfect."""
    drawn = toy.draw(20_000, 16, 3)
    pools = [np.flatnonzero(drawn.labels == k) for k in (1, 8)]

    def two(first: slice, second: slice) -> Images:
        pixels = [drawn.pixels[pool[part]] for pool, part in zip(pools, (first, second), strict=True)]
        labels = np.repeat(np.arange(2), [len(part) for part in pixels])
        return Images(np.concatenate(pixels), labels, ("trouser", "bag"), "two")

    learned, unseen = two(slice(1520), slice(80)), two(slice(1520, None), slice(1520, None))
    place = save(tmp_path / "uneven.npz", learned.pixels, learned.labels, learned.class_names)
    recipe = Recipe(
        name="perfect",
        data=Data(name=str(place), split="fit"),
        network=config.Network(z_dim=8, generator_widths=(8, 4), discriminator_widths=(4, 8), conditioning="one-hot"),
        train=config.Train(images=16, batch_size=16, precision="float32"),
        evaluate=config.Evaluate(every_images=0),
    )
    run = modiste.train(recipe, tmp_path / "perfect")
    shape = Shape(1, 16, 2)
    perfect = generators.TrainedGenerator(Perfect(unseen), shape, learned.class_names, "perfect")
    monkeypatch.setattr(generators, "load", lambda *_: perfect)
    return run.path, place


def test_a_perfect_generator_gets_the_score_of_real_images(
    uneven: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _ = uneven
    good = modiste.evaluate(run, count=160, out=tmp_path / "good.json")
    assert good.protocol.classes == good.source["classes"] == "as often as in the reference"
    assert good.protocol.reference.count == 160 and good.alarms == []
    frechet = good.scores["frechet_random_160_heldout"]
    assert frechet.value < 2 * frechet.real
    monkeypatch.setattr(sources, "counts_of", lambda *_: None)  # classes in turn, as it was
    turns = modiste.evaluate(run, count=160, out=tmp_path / "turns.json")
    assert turns.scores["frechet_random_160_heldout"].value > 5 * frechet.real
    assert turns.protocol.classes == "trouser 50.0%, bag 50.0%"
    assert any("the classes of perfect come otherwise" in text for text in turns.warnings)
    with pytest.raises(UsageError, match=r"classes: as often as in the reference and trouser 50\.0%, bag 50\.0%"):
        records.check_comparable([good, turns])


def test_real_images_of_another_population_raise_an_alarm(tmp_path: Path) -> None:
    """Held out by order, as older versions did: the last tenth of a film that grows brighter."""
    drawn = toy.draw(1500, 16, 11).pixels
    bright = (drawn * 0.3 + 170 * np.linspace(0, 1, 1500)[:, None, None, None]).astype(np.uint8)
    film = save(tmp_path / "film.npz", bright[::2])
    generated = save(tmp_path / "generated.npz", bright[1::2][-75:])
    by_content = modiste.evaluate(save(tmp_path / "other.npz", bright[1::10]), count=75, data_name=str(film))
    assert "better than real" not in alarms_of(by_content)
    older = Data(name=str(film), heldout="last")
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr(references, "dataset_of", lambda *_: (older, ""))
        by_order = modiste.evaluate(generated, count=75, data_name=str(film))
    assert "better than real" in alarms_of(by_order) and "different populations" in by_order.alarms[0]
