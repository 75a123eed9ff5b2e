"""Which real images a source is compared with, and what the real baseline is measured on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from evaluations import alarms_of, measured, missing, save

import modiste
from modiste import config
from modiste.config import Data, Recipe
from modiste.data import toy
from modiste.data.images import Images, to_unit
from modiste.errors import UsageError
from modiste.evaluation import audit_tables, records, references, score_tables, sources
from modiste.metrics import metric_names
from modiste.networks.layers import ImageShape
from modiste.sampling import generators

pytestmark = pytest.mark.usefixtures("closet_judge")


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


def test_data_without_labels_or_judge_or_test_images(tmp_path: Path) -> None:
    bare = save(tmp_path / "bare.npz", toy.draw(150, 16, 71).pixels)
    plain = save(tmp_path / "plain.npz", toy.draw(60, 16, 60).pixels, np.arange(60) % 10)
    with pytest.raises(UsageError, match=r"has no test images; use --reference heldout"):
        measured(plain, bare, reference="test")
    with pytest.raises(UsageError, match=r"--seed 4294967296 needs seeds of images beyond 32 bits; use one from 0 to"):
        measured(plain, bare, seed=2**32)
    record = measured(plain, bare)  # which takes the held-out ones, and says so
    assert record.warnings[0].startswith("bare.npz has no test images, so these are compared with the")
    assert record.protocol.reference.part == "heldout"
    assert record.written.endswith("plain.metrics-heldout.json")
    assert {score.kind for score in record.scores.values()} >= {"frechet", "coverage_k5"}
    assert {score.name.extractor for score in record.scores.values()} == {"random", ""}
    assert "frechet_random_60_heldout" in record.scores
    assert missing(record)["class_frechet"].endswith(", which has no labels to train one with")
    assert record.protocol.real == "bare fit drawn-90%" and "discriminator_accuracy_fake" in missing(record)


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


def test_a_handful_of_images_is_called_too_few(fresh: Path, closet: Path) -> None:
    (said,) = measured(fresh, closet, count=49).warnings
    assert said.startswith("too little for scores to be relied upon: fresh (49 images); read them")
    assert measured(fresh, closet, count=50).warnings == []


def test_training_images_as_reference_leave_no_memory(fresh: Path, closet: Path) -> None:
    record = measured(fresh, closet, reference="train")
    assert "data_copying" in missing(record) and "nearest_ratio_pixels_60" not in record.scores
    assert record.protocol.real == "closet test" and "frechet_closet_60_train" in record.scores
    assert record.written.endswith("fresh.metrics-train.json")


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
    shape = ImageShape(1, 16, 2)
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
