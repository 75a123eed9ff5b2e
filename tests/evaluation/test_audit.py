"""Unequal classes are found and equal ones are not, planted copies are counted, and the worst cases are drawn."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from PIL import Image

import modiste
from modiste import files
from modiste.config import Data
from modiste.data import toy
from modiste.data.images import Images
from modiste.data.sets import open_data
from modiste.errors import UsageError
from modiste.evaluation import audit, audit_picture, audit_tables, records
from modiste.evaluation.audit import FEWER, MORE, copies, disparity, manifold_by_class, of_frequencies
from modiste.evaluation.records import Record
from modiste.metrics import manifold
from modiste.metrics.nearest_neighbours import nearest
from modiste.plotting import figures
from modiste.provenance import metadata


@pytest.fixture
def random() -> np.random.Generator:
    """Anew for each test, so that none depends on those that ran before it."""
    return np.random.default_rng(0)


PLANTED = 7


def test_equal_classes_have_no_disparity(random: np.random.Generator) -> None:
    rows, made = random.normal(size=(40, 4)), random.normal(size=(30, 4))
    found = manifold_by_class(
        np.tile(rows, (3, 1)), np.repeat([0, 1, 2], 40), np.tile(made, (3, 1)), np.repeat([0, 1, 2], 30), classes=3
    )
    for row in found.values():
        same = disparity([score.value for score in row], [score.uncertainty for score in row])
        assert same is not None and (same.index, same.gap, same.ratio) == (0, 0, 1)
    fair = of_frequencies([0.25] * 4, [0.25] * 4, 100)
    assert fair is not None and (fair.index, fair.mean) == (0, 1) and fair.by_chance == pytest.approx(np.sqrt(3 / 100))


def test_disparity_by_hand() -> None:
    found = disparity([0.4, None, 0.2], [0.0, None, 0.0])
    assert found is not None and found.index == pytest.approx(1 / 3) and found.gap == pytest.approx(0.2)
    assert (found.ratio, found.worst, found.best, found.left_out) == (0.5, 2, 0, (1,))
    nothing = disparity([0.0, 0.0], [0.0, 0.0])
    assert nothing is not None and (nothing.index, nothing.ratio) == (0, 1)
    assert disparity([0.5, None], [0.1, None]) is None
    twice = of_frequencies([0.4, 0.6, 0.0], [0.2, 0.8, 0.0], 50)
    assert twice is not None and twice.worst == 1 and twice.best == 0 and twice.left_out == (2,)
    assert twice.index == pytest.approx(np.std([2, 0.75]) / 1.375)


def test_errors_of_the_index_are_those_of_repeated_draws(random: np.random.Generator) -> None:
    count, shares = 1000, np.array([0.3, 0.5, 0.7, 0.6])
    errors = np.sqrt(shares * (1 - shares) / count)
    unequal = disparity(shares.tolist(), errors.tolist())
    equal = disparity([0.5] * 4, [float(np.sqrt(0.25 / count))] * 4)
    assert unequal is not None and unequal.uncertainty is not None and equal is not None

    def indices(of: np.ndarray | list[float]) -> np.ndarray:
        drawn = random.binomial(count, of, (4000, 4)) / count
        return drawn.std(1) / drawn.mean(1)

    assert indices(shares).std() == pytest.approx(unequal.uncertainty, rel=0.06)
    assert np.sqrt(np.mean(indices([0.5] * 4) ** 2)) == pytest.approx(equal.by_chance, rel=0.06)


def test_a_class_with_missing_modes_has_the_lowest_coverage(random: np.random.Generator) -> None:
    """Class 0 is made as it is, of class 1 only half, of class 2 three images, of class 3 none; 4 has no real ones."""
    real = random.normal(size=(4, 60, 3)) + random.choice([-20, 20], size=(4, 60, 1))
    made = [row + random.normal(0, 0.1, row.shape) for row in real]
    made = [made[0], made[1][real[1][:, 0] > 0], made[2][:3], made[3][:0], made[0][:9]]
    groups = np.repeat(np.arange(5), [len(rows) for rows in made])
    labels, flat, generated = np.repeat(np.arange(4), 60), real.reshape(-1, 3), np.concatenate(made)
    found = manifold_by_class(flat, labels, generated, groups, classes=5)
    precision, coverage = found["precision_k3"], found["coverage_k5"]
    expected = manifold.manifold_scores(real[1], made[1])
    assert coverage[1] == expected["coverage"] and precision[1] == expected["precision"]
    assert coverage[0] is not None and coverage[0].value > 0.9 > 0.6 > coverage[1].value > 0.3
    radii = nearest(real[2], real[2], 5, exclude_self=True).distances[:, 4]
    apart = np.linalg.norm(real[2][:, None] - made[2][None], axis=2).min(1)
    assert coverage[2] is not None and coverage[2].value == np.mean(apart <= radii) and precision[2] is None
    assert coverage[3] is not None and coverage[3].value == 0 and precision[3] is None
    assert coverage[4] is None and precision[4] is None
    unequal = disparity(
        [score and score.value for score in coverage], [score and score.uncertainty for score in coverage]
    )
    assert unequal is not None and (unequal.worst, unequal.best, unequal.left_out) == (3, 0, (4,))


def test_verdicts_are_counted_by_class() -> None:
    predicted, labels = np.array([0, 0, 1, 1, 1]), np.array([0, 1, 1, 1, 1])
    found = audit.verdict_scores(predicted, labels, 3)
    assert [score and score.value for score in found["frequency"]] == [0.4, 0.6, 0]
    assert [score and score.value for score in found["label_agreement"]] == [1, 0.75, None]
    assert "label_agreement" not in audit.verdict_scores(predicted, None, 3)


def test_planted_copies_are_counted(random: np.random.Generator) -> None:
    train, unseen, new = (random.normal(size=(count, 24)) for count in (400, 500, 93))
    with_copies = np.concatenate([new, train[:PLANTED]])
    real, theirs = nearest(unseen, train).distances, nearest(with_copies, train).distances
    found = copies(theirs, real)
    by_chance = copies(theirs[:93], real)
    assert found["exact"] == PLANTED == found["near"] - by_chance["near"] and found["verdict"] == MORE
    assert by_chance["exact"] == 0 and by_chance["verdict"] == audit.ALIKE
    assert (found["generated"], found["real"], found["real_near"]) == (100, 500, 5)
    assert found["expected"] == pytest.approx(1) and found["uncertainty"] == pytest.approx(np.sqrt(0.99 * 1.2))
    assert copies(np.full(1000, 9.0), np.linspace(1, 5, 1000))["verdict"] == FEWER


@pytest.mark.parametrize("case", [(3, 10, 5, 40), (0, 10, 5, 40), (9, 10, 35, 40), (130, 10_000, 230, 20_000)])
def test_chances_are_the_hypergeometric_ones(case: tuple[int, int, int, int]) -> None:
    hits, draws, marked, total = case
    known = scipy.stats.hypergeom(total, marked, draws)
    assert audit.tails(*case) == pytest.approx((known.sf(hits - 1), known.cdf(hits)), rel=1e-6)


# whole audits


def save(path: Path, images: Images, labelled: bool = True) -> Path:
    arrays: dict[str, Any] = {"images": images.pixels}
    if labelled:
        arrays |= {"labels": images.labels, "class_names": np.array(images.class_names)}
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def copied_once(closet: Path, closet_judge: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """53 new drawn garments and 7 of the closet's training images."""
    train, new = open_data(Data(name=str(closet)), part="train"), toy.draw(60 - PLANTED, 16, 60)
    assert train.labels is not None and new.labels is not None
    pixels = np.concatenate([new.pixels, train.pixels[:PLANTED]])
    labels = np.concatenate([new.labels, train.labels[:PLANTED]])
    return save(tmp_path_factory.mktemp("audit") / "copied.npz", Images(pixels, labels, toy.CLASS_NAMES, "copied"))


