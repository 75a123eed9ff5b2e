"""Records: written whole, told apart by their protocols, and read out in words and tables."""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest

from modiste.errors import ModisteError, UsageError
from modiste.evaluation import records
from modiste.metrics import suite

FRECHET, COVERAGE, RANDOM = "frechet_garment_10k_test", "coverage_k5_garment_10k_test", "frechet_random_10k_test"


def score(value: float | None, floor: float | None, ceiling: float | None, better: str, error: float = 0.0) -> Any:
    return {"value": value, "uncertainty": error or None, "floor": floor, "ceiling": ceiling, "better": better}


def record(name: str = "mine", frechet: float = 2.0, random: float = 20.0) -> records.Record:
    return {
        "format": records.FORMAT,
        "protocol": {
            "reference": {"data": "toy test", "part": "test", "digest": "d"},
            "generated": 10_000,
            "extractors": {"garment": {"hash": "abc", "input": [1, 28, 28]}},
            "generator": {"kind": "run", "weights": "ema"},
            "versions": {"torch": "2.9"},
        },
        "scores": {
            FRECHET: score(frechet, 0.5, 400.0, "lower", 0.01),
            RANDOM: score(random, 1.0, 900.0, "lower"),
            COVERAGE: score(0.81, 0.96, 0.0, "higher"),
        },
        "subject": {"name": name, "warnings": []},
        "not_measured": {},
    }


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    records.write(tmp_path / "metrics.json", record())
    assert records.read(tmp_path / "metrics.json") == record() and not list(tmp_path.glob("*.writing"))
    odd = record()
    odd["scores"][FRECHET]["value"] = math.nan
    odd["scores"][FRECHET]["details"] = {"z": (1.0, math.inf, [-math.inf])}
    records.write(tmp_path / "odd.json", odd)
    text = (tmp_path / "odd.json").read_text()
    assert "NaN" not in text and "Infinity" not in text
    again = records.read(tmp_path / "odd.json")["scores"][FRECHET]
    assert again["value"] is None and again["details"] == {"z": [1.0, None, [None]]}
    assert records.rows(records.read(tmp_path / "odd.json"))[0]["value"].startswith("-")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"{}", b'{"scores": {}, "protocol": {}}'])
def test_a_file_that_is_no_record_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "metrics.json").write_bytes(content)
    with pytest.raises(ModisteError, match=r"metrics\.json.*evaluate its images again"):
        records.read(tmp_path / "metrics.json")
    with pytest.raises(ModisteError, match=r"cannot read the record .*evaluate its images again"):
        records.read(tmp_path / "gone.json")


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("reference", "part", "heldout", "reference.part: test and heldout"),
        ("extractors", "garment", {"hash": "xyz", "input": [1, 28, 28]}, "extractors.garment.hash: abc and xyz"),
        ("extractors", "second", {"hash": "s"}, "extractors.second.hash: None and s"),
        (None, "generated", 2_000, "generated: 10000 and 2000"),
    ],
)
def test_differences_are_named_by_dotted_keys(section: str | None, key: str, value: object, said: str) -> None:
    other = record("theirs")
    tree = other["protocol"][section] if section else other["protocol"]
    tree[key] = value
    assert records.differences(record(), other) == [said]
    with pytest.raises(UsageError, match=r"^mine and theirs were not measured alike.*evaluate both again") as refusal:
        records.check_comparable([record(), other])
    assert said in str(refusal.value) and "more)" not in str(refusal.value)
    with pytest.raises(UsageError):
        records.comparison([record(), record(), other])


def test_several_differences_are_counted() -> None:
    other = record()
    other["protocol"] |= {"generated": 5, "seed": 3}
    with pytest.raises(UsageError, match=r"generated: 10000 and 5 \(and 1 more\)"):
        records.check_comparable([record(), other])


def test_how_images_were_made_and_versions_do_not_count() -> None:
    other = record()
    other["protocol"]["generator"] = {"kind": "npz"}
    other["protocol"]["versions"] = {"torch": "3.0"}
    assert records.differences(record(), other) == []
    records.check_comparable([record(), other, record()])