@pytest.fixture(scope="module")
def audited(copied_once: Path, closet: Path) -> Record:
    """Their record; the picture of the worst cases lies beside it."""
    return modiste.evaluate(copied_once, count=60, data_name=str(closet), audit=True)


@pytest.fixture
def copied(copied_once: Path, tmp_path: Path) -> Path:
    """The same images in a folder of the test's own, without a record."""
    return Path(shutil.copy(copied_once, tmp_path))


def test_an_audit_is_a_part_of_the_record(copied: Path, closet: Path, audited: Record) -> None:
    plain = modiste.evaluate(copied, count=60, data_name=str(closet))
    assert plain.audit is None and (plain.scores, plain.protocol) == (audited.scores, audited.protocol)
    assert records.read(Path(audited.written)) == audited
    found = audited.audit
    assert found["classes"] == list(toy.CLASS_NAMES) and sum(found["images"]) == 60
    assert found["protocol"]["groups"] == "class asked for" and found["not_measured"] == {}
    pixels, features = found["memory"]["pixels"], found["memory"]["features"]
    assert pixels["exact"] == PLANTED <= pixels["near"] and features["exact"] == PLANTED
    assert pixels["verdict"] == MORE and pixels["threshold"] > 0
    for key, row in found["scores"].items():
        assert len(row["values"]) == len(row["uncertainties"]) == len(row["real"]) == 10, key
        due = row.get("due", [1.0] * 10)
        for word, column in (("index", "values"), ("real", "real")):
            seen = [value / share for value, share in zip(row[column], due, strict=True) if value is not None]
            assert found["disparity"][key][word] == pytest.approx(np.std(seen) / np.mean(seen)), (key, word)
    agreement = audited.scores["label_agreement_closet_60"].details["per_class"]
    assert found["scores"]["label_agreement"]["values"] == agreement
    assert sum(found["scores"]["frequency"]["values"]) == pytest.approx(1)
    assert sum(found["scores"]["frequency"]["due"]) == pytest.approx(1)