def test_a_record_is_not_changed_by_reading_it_out() -> None:
    one = record()
    before = copy.deepcopy(one)
    records.rows(one), records.comparison([one, one]), records.agreement([one, one])
    assert one == before


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        (score(0.5, 0.5, 400.0, "lower"), "like real images"),
        (score(0.51, 0.5, 400.0, "lower", 0.006), "like real images"),
        (score(0.53, 0.5, 400.0, "lower", 0.006), "1.1 x floor"),
        (score(0.0004, 0.0002, 4.0, "lower"), "2.0 x floor"),
        (score(200.0, 0.5, 400.0, "lower"), "400.0 x floor"),
        (score(400.0, 0.5, 400.0, "lower"), "no better than a generator that learned nothing"),
        (score(500.0, 0.5, 400.0, "lower"), "no better than a generator that learned nothing"),
        (score(0.02, -1e-6, 2.0, "lower"), "1.00% of ceiling"),
        (score(0.72, 0.96, 0.0, "higher"), "75% of real"),
        (score(0.0, 0.96, 0.0, "higher"), "no better than a generator that learned nothing"),
        (score(0.97, 0.96, 0.0, "higher"), "101% of real"),
        (score(0.96, 0.87, 0.95, "higher"), "110% of real"),  # precision: noise lies in real images' neighbourhoods
        (score(0.03, 0.87, 0.95, "higher"), "3% of real"),
        (score(0.505, 0.5, 1.0, "near", 0.01), "like real images"),
        (score(0.9, 0.5, 1.0, "near", 0.01), "above real images"),
        (score(0.3, 0.5, 1.0, "near", 0.01), "below real images"),
        (score(1.0, None, 2.0, "lower"), ""),
        (score(None, 1.0, 2.0, "lower"), ""),
        (score(2.0, 1.0, None, "lower"), "2.0 x floor"),
    ],
)
def test_a_score_is_read_against_floor_and_ceiling(shown: Any, words: str) -> None:
    assert records.reading(FRECHET if shown["better"] == "lower" else COVERAGE, shown) == words


def test_no_multiple_is_taken_of_a_floor_that_is_nought_but_for_chance() -> None:
    for name in ("kernel_garment_10k_test", "frechet_infinite_garment_test"):
        assert records.reading(name, score(0.02, 0.001, 2.0, "lower")) == "1.00% of ceiling"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.0, "0"),
        (12345.6, "12,346"),
        (123.456, "123.5"),
        (9.87654, "9.877"),
        (0.123456, "0.1235"),
        (0.00123456, "0.00123"),
        (0.00001234, "1.2e-05"),
        (-0.5, "-0.5000"),
        (-3e-7, "-3.0e-07"),
        (math.nan, "-"),
        (math.inf, "-"),
    ],
)
def test_numbers_have_the_digits_that_count(value: float | None, text: str) -> None:
    assert records.format_number(value) == text


def test_uncertainties_stand_beside_their_values() -> None:
    assert records.with_uncertainty(0.41234, 0.0061) == "0.4123 ± 0.0061"
    assert records.with_uncertainty(0.41234, None) == records.with_uncertainty(0.41234, 0.0) == "0.4123"
    assert records.with_uncertainty(None, None) == "-"


def test_rows_say_what_every_score_means() -> None:
    rows = records.rows(record())
    assert [row["score"] for row in rows] == [FRECHET, RANDOM, COVERAGE]
    assert rows[0] == {
        "score": FRECHET,
        "value": "2.000 ± 0.010",
        "floor": "0.5000",
        "ceiling": "400.0",
        "reading": "4.0 x floor",
        "meaning": suite.MEANINGS["frechet"].words,
    }


def test_a_comparison_has_a_column_for_each() -> None:
    other = record("theirs", frechet=3.0)
    del other["scores"][COVERAGE]
    heads, body = records.comparison([record(), other])
    assert heads == ["score", "mine", "theirs", "floor", "ceiling"]
    assert [line[0] for line in body] == [f"{FRECHET} (lower)", f"{RANDOM} (lower)", f"{COVERAGE} (higher)"]
    assert body[0][1:] == ["2.000 ± 0.010", "3.000 ± 0.010", "0.5000", "400.0"] and body[2][2] == "-"
    text = records.markdown(heads, body).splitlines()
    assert text[0] == "| score | mine | theirs | floor | ceiling |" and text[1] == "| --- | --- | --- | --- | --- |"
    assert len(text) == 5 and all(line.count("|") == 6 for line in text)
    assert records.markdown(["class"], [["a|b"]]).endswith("| a\\|b |")


def test_whether_all_extractors_agree() -> None:
    good, bad = record("good", 1.0, 10.0), record("bad", 2.0, 20.0)
    said = records.agreement([bad, good])
    assert said == "all extractors (garment, random) agree on the order by Fréchet distance: good < bad"
    odd = record("odd", 0.5, 30.0)
    said = records.agreement([good, odd])
    assert said.startswith("the extractors do not agree") and "garment: odd < good; random: good < odd" in said
    for one in (good, bad):
        del one["scores"][RANDOM]
    assert records.agreement([good, bad]) == ""


def alarmed(name: str, shown: Any, **details: Any) -> list[str]:
    said = records.alarms({name: {**shown, "details": details}}, ("coat", "bag"))
    assert all(sum(words in sentence for words in records.ALARMS) == 1 for sentence in said)  # reports group them by it
    return said


def test_copies_raise_alarms() -> None:
    duplicates, share = "near_duplicates_pixels_10k", score(0.01, 0.01, 0.0, "near", 0.001)
    assert alarmed(duplicates, share, exact=0, near=120, expected_near=100.0) == []
    (near,) = alarmed(duplicates, share, exact=0, near=900, expected_near=100.0)
    assert near.startswith("900 images are as close") and "100 would be by chance" in near
    exact, _ = alarmed(duplicates, share, exact=1200, near=1200, expected_near=100.0)
    assert exact == "1,200 images are exact copies of training images"
    assert alarmed("data_copying_garment_10k", score(-2.0, 0.0, 90.0, "near", 0.6)) == []
    assert "C_T = -30.5" in alarmed("data_copying_garment_10k", score(-30.5, 0.0, 90.0, "near", 0.6))[0]
    assert alarmed("authenticity_garment_10k", score(0.48, 0.5, 1.0, "near", 0.005)) == []
    assert "20.0%" in alarmed("authenticity_garment_10k", score(0.2, 0.5, 1.0, "near", 0.005))[0]


def test_scores_better_than_real_images_raise_an_alarm() -> None:
    def said(kind: str, value: float, floor: float, better: str, error: float, of: float, **protocol: Any) -> list[str]:
        shown = {**score(value, floor, 400.0, better, error), "floor_uncertainty": of, "details": {}}
        found = records.alarms(
            {f"{kind}_garment_10k_test": shown}, (), {"generated": 1000, "floor_count": 1000, **protocol}
        )
        assert all(sum(words in sentence for words in records.ALARMS) == 1 for sentence in found)
        return found

    assert "different populations" in said("frechet", 5.5, 70.0, "lower", 0.4, 2.0)[0]
    assert "frechet_garment_10k_test 5.500 (70.00)" in said("frechet", 5.5, 70.0, "lower", 0.4, 2.0)[0]
    assert said("frechet", 60.0, 70.0, "lower", 0.4, 1.0) == []  # sure, and a trifle
    assert said("frechet", 5.5, 70.0, "lower", 0.4, 20.0) == []  # no trifle, and not sure
    assert said("frechet", 80.0, 70.0, "lower", 0.4, 1.0) == []
    assert "different populations" in said("coverage_k5", 0.97, 0.48, "higher", 0.01, 0.01)[0]
    assert "more typical than real" in said("precision_k3", 0.98, 0.75, "higher", 0.01, 0.01)[0]
    assert said("precision_k3", 0.77, 0.75, "higher", 0.001, 0.001) == []
    assert "ask for --count 100" in said("coverage_k5", 0.97, 0.48, "higher", 0.01, 0.01, floor_count=100)[0]
    assert said("kernel", -0.2, 0.0, "lower", 0.01, 0.01) == [] != said("kernel", -5.0, 0.0, "lower", 0.01, 0.01)
    assert said("two_sample_1nn", 0.1, 0.5, "near", 0.01, 0.01) == []


def test_records_of_unlike_classes_are_kept_apart() -> None:
    older, even, uneven = record(), record(), record()
    even["protocol"]["classes"], uneven["protocol"]["classes"] = "in equal shares", "as often as in the reference"
    assert records.differences(older, even) == []
    assert records.differences(older, uneven) == ["classes: in equal shares and as often as in the reference"]


def test_missing_classes_and_too_little_variety_raise_alarms() -> None:
    balance = "class_balance_tv_garment_10k"
    assert alarmed(balance, score(0.3, 0.0, 0.9, "lower"), frequencies=[0.8, 0.2], images=100) == []
    assert alarmed(balance, score(0.5, 0.0, 0.9, "lower"), frequencies=[0.99, 0.01], images=100) == [
        "classes that are hardly ever made: bag"
    ]
    agreement = "label_agreement_garment_10k"
    assert alarmed(agreement, score(0.95, 0.945, 0.1, "higher", 0.002)) == []
    assert "little variety" in alarmed(agreement, score(0.99, 0.945, 0.1, "higher", 0.002))[0]
    assert (
        alarmed(agreement, score(0.99, None, 0.1, "higher", 0.002)) == []
    )  # no real images that the judge does not know
    assert alarmed("frechet_garment_10k_test", score(400.0, 0.5, 400.0, "lower")) == []