def test_the_picture_of_the_worst_cases(copied_once: Path, audited: Record) -> None:
    place = copied_once.with_name("copied.audit-worst.png")
    assert audited.audit["picture"] == place.name and not list(copied_once.parent.glob(".*"))
    assert metadata.read_metadata(place.read_bytes()) == {}  # nothing says where these images come from
    with Image.open(place) as opened:
        picture = np.asarray(opened.convert("L"))
    tile = 16 * 5  # dots at a magnification of five
    columns = 2 * audit_picture.EACH + audit_picture.REAL
    assert picture.shape[1] == 150 + columns * (tile + 6) - 6 + 2 * 22 + 20
    assert picture.shape[0] > 14 * (tile + figures.CAPTION)  # ten classes and four rows of pairs
    with np.load(copied_once) as stored:
        first_copy = np.kron(stored["images"][-PLANTED, 0], np.ones((5, 5), np.uint8))
    lower = picture[-4 * (tile + 60) :]  # the pairs
    windows = np.lib.stride_tricks.sliding_window_view(lower, (1, tile))[:, :, 0]
    assert (windows == first_copy[tile // 2]).all(-1).any(), "a copy is not among the nearest"


def test_no_picture_is_left_without_its_record(
    copied: Path, closet: Path, audited: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(records, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        modiste.evaluate(copied, count=60, data_name=str(closet), audit=True)
    assert [path.name for path in copied.parent.iterdir()] == ["copied.npz"]
    monkeypatch.undo()
    record = Path(audited.written)
    shutil.copy(record, copied.parent)
    picture = Path(shutil.copy(record.with_name(audited.audit["picture"]), copied.parent))
    place = copied.parent / record.name  # by whose name nothing is lost unasked
    plain = modiste.evaluate(copied, count=60, data_name=str(closet), out=place)
    assert plain.audit is None and not picture.exists()


def test_the_picture_says_that_it_is_synthetic_in_part(copied: Path, closet: Path) -> None:
    with np.load(copied) as stored:
        np.savez(copied, **stored, **{files.SOURCE_KEY: np.array(metadata.SOURCE_TYPE)})
    modiste.evaluate(copied, count=60, data_name=str(closet), audit=True)
    said = metadata.read_metadata(copied.with_name("copied.audit-worst.png").read_bytes())
    assert said["Synthetic"] == "in part" and said["Title"] == "Audit of copied: the worst cases"
    assert said["DigitalSourceType"] == metadata.COMPOSITE_TYPE


def test_rows_of_tiles_show_pixels_as_they_are(tmp_path: Path, random: np.random.Generator) -> None:
    one, two, three = random.integers(0, 256, (3, 1, 42, 42), np.uint8)
    framed = figures.Tile(one, "hat\n$5", marked=True)
    rows = [("first", [[framed, figures.Tile(two, "sock")], [figures.Tile(three, "real")]]), ("short", [[framed]])]
    figures.save(figures.tile_rows("two rows", [figures.TileRows("hats", ("a", "b"), rows)]), tmp_path / "tiles.png")
    with Image.open(tmp_path / "tiles.png") as opened:
        picture = np.asarray(opened.convert("RGB"))
    left, top, step = 150, 58 + 30 + 42, 84 + 6
    assert picture.shape[1] == left + 3 * step - 6 + 22 + 20
    second = top + 84 + figures.CAPTION + 12
    for tile, x, y in (
        (one, left, top),
        (two, left + step, top),
        (three, left + 2 * step + 22, top),
        (one, left, second),
    ):
        shown = picture[y : y + 84, x : x + 84]
        np.testing.assert_array_equal(shown[:, :, 0], np.kron(tile[0], np.ones((2, 2), np.uint8)))
    assert tuple(picture[top - 1, left]) == (0xD5, 0x5E, 0x00) and tuple(picture[top - 1, left + step]) == (255,) * 3


def test_unlabelled_images_are_grouped_by_the_judge(copied: Path, closet: Path, tmp_path: Path) -> None:
    images = toy.draw(60, 16, 61)
    record = modiste.evaluate(
        save(tmp_path / "bare.npz", images, labelled=False), count=60, data_name=str(closet), audit=True
    )
    found = record.audit
    assert found["protocol"]["groups"] == "class the judge sees" and "label_agreement" not in found["scores"]
    assert found["not_measured"].keys() == {"label_agreement"}
    assert found["images"] == [round(60 * share) for share in found["scores"]["frequency"]["values"]]


def test_what_an_audit_needs(closet: Path, closet_judge: Path, tmp_path: Path) -> None:
    images = toy.draw(150, 16, 71)
    bare = save(tmp_path / "bare.npz", images, labelled=False)
    unknown = save(tmp_path / "unknown.npz", images)
    with pytest.raises(UsageError, match=r"needs classes, and bare .* has none"):
        modiste.evaluate(unknown, count=60, data_name=str(bare), reference="heldout", audit=True)
    with pytest.raises(UsageError, match=r"needs a judge, and none was trained on unknown .*`modiste judge train"):
        modiste.evaluate(unknown, count=60, data_name=str(unknown), reference="heldout", audit=True)
    assert not list(tmp_path.glob("*.json"))
    known = modiste.evaluate(unknown, count=60, data_name=str(closet), reference="train", audit=True)
    assert known.audit["memory"] == {} and "memory" in known.audit["not_measured"]


def test_names_of_images_keep_no_audits_apart(audited: Record) -> None:
    assert audited.audit is not None and "real" in audited.audit["protocol"]
    moved = replace(audited, audit={**audited.audit, "protocol": {**audited.audit["protocol"], "real": "elsewhere"}})
    assert len(audit_tables.check_comparable([audited, moved])) == 2
    other = replace(audited, audit={**audited.audit, "protocol": {**audited.audit["protocol"], "groups": "others"}})
    with pytest.raises(UsageError, match="groups"):
        audit_tables.check_comparable([audited, other])


def test_before_and_after_on_the_command_line(
    call: Callable[..., tuple[int, str, str]], copied: Path, closet: Path, tmp_path: Path
) -> None:
    images = toy.draw(60, 16, 60)
    assert images.labels is not None
    images.pixels[images.labels == 3] = images.pixels[images.labels == 3][:1]  # one of a class, again and again
    other = save(tmp_path / "collapsed.npz", images)
    options = ("--count", 60, "--data", closet)
    code, printed, _ = call("evaluate", copied, other, "--audit", *options)
    assert code == 0, printed
    head = next(line.split() for line in printed.splitlines() if line.startswith("class asked for"))
    assert head == ["class", "asked", "for", "copied", "collapsed", "real", "images"]
    assert "coverage k5: disparity" in printed and "in copied and" in printed
    assert "copied: near-duplicates of training images in pixels: " in printed and "; 7 exact copies" in printed
    worst = next(line for line in printed.split("audit: coverage k5")[1].splitlines() if line.startswith("worst class"))
    assert worst.rstrip().endswith("Dress")
    files = [path.with_name(f"{path.stem}.metrics.json") for path in (copied, other)]
    code, again, _ = call("evaluate", *files, "--audit")
    assert code == 0 and again.split("audit: ")[1:4] == printed.split("audit: ")[1:4]
    code, printed, _ = call("evaluate", files[0], "--audit")
    assert code == 0 and "audit of copied by the class asked for" in printed and "label agreement" in printed
    code, printed, _ = call("evaluate", files[0], "--audit", "--json")
    assert code == 0 and json.loads(printed)["audit"]["memory"]["pixels"]["exact"] == PLANTED

    bare = save(tmp_path / "bare.npz", images, labelled=False)
    code, _, said = call("evaluate", files[0], bare, "--audit", *options)
    assert code == 2 and "copied and bare were not measured alike" in said
    records.write(files[1], replace(records.read(files[1]), audit=None))
    code, _, said = call("evaluate", *files, "--audit")
    assert (
        code == 2
        and said.count("\n") == 1
        and "collapsed holds no audit; evaluate its images again with --audit" in said
    )
